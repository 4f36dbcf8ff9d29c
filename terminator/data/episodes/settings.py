"""Settings of few-shot episodes: their classes, what they consist of, their augmentation. Nothing
here loads torch.

Source: the reference implementation of arXiv 2201.04182.
"""

from dataclasses import dataclass, fields, replace

from terminator.runtime.settings import ConfigError, at_least, one_of, require

SPLITS = {  # classes of every split, after the label shuffle
    "omniglot": {"train": "0-1149", "val": "1150-1199", "test": "1200-1622"},
    "miniimagenet": {"train": "0-63", "val": "64-79", "test": "80-99"},
    "tieredimagenet": {"train": "0-350", "val": "351-447", "test": "448-607"},
    # ours: not the full set's
    "omniglot28": {"train": "0-181", "val": "182-191", "test": "192-241"},
    "strokes": {"train": "0-79", "val": "80-94", "test": "95-119"},  # ours
    "digits": {"train": "0-4", "test": "5-9"},  # ours
}
OVERLAPS = ("disjoint", "parity")
INHERIT = -1.0  # of a test flag: the same as in training


def parse_specification(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Read "name" or "name:0-3,7,10-12": the name, and the classes (ranges are inclusive) or
    nothing.

    Raises:
        ValueError: for more than one colon, more than two parts in a range, or what is no number.
    """
    name, *rest = text.split(":")
    if not name or len(rest) > 1:
        raise ValueError(
            f"data set specification {text!r}; allowed: name, or name:classes with one colon"
        )
    if not rest:
        return name, None
    classes: list[int] = []
    for part in rest[0].split(","):
        ends = part.split("-")
        if (
            len(ends) > 2
            or not all(end.strip().isdecimal() for end in ends)
            or int(ends[0]) > int(ends[-1])
        ):
            raise ValueError(
                f"data set specification {text!r} has the part {part!r}; allowed: a class such as "
                "7, or a range such as 0-3"
            )
        classes += range(int(ends[0]), int(ends[-1]) + 1)
    if len(set(classes)) < len(classes):
        raise ValueError(f"data set specification {text!r} names a class twice")
    return name, tuple(classes)


@dataclass(frozen=True)
class EpisodeSettings:
    """What an episode consists of, under the released flags' names; the defaults are Omniglot
    20-way 1-shot.

    Raises:
        ConfigError: from the constructor, for settings that cannot be used.
    """

    LARGEST, MOST = 2**20, {"image_size": 2**14}  # of integers, see settings

    num_labels: int = 20  # n, the ways; label n means "no label"
    samples_transformer: int = 20  # support images in all, unlabelled ones included: n (k + u)
    samples_cnn: int = 60  # query images in all
    balanced_batches: bool = True  # else one draw from all classes together: shots vary
    unlabeled_samples_per_class: int = 0  # u, support images without their label; balanced only
    overlap: str = "disjoint"  # parity: query images are drawn without regard to the support set
    image_size: int = 28  # pixels a side
    # training: mask unlabelled samples with a probability up to this
    max_prob_remove_unlabeled: float = 0.0
    max_prob_remove_labeled: float = 0.0  # training: the same of labelled samples

    def __post_init__(self) -> None:
        minima = {
            "num_labels": 2,
            "samples_transformer": 1,
            "samples_cnn": 1,
            "unlabeled_samples_per_class": 0,
            "image_size": 1,
        }
        at_least(self, "", minima)
        require(
            isinstance(self.balanced_batches, bool),
            "balanced_batches",
            self.balanced_batches,
            "true, false",
        )
        one_of(self, "", {"overlap": OVERLAPS})
        for name in ("max_prob_remove_unlabeled", "max_prob_remove_labeled"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        ways, unlabeled = self.num_labels, self.unlabeled_samples_per_class
        if not self.balanced_batches:
            require(
                unlabeled == 0,
                "unlabeled_samples_per_class",
                unlabeled,
                "0 without balanced_batches",
            )
            require(
                self.overlap == "disjoint",
                "overlap",
                self.overlap,
                "disjoint without balanced_batches",
            )
            return
        require(
            self.samples_transformer >= ways,
            "samples_transformer",
            self.samples_transformer,
            f"at least {ways}, one for each of the num_labels",
        )
        if unlabeled:
            shots = self.samples_transformer / ways - unlabeled
            require(
                shots >= 1 and shots == int(shots),
                "samples_transformer",
                self.samples_transformer,
                f"num_labels * (shots + unlabeled_samples_per_class) = {ways} * (shots + "
                f"{unlabeled})",
            )

    def for_test(self) -> "EpisodeSettings":
        """The same without the random removal, which belongs to training."""
        return replace(self, max_prob_remove_unlabeled=0.0, max_prob_remove_labeled=0.0)


@dataclass(frozen=True)
class EpisodeAugmentation:
    """Probabilities and ranges under the released flags' names; the defaults are the Omniglot
    script's.

    Raises:
        ConfigError: from the constructor, for an impossible value.
    """

    rotation_probability: float = 0.0  # of a turn by a random angle
    angle_range: float = 180.0  # degrees to both sides
    random_rotate_by_90: bool = True  # always draws one of four quarter turns
    smooth_probability: float = 0.0  # of blurring; the flag's own default is 0.5
    contrast_probability: float = 0.0  # of another contrast; the flag's own default is 0.5
    resize_probability: float = 0.0  # of a random size
    negate_probability: float = 0.0  # of exchanging black and white
    roll_probability: float = 0.0  # of a random shift around the edges
    # a configuration per label: a turned character is another class
    per_label_augmentation: bool = True
    test_rotation_probability: float = INHERIT  # the same at test; -1: as in training
    test_angle_range: float = INHERIT  # the same at test; -1: as in training
    test_smooth_probability: float = INHERIT  # the same at test; -1: as in training
    test_contrast_probability: float = INHERIT  # the same at test; -1: as in training
    test_resize_probability: float = INHERIT  # the same at test; -1: as in training
    test_negate_probability: float = INHERIT  # the same at test; -1: as in training
    test_roll_probability: float = INHERIT  # the same at test; -1: as in training
    test_random_rotate_by_90: bool = False  # the same at test
    test_per_label_augmentation: bool = False  # the same at test
    apply_image_augmentations: bool = False  # flip, hue, brightness, contrast, crop; never at test
    augment_images_individually: bool = False  # those drawn per image instead of per batch

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool:
                if not isinstance(value, bool):
                    raise ConfigError(f"{field.name} is {value!r}; allowed: true, false")
                continue
            limit = 360 if "angle" in field.name else 1
            inherits = field.name.startswith("test_") and value == INHERIT
            if not inherits and not 0 <= value <= limit:
                also = (
                    ", or -1 for the same as in training" if field.name.startswith("test_") else ""
                )
                raise ConfigError(f"{field.name} is {value!r}; allowed: 0 to {limit}{also}")

    def for_test(self) -> "EpisodeAugmentation":
        """What applies to test episodes: the test_* values, or training's where they are -1."""
        changes = {"apply_image_augmentations": False}
        for field in fields(self):
            if field.name.startswith("test_"):
                value = getattr(self, field.name)
                if isinstance(value, bool) or value != INHERIT:
                    changes[field.name.removeprefix("test_")] = value
        return replace(self, **changes)
