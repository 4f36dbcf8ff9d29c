"""Named long range settings: the paper's, smaller ones for a laptop, and tiny ones."""

from typing import Any

from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.runtime.settings import ConfigError, from_preset


def _paper(
    kind: str,
    task: str,
    length: int,
    sizes: tuple[int | None, ...],
    batch: int,
    rate: float,
    examples: int,
    **groups: dict[str, Any],
) -> dict[str, Any]:
    """The released script's settings; the batch is that of its 16 devices together."""
    train, val, test = sizes
    data = {"kind": kind, "length": length, "train_size": train, "val_size": val, "test_size": test}
    settings: dict[str, Any] = {
        "data": data,
        "network": {"task": task},
        "train": {"batch_size": batch},
        "optimizer": {"decay_rate": rate, "decay_examples": examples},
    }
    return {name: settings.get(name, {}) | groups.get(name, {}) for name in {*settings, *groups}}


_WHOLE = (None, None, None)
_PATHFINDER = (160_000, None, 20_000)
_PAPER = {
    "listops": _paper("listops", "listops", 2000, (96_000, 2000, 2000), 32, 0.90, 98_000),
    "text": _paper("imdb", "text", 4000, _WHOLE, 32, 0.90, 50_000),
    "retrieval": _paper("aan", "retrieval", 4000, _WHOLE, 64, 0.90, 164_480, data={"name": "aan"}),
    "image": _paper(
        "pixels", "image", 1024, _WHOLE, 32, 0.95, 60_000, data={"leave_out_last_tenth": True}
    ),
    "pathfinder": _paper("pathfinder", "pathfinder", 1024, _PATHFINDER, 128, 0.95, 179_968),
    "pathx": _paper(
        "pathfinder",
        "pathx",
        16_384,
        _PATHFINDER,
        256,
        0.95,
        179_968,
        pathfinder={"size": 128},
        optimizer={"name": "AdamW", "weight_decay": 5e-4},
    ),
    "ember": _paper(
        "byte_files",
        "ember",
        16_384,
        _WHOLE,
        4,
        0.85,
        800_000,
        train={"epochs": 10},
        data={"name": "malware", "padding": "batch"},
    ),
}
_MULTI_LAYER = ("listops", "text", "retrieval", "image", "pathfinder")  # the others have one layer

_SMALL = {"layers": 1, "width": 64, "mlp_width": 32, "heads": 4}
_LAPTOP: dict[str, dict[str, Any]] = {
    "image-16px": {
        "data": {
            "name": "cifar10-jpeg",
            "image_size": 16,
            "length": 256,
            "train_size": 10_000,
            "test_size": 4000,
        },
        "network": {"task": "image", **_SMALL},
        "train": {"epochs": 7},
        "optimizer": {"decay_rate": 0.9, "decay_examples": 10_000},
    },
    "text-short": {
        "data": {"kind": "imdb", "length": 256, "train_size": 20_000, "test_size": 4000},
        "network": {"task": "text", **_SMALL, "mlp_width": 128},
        # nothing is learned in the first 2,500 steps or so
        "train": {"epochs": 6, "batch_size": 16},
        "optimizer": {"decay_rate": 0.9, "decay_examples": 20_000},
    },
    "retrieval-halves": {
        "data": {"kind": "imdb_halves", "length": 256, "train_size": 6000, "test_size": 4000},
        "network": {"task": "retrieval", **_SMALL},
        "train": {"epochs": 3},
        "optimizer": {"decay_rate": 0.9, "decay_examples": 6000},
    },
    "listops-short": {
        "data": {"kind": "listops", "length": 128, "train_size": 20_000, "test_size": 4000},
        "listops": {"min_length": 10, "max_length": 100, "max_depth": 5, "max_arguments": 5},
        "network": {"task": "listops", **_SMALL, "layers": 2},
        "train": {"epochs": 5},
        "optimizer": {"decay_rate": 0.9, "decay_examples": 20_000},
    },
    "pathfinder-easy": {
        "data": {"kind": "pathfinder", "length": 1024, "train_size": 40_000, "test_size": 2000},
        "pathfinder": {"level": "easy"},
        "network": {"task": "pathfinder", **_SMALL},
        "train": {"epochs": 1, "batch_size": 8},
        "optimizer": {"decay_rate": 0.9, "decay_examples": 40_000},
    },
}
_TINY = {"layers": 1, "width": 32, "mlp_width": 32, "heads": 2}
_SMOKE: dict[str, dict[str, Any]] = {
    "digits-sequence": {
        "data": {"name": "digits", "length": 64},
        "network": {"task": "image", **_TINY},
        "train": {"epochs": 4, "batch_size": 16},
        "optimizer": {"learning_rate": 5e-3, "decay_rate": 0.9, "decay_examples": 1437},
    },
    "listops-tiny": {
        "data": {"kind": "listops", "length": 32, "train_size": 1500, "test_size": 500},
        "listops": {"min_length": 4, "max_length": 32, "max_depth": 4, "max_arguments": 4},
        "network": {"task": "listops", **_TINY},
        "train": {"epochs": 4, "batch_size": 16},
        "optimizer": {"learning_rate": 5e-3, "decay_rate": 0.9, "decay_examples": 1500},
    },
    "pathfinder-tiny": {
        "data": {"kind": "pathfinder", "length": 1024, "train_size": 200, "test_size": 50},
        "pathfinder": {"level": "easy"},
        "network": {"task": "pathfinder", **_TINY},
        "train": {"epochs": 1, "batch_size": 10},
        "optimizer": {"decay_rate": 0.9, "decay_examples": 200},
    },
}


