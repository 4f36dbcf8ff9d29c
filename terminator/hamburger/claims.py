"""What Hamburger's paper claims of accuracies; the comparisons are those of notebook 20."""

from terminator.claims.base import Claim, ahead
from terminator.gan import studies as gans
from terminator.gan.presets import study as gan_study
from terminator.gan.runs import GAN, NAMES
from terminator.segmentation import studies
from terminator.segmentation.presets import camvid_arms, context_arms
from terminator.segmentation.runs import SEGMENTATION

NOTEBOOK, PAPER = "20_hamburger", "arXiv 2109.04553"
ARMS = {"context": context_arms, "camvid": camvid_arms}
SETTLES = "laptop: two seeds or more of both sides; for the published sizes, paper runs"

CLAIMS = [
    *(Claim("Hamburger", text, PAPER, NOTEBOOK, ahead(SEGMENTATION, ARMS[study], a, b, studies.compare), SETTLES,
            SEGMENTATION.task) for text, study, a, b in studies.CLAIMS),
    *(Claim("Hamburger", f"a GAN with Hamburger comes nearer to the images than one {NAMES[other]}", PAPER, NOTEBOOK,
            ahead(GAN, gan_study, "NMF", other, gans.nearer), SETTLES, GAN.task) for other in ("none", "attention"))]
