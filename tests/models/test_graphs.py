"""What is recorded when, with a graph that stands for CUDA's: replaying it runs the call on the memory it was given."""

import pytest
import torch

from kinopaint.engine.denoiser import Condition
from kinopaint.models.graphs import GraphedCalls


class Recorder:
    """Captures calls like CUDA: results of a replay appear in the memory of the first ones."""

    def __init__(self):
        self.captured = self.replayed = 0

    def __call__(self, call):
        self.captured += 1
        outputs = tuple(output.clone() for output in call())

        class Graph:
            def replay(graph):
                self.replayed += 1
                for place, output in zip(outputs, call(), strict=True):
                    place.copy_(output)

        return Graph(), outputs


def doubled(inputs):
    return (inputs["x"] * 2,)


def test_a_call_is_recorded_after_its_warm_up_and_then_replayed():
    recorder = Recorder()
    calls = GraphedCalls(recorder, warm_ups=2)
    results = [calls("key", {"x": torch.full((2,), float(value))}, doubled)[0] for value in range(5)]
    assert [result.tolist() for result in results] == [[2 * value] * 2 for value in range(5)]  # nobody's is overwritten
    assert (recorder.captured, recorder.replayed) == (1, 3)


def test_other_shapes_and_keys_are_recorded_apart_and_the_oldest_goes():
    recorder = Recorder()
    calls = GraphedCalls(recorder, warm_ups=0, most=2)
    for size in (1, 2, 3, 3, 2, 1):
        assert torch.equal(calls("key", {"x": torch.ones(size)}, doubled)[0], torch.full((size,), 2.0))
    assert recorder.captured == 4  # that of size 1 had gone
    calls("other", {"x": torch.ones(1)}, doubled)
    assert recorder.captured == 5


def test_what_a_recording_reads_is_held():
    import gc
    import weakref

    calls, held = GraphedCalls(Recorder(), warm_ups=0), torch.ones(1)
    watch = weakref.ref(held)
    calls("key", {"x": held}, doubled, held=held)
    del held
    gc.collect()
    assert watch() is not None


def test_a_failure_is_said_once_and_calls_go_on():
    def fails(call):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    calls = GraphedCalls(fails, warm_ups=0)
    with pytest.warns(UserWarning, match="going on without: operation not permitted"):
        assert calls("key", {"x": torch.ones(1)}, doubled)[0] == 2
    assert calls("key", {"x": torch.ones(1)}, doubled)[0] == 2


def test_a_networks_calls_replay_to_the_same_predictions(parts, monkeypatch):
    """Full and reused steps, several texts; watched calls are never recorded."""
    recorder = Recorder()
    graphed = parts.backbone.caching(2).graphed()
    graphed.graphs = GraphedCalls(recorder, warm_ups=0)
    plain = parts.backbone.caching(2)
    kind = torch.device("cpu")
    nothing, words = parts.text_encoder.encode(["", "oil"])
    latents = torch.randn(2, 4, 4, 6)
    monkeypatch.setattr("kinopaint.models.diffusers_unet._GRAPH_DEVICE", kind.type)
    with torch.no_grad():
        for text in (nothing, words):
            for step in parts.schedule.steps(6):
                told = [Condition("style", text)]
                assert torch.equal(graphed.predict(latents, step, told), plain.predict(latents, step, told))
        assert recorder.captured == 4  # full and reused, for each text
        assert recorder.replayed == 12
        graphed.predict(latents, step, told, interventions=[lambda call, proceed: proceed(call)])
        assert recorder.replayed == 12
    assert graphed.sized(1).graphs is not graphed.graphs
    with graphed.adapted() as changed:
        assert changed.graphs is None
    assert graphed.graphs is not None
    assert parts.backbone.graphs is None
