"""What it costs not to be exact: differences from the profile `exact` as measured, for the recipe.

The table, deviations.json, is written by `benchmarks/profiles.py --write`. It holds for Style-A-Video with the embedded
model at its recommended settings; for anything else the recipe says that nothing was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

TABLE = "deviations.json"
NOT_MEASURED = "not measured for this model and method"
NOT_MEASURED_SO = "not measured for these choices"


@cache
def table() -> Mapping[str, Any]:
    """`about` says how it was measured, `weights` is the U-Net's SHA-256; `rows` hold `choices` and `deviation`."""
    found: dict[str, Any] = json.loads((files("kinopaint") / TABLE).read_text(encoding="utf-8"))
    return found


def deviation(
    choices: Mapping[str, Any], method: str, model: str, weights: str | None
) -> Mapping[str, float | bool] | str:
    """How far all these choices together lead from `exact`; or why that is not known.

    `method` and `model` are names, `weights` is the SHA-256 of the model's U-Net. `psnr` (mean) and `psnr_lowest` are
    in dB to the frames of `exact`, `ssim` is to them, too; `pro_con`, `content` and `e_warp` are ratios to its scores,
    and `speed` is how many times as fast it was, where it was measured on a machine that suits the precision.
    """
    if (method, model) != ("style-a-video", "mini"):
        return NOT_MEASURED
    row: dict[str, Any] | None = next((row for row in table()["rows"] if row["choices"] == dict(choices)), None)
    if row is None:
        return NOT_MEASURED_SO
    if weights != table()["weights"]:
        return {**row["deviation"], "measured_with_earlier_weights": True}
    return dict(row["deviation"])
