"""Every setting of a few-shot experiment, under the released flags' names; the defaults are
Omniglot 20-way 1-shot.

The groups: data (which classes), episodes (what a task consists of), augmentation, model (the
HyperTransformer, and the CNN that all methods share), method, optimizer, train, test.

Source: arXiv 2201.04182 and its reference implementation; the continual method: arXiv 2301.04584.
"""

from dataclasses import dataclass, field, fields, replace

from terminator.config import TrainingInSteps
from terminator.data.episodes.settings import (
    SPLITS,
    EpisodeAugmentation,
    EpisodeSettings,
    parse_specification,
)
from terminator.hypertransformer.settings import HyperTransformerSettings
from terminator.runtime.settings import ConfigError, Experiment, at_least, require

METHODS = ("hypertransformer", "prototypical", "pixels", "continual")
OPTIMIZERS = ("SGD", "Adam", "AdamW")
# what eval_datasets knows
PRESET_SPLITS = ("omniglot", "miniimagenet", "tieredimagenet", "omniglot28")


@dataclass(frozen=True)
class FewShotData:
    """Which classes of which data set every split has: "name", or "name:0-3,7"."""

    train_dataset: str = "omniglot:0-1149"  # classes to train on, a name or name:0-3,7
    val_dataset: str = ""  # looked at while training; nothing: the training classes instead
    test_dataset: str = "omniglot:1200-1622"  # classes to test on; no class is in two splits
    # omniglot, miniimagenet, tieredimagenet, omniglot28: that set's ranges to validate and to test
    eval_datasets: str = ""
    use_labels: int = 8  # classes 0..N-1, where train_dataset names none
    # a random order of all classes before the ranges are cut; 0: none
    shuffle_labels_seed: int = 2022

    def __post_init__(self) -> None:
        at_least(self, "data", {"use_labels": 2, "shuffle_labels_seed": 0})
        require(
            self.eval_datasets in ("", *PRESET_SPLITS),
            "data.eval_datasets",
            self.eval_datasets,
            ", ".join(PRESET_SPLITS) + ", or nothing",
        )
        for name in ("train_dataset", "val_dataset", "test_dataset"):
            text = getattr(self, name)
            if not text and name == "val_dataset":
                continue
            try:
                classes = parse_specification(text)[1]
            except ValueError as error:
                raise ConfigError(f"data.{name}: {error}") from error
            require(
                classes is not None or name == "train_dataset" or bool(self.eval_datasets),
                f"data.{name}",
                text,
                f"a name with its classes, e.g. {text}:8-61",
            )

    def specifications(self) -> dict[str, str]:
        """Split to specification; val is missing where there is none."""
        if self.eval_datasets:
            ranges = SPLITS[self.eval_datasets]
            found = {split: f"{self.eval_datasets}:{ranges[split]}" for split in ("val", "test")}
        else:
            found = {"val": self.val_dataset, "test": self.test_dataset}
        train = self.train_dataset
        if parse_specification(train)[1] is None:
            train = f"{train}:0-{self.use_labels - 1}"
        return {"train": train} | {split: text for split, text in found.items() if text}


@dataclass(frozen=True)
class MethodConfig:
    """What is trained on the episodes."""

    # prototypical: the same CNN, trained; pixels: nearest mean; continual
    name: str = "hypertransformer"
    tasks: int = 3  # continual: tasks in a training sequence
    test_tasks: int = 5  # continual: tasks in a test sequence
    embedding: int = 16  # continual: size d of the CNN's output
    # that compete in the continual loss: class (all so far), task (of its task)
    candidates: str = "class"

    def __post_init__(self) -> None:
        require(self.name in METHODS, "method.name", self.name, ", ".join(METHODS))
        require(
            self.candidates in ("class", "task"),
            "method.candidates",
            self.candidates,
            "class, task",
        )
        at_least(self, "method", {"tasks": 1, "test_tasks": 1, "embedding": 1})
        for f in fields(self)[1:] if self.name != "continual" else ():
            value = getattr(self, f.name)
            require(
                value == f.default,
                f"method.{f.name}",
                value,
                f"{f.default}, for method.name={self.name}",
            )


@dataclass(frozen=True)
class FewShotOptimizer:
    """rate(step) = learning_rate * learning_rate_decay_rate^(step / learning_rate_decay_steps),
    continuously.
    """

    name: str = "SGD"  # without momentum, as the reference has it; Adam, AdamW
    learning_rate: float = 0.02  # the rate at step 0
    learning_rate_decay_steps: int = 100_000  # in so many steps it falls by the next
    learning_rate_decay_rate: float = 0.95  # factor of the rate in so many steps
    learning_rate_warmup_steps: int = 0  # ours: the rate rises to the schedule's over so many steps
    weight_decay: float = 0.0  # L2 with SGD and Adam, decoupled with AdamW

    def __post_init__(self) -> None:
        require(self.name in OPTIMIZERS, "optimizer.name", self.name, ", ".join(OPTIMIZERS))
        require(
            self.learning_rate > 0,
            "optimizer.learning_rate",
            self.learning_rate,
            "a positive number",
        )
        at_least(
            self, "optimizer", {"learning_rate_decay_steps": 1, "learning_rate_warmup_steps": 0}
        )
        require(
            0 < self.learning_rate_decay_rate <= 1,
            "optimizer.learning_rate_decay_rate",
            self.learning_rate_decay_rate,
            "above 0, up to 1",
        )
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")


