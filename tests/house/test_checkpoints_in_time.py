"""A training that is killed in the middle of an epoch goes on within it, bit for bit, whatever is
trained.
"""

import pytest
import torch

from terminator import ModelConfig
from terminator.classification.baselines import SmallCNN
from terminator.classification.config import NetworkConfig
from terminator.classification.runs import CLASSIFICATION
from terminator.hamburger.gan import presets as gan_presets
from terminator.hamburger.gan.frechet import Judge
from terminator.hamburger.gan.runs import GAN
from terminator.hamburger.gan.trainer import GanImages
from terminator.hamburger.segmentation import presets as segmentation_presets
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.hrrformer.longrange import presets as longrange_presets
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.hypertransformer.fewshot import presets as fewshot_presets
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.runtime import checkpoint

OFTEN = {"checkpoint_minutes": 1e-9}  # after every step
IN_STEPS = {**OFTEN, "train_steps": 5, "steps_between_saves": 3}


class Killed(Exception):
    pass


def of_system(system, config, complete=lambda data: data):
    data = complete(system.load_data(config))
    resolved = system.resolve(config, data)
    return lambda folder: system.trainer(system.start(resolved, data), resolved, data, folder)


def judged(data):
    """The images with an untrained judge."""
    size, channels = data.info.shape[-1], data.info.shape[0]
    model = SmallCNN(
        ModelConfig(size=size, in_channels=channels, classes=10), NetworkConfig(name="cnn")
    ).eval()
    return GanImages(data.images, Judge(model, data.info.mean, data.info.std, {"run_id": "none"}))


@pytest.fixture
def training(request, tiny_config, tiny_data):
    """A function from a folder to a new trainer of that kind."""
    if request.param == "images":
        config = tiny_config(
            dataset={"crop_padding": 1, "flip": True},
            model={"dropout": [0.2]},
            optimizer={"name": "Kar3"},
            train={"epochs": 2, "batch_size": 16, **OFTEN},
        )
        data = tiny_data(train=64, test=32)
        resolved = CLASSIFICATION.resolve(config, data)
        return lambda folder: CLASSIFICATION.trainer(
            CLASSIFICATION.build(resolved), resolved, data, folder
        )
    if request.param == "segmentation":
        return of_system(
            SEGMENTATION,
            segmentation_presets.preset("context").updated(
                data={"train_size": 8, "test_size": 4}, train={**IN_STEPS, "batch_size": 4}
            ),
        )
    if request.param == "gan":
        return of_system(
            GAN,
            gan_presets.preset("digits").updated(
                train={**IN_STEPS, "batch_size": 8}, test={"samples_per_epoch": 20}
            ),
            judged,
        )
    if request.param == "few-shot":
        return of_system(
            FEW_SHOT,
            fewshot_presets.preset("strokes").updated(
                train={**IN_STEPS, "batch_size": 2},
                test={"tasks_per_epoch": 2, "num_task_evals": 2},
            ),
        )
    return of_system(
        LONG_RANGE,
        longrange_presets.preset("listops-tiny").updated(
            data={"train_size": 96, "test_size": 16}, train={**OFTEN, "epochs": 2, "batch_size": 32}
        ),
    )


def fitted(trainer):
    rows = trainer.fit()
    numbers = [
        {
            name: value
            for name, value in row.items()
            if name != "seconds" and not name.endswith("_per_s")
        }
        for row in rows
    ]
    return numbers, trainer.model.state_dict()


def kill_after(trainer, steps):
    """Let a trainer stop before the step after so many, as a kill would."""
    step, left = trainer._step, [steps]

    def dying(*arguments):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return step(*arguments)

    trainer._step = dying
    with pytest.raises(Killed):
        trainer.fit()


@pytest.mark.parametrize(
    "training",
    [
        "images",
        "segmentation",
        pytest.param("gan", marks=pytest.mark.slow),
        "few-shot",
        "longrange",
    ],
    indirect=True,
)
def test_killed_within_epochs_and_still_the_same_bits(training, tmp_path):
    torch.manual_seed(0)
    numbers, weights = fitted(training(tmp_path / "whole"))
    torch.manual_seed(0)
    for steps in (2, 1, 1):  # in the first epoch twice, then at an epoch's end or in the second
        kill_after(training(tmp_path / "killed"), steps)
        torch.manual_seed(99)  # what a new process starts from
    saved = checkpoint.read(tmp_path / "killed" / "checkpoint.pt")
    assert len(saved["stretches"]) == 3
    again, ended = fitted(training(tmp_path / "killed"))
    assert again == numbers
    assert weights.keys() == ended.keys()
    assert all(torch.equal(value, ended[name]) for name, value in weights.items())


@pytest.mark.parametrize("training", ["images"], indirect=True)
def test_without_minutes_only_epochs_are_kept(training, tmp_path):
    trainer = training(tmp_path)
    trainer.config = trainer.config.updated(train={"checkpoint_minutes": 0})
    kill_after(trainer, 3)
    assert not (tmp_path / "checkpoint.pt").exists()
    trainer = training(tmp_path)
    trainer.config = trainer.config.updated(train={"checkpoint_minutes": 0})
    kill_after(trainer, 6)
    saved = checkpoint.read(tmp_path / "checkpoint.pt")
    assert len(saved["rows"]) == 1
    assert "within" not in saved


def test_other_numbers_of_processes_share_out_the_counts():
    parts = [
        {"totals": {"loss": torch.tensor(loss), "correct": torch.tensor(correct)}, "generator": 0}
        for loss, correct in ((1.0, 4), (3.0, 6))
    ]
    found = checkpoint.own_share({"processes": parts}, ("correct",))["totals"]
    # a mean, and a sum over all processes
    assert (found["loss"].item(), found["correct"].item()) == (2.0, 10.0)
