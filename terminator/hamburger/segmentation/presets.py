"""Named segmentation settings, and the arms of the studies in each profile.

A preset holds only what differs from the defaults, which are the release's first stage on PASCAL
VOC 2012.
"""

from typing import Any

from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.runtime.settings import ConfigError, from_preset

_CONTEXT = {
    "data": {"name": "context", "train": "train"},
    "augmentation": {"scales": [1.0], "crop": None, "flip": False},
    "model": {"backbone": "none", "squeeze": 32, "align": 32, "dropout": 0.0, "bn_momentum": 0.1},
    "ham": {"version": "V1", "width": 32, "rank": 4},
    "optimizer": {"lr": 0.05, "bias_factor": 1.0, "refresh": 1},
    "train": {"train_steps": 400, "steps_between_saves": 100, "batch_size": 8, "seed": 0},
    "test": {"batch_size": 50, "divisor": 1, "repeats": 3},
}
_CAMVID = {
    "data": {"name": "camvid", "train": "train", "size": [120, 160]},
    "augmentation": {"scales": [1.0, 1.25, 1.5], "crop": [113, 145]},
    # from scratch, and short: running statistics must keep up
    "model": {
        "backbone": "resnet18",
        "stem": "plain",
        "output_stride": 16,
        "squeeze": 64,
        "align": 64,
        "bn_momentum": 0.1,
    },
    "ham": {"width": 64, "rank": 16},
    "optimizer": {"lr": 0.02, "refresh": 1},
    "train": {"train_steps": 650, "steps_between_saves": 130, "batch_size": 8, "seed": 0},
    "test": {"batch_size": 8, "divisor": 16, "repeats": 3},
}
_VOC_SECOND = {
    "data": {"train": "trainval"},
    "optimizer": {"lr": 9e-4},
    "train": {"train_steps": 20_000},
}

_SHAPES = {
    "data": {"name": "shapes", "train": "train"},
    "augmentation": {"scales": [1.0], "crop": None},
    # a ResNet learns nothing in a few seconds; the pixels' colours are enough here
    "model": _CONTEXT["model"],
    "ham": {"width": 32, "rank": 8},
    "optimizer": _CONTEXT["optimizer"],
    "train": {"train_steps": 60, "steps_between_saves": 20, "batch_size": 8, "seed": 0},
    "test": {"batch_size": 20, "divisor": 1},
}

PRESETS: dict[str, dict[str, Any]] = {
    "context": _CONTEXT,  # no file, no network
    "shapes": _SHAPES,  # likewise
    "camvid": _CAMVID,  # reduced for two cores: half the height and width, ResNet-18 from scratch
    # small enough to be given away
    "camvid-small": {
        **_CAMVID,
        "model": {**_CAMVID["model"], "backbone": "mobilenet_v3_small"},
        "train": {**_CAMVID["train"], "train_steps": 4_000, "steps_between_saves": 400},
    },
    "camvid-full": {
        "data": {"name": "camvid", "train": "train"},
        "augmentation": {"crop": [177, 233]},
        "model": {"backbone": "resnet50", "stem": "plain"},
        "train": {"train_steps": 4_000, "steps_between_saves": 200, "batch_size": 8, "seed": 0},
        "test": {"batch_size": 8, "repeats": 5, "multi_scale": True},
    },
    "voc": {},  # the release, first stage: trainaug
    "voc-r50-os16": {
        "model": {"backbone": "resnet50", "output_stride": 16},
        "test": {"divisor": 16},
    },
    "voc-v2plus": {"ham": {"version": "V2+", "rank": 512}},
    # second stage: trainval, from the final weights of the first (train.start_from=FILE)
    "voc-second": _VOC_SECOND,
}
SEEDS = {"smoke": (0,), "laptop": (0, 1, 2), "paper": (0, 1, 2)}
# of the context task, a training of which takes half a minute
CONTEXT_SEEDS = {"smoke": (0,), "laptop": (0, 1, 2, 3, 4), "paper": (0, 1, 2, 3, 4)}
CONTEXT_STEPS = {"smoke": 60, "laptop": 400, "paper": 400}
# smoke: what is there without a file
CAMVID = {"smoke": "shapes", "laptop": "camvid", "paper": "camvid-full"}
SMOKE_ARMS = (
    "no context",
    "pooling",
    "self-attention",
    "NMF, one-step",
    "CD tau 100, one-step",
    "VQ tau 100, one-step",
)

