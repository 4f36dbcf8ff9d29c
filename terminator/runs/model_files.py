"""Which model is meant: the name of one that comes with the package, a file, a run's folder, or the
folder or name of an experiment.
"""

import sys
from pathlib import Path

from terminator.runtime import shipped
from terminator.runtime.errors import OneLine
from terminator.runtime.paths import expanded, results_dir
from terminator.runtime.text import terminal

MODEL = "model.safetensors"
_BESIDE = "what it reached stands in the record.json beside it"
USES = {  # what the commands do with a model of each task
    "classification": "python -m terminator predict FILE IMAGE..., or evaluate FILE",
    "segmentation": "python -m terminator segment FILE IMAGE...",
    "few-shot": "python -m terminator fewshot-predict FILE SHOWN IMAGE..., where SHOWN has a "
    f"folder of pictures for every class; {_BESIDE}",
    "long-range": f"it takes sequences of tokens, no image; {_BESIDE}, and python -m terminator "
    "longrange trains and tests such models",
    "gan": f"it draws images; {_BESIDE}, and python -m terminator gan trains and tests such models",
}


class OtherSystem(OneLine, ValueError):
    """A model file of another system than the one that was asked; the message says whom to ask."""


def model_file(given: str | Path, task: str = "") -> Path:
    """The model file that is meant; of several runs the one that was finished last, which is said.

    Args:
        given: the name of a model of the package; a model file; the folder of a run, of an
            experiment, or of several; or the name of an experiment below results/runs.
        task: of the system that is to read it; "": of any.

    Raises:
        FileNotFoundError: naming what was looked for.
        NoSuchModel: for a bare name that is nothing of this, listing the models of the package.
        OtherSystem: if it is of another system.
    """
    path = expanded(given)
    if shipped.is_name(given):
        _say_which(path)
        path = shipped.path(str(given))
    elif not path.exists() and (named := results_dir() / "runs" / path).is_dir():
        path = named
    elif not path.exists() and shipped.looks_like_a_name(given):
        raise shipped.NoSuchModel(
            f"model is {str(given)!r}; allowed: {shipped.known()}; a model file, a run's folder, "
            f"or an experiment in {results_dir() / 'runs'}"
        )
    if path.is_dir():
        path = _newest(path, task)
    if task and path.suffix == ".safetensors":
        check_task(path, task)
    return path


def _say_which(path: Path) -> None:
    """Say what a name stands for, where a folder or an experiment has it, too."""
    if path.is_dir() or (results_dir() / "runs" / path).is_dir():
        line = f"{path} is the model of the package; a folder of that name is meant by its path"
        print(terminal(line), file=sys.stderr)


def _newest(folder: Path, task: str) -> Path:
    if (folder / MODEL).is_file():
        return folder / MODEL
    found = {path: _finished(path.parent) for path in sorted(folder.rglob(MODEL))}
    if not found and (why := _without_model(folder)):
        raise FileNotFoundError(f"there is no {MODEL} in {folder}: {why}")
    if not found:
        raise FileNotFoundError(
            f"no {MODEL} in the folder {folder}, or below it; allowed: a model file, or the folder "
            "of a run or an experiment that has one (weights stay on the machine that trained them)"
        )
    ours = {path: when for path, (of, when) in found.items() if of == task or not task}
    if not ours:
        others = sorted({of for of, _ in found.values() if of})
        raise OtherSystem(
            f"{folder} holds no {task} model, but {', '.join(others) or 'models without a record'}"
            + "".join(f"; {of}: {USES[of]}" for of in others if of in USES)
        )
    newest = max(ours, key=lambda path: (ours[path], str(path)))
    if len(ours) > 1:
        line = f"{folder} holds {len(ours)} models; taken is the last one, {newest.parent.name}"
        print(terminal(line), file=sys.stderr)
    return newest


def _without_model(run: Path) -> str:
    """Why a run's folder has no model yet, or never will; "" where nothing was begun in it."""
    from terminator.runs import records
    from terminator.runs.folders import diverged_before

    if (said := diverged_before(run)) is not None:
        return said["reason"]
    if not (run / "checkpoint.pt").is_file():
        return ""
    try:
        so_far = f"{len(records.read_record(run / 'record.json')['epochs'])} epochs done"
    except (OSError, ValueError, KeyError):
        so_far = "in its first epoch"
    return f"the training is not finished ({so_far}); the same command again goes on with it"


def _finished(run: Path) -> tuple[str, str]:
    """Task of a run, and when it was finished; nothing where that is not recorded."""
    from terminator.runs import records  # with pandas, which help does without

    try:
        record = records.read_record(run / "record.json")
    except ValueError:
        return "", ""
    return records.task_of(record), record.get("finished", "")


def check_task(path: Path, task: str) -> None:
    """Say whom to ask, where a model file is of another system.

    Raises:
        OtherSystem: naming the command that takes the file.
    """
    of = task_in(path)
    if of not in ("", task):
        raise OtherSystem(f"{path} holds a {of} model, not one of {task}; to use it: {USES[of]}")


def task_in(path: Path) -> str:
    """The task of the model in a .safetensors file; "" for one that is damaged, or no model of this
    kit: whoever reads it says what is wrong.

    Raises:
        FileNotFoundError: if there is none.
    """
    from terminator.runtime import weights  # with torch, which help does without

    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        form = weights.read_metadata(path).get("format", "")
    except ValueError:
        return ""
    if not form.startswith("terminator"):
        return ""
    of = form.removeprefix("terminator").strip()
    return of if of in USES else "classification"
