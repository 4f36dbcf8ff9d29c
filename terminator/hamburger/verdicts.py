"""Verdicts on what Hamburger's paper claims, computed from measurements and runs.

Source: the claims are those of arXiv 2109.04553.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

import pandas as pd

from terminator.hamburger.analysis import HAMS
from terminator.hamburger.gan.report import nearer
from terminator.hamburger.gan.runs import NAMES, GanRun
from terminator.hamburger.segmentation import report as segmentation
from terminator.runs.against import against_number
from terminator.runs.claims import Judges, Verdict, judged, of_outcome, verdict_rows
from terminator.runs.outcomes import Outcome, Sample, Terms, sampled
from terminator.runs.proof import compare

Probes = Mapping[str, pd.DataFrame]  # see probes.probes
LEADING = 8  # singular values


def claims(
    probes: Probes,
    slopes: pd.DataFrame,
    blocks: Mapping[int, Mapping[str, Any]],
    gans: Mapping[str, Sequence[GanRun]],
    context: segmentation.Runs,
    camvid: segmentation.Runs | None = None,
) -> pd.DataFrame:
    """The paper's claims, what our records say about each, and a verdict that is computed from
    them.

    Args:
        blocks: of every seed, see report.trained_block.
    """
    rows = [
        *verdict_rows(OF_PROBES, probes),
        *verdict_rows(OF_COST, slopes),
        *verdict_rows(OF_BLOCKS, blocks),
        *segmentation.claims(context, camvid).to_dict("records"),
        *verdict_rows(
            {
                nearer_than(name): partial(_nearer, name)
                for name in OTHERS
                if gans.get(name) and gans.get("NMF")
            },
            gans,
        ),
        *verdict_rows(OF_GANS, gans.get("NMF", [])),
    ]
    return pd.DataFrame(rows, columns=["claim", "evidence", "verdict"])


# -- probes ----------------------------------------------------------------------------------------


def _errors(probes: Probes) -> pd.DataFrame:
    errors = probes["errors"]
    return errors[errors["ham"] == "NMF"].sort_values("steps")


def _falls(probes: Probes) -> Verdict:
    part = _errors(probes)
    start, last, floor = part["error"].iloc[0], part["error"].iloc[-1], part["floor"].iloc[0]
    return judged(
        bool((part["error"].diff().dropna() <= 1e-9).all()),
        f"{start:.3f} at the start, {last:.3f} after {part['steps'].iloc[-1]} steps; truncated SVD "
        f"{floor:.3f}",
    )


def _few_steps(probes: Probes) -> Verdict:
    part = _errors(probes)
    start, last = part["error"].iloc[0], part["error"].iloc[-1]
    share = (start - part.query("steps == 1")["error"].iloc[0]) / (start - last)
    return judged(bool(share > 0.8), f"{share:.0%} of the whole drop in the first step")


def _exact(probes: Probes) -> Verdict:
    exact, one_step = (probes["gradients"][key] for key in ("full_off", "one_step_off"))
    return judged(
        bool(exact.max() < 1e-3 < one_step.min()),
        f"off finite differences by {exact.max():.1g} at most (medians over seeds); one-step by "
        f"{math.floor(1000 * one_step.min()) / 1000:g} at least",
    )


def _unstable(ham: str, probes: Probes) -> Verdict:
    """It is where it may be longer than what came in, and five times as long as the one-step one
    (which vanishes where a ham chooses one base each).
    """
    table = probes["gradients"]
    part = table[table["ham"] == ham].sort_values("steps").iloc[-1]
    full, one_step = part["full_max"], part["one_step_max"]
    return judged(
        bool(full > max(1.0, 5 * one_step)),
        f"largest |dX| / |G| through all {part['steps']} steps {full:.2g}, one-step "
        f"{one_step:.2g}; unstable: above 1, and above five times the one-step one",
    )


_EXACT = "back-propagation through all steps is the map's gradient, the one-step gradient is not"
_IS_UNSTABLE = "the gradient through all steps is unstable ({})"
OF_PROBES: Judges = {
    "the error of NMF falls with every step": _falls,
    "few steps are enough": _few_steps,
    _EXACT: _exact,
    **{_IS_UNSTABLE.format(ham.title): partial(_unstable, ham.title) for ham in HAMS},
}
# of NMF the authors say that both gradients perform alike
ASKED_OF_PROBES = (_EXACT, _IS_UNSTABLE.format("NMF"))


# -- cost ------------------------------------------------------------------------------------------


def _grows(ham: str, slopes: pd.DataFrame) -> Verdict:
    ours, theirs = (slopes.loc[(name, "training")] for name in (ham, "attention, written out"))
    holds = (
        max(ours["operations"], ours["memory"]) < 1.3
        and min(theirs["operations"], theirs["memory"]) > 1.7
    )
    return judged(
        bool(holds),
        ", ".join(
            f"{what} N^{ours[what]:.2f} against N^{theirs[what]:.2f}"
            for what in ("operations", "memory", "time")
        ),
    )


OF_COST: Judges = {
    f"operations and memory of {ham} grow with N, those of attention written out with its square": (
        partial(_grows, ham)
    )
    for ham in ("NMF", "CD", "VQ")
}


# -- trained blocks --------------------------------------------------------------------------------


def _leading(blocks: Mapping[int, Mapping[str, Any]]) -> Verdict:
    """By seed: the mean over the first LEADING values of the share that they have together with
    those before them.
    """

    def side(when: str) -> list[Sample]:
        shares = {seed: found["energy"][when][:LEADING] for seed, found in blocks.items()}
        return [Sample(seed, 100 * mean(part), "", 0.0) for seed, part in shares.items()]

    names = ("share of the energy (%) after the block", "before it")
    return of_outcome(compare(side("after"), side("before"), names, Terms(None, 1.0, ceiling=None)))


OF_BLOCKS: Judges = {
    "features after the block have more of their energy in the leading singular values": _leading
}


# -- GANs ------------------------------------------------------------------------------------------

USED = 0.05  # |sigma| from which on a context has a say
OTHERS = ("none", "attention")


def nearer_than(name: str) -> str:
    """The claim that a Hamburger does better than another context."""
    return f"a GAN with Hamburger comes nearer to the images than one {NAMES[name]}"


def _nearer(name: str, gans: Mapping[str, Sequence[GanRun]]) -> Verdict:
    found = nearer(gans, "NMF", name)
    return of_outcome(found)._replace(evidence=f"Frechet distances: {found}")


def used(gans: Sequence[GanRun]) -> Outcome:
    """Whether both contexts of trained GANs have a say."""
    terms = Terms(margin=None, worth=USED, unit="of sigma", digits=3)
    samples = sampled([r.record for r in gans], _least_sigma)
    return against_number(
        samples, USED, ("least |sigma| of generator and discriminator", "a bound of"), terms
    )


def _least_sigma(record: Mapping[str, Any]) -> float:
    return min(abs(value) for value in record["sigmas"].values())


OF_GANS: Judges = {"the Hamburger is used: sigma leaves 0": lambda gans: of_outcome(used(gans))}
