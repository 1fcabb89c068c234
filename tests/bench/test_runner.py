"""A suite runs to its end whatever its cells do, is not done twice, and notices changes."""

from __future__ import annotations

import csv
import json
import os
import signal

import pytest
from tests.clips import write_clip

from kinopaint.bench.results import conditions, table, write_bench_page, write_csv
from kinopaint.bench.runner import run_in_process, run_suite
from kinopaint.bench.suite import read_suite
from kinopaint.bench.worker import run_task
from kinopaint.errors import OutputError
from kinopaint.metrics.catalogue import CATALOGUE
from kinopaint.metrics.references import REFERENCES


class Bench:
    """A suite of one tiny clip and two presets on a tiny model, its folder, and a worker that copies the clip."""

    def __init__(self, folder, model):
        self.path, self.folder, self.model = folder / "suite.toml", folder / "out", model
        write_clip(folder / "clip.mp4", frames=3, sound=False)
        self.tasks = []
        self.said = []
        self.failing = None
        self.write()

    def write(self, prompts=("oil",), more=""):
        self.path.write_text(
            f'model = "{self.model}"\nprompts = {json.dumps(list(prompts))}\npresets = ["fast", "balanced"]\n'
            f'methods = ["style-a-video"]\n{more}\n[[clips]]\nfile = "clip.mp4"\n'
        )

    def worker(self, task):
        from pathlib import Path

        self.tasks.append(task)
        if task["preset"] == self.failing:
            return {"error": {"code": "KP-TEST", "what": "<b>broken</b>", "where": "", "fix": "mend it"}}
        Path(task["result"]).write_bytes(Path(task["source"]).read_bytes())
        value = {"fast": 0.2, "balanced": 0.1}[task["preset"]]
        answer = {"seconds": 3.0, "peak_memory": 5e8, "model_calls": 6, "frames": 3, "pictures": [], "undefined": {}}
        answer |= {"notes": [], "encoder": None, "threads": 1, "versions": {"torch": "9"}, "device": "cpu"}
        answer["metrics"] = dict.fromkeys(CATALOGUE) | {"e_warp": value}
        answer["references"] = {"blurred": dict.fromkeys(CATALOGUE) | {"e_warp": 0.0}} if task["references"] else {}
        return answer

    def run(self):
        self.tasks.clear()
        self.said.clear()
        return run_suite(read_suite(self.path), self.folder, say=self.said.append, run=self.worker)


@pytest.fixture
def bench(tmp_path, model_folder):
    return Bench(tmp_path, model_folder)


def test_finished_cells_are_not_done_again(bench):
    first = bench.run()
    assert [task["preset"] for task in bench.tasks] == ["fast", "balanced"]
    assert [task["references"] for task in bench.tasks] == [True, False]  # once for each clip and prompt
    assert bench.run() == first
    assert bench.tasks == []
    first[1].result.unlink()
    bench.run()
    assert [task["preset"] for task in bench.tasks] == ["balanced"]


def test_a_changed_suite_is_noticed_and_only_what_is_new_is_run(bench):
    bench.run()
    bench.write(prompts=["oil", "ink"])
    bench.run()
    assert [task["prompt"] for task in bench.tasks] == ["ink", "ink"]
    assert "the suite has changed" in bench.said[0]
    assert "2 cells are new, 0 finished ones" in bench.said[0]
    bench.write(prompts=["ink"], more="[settings]\ns_text = 3")
    bench.run()
    assert len(bench.tasks) == 2
    assert "2 cells are new, 4 finished ones" in bench.said[0]


def test_a_failed_cell_ends_nothing_is_in_the_table_and_is_tried_again(bench):
    bench.failing = "fast"
    outcomes = bench.run()
    assert [outcome.failed for outcome in outcomes] == [True, False]
    assert [task["references"] for task in bench.tasks] == [True, True]  # the first that works makes them
    rows = list(table(outcomes))
    assert rows[0]["error"] == "KP-TEST: <b>broken</b>"
    assert (rows[1]["e_warp"], rows[1]["seconds_per_frame"], rows[1]["error"]) == (0.1, 1.0, "")
    assert (rows[2]["method"], rows[2]["kind"]) == ("blurred", "reference")
    suite = read_suite(bench.path)
    write_csv(bench.folder / "bench.csv", suite, outcomes)
    read = list(csv.DictReader((bench.folder / "bench.csv").read_text().splitlines()))
    assert [row["e_warp"] for row in read] == ["", "0.1", "0"]
    assert {row["torch"] for row in read} == {"9"}
    assert all(row["machine"] for row in read)
    write_bench_page(bench.folder / "bench.html", suite, outcomes)
    page = (bench.folder / "bench.html").read_text()
    assert "1 of 2 cells failed" in page
    assert "&lt;b&gt;broken" in page
    assert "<b>broken" not in page
    bench.failing = None
    assert not any(outcome.failed for outcome in bench.run())
    assert [task["preset"] for task in bench.tasks] == ["fast"]


def test_references_that_are_wanted_later_are_measured_on_what_is_there(bench):
    bench.write(more="references = false")
    assert not bench.run()[0].answer["references"]
    bench.write()
    outcomes = bench.run()
    assert [(task["painted"], task["references"]) for task in bench.tasks] == [(True, True)]
    assert outcomes[0].answer["references"]


def test_a_folder_of_something_else_is_left_alone(bench):
    bench.folder.mkdir()
    (bench.folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        bench.run()
    assert [path.name for path in bench.folder.iterdir()] == ["mine.txt"]


def task(bench, **more):
    words = {"source": str(bench.path.with_name("clip.mp4")), "result": str(bench.path.with_name("result.mp4"))}
    words |= {"prompt": "oil", "method": "style-a-video", "preset": "fast", "model": str(bench.model)}
    return words | {"settings": {"steps": 2, "dtype": "float32"}, "references": True, "painted": False} | more


def test_a_cell_has_numbers_time_memory_and_calls(bench):
    answer = run_task(task(bench))
    assert answer["frames"] == 3
    assert answer["model_calls"] == 2  # one window, two steps
    assert answer["seconds"] > 0
    assert answer["metrics"]["psnr"] > 0
    assert set(REFERENCES) < set(answer["references"])
    assert len(answer["pictures"]) == 2
    json.dumps(answer)


def test_a_cell_in_its_own_process_tells_its_own_memory(bench):
    answer = run_in_process(task(bench, painted=False, settings={"steps": 1, "dtype": "float32", "no_audio": True}))
    assert "error" not in answer
    assert 50e6 < answer["peak_memory"] < 8e9
    assert conditions([])["device"] == ""
    wrong = run_in_process(task(bench, model="/nowhere/model"))
    assert wrong["error"]["code"].startswith("KP-MODEL")


def test_a_process_that_dies_is_a_failed_cell(bench, monkeypatch):
    from kinopaint.bench import runner

    monkeypatch.setattr(runner, "_START", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    error = run_in_process(task(bench))["error"]
    assert error["code"] == "KP-BENCH-CRASH"
    assert "SIGKILL" in error["what"]
    assert os.getpid()  # this one goes on