@dataclass(frozen=True)
class FewShotTrain(TrainingInSteps):
    """A training on episodes."""

    PLACES = {"restore_shared_features_from": ()}

    train_steps: int = 4_000_000
    steps_between_saves: int = 50_000
    batch_size: int = 1  # episodes per step, over all processes; the reference takes one
    label_smoothing: float = 0.0  # share of a label that is spread over all classes
    shared_head_weight: float = 0.0  # weight of a loss that asks shared features for the real class
    pretrain_shared_feature: bool = False  # train nothing but the shared features, by that loss
    restore_shared_features_from: str = ""  # a model's file: start from its shared features

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.label_smoothing < 1,
            "train.label_smoothing",
            self.label_smoothing,
            "from 0 to below 1",
        )
        require(
            self.shared_head_weight >= 0,
            "train.shared_head_weight",
            self.shared_head_weight,
            "0 or more",
        )


@dataclass(frozen=True)
class FewShotTest:
    """How accuracies are measured."""

    __test__ = False  # not a test case

    num_task_evals: int = 1024  # tasks per split, in the end
    num_eval_batches: int = 16  # query batches per task, for the same support set
    eval_batch_size: int = 100  # query images in each; batch statistics are theirs
    # tasks of the validation split after every epoch, one query batch each
    tasks_per_epoch: int = 128

    def __post_init__(self) -> None:
        at_least(
            self,
            "test",
            {
                "num_task_evals": 2,
                "num_eval_batches": 1,
                "eval_batch_size": 1,
                "tasks_per_epoch": 2,
            },
        )


@dataclass(frozen=True)
class FewShotConfig(Experiment):
    """One few-shot experiment, whole.

    Raises:
        ConfigError: from the constructor, for settings that do not go together.
    """

    data: FewShotData = field(default_factory=FewShotData)
    episodes: EpisodeSettings = field(default_factory=EpisodeSettings)
    augmentation: EpisodeAugmentation = field(default_factory=EpisodeAugmentation)
    model: HyperTransformerSettings = field(default_factory=HyperTransformerSettings)
    method: MethodConfig = field(default_factory=MethodConfig)
    optimizer: FewShotOptimizer = field(default_factory=FewShotOptimizer)
    train: FewShotTrain = field(default_factory=FewShotTrain)
    test: FewShotTest = field(default_factory=FewShotTest)

    def __post_init__(self) -> None:
        super().__post_init__()
        e, t, standard = self.episodes, self.train, HyperTransformerSettings()
        for name in ("num_labels", "image_size"):
            value = getattr(self.model, name)
            require(
                value in (getattr(standard, name), getattr(e, name)),
                f"model.{name}",
                value,
                f"{getattr(e, name)}, that of the episodes; leave it out",
            )
        uses_head = bool(t.shared_head_weight or t.pretrain_shared_feature)
        require(
            not uses_head or self.model.shared_feature_extractor != "none",
            "model.shared_feature_extractor",
            "none",
            "an extractor, where train.shared_head_weight or train.pretrain_shared_feature ask for "
            "one",
        )
        masks = bool(e.max_prob_remove_unlabeled or e.max_prob_remove_labeled)
        require(
            not masks or self.model.layerwise_generator == "joint",
            "model.layerwise_generator",
            self.model.layerwise_generator,
            "joint, where samples are removed at random",
        )
        if self.method.name != "hypertransformer":
            for key, value in (
                ("episodes.unlabeled_samples_per_class", e.unlabeled_samples_per_class),
                ("episodes.max_prob_remove_labeled", e.max_prob_remove_labeled),
                ("episodes.max_prob_remove_unlabeled", e.max_prob_remove_unlabeled),
                ("train.shared_head_weight", t.shared_head_weight),
                ("train.pretrain_shared_feature", t.pretrain_shared_feature),
                ("train.restore_shared_features_from", t.restore_shared_features_from),
                ("model.warmup_steps", self.model.warmup_steps),
            ):
                require(not value, key, value, f"nothing for method.name={self.method.name}")
        if self.method.name == "continual":
            require(
                e.balanced_batches,
                "episodes.balanced_batches",
                False,
                "true for method.name=continual",
            )
            require(
                not t.label_smoothing,
                "train.label_smoothing",
                t.label_smoothing,
                "0 for method.name=continual",
            )
            for key, value in (
                ("episodes.samples_transformer", e.samples_transformer),
                ("episodes.samples_cnn", e.samples_cnn),
                ("test.eval_batch_size", self.test.eval_batch_size),
            ):
                require(
                    value % e.num_labels == 0,
                    key,
                    value,
                    f"a multiple of episodes.num_labels={e.num_labels} for method.name=continual",
                )

    def resolved(self, in_channels: int, real_classes: int = 0) -> "FewShotConfig":
        """The same with the episodes' ways and sizes, and the data's channels, filled into the
        model.
        """
        e, t = self.episodes, self.train
        heads = real_classes if t.shared_head_weight or t.pretrain_shared_feature else 0
        for name, value in (("in_channels", in_channels), ("shared_head_classes", heads)):
            given = getattr(self.model, name)
            require(
                given in (getattr(HyperTransformerSettings(), name), value),
                f"model.{name}",
                given,
                f"{value}, that of the data; leave it out",
            )
        return replace(
            self,
            model=replace(
                self.model,
                num_labels=e.num_labels,
                image_size=e.image_size,
                in_channels=in_channels,
                shared_head_classes=heads,
            ),
        )
