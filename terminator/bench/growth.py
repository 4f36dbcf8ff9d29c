"""What a training step of Terminator costs against the size of its input: image side, batch,
sequence length.

Theory, per step: the global branches multiply one (side x side) matrix per channel with another,
side^3 operations; everything else is in proportion to the side^2 positions, so a step grows with
the side to a power between 2 and 3. The slow networks see no images: they cost the same for any
batch, and the power of the batch is at most 1. On sequences the global branches convolve by FFT:
power 1 of the length, up to its logarithm.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from terminator.bench.case import Case, measured
from terminator.bench.measure import exponent
from terminator.runs import measurements
from terminator.runtime.settings import require_one_of

EXPERIMENT = "costs"
THEORY = {"image side": "2 to 3", "batch": "at most 1", "sequence length": "1"}
_SIZES = {  # profile: sides at batch 4, batches of 8x8 pixels, lengths at batch 4
    "smoke": ((8, 16), (4, 16), (64, 256)),
    "laptop": ((8, 16, 32, 64, 128), (2, 8, 32, 128, 512), (256, 1024, 4096, 16384)),
    "paper": ((8, 16, 32, 64, 128), (2, 8, 32, 128, 512), (256, 1024, 4096, 16384)),
}
_REPEATS = {"smoke": 1, "laptop": 3, "paper": 10}


def cases(profile: str, device: str = "cpu") -> list[tuple[str, Case]]:
    """(axis, case) for every size of the profile; the axes are those of THEORY."""
    sides, batches, lengths = _SIZES[profile]
    few: dict[str, Any] = {"repeats": _REPEATS[profile], "warm_up": 1, "device": device}
    return [
        *(("image side", Case(size=side, batch=4, **few)) for side in sides),
        *(("batch", Case(size=8, batch=batch, **few)) for batch in batches),
        *(
            ("sequence length", Case(size=length, batch=4, dimensions=1, **few))
            for length in lengths
        ),
    ]


def recorded(profile: str, device: str = "auto", again: bool = False) -> dict[str, Any]:
    """The newest record of this profile and kind of device, or a new one.

    Raises:
        ConfigError: for an unknown profile.
    """
    require_one_of("profile", profile, _SIZES)

    def sizes(kind: str) -> dict[str, Any]:
        distinct = list(dict.fromkeys(case for _, case in cases(profile, kind)))
        return measured(distinct, floors=profile != "smoke")

    return measurements.latest(EXPERIMENT, profile, sizes, device, again)


def table(record: dict[str, Any]) -> pd.DataFrame:
    """Rows of a record by axis: axis, amount (pixels a side, images or positions), ms, ms_low,
    ms_high, peak_mib.
    """
    rows = pd.DataFrame(record["rows"])
    places = {
        "sequence length": (rows["dimensions"] == 1, "size"),
        "image side": ((rows["dimensions"] == 2) & (rows["batch"] == 4), "size"),
        "batch": ((rows["dimensions"] == 2) & (rows["size"] == rows["size"].min()), "batch"),
    }
    parts = [
        rows[which].assign(axis=axis, amount=rows.loc[which, column])
        for axis, (which, column) in places.items()
    ]
    found = pd.concat(parts).drop_duplicates(["axis", "amount"]).sort_values(["axis", "amount"])
    return found.reset_index(drop=True)


def growth_table(costs: pd.DataFrame, axes: Iterable[str] = tuple(THEORY)) -> pd.DataFrame:
    """Fitted powers of time and memory along each axis (three largest sizes), beside theory's power
    of the time.
    """
    rows = []
    for axis in axes:
        group = costs[costs["axis"] == axis]
        rows.append(
            {
                "axis": axis,
                "from": group["amount"].min(),
                "to": group["amount"].max(),
                "time, fitted": exponent(group["amount"], group["ms_low"]),
                "time, theory": THEORY[axis],
                "memory, fitted": exponent(group["amount"], group["peak_mib"]),
            }
        )
    return pd.DataFrame(rows).set_index("axis")
