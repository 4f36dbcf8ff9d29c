"""Which model is meant: the name of one that comes with the package, a file, a run's folder, or the
folder or name of an experiment.
"""

import sys
from pathlib import Path

from terminator.runtime import shipped
from terminator.runtime.errors import OneLine
from terminator.runtime.paths import results_dir
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
    path = Path(given).expanduser()
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
    if not found and (so_far := _unfinished(folder)):
        raise FileNotFoundError(
            f"the training in {folder} is not finished ({so_far}), so there is no {MODEL} yet; the "
            "command that began it goes on"
        )
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


def _unfinished(run: Path) -> str:
    """How far a training came that left its checkpoint in this folder, "" where there is none."""
    from terminator.runs import records

    if not (run / "checkpoint.pt").is_file():
        return ""
    try:
        record = records.read_record(run / "record.json")
        return f"{len(record['epochs'])} epochs"
    except (OSError, ValueError, KeyError):
        return "in its first epoch"


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
