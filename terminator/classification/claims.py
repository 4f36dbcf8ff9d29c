"""What the Terminator paper and its release claim."""

from collections.abc import Callable

from terminator.classification import control_study, controls, rollout, studies
from terminator.classification.headline import follows_the_log, follows_the_log_on_copies
from terminator.classification.presets import preset
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.verdicts import (
    better_with,
    keeps_accuracy_when_calibrated,
    reaches,
    sequences_reach,
    wins,
)
from terminator.classification.verdicts_inside import (
    by_controls,
    features_keep_mean_zero,
    scores_single_out_the_object,
)
from terminator.runs.claims import ASKED, Claim, Records, Verdict

PAPER = "arXiv 2401.17948"
LOG = "accuracy logs of the released code"
GPU = "`run_all.py --profile paper --only 11*` on a GPU with the original data, three seeds"


def _claim(
    text: str, source: str, notebook: str, verdict: Callable[[Records], Verdict], settles: str
) -> Claim:
    return Claim("Terminator", text, source, notebook, verdict, settles, CLASSIFICATION.task)


PAIRS = "settled at this size; at full size: paper runs of both sides, three seeds on one machine"
CLAIMS = [
    _claim(
        "CIFAR-10: 95.31 % after 100 epochs",
        LOG,
        "11_images",
        reaches(95.31, "CIFAR10", 100, setting=preset("cifar10"), profile="paper"),
        GPU,
    ),
    _claim(
        "CIFAR-10: 92.89 % after the first 20 of 100 epochs already",
        LOG,
        "12_convergence",
        reaches(92.89, "CIFAR10", 100, setting=preset("cifar10"), at=20, profile="paper"),
        GPU,
    ),
    *(
        Claim(
            "Terminator",
            f"early epochs of the released log (CIFAR-10){files}",
            LOG,
            "12_convergence",
            verdict,
            "three seeds of the headline's first epochs",
            CLASSIFICATION.task,
            under_way=True,
        )
        for files, verdict in (
            ("", follows_the_log),
            (", on JPEG files", follows_the_log_on_copies),
        )
    ),
    _claim(
        "CIFAR-100: 75.43 % after 100 epochs",
        LOG,
        "11_images",
        reaches(75.43, "CIFAR100", 100, setting=preset("cifar100"), profile="paper"),
        GPU,
    ),
    _claim(
        "digits 8x8: 98.9 % after six epochs",
        f"one run of the released code, by others (literature.csv); {ASKED}",
        "11_images",
        reaches(98.9, "digits", 6, setting=preset("digits")),
        "more seeds narrow the interval of our mean",
    ),
    _claim(
        "predictions need the statistics of the test batch no more than fixed ones",
        f"follows from standardisation without running statistics; {ASKED}",
        "11_images",
        keeps_accuracy_when_calibrated,
        "paper runs with both evaluations",
    ),
    _claim(
        "the slow neural loss helps",
        PAPER,
        "14_slow_neural_loss",
        better_with("train.slow_neural_loss", 1.0, 0.0),
        PAIRS,
    ),
    *(
        _claim(
            f"Kar3 trains better than {other}",
            source,
            "12_convergence",
            wins(studies.optimizers, "Kar3", other),
            PAIRS,
        )
        for other, source in (
            ("AdamW", PAPER),
            ("Kar2", f"follows from its longer steps; {ASKED}"),
            ("Lion", ASKED),
            ("SGD", ASKED),
        )
    ),
    *(
        _claim(
            f"Terminator is ahead of {title} after the same few epochs",
            source,
            "12_convergence",
            wins(studies.networks, "Terminator, Kar3", label),
            PAIRS,
        )
        for label, title, source in (
            ("ResNet-18, SGD", "ResNet-18", PAPER),
            ("CCNN-4,140, AdamW", "CCNN-4,140 as released", PAPER),
            ("CCNN-4,140 (plain), AdamW", "CCNN-4,140 in a plain form", ASKED),
        )
    ),
    _claim(
        "G-IBS is better than batch standardisation",
        PAPER,
        "13_ablations",
        better_with("model.standardization", "g_ibs", "batch"),
        PAIRS,
    ),
    _claim(
        "the global operator helps (against a linear map in its place)",
        PAPER,
        "13_ablations",
        better_with("model.global_mixer", "hyperzzw", "none"),
        PAIRS,
    ),
    _claim(
        "slow scores single out the object, beyond what activations alone do",
        PAPER,
        "14_slow_neural_loss",
        scores_single_out_the_object,
        "three seeds of watched trainings, and objects that the input does not already show",
    ),
    *(
        _claim(
            f"slow scores single out the object better than {what}",
            ASKED,
            "13_ablations",
            by_controls(lambda record, way=way: control_study.score_beyond(record, way), *read),
            "more seeds, and photographs with a mask",
        )
        for way, what, *read in (
            (controls.SHUFFLED, "the same scores with shuffled hyper-kernels"),
            (controls.GRAD_CAM, "Grad-CAM"),
            (rollout.ROLLOUT, "attention roll-out of a small Transformer", rollout.found_joined),
        )
    ),
    _claim(
        "trained networks use their global branches: set to zero, accuracy falls",
        f"follows from {PAPER}; {ASKED}",
        "13_ablations",
        by_controls(control_study.operator_used),
        "the same of networks trained at full size",
    ),
    *(
        _claim(text, PAPER, "13_ablations", better_with(f"model.{key}", True, False), PAIRS)
        for text, key in (
            ("the hyper interaction helps", "hyper_interaction"),
            ("the hyper-channel interaction helps", "hyper_channel_interaction"),
            ("the gated units (RGU) help", "rgu"),
            ("Si-GLU helps", "si_glu"),
            ("tiled outputs of earlier blocks help", "skips"),
            ("local kernels that depend on the input help", "local_context"),
        )
    ),
    _claim(
        "slow networks train better at omega_0 = 2000 than at 30",
        "settings of the released code",
        "13_ablations",
        better_with("model.omega_0", 2000.0, 30.0),
        PAIRS,
    ),
    _claim(
        "sMNIST, pMNIST and sCIFAR10 at the level of state-space models (S4)",
        PAPER,
        "10_sequential_images",
        sequences_reach(
            {
                "sMNIST": ("MNIST", "sequence"),
                "pMNIST": ("MNIST", "permuted"),
                "sCIFAR10": ("CIFAR10", "sequence"),
            },
            "S4",
        ),
        "both readings of the one-dimensional operator at full length",
    ),
    _claim(
        "features keep mean zero over training (outputs of blocks, within a tenth of a deviation)",
        PAPER,
        "15_feature_statistics",
        features_keep_mean_zero,
        "statistics per block and epoch at full size, three seeds",
    ),
]
