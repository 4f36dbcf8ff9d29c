"""Verdicts on what Hamburger's paper claims, computed from records.

Source: the claims are those of arXiv 2109.04553.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from terminator.hamburger.gan.report import nearer
from terminator.hamburger.gan.runs import NAMES, GanRun
from terminator.hamburger.segmentation import report as segmentation
from terminator.runs.against import against_number
from terminator.runs.outcomes import HOLDS, NOT, UNDECIDED, Terms, sampled


def claims(
    probes: Mapping[str, pd.DataFrame],
    slopes: pd.DataFrame,
    energy: Mapping[str, Sequence[float]],
    gans: Mapping[str, Sequence[GanRun]],
    context: segmentation.Runs,
    camvid: segmentation.Runs | None = None,
) -> pd.DataFrame:
    """The paper's claims, what our records say about each, and a verdict that is computed from
    them.
    """
    rows = [
        *_convergence(probes["errors"]),
        *_gradients(probes["gradients"]),
        *_cost(slopes),
        *_spectrum(energy),
        *segmentation.claims(context, camvid).to_dict("records"),
        *_gan(gans),
    ]
    return pd.DataFrame(rows, columns=["claim", "evidence", "verdict"])


def _row(claim: str, evidence: str, holds: bool | None) -> dict[str, str]:
    verdict = UNDECIDED if holds is None else HOLDS if holds else NOT
    return {"claim": claim, "evidence": evidence, "verdict": verdict}


def _convergence(errors: pd.DataFrame) -> list[dict[str, str]]:
    part = errors[errors["ham"] == "NMF"].sort_values("steps")
    falls = bool((part["error"].diff().dropna() <= 1e-9).all())
    start, first, last, floor = (
        part["error"].iloc[0],
        part.query("steps == 1")["error"].iloc[0],
        part["error"].iloc[-1],
        part["floor"].iloc[0],
    )
    share = (start - first) / (start - last)
    return [
        _row(
            "the error of NMF falls with every step",
            f"{start:.3f} at the start, {last:.3f} after {part['steps'].iloc[-1]} steps; truncated "
            f"SVD {floor:.3f}",
            falls,
        ),
        _row(
            "few steps are enough", f"{share:.0%} of the whole drop in the first step", share > 0.8
        ),
    ]


def _gradients(table: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    exact = table["full_off"].max()
    rows.append(
        _row(
            "back-propagation through all steps is the map's gradient, the one-step gradient is "
            "not",
            f"off finite differences by {exact:.1g} at most; one-step by "
            f"{table['one_step_off'].min():.1g} at least",
            bool(exact < 1e-3 < table["one_step_off"].min()),
        )
    )
    for name in dict.fromkeys(table["ham"]):
        part = table[table["ham"] == name].sort_values("steps").iloc[-1]
        tail = (
            part["full_max"] / part["one_step_max"] if part["one_step_max"] > 1e-3 else float("inf")
        )
        text = (
            f"largest |dX| / |G| through all {part['steps']} steps {part['full_max']:.2g}, "
            f"one-step {part['one_step_max']:.2g}"
        )
        rows.append(
            _row(
                f"the gradient through all steps is unstable ({name})",
                text,
                None if tail == float("inf") else bool(tail > 5),
            )
        )
    return rows


def _cost(slopes: pd.DataFrame) -> list[dict[str, str]]:
    rows, theirs = [], slopes.loc[("attention, written out", "training")]
    for name in ("NMF", "CD", "VQ"):
        ours = slopes.loc[(name, "training")]
        text = ", ".join(
            f"{what} N^{ours[what]:.2f} against N^{theirs[what]:.2f}"
            for what in ("operations", "memory", "time")
        )
        holds = (
            max(ours["operations"], ours["memory"]) < 1.3
            and min(theirs["operations"], theirs["memory"]) > 1.7
        )
        rows.append(
            _row(
                f"operations and memory of {name} grow with N, those of attention with its square",
                text,
                bool(holds),
            )
        )
    return rows


def _spectrum(energy: Mapping[str, Sequence[float]]) -> list[dict[str, str]]:
    """Of one trained network, and so without a verdict."""
    before, after = (torch.tensor(energy[key], dtype=torch.float64) for key in ("before", "after"))
    count = min(8, len(before))
    more = int((after[:count] > before[:count]).sum())
    return [
        _row(
            "features after the block have more of their energy in the leading singular values",
            f"first: {before[0]:.2f} before, {after[0]:.2f} after; first {count}: "
            f"{before[count - 1]:.3f}, {after[count - 1]:.3f}; more in {more} of {count} sums; one "
            "seed, no verdict with fewer than 3",
            None,
        )
    ]


USED = 0.05  # |sigma| from which on a context has a say


def _gan(gans: Mapping[str, Sequence[GanRun]]) -> list[dict[str, str]]:
    rows = []
    for name in ("none", "attention"):
        if name in gans and "NMF" in gans:
            found = nearer(gans, "NMF", name)
            rows.append(
                {
                    "claim": "a GAN with Hamburger comes nearer to the images than one "
                    f"{NAMES[name]}",
                    "evidence": f"Frechet distances: {found}",
                    "verdict": found.said,
                }
            )
    terms = Terms(margin=None, worth=USED, unit="of sigma", digits=3)
    samples = sampled([r.record for r in gans["NMF"]], _least_sigma)
    found = against_number(samples, USED, ("least |sigma| after training", "a bound of"), terms)
    rows.append(
        {
            "claim": "the Hamburger is used: sigma leaves 0",
            "evidence": str(found),
            "verdict": found.said,
        }
    )
    return rows


def _least_sigma(record: Mapping[str, Any]) -> float:
    return min(abs(value) for value in record["sigmas"].values())
