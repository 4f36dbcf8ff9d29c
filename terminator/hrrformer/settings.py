"""The networks of Hrrformer's paper as settings: one NetworkSettings per task, at the multi-layer
size.

Source: the scripts of the released code, of arXiv 2305.19534; what they call single layer is taken
to be the same width with layers=1 (inferred: the scripts hold the multi-layer values only).
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from terminator.runtime.settings import ConfigError, at_least, one_of, require

POSITIONS = ("learned", "fixed")
ORDERS = ("pre_norm", "mlp_pre_norm", "post_norm")
MASKINGS = ("none", "released", "full")
ACTIVATIONS = ("gelu", "relu")
LOSSES = ("cross_entropy", "binary")
UNBINDINGS = ("approximate", "exact")
WEIGHTS = ("softmax", "uniform", "off")
TEMPERATURES = ("one", "learned")


@dataclass(frozen=True)
class NetworkSettings:
    """One encoder with a token mixer and a classifier.

    Raises:
        ConfigError: from the constructor, for a setting that cannot be used.
    """

    length: int  # T, the longest sequence, without the class token
    vocabulary: int  # V, with the 0 for padding where there is padding
    width: int  # E
    mlp_width: int  # M
    heads: int
    layers: int
    classes: int
    positions: str = "learned"  # or fixed sinusoids
    embedding_norm: bool = False  # a norm after the embedding and its dropout
    # x + A(x), x + M(N(x)); pre_norm: x + A(N(x)); post_norm: N(x + A(x))
    order: str = "mlp_pre_norm"
    # released: tokens > 0 in the softmax; full: also in the superposition and the mean
    masking: str = "none"
    pair: bool = False  # two texts: head on [u, v, u v, u - v] of their means
    # a learned token in front, whose output is classified (else the mean's)
    class_token: bool = False
    bias: bool = False  # biases on the mixer's maps and on the MLP's second one
    activation: str = "gelu"  # its tanh approximation; or relu
    loss: str = "cross_entropy"  # with label smoothing 0.1; or binary, summed over the classes
    dropout: float = 0.1  # of embeddings, mixer outputs, MLP outputs
    mixer: str = "hrrformer"  # one of mixers.registry.TOKEN_MIXERS, or none (branch removed)
    mixer_options: dict[str, Any] = field(default_factory=dict)  # e.g. {"weights": "uniform"}

    def __post_init__(self) -> None:
        sizes = ("length", "vocabulary", "width", "mlp_width", "heads", "layers", "classes")
        at_least(self, "", dict.fromkeys(sizes, 1))
        one_of(self, "", {"positions": POSITIONS, "order": ORDERS, "masking": MASKINGS})
        one_of(self, "", {"activation": ACTIVATIONS, "loss": LOSSES})
        require(
            self.width % self.heads == 0,
            "heads",
            self.heads,
            f"divisors of the width, {self.width}",
        )
        require(
            self.positions == "learned" or self.width % 2 == 0,
            "width",
            self.width,
            "even numbers, for fixed positions come in pairs of sine and cosine",
        )
        require(0 <= self.dropout < 1, "dropout", self.dropout, "a number from 0 to below 1")


_PATH = NetworkSettings(
    length=1024, vocabulary=256, width=1024, mlp_width=256, heads=8, layers=2, classes=2
)

TASKS: dict[str, NetworkSettings] = {
    "listops": NetworkSettings(
        length=2000,
        vocabulary=17,
        width=512,
        mlp_width=256,
        heads=8,
        layers=6,
        classes=10,
        embedding_norm=True,
        masking="released",
    ),
    "text": NetworkSettings(
        length=4000,
        vocabulary=257,
        width=512,
        mlp_width=1024,
        heads=8,
        layers=6,
        classes=2,
        positions="fixed",
        order="pre_norm",
        masking="released",
    ),
    "retrieval": NetworkSettings(
        length=4000,
        vocabulary=257,
        width=128,
        mlp_width=64,
        heads=4,
        layers=4,
        classes=2,
        positions="fixed",
        embedding_norm=True,
        masking="released",
        pair=True,
    ),
    "image": NetworkSettings(
        length=1024,
        vocabulary=256,
        width=256,
        mlp_width=128,
        heads=4,
        layers=3,
        classes=10,
        positions="fixed",
        order="post_norm",
    ),
    "pathfinder": _PATH,
    "pathx": dataclasses.replace(_PATH, length=16_384, layers=1),
    "ember": NetworkSettings(  # length: 256 ... 131,072 in the paper's sweep
        length=16_384,
        vocabulary=257,
        width=256,
        mlp_width=512,
        heads=8,
        layers=1,
        classes=2,
        order="pre_norm",
        masking="released",
        class_token=True,
        bias=True,
        activation="relu",
        loss="binary",
    ),
}


def task_settings(task: str, **changes: Any) -> NetworkSettings:
    """The settings of a task, with changes: task_settings("image", layers=1,
    mixer="softmax_fused").

    Raises:
        ConfigError: for an unknown task, an unknown setting, or a value that cannot be used.
    """
    if task not in TASKS:
        raise ConfigError(f"task is {task!r}; allowed: {', '.join(TASKS)}")
    names = [setting.name for setting in dataclasses.fields(NetworkSettings)]
    for name in changes:
        if name not in names:
            raise ConfigError(
                f"network setting {name!r} does not exist; allowed: {', '.join(names)}"
            )
    return dataclasses.replace(TASKS[task], **changes)