def _single_layer(settings: dict[str, Any]) -> dict[str, Any]:
    """The same with one layer: what the paper calls single layer is taken to have the same
    width.
    """
    return settings | {"network": settings["network"] | {"layers": 1}}


PRESETS: dict[str, dict[str, Any]] = {
    **_PAPER,
    **{f"{name}-1layer": _single_layer(_PAPER[name]) for name in _MULTI_LAYER},
    **_LAPTOP,
    **_SMOKE,
}


def preset(name: str, **changes: Any) -> LongRangeConfig:
    """A named configuration, with changes: preset("image-1layer", train={"seed": 1}).

    Raises:
        ConfigError: for an unknown name, listing the known ones.
    """
    return from_preset(LongRangeConfig, PRESETS, name, changes)


def ember(length: int) -> LongRangeConfig:
    """The malware task at a length: 65,536 tokens a batch, as in the released sweep from 256 to
    131,072.

    Raises:
        ConfigError: for a length that is no power of two.
    """
    if length < 1 or length & (length - 1):
        raise ConfigError(f"length is {length}; allowed: powers of two, 256 to 131072 in the paper")
    return preset("ember", data={"length": length}, train={"batch_size": max(2**16 // length, 1)})


# -- studies ---------------------------------------------------------------------------------------

TITLES = {
    "listops": "ListOps",
    "text": "Text",
    "retrieval": "Retrieval",
    "image": "Image",
    "pathfinder": "Pathfinder",
}
MAIN = {  # the setting that a study starts from; where there is none, the profile has no such data
    "image": {"smoke": "digits-sequence", "laptop": "image-16px", "paper": "image-1layer"},
    "listops": {"smoke": "listops-tiny", "laptop": "listops-short", "paper": "listops-1layer"},
    "pathfinder": {
        "smoke": "pathfinder-tiny",
        "laptop": "pathfinder-easy",
        "paper": "pathfinder-1layer",
    },
    "text": {"laptop": "text-short", "paper": "text-1layer"},
    "lengths": {"laptop": "text-short", "paper": "text-1layer"},
    "retrieval": {"laptop": "retrieval-halves", "paper": "retrieval-1layer"},
}
SEEDS = {"smoke": (0,), "laptop": (0, 1, 2), "paper": (0, 1, 2)}
SEEDS_USED = {"image": None, "listops": None}  # all, or the first so many; the others take one
LENGTHS = {"laptop": (64, 128, 256), "paper": (256, 1024, 4000)}  # tokens of a text

CONTROLS: dict[str, dict[str, Any]] = {  # rows that tell what the attention is worth
    "branch removed": {"mixer": "none"},
    "weights 1/T": {"weights": "uniform"},
    "Hrrformer": {},
    "softmax attention": {"mixer": "softmax_fused"},
}
OTHERS: dict[str, dict[str, Any]] = {  # in the paper profile
    "Linear Transformer": {"mixer": "linear"},
    "Performer": {"mixer": "performer"},
    "Linformer": {"mixer": "linformer"},
    "F-Net": {"mixer": "fnet"},
    "Luna": {"mixer": "luna"},
}


def study(name: str, profile: str) -> dict[str, LongRangeConfig]:
    """The runs of one study, by label; none where the profile has no data for it.

    Args:
        image, listops, pathfinder, text, retrieval: the controls (text: and the padding masked
            everywhere; paper: the other mixers, and all layers).
        lengths: texts cut to several lengths.

    Raises:
        ConfigError: for an unknown study or profile.
    """
    if name not in MAIN:
        raise ConfigError(f"study is {name!r}; allowed: {', '.join(MAIN)}")
    if profile not in SEEDS:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(SEEDS)}")
    if profile not in MAIN[name]:
        return {}
    main = preset(MAIN[name][profile])
    if name == "lengths":
        return {
            f"{label}, {length} tokens": main.updated(
                data={"length": length}, network=CONTROLS[label]
            )
            for length in LENGTHS[profile]
            for label in ("branch removed", "Hrrformer")
        }
    rows = CONTROLS | ({"Hrrformer, padding masked": {"masking": "full"}} if name == "text" else {})
    rows = rows | (OTHERS if profile == "paper" else {})
    found = {label: main.updated(network=changes) for label, changes in rows.items()}
    if name == "image":
        found["Hrrformer, permuted pixels"] = main.updated(data={"permutation_seed": 0})
    if profile == "paper":
        found["Hrrformer, multi-layer"] = preset(name)
    return found
