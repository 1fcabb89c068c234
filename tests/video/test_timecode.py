from fractions import Fraction

import pytest

from kinopaint.errors import SettingsError
from kinopaint.video import Selection, parse_time


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2.5", Fraction(5, 2)),
        (2.5, Fraction(5, 2)),
        (0.1, Fraction(1, 10)),
        (7, Fraction(7)),
        (Fraction(1001, 30000), Fraction(1001, 30000)),
        ("00:00:07", Fraction(7)),
        ("00:00:07.250", Fraction(29, 4)),
        ("1:30", Fraction(90)),
        ("75:00", Fraction(4500)),
        (" .5 ", Fraction(1, 2)),
    ],
)
def test_times_are_exact_as_written(written, seconds):
    assert parse_time(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "x", "-1", -1, "2,5", "1:2:3:4", "1:75", float("nan"), float("inf"), None, "5s"]
)
def test_what_is_not_a_time_is_refused(written):
    with pytest.raises(SettingsError, match="KP-SETTING-TIME"):
        parse_time(written)


def test_the_error_names_the_option():
    for name, times in (("--start", ("soon", None)), ("--end", (None, True))):
        with pytest.raises(SettingsError, match="KP-SETTING-TIME") as caught:
            Selection.of(*times)
        assert caught.value.where == name


def test_an_end_before_the_start_is_refused():
    with pytest.raises(SettingsError, match="KP-SETTING-RANGE"):
        Selection.of("5", "00:00:02")


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_every_must_be_a_positive_whole_number(every):
    with pytest.raises(SettingsError, match="KP-SETTING-EVERY"):
        Selection(every=every)
