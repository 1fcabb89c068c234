from dataclasses import dataclass, fields

import pytest

from kinopaint.errors import SettingsError
from kinopaint.methods._settings import check_settings, setting, share


@dataclass(frozen=True)
class Sample:
    amount: float = setting(1.5, "how much", minimum=0, maximum=2, unit="spoons")
    count: int = setting(3, "how many", minimum=1)
    kind: str = setting("sweet", "what", choices=("sweet", "sour"))
    name: str = setting("", "of whom")
    part: float = share(0.5, "how much of it")

    def __post_init__(self):
        check_settings(self)


def test_defaults_and_whole_numbers_for_floats_are_fine():
    assert Sample(amount=2).amount == 2
    assert dict(fields(Sample)[0].metadata) == {
        "help": "how much",
        "choices": (),
        "minimum": 0,
        "maximum": 2,
        "unit": "spoons",
    }


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"amount": 3}, "KP-SETTING-RANGE", "amount: 3 is out of range"),
        ({"amount": "1"}, "KP-SETTING-TYPE", "'1' is not a number"),
        ({"amount": True}, "KP-SETTING-TYPE", "True is not a number"),
        ({"count": 2.5}, "KP-SETTING-TYPE", "2.5 is not a whole number"),
        ({"part": -0.1}, "KP-SETTING-RANGE", "give a number from 0 to 1"),
        ({"part": 1.1}, "KP-SETTING-RANGE", "give a number from 0 to 1"),
        ({"count": 0}, "KP-SETTING-RANGE", "give a number at least 1"),
        ({"kind": "swet"}, "KP-SETTING-CHOICE", "did you mean sweet"),
        ({"name": 3}, "KP-SETTING-TYPE", "3 is not a str"),
    ],
)
def test_impossible_values_are_named(settings, code, text):
    with pytest.raises(SettingsError, match=text) as caught:
        Sample(**settings)
    assert caught.value.code == code
