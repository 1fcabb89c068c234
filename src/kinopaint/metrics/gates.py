"""Limits that a result must keep: `e_warp>0.05` is what makes it fail."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kinopaint.errors import SettingsError, did_you_mean
from kinopaint.metrics.catalogue import CATALOGUE, SAME_AS
from kinopaint.settings import real

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Gate:
    """Fails where `metric` stands in the relation `compare` to `limit`, and where it could not be measured."""

    metric: str
    compare: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read `NAME>LIMIT` (or <, >=, <=). Raises SettingsError (KP-SETTING-GATE, KP-SETTING-UNKNOWN, -VALUE)."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise SettingsError(
                "KP-SETTING-GATE",
                f"{text!r} is not a condition",
                where="--fail-if",
                fix='write a metric, one of < > <= >=, and a number, in quotes: "e_warp>0.05"',
            )
        known = {*CATALOGUE, *SAME_AS}
        if found[1] not in known:
            raise SettingsError(
                "KP-SETTING-UNKNOWN",
                f"there is no metric {found[1]!r}",
                where="--fail-if",
                fix=did_you_mean(found[1], known),
            )
        return cls(found[1], found[2], real("fail_if", found[3]))

    def failure(self, metrics: Mapping[str, float | None], undefined: Mapping[str, str]) -> str | None:
        """What is wrong with these metrics; None if nothing is."""
        value = metrics.get(self.metric)
        if value is None:
            return f"{self.metric} could not be measured: {undefined.get(self.metric, 'it is missing')}"
        failed = _COMPARE[self.compare](value, self.limit)
        return f"{self.metric} is {value:.6g}, and {self} fails" if failed else None

    def __str__(self) -> str:
        return f"{self.metric}{self.compare}{self.limit:g}"