MIXERS = "segmentation_mixers"  # the experiment of every mixer on the context task
_SIDE = {"context_size": 24}  # of the context task's images
MATRIX, CONVOLUTION = "HyperZ.Z.W, matrix", "HyperZ.Z.W, convolution"
LINEAR, MEAN, LARGE = "linear map", "mean pooling", "depth-wise 31x31"
_MIXERS: dict[str, dict[str, Any]] = {
    LINEAR: {"context": "linear"},
    MATRIX: {"context": "hyperzzw_matrix", **_SIDE},
    CONVOLUTION: {"context": "hyperzzw_convolution", **_SIDE},
    # 8,887 parameters, where HyperZ.Z.W has 8,872
    MEAN: {"context": "pooling", "pooling_width": 111},
    "attention": {"context": "attention"},
    "Hamburger (NMF)": {"context": "hamburger"},
    "Hrrformer": {"context": "hrrformer", **_SIDE},
    LARGE: {"context": "large_kernel", **_SIDE},
}
RATES = (0.05, 0.15, 0.5, 1.5)  # the last where the third was best
# best on validation pictures, for those that claims are about and one more; else that of the task
MIXER_RATES = {label: 0.05 for label in _MIXERS} | {
    LINEAR: 0.15,
    MATRIX: 0.15,
    CONVOLUTION: 0.5,
    MEAN: 0.15,
    LARGE: 0.15,
}
_SMOKE_MIXERS = (LINEAR, MATRIX, MEAN, "Hamburger (NMF)")


def preset(name: str, **changes: Any) -> SegmentationConfig:
    """A named configuration, with changes: preset("camvid", train={"seed": 1}).

    Raises:
        ConfigError: for an unknown name, listing the known ones.
    """
    return from_preset(SegmentationConfig, PRESETS, name, changes)


def context_arms(profile: str) -> dict[str, SegmentationConfig]:
    """The context task with every context and every ham, by label; in the smoke profile a few of
    them, and briefly.
    """
    _check(profile)
    steps = CONTEXT_STEPS[profile]
    main = preset("context", train={"train_steps": steps, "steps_between_saves": min(100, steps)})
    arms = {
        "no context": main.updated(model={"context": "none"}),
        "bread without ham": main.updated(model={"context": "bread"}),
        "pooling": main.updated(model={"context": "pooling"}),
        "self-attention": main.updated(model={"context": "attention"}),
    }
    hams = [
        ("NMF", {}),
        *(
            (f"{kind} tau {tau}", {"kind": kind, "inverse_temperature": float(tau)})
            for tau in (10, 100)
            for kind in ("CD", "VQ")
        ),
    ]
    for label, ham in hams:
        arms[f"{label}, one-step"] = main.updated(ham=ham)
        arms[f"{label}, BPTT"] = main.updated(ham=ham | {"one_step": False})
    arms |= {f"NMF, rank {rank}": main.updated(ham={"rank": rank}) for rank in (2, 16)}
    arms |= {
        f"NMF, {k} step{'s' * (k > 1)}": main.updated(ham={"train_steps": k, "eval_steps": k})
        for k in (1, 12)
    }
    return {
        label: config for label, config in arms.items() if profile != "smoke" or label in SMOKE_ARMS
    }


def mixer_arms(profile: str, rate: float | None = None) -> dict[str, SegmentationConfig]:
    """The context task with every global mixer in one frame, by label, each at its own learning
    rate (MIXER_RATES), or all at one; in the smoke profile a few of them, and briefly.
    """
    _check(profile)
    steps = CONTEXT_STEPS[profile]
    main = preset("context", train={"train_steps": steps, "steps_between_saves": min(100, steps)})
    return {
        label: main.updated(model=_MIXERS[label], optimizer={"lr": rate or own})
        for label, own in MIXER_RATES.items()
        if profile != "smoke" or label in _SMOKE_MIXERS
    }


def camvid_arms(profile: str) -> dict[str, SegmentationConfig]:
    """CamVid with and without the Hamburger, by label; in the smoke profile drawn shapes in
    CamVid's place.
    """
    _check(profile)
    main = preset(CAMVID[profile])
    return {"without Hamburger": main.updated(model={"context": "none"}), "with Hamburger": main}


def _check(profile: str) -> None:
    if profile not in SEEDS:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(SEEDS)}")
