"""What Hamburger's paper claims of accuracies; the comparisons are those of notebook 20."""

from terminator.hamburger.gan import report as gans
from terminator.hamburger.gan.presets import study as gan_study
from terminator.hamburger.gan.runs import GAN, NAMES
from terminator.hamburger.segmentation import mixers, report
from terminator.hamburger.segmentation.presets import camvid_arms, context_arms, mixer_arms
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.runs.claims import Claim, ahead

NOTEBOOK, PAPER = "20_hamburger", "arXiv 2109.04553"
ARMS = {"context": context_arms, "camvid": camvid_arms}
SETTLES = "settled at this size; for the published sizes, paper runs with three seeds"

CLAIMS = [
    *(
        Claim(
            "Hamburger",
            text,
            PAPER,
            NOTEBOOK,
            ahead(SEGMENTATION, ARMS[study], a, b, mixers.compare),
            SETTLES,
            SEGMENTATION.task,
        )
        for text, study, a, b in report.CLAIMS
    ),
    *(
        Claim(
            "Hamburger",
            f"a GAN with Hamburger comes nearer to the images than one {NAMES[other]}",
            PAPER,
            NOTEBOOK,
            ahead(GAN, gan_study, "NMF", other, gans.nearer),
            SETTLES,
            GAN.task,
        )
        for other in ("none", "attention")
    ),
    *(  # of Terminator's operator, by the task of this notebook
        Claim(
            "Terminator",
            text,
            "arXiv 2401.17948",
            NOTEBOOK,
            ahead(SEGMENTATION, mixer_arms, a, b, mixers.compare),
            SETTLES,
            SEGMENTATION.task,
        )
        for text, a, b in mixers.CLAIMS
    ),
]
