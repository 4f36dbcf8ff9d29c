"""A few-shot model and pictures: shown some of every class, it names others, each by itself."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from terminator.data.episodes.strokes import draw_strokes
from terminator.hypertransformer.fewshot.learner import Learner, alone, shown_in
from terminator.hypertransformer.fewshot.presets import preset
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.runtime.settings import ConfigError

TEST = {"num_task_evals": 8, "num_eval_batches": 1, "tasks_per_epoch": 2}
STEPS = {"hypertransformer": 10, "prototypical": 60, "pixels": 10}  # one of them is to be right
WAYS = 3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Model files by method, briefly trained on drawn characters."""
    root, found = tmp_path_factory.mktemp("learner"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(root))
        for method, steps in STEPS.items():
            train = {"train_steps": steps, "steps_between_saves": steps}
            config = preset("strokes", method={"name": method}, train=train, test=TEST)
            found[method] = FEW_SHOT.run(config, "some").folder / "model.safetensors"
    return found


@pytest.fixture
def drawings(tmp_path):
    """Folders of characters that no training saw: one picture of each shown, three to be named."""
    stacks = draw_strokes()[100 : 100 + WAYS]  # (characters, drawings, H, W)
    for name, stack in zip("abc", stacks):
        (tmp_path / "shown" / name).mkdir(parents=True)
        (tmp_path / "new").mkdir(exist_ok=True)
        Image.fromarray(stack[0]).save(tmp_path / "shown" / name / "first.png")
        for i, drawing in enumerate(stack[1:4]):
            Image.fromarray(drawing).save(tmp_path / "new" / f"{name}{i}.png")
    return tmp_path


def named(learner, files):
    found = list(learner.answers(files))
    assert not [answer.error for answer in found if answer.error]
    return [answer.top for answer in found]


def test_pictures_of_classes_that_no_training_saw_are_named(models, drawings):
    learner = Learner(models["prototypical"])
    learner.show(shown_in(drawings / "shown"))
    files = sorted((drawings / "new").iterdir())
    best = [top[0][0] for top in named(learner, files)]
    right = np.mean([name == path.stem[0] for name, path in zip(best, files)])
    assert right > 0.5, "no better than chance, a third"
    assert all(sum(p for _, p in top) == pytest.approx(1) for top in named(learner, files))


def test_a_support_set_that_is_not_what_it_seems_is_refused(models, drawings):
    shown = drawings / "shown"
    (shown / "d").mkdir()
    with pytest.raises(
        ValueError, match=r"shown has no picture of d; allowed: one or more of each"
    ):
        shown_in(shown)
    (shown / "d").rmdir()
    shutil.copy(shown / "a" / "first.png", shown / "stray.png")
    with pytest.raises(ValueError, match=r"pictures beside its class folders \(stray.png\)"):
        shown_in(shown)
    (shown / "stray.png").unlink()
    (shown / "__MACOSX").mkdir()  # no class of anybody's
    learner = Learner(models["prototypical"])
    learner.show({name: list(map(str, files)) for name, files in shown_in(shown).items()})
    assert learner.classes == ("a", "b", "c")


def test_an_answer_does_not_depend_on_what_else_is_asked(models, drawings):
    learner = Learner(models["hypertransformer"])
    learner.show(shown_in(drawings / "shown"))
    files = sorted((drawings / "new").iterdir())
    apart = [named(learner, [path])[0] for path in files]
    for one, other in zip(named(learner, files), apart):
        assert dict(one) == pytest.approx(dict(other), abs=1e-5)


def test_many_at_once_are_each_alone(models):
    learner = Learner(models["hypertransformer"])
    draw = torch.Generator().manual_seed(0)
    shown = torch.rand(WAYS, 1, 16, 16, generator=draw)
    queries = torch.rand(40, 1, 16, 16, generator=draw)
    with torch.no_grad():
        labels = torch.arange(WAYS)
        found = alone(learner.model, shown, labels, queries)
        single = torch.cat([alone(learner.model, shown, labels, x[None]) for x in queries])
    torch.testing.assert_close(found, single, rtol=1e-3, atol=1e-4)


def test_dark_ink_on_paper_is_inverted_and_said(models, drawings, call):
    def asked():
        learner = Learner(models["hypertransformer"])
        learner.show(shown_in(drawings / "shown"))
        return learner.inverted, named(learner, sorted((drawings / "new").iterdir()))

    was_inverted, ours = asked()
    for path in drawings.rglob("*.png"):
        with Image.open(path) as picture:
            negative = Image.fromarray(255 - np.asarray(picture))
        negative.save(path)
    is_inverted, theirs = asked()
    assert (was_inverted, is_inverted) == (0, len(list((drawings / "shown").rglob("*.png"))))
    for one, other in zip(ours, theirs, strict=True):
        assert dict(one) == pytest.approx(dict(other), abs=0.02)  # resizing rounds the other way
    words = (models["hypertransformer"], drawings / "shown", drawings / "new")
    note = f"note: {is_inverted} of the {is_inverted} pictures shown are dark on bright and are"
    assert call("fewshot-predict", *words)[1].splitlines()[0].startswith(note)
    for path in (drawings / "shown").rglob("*.png"):  # bright ink is shown, dark ink is asked
        with Image.open(path) as picture:
            negative = Image.fromarray(255 - np.asarray(picture))
        negative.save(path)
    is_inverted, mixed = asked()
    assert is_inverted == 0
    for one, other in zip(ours, mixed, strict=True):
        assert dict(one) == pytest.approx(dict(other), abs=0.02)


def test_the_command_writes_tables_and_costs_a_bad_file_its_own_row(models, drawings, call):
    (drawings / "new" / "text.png").write_text("no picture")
    status, out, err = call(
        "fewshot-predict",
        models["hypertransformer"],
        drawings / "shown",
        drawings / "new",
        "--top",
        "2",
        "--csv",
        drawings / "answers.csv",
    )
    assert status == 1
    assert "1 of 10 files could not be read" in err
    assert "text.png" in out
    lines = (drawings / "answers.csv").read_text().splitlines()
    assert lines[0] == "image,class,probability,class_2,probability_2,error"
    assert len(lines) == 11


def test_what_is_refused(models, drawings, call):
    def refused(*words):
        status, _, err = call("fewshot-predict", *words)
        assert status == 2
        return err

    model, shown, new = models["hypertransformer"], drawings / "shown", drawings / "new"
    assert "does not answer for pictures" in refused(models["pixels"], shown, new)
    assert "top is 4; allowed: 1 to 3" in refused(model, shown, new, "--top", "4")
    assert f"no folder at {drawings / 'none'}" in refused(model, drawings / "none", new)
    assert "has no folder with pictures" in refused(model, new, new)
    (shown / "d").mkdir()
    Image.new("L", (28, 28)).save(shown / "d" / "first.png")
    assert "classes is 'a, b, c, d'; allowed: 3 of them" in refused(model, shown, new)
    learner = Learner(model)
    with pytest.raises(ConfigError, match="shown no classes"):
        list(learner.answers([new / "a0.png"]))
    with pytest.raises(ConfigError, match="class 'c' has no picture"):
        learner.show({**{name: [new / f"{name}0.png"] for name in "ab"}, "c": []})
