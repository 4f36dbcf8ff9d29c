"""What several studies start from."""

import dataclasses
from typing import Any

from terminator.classification.config import Config
from terminator.classification.presets import preset
from terminator.config import ModelConfig

SMOKE = preset(
    "digits",
    dataset={"train_size": 256, "test_size": 180},
    train={"epochs": 3, "batch_size": 32},
    test={"calibration_images": 128},
)
SMALL = {"model": {"factors": [4, 3]}}  # a Terminator of two blocks, in smoke
BENCH = {"optimizer": {"name": "AdamW", "lr": 0.005, "weight_decay": 0.01}}


def baseline(base: Config, **changes: Any) -> Config:
    """Another network in Terminator's place, which takes none of its settings."""
    return dataclasses.replace(base, model=ModelConfig()).updated(**changes)
