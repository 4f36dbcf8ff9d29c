"""What Hamburger's paper claims; the comparisons are those of notebook 20."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from terminator.hamburger import probes, verdicts
from terminator.hamburger.gan import report as gans
from terminator.hamburger.gan.presets import study as gan_study
from terminator.hamburger.gan.runs import GAN
from terminator.hamburger.report import found_blocks
from terminator.hamburger.segmentation import mixers, report
from terminator.hamburger.segmentation.presets import camvid_arms, context_arms, mixer_arms
from terminator.hamburger.segmentation.runs import SEGMENTATION, SegmentationRun
from terminator.runs.claims import ASKED, Claim, Records, Verdict, ahead, measured, of_arm

PAPER = "arXiv 2109.04553"
ARMS = {"context": context_arms, "camvid": camvid_arms}
TRAINED = "settled at this size; for the published sizes, paper runs with three seeds"
MEASURED = "settled for these sizes; for others, the paper profile of notebook 20"


def _claim(
    text: str,
    verdict: Callable[[Records], Verdict],
    task: str = SEGMENTATION.task,
    settles: str = TRAINED,
    system: str = "Hamburger",
    source: str = PAPER,
) -> Claim:
    return Claim(system, text, source, "20_hamburger", verdict, settles, task)


def _of_blocks(judge: Callable[[Any], Verdict], runs: Sequence[SegmentationRun]) -> Verdict:
    return judge(found_blocks(runs))


CLAIMS = [
    *(
        _claim(
            text,
            ahead(SEGMENTATION, ARMS[study], a, b, mixers.compare),
            source=ASKED if b == report.POOLING else PAPER,
        )
        for text, study, a, b in report.CLAIMS
    ),
    *(
        _claim(
            verdicts.nearer_than(other), ahead(GAN, gan_study, "NMF", other, gans.nearer), GAN.task
        )
        for other in verdicts.OTHERS
    ),
    *(
        _claim(text, of_arm(GAN, gan_study, "NMF", judge), GAN.task, source=ASKED)
        for text, judge in verdicts.OF_GANS.items()
    ),
    *(
        _claim(
            text, of_arm(SEGMENTATION, context_arms, report.LOOKED_INTO, partial(_of_blocks, judge))
        )
        for text, judge in verdicts.OF_BLOCKS.items()
    ),
    *(
        _claim(
            text,
            measured(read, judge),
            settles=MEASURED,
            source=ASKED if text in verdicts.ASKED_OF_PROBES else PAPER,
        )
        for read, judges in (
            (probes.found_probes, verdicts.OF_PROBES),
            (probes.found_slopes, verdicts.OF_COST),
        )
        for text, judge in judges.items()
    ),
    *(  # of Terminator's operator, by the task of this notebook
        _claim(
            text,
            ahead(SEGMENTATION, mixer_arms, a, b, mixers.compare),
            system="Terminator",
            source="arXiv 2401.17948" if b == mixers.LINEAR else ASKED,
        )
        for text, a, b in mixers.CLAIMS
    ),
]
