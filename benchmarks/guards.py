"""Break guards on purpose, one at a time, and see that the tests which docs/reliability.md names for them fail.

    python benchmarks/guards.py              all of them, each in a copy of this checkout
    python benchmarks/guards.py hang copy    those with these words in their names

A guard that can be broken without a test failing is none; neither is one whose line is no longer there: both end this
with 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("src", "tests", "benchmarks", "docs", "pyproject.toml", "README.md")


class Guard(NamedTuple):
    """`old` in the file becomes `new`; then one of the `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


# fmt: off
# ruff: noqa: E501 - one guard, one line
GUARDS = [
    Guard("1 no regular file", "video/opening.py", "if not stat.S_ISREG(", "if 0 and not stat.S_ISREG(", "video/test_bad_input.py::test_a_socket"),
    Guard("2 empty file", "video/opening.py", "    if not head:\n", "    if False:\n", "video/test_bad_input.py::test_zero_bytes"),
    Guard("3 cut off", "video/reader.py", "if info.truncated and not", "if False and not", "video/test_bad_input.py::test_a_truncated_matroska"),
    Guard("4 damaged frames", "video/reader.py", "corrupt += picture.is_corrupt", "corrupt += 0", "video/test_bad_input.py::test_damaged_frames_are_counted"),
    Guard("5 no frame", "video/probe.py", '        if not len(times):\n            raise InputError(\n                "KP-INPUT-NO-FRAMES"', '        if False:\n            raise InputError(\n                "KP-INPUT-NO-FRAMES"', "video/test_bad_input.py::test_no_frames"),
    Guard("6 sound only", "video/probe.py", '"KP-INPUT-AUDIO-ONLY" if audio else', '"KP-INPUT-NO-VIDEO" if audio else', "video/test_bad_input.py::test_sound_only"),
    Guard("6 cover picture", "video/probe.py", "container.streams.video if not s.disposition & Disposition.attached_pic]", "container.streams.video]", "video/test_bad_input.py::test_a_song_with_its_cover_is_sound_only"),
    Guard("12 change of size", "video/reader.py", "if image.shape[:2] != (info.height, info.width):", "if False:", "video/test_reader.py::test_a_change_of_size_and_backward_times_are_levelled_and_said"),
    Guard("14 no tags", "video/color.py", '"bt601" if frame.height < 720 else "bt709"', '"bt709"', "video/test_color.py::test_untagged_colours_are_read_by_the_rule"),
    Guard("14 full range", "video/color.py", "src_color_range=ColorRange.JPEG if tags.full_range else ColorRange.MPEG", "src_color_range=ColorRange.MPEG", "video/test_color.py::test_colours_are_read_by_their_tags"),
    Guard("14 deep pictures", "video/color.py", "if bits <= 8 or tags", "if True or tags", "video/test_color.py::test_deep_rgb_and_grey_are_rounded_without_bias"),
    Guard("14 HDR", "video/color.py", "image = to_bt709(self._convert(frame, tags, \"rgb48le\"), tags)", "image = (self._convert(frame, tags, \"rgb48le\") >> 8).astype(\"uint8\")", "video/test_color.py::test_hdr_grey_follows_the_stated_rule"),
    Guard("24 window below overlap", "types.py", "if self.size <= self.overlap + len(self.anchors):", "if False:", "test_types.py::test_impossible_plans_are_refused"),
    Guard("13 interlaced", "video/deinterlace.py", "(picture.interlaced_frame and min", "(False and min", "video/test_reader.py::test_interlaced_frames_are_completed_from_their_first_field"),
    Guard("22 empty prompt", "types.py", "if not self.text.strip():", "if False:", "test_types.py::test_an_empty_prompt_is_refused"),
    Guard("23 not a number", "methods/_settings.py", "if not math.isfinite(value):", "if False:", "methods/test_style_a_video.py::test_impossible_settings_are_refused"),
    Guard("25 end before start", "video/timecode.py", "if self.end is not None and self.end <= (self.start or 0):", "if False:", "video/test_timecode.py::test_an_end_before_the_start_is_refused"),
    Guard("25 outside the clip", "video/reader.py", "        if not len(self.times):\n", "        if False:\n", "cli/test_stylize.py::test_range_outside_the_clip"),
    Guard("28 disk full", "video/place.py", "if error.errno in _FULL:", "if False:", "test_resume.py::test_a_full_disk_keeps_the_work"),
    Guard("30 damaged entry", "engine/cache.py", "if checksum != _checksum(tensors):", "if False:", "engine/test_cache.py::test_a_damaged_entry_is_computed_again"),
    Guard("34 weights that are not finite", "models/weights.py", "if judged.numel() and not", "if False and not", "models/test_loading.py::test_weights_that_are_not_finite"),
    Guard("19 gap in a sequence", "video/sequence.py", "    if not missing:\n", "    if True:\n", "video/test_sequence.py::test_a_missing_number_leaves_the_picture_before_it_longer_and_is_said"),
    Guard("29 two runs", "work.py", "                raise self._busy() from None", "                break", "test_work_folder.py::test_the_second_run_is_told_who_holds_the_output_and_takes_it_over_when_that_is_dead"),
    Guard("7 damaged sound", "video/passthrough.py", "                raise\n            route.lost.append(time)\n            return False", "                raise\n            raise", "video/test_writer.py::test_damaged_packets_of_sound_are_left_out_and_counted"),
    Guard("7 gap in sound", "video/passthrough.py", "            route.lost.append(time)\n            return\n", "            return\n", "video/test_writer.py::test_sound_that_cannot_be_decoded_leaves_a_gap"),
    Guard("7 broken header of sound", "video/passthrough.py", " and self._can_hold(muxer, stream):", ":", "video/test_writer.py::test_sound_with_a_broken_header_does_not_stop_the_pictures"),
    Guard("7 rate of sound", "video/passthrough.py", "for rate in (own, 48000):", "for rate in (own,):", "video/test_writer.py::test_sound_of_a_rate_that_the_encoder_does_not_know"),
    Guard("8 backward times", "video/reader.py", "            if pts <= previous:\n", "            if False:\n", "video/test_reader.py::test_a_change_of_size_and_backward_times_are_levelled_and_said"),
    Guard("9 rate of Matroska", "video/encoder.py", "if most is not None and rate > most:", "if most == 100 and rate > most:", "video/test_writer.py::test_more_frames_a_second_than_matroska_tells_apart_are_refused_before_the_work"),
    Guard("10 odd sizes", "video/codecs.py", "name = self.odd_format if", "name = self.pixel_format if", "video/test_writer.py::test_any_size_is_kept_exactly"),
    Guard("10 narrow H.265", "video/codecs.py", "narrowest=64,", "narrowest=63,", "video/test_writer.py::test_a_size_that_the_encoder_refuses"),
    Guard("11 rotation", "video/reader.py", "else (info.rotation, info.mirrored)", "else (0, False)", "video/test_reader.py::test_rotation_is_applied_once"),
    Guard("15 transparency", "video/reader.py", 'if codes_alpha(stream) and name in ("vp8", "vp9"):', "if False:", "video/test_writer.py::test_transparency_is_kept_where_the_target_can"),
    Guard("16 pixels", "video/probe.py", "if context.width * context.height > limits.pixels:", "if False:", "video/test_isolated.py::test_limits_of_frames_packets_and_pixels"),
    Guard("16 frames", "video/limits.py", "if self._frames > self.limits.frames:", "if False:", "video/test_isolated.py::test_limits_of_frames_packets_and_pixels"),
    Guard("16 limits from outside", "video/limits.py", 'os.environ.get(VARIABLE, "")', '""', "video/test_isolated.py::test_limits_can_be_raised_from_outside_and_errors_say_how"),
    Guard("17 playlists", "video/opening.py", "if _PLAYLIST.match(head):", "if False:", "video/test_bad_input.py::test_playlists_by_their_first_bytes"),
    Guard("17 archives", "video/opening.py", "    if archive:\n", "    if False:\n", "video/test_bad_input.py::test_archives"),
    Guard("18 replaced", "video/child.py", "if known not in (None, self._state):", "if False:", "video/test_isolated.py::test_a_file_that_is_replaced_is_refused"),
    Guard("20 names like patterns", "video/sequence.py", "if matches is None or os.path.lexists(text) or", "if matches is None or", "video/test_sequence.py::test_a_file_named_like_a_pattern_is_that_file"),
    Guard("21 hostile text", "text.py", "c if c.isprintable() else", "c if True else", "test_shown_text.py::test_nothing_that_acts_is_left"),
    Guard("26 input as output", "video/place.py", "path.samefile(each) for each in", "False for each in", "video/test_writer.py::test_the_input_is_never_the_output"),
    Guard("27 checksum of the journal", "journal.py", "return entry if _line(entry) == line else None", "return entry", "test_journal.py"),
    Guard("27 checksum of segments", "work.py", "if hashlib.sha256(data).hexdigest() == sha256 else None", "if data else None", "test_resume.py::test_damaged_work_is_done_again_and_not_trusted"),
    Guard("31 ladder", "engine/run.py", "if not is_out_of_memory(error):", "if True:", "engine/test_load.py::test_memory_that_runs_out_leads_down_the_ladder_and_stays_there"),
    Guard("31 ceiling exceeded", "api.py", "peak is not None and peak > job.memory:", "False:", "test_memory.py::test_the_peak_is_in_the_recipe_and_more_than_was_allowed_is_said"),
    Guard("32 one colour", "engine/faults.py", "    if flat.any():\n", "    if False:\n", "engine/test_faults.py::test_one_colour_is_a_fault_where_the_source_has_many"),
    Guard("33 device lost", "engine/device.py", "return isinstance(error, _KIND) or (", "return False and (", "test_resume.py::test_a_device_that_fails_on_the_way_costs_one_window"),
    Guard("33 other faults", "engine/device.py", "if is_out_of_memory(error) or not is_device_failure(error):", "if False:", "test_resume.py::test_other_faults_are_not_blamed_on_the_device"),
    Guard("35 growth is progress", "video/isolated_sink.py", "return before not in (None, self._grown)", "return False", "video/test_isolated_sink.py::test_slow_encoding_of_a_file_that_grows_is_no_hang"),
    Guard("35 pictures may be changed", "video/isolated_sink.py", "image=image.copy()", "image=image", "video/test_isolated_sink.py::test_what_was_handed_over_may_be_changed"),
    Guard("35 encoding elsewhere", "video/writer.py", "else IsolatedSink(target, self.path)", 'else __import__("kinopaint.video.encoder", fromlist=["x"]).VideoSink(target)', "video/test_isolated_sink.py::test_the_source_is_opened_in_no_process_of_ours"),
    Guard("35 checking elsewhere", "video/delivery.py", "from kinopaint.video.isolated import scan", "from kinopaint.video.probe import scan", "video/test_isolated_sink.py::test_the_source_is_opened_in_no_process_of_ours"),
    Guard("36 windows end at cuts", "engine/run.py", "method.windows.cut(frames, clip.cuts)", "method.windows.cut(frames, ())", "engine/test_run.py::test_a_chained_method_starts_anew_at_a_cut"),
    Guard("38 batch of the recipe", "api.py", "work.recipe) or like", "work.recipe)", "test_repeat.py::test_as_much_is_computed_at_once_as_then"),
    Guard("38 additions of the recipe", "api.py", "check_additions(recipe, like)", "pass", "test_repeat.py::test_what_was_put_on_the_model_must_be_the_same"),
    Guard("38 encoder", "video/codecs.py", '"mbtree": "0"', '"mbtree": "1"', "video/test_writer.py::test_the_same_pictures_are_encoded_alike"),
    Guard("delivery of all frames", "video/delivery.py", "info.frame_count == plan.frames)", "True)", "video/test_delivery.py::test_whatever_breaks_while_writing_is_seen"),
]
# fmt: on


def fails(copy: Path, guard: Guard) -> str:
    """What is wrong: empty if the tests fail without the guard."""
    path = copy / "src" / "kinopaint" / guard.file
    whole = path.read_text(encoding="utf-8")
    if guard.old not in whole:
        return "its line is not there"
    path.write_text(whole.replace(guard.old, guard.new, 1), encoding="utf-8")
    try:
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{guard.tests}"]
        environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(whole, encoding="utf-8")
    return "" if done.returncode == 1 else f"no test failed without it (exit code {done.returncode})"


def main() -> int:
    chosen = [guard for guard in GUARDS if not sys.argv[1:] or any(word in guard.name for word in sys.argv[1:])]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy, shared = Path(folder) / "kinopaint", ROOT.parent / "shared"
        if shared.exists():
            (Path(folder) / "shared").symlink_to(shared)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, copy / part)
            elif (ROOT / part).exists():
                shutil.copy(ROOT / part, copy / part)
        for guard in chosen:
            wrong = fails(copy, guard)
            missed += bool(wrong)
            print(f"{guard.name}: {wrong or 'seen to fail'}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} guards were seen to fail")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
