"""Model files: safetensors that describe themselves, and whose weights are known to be those that
were saved.

What a file says is believed as far as it can be checked: digests of weights and description, names,
shapes and types of the network that it describes, before that network takes any memory.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from terminator.runtime.errors import OneLine
from terminator.runtime.memory import is_out_of_memory
from terminator.runtime.paths import atomic_path, expanded
from terminator.runtime.torch_state import filled_later

M = TypeVar("M", bound=nn.Module)
FEW = 3  # names in a message
# of files: 1, numbers as the network has them; 2, some of them stored in 16 bits
VERSIONS = ("1", "2")


class OtherVersion(OneLine, ValueError):
    """A model file in a form that a later version of the kit brought."""


def write(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata, whole or not at all, with a digest of each; the same content
    gives the same bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    path = expanded(path)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    metadata = {**metadata, "digest": _digest(tensors)}
    metadata["metadata_digest"] = _metadata_digest(metadata)
    try:
        with atomic_path(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata)
            _sort_header(temporary)
    except SafetensorError as error:
        raise OSError(f"could not write the model {path} (disk full?): {error}") from error


def narrow(source: str | Path, target: str | Path, wide: Collection[str] = ()) -> None:
    """Write a model file's weights again in 16 bits (float16); whoever reads it has them in 32.

    Args:
        wide: names of weights that keep all their digits, see `wide_weights`.

    Numbers that are no float32 (calibrated statistics) keep theirs, and so does what float16 cannot
    hold. A file that was narrowed before stays as it is.

    Raises:
        as read and write.
    """
    tensors, metadata = read(source)
    narrowed = {
        name: value.half() if value.dtype == torch.float32 and name not in wide else value
        for name, value in tensors.items()
    }
    kept = {name: v if is_finite(v) else tensors[name] for name, v in narrowed.items()}
    write(target, kept, {**metadata, "stored": "float16", "version": "2"})


def wide_weights(model: nn.Module) -> set[str]:
    """The weights of modules that say `needs_float32`: in fewer digits they would be others."""
    return {
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if getattr(module, "needs_float32", False)
        for own, _ in module.named_parameters()
    }


def _sort_header(path: Path) -> None:
    """Put the header's metadata into alphabetical order; safetensors writes it in a random one."""
    with open(path, "rb+") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # the same characters in another order; spaces are allowed behind
            file.seek(8)
            file.write(text.ljust(length))


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a model file.

    Raises:
        FileNotFoundError: as its message says.
        ValueError: if the file is corrupt, no model of this kit, or holds no finite numbers.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            _check_version(path, metadata)
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        digest = _digest(tensors)
    except OtherVersion:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{path} is no readable safetensors file (truncated or corrupt?): {error}"
        ) from error
    if not metadata.get("format", "").startswith("terminator"):
        raise ValueError(f"{path} is no model of this kit: its metadata lacks format=terminator")
    if "digest" in metadata and metadata["digest"] != digest:
        raise ValueError(f"{path} is corrupt: its weights are not those that were saved")
    found = metadata.pop("metadata_digest", None)
    if found is None:
        from terminator.runtime.progress import say  # rarely needed

        say(
            f"note: {path} has no digest of its description, as the first model files: what it "
            "says of itself is taken as it stands"
        )
    elif found != _metadata_digest(metadata):
        raise ValueError(f"{path} is corrupt: its description is not the one that was saved")
    if wrong := [name for name, value in tensors.items() if not is_finite(value)]:
        raise ValueError(
            f"{path} is of no use: {_few(wrong)} of its weights hold NaN or infinite numbers"
        )
    if metadata.get("stored") == "float16":
        tensors = {n: v.float() if v.dtype == torch.float16 else v for n, v in tensors.items()}
    return tensors, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a model file says of itself, without its weights; nothing is checked but its version.

    Raises:
        OtherVersion: if this version of the kit cannot read it.
        ValueError: if it is no safetensors file.
    """
    path = expanded(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    _check_version(path, metadata)
    return metadata


def _check_version(path: str | Path, metadata: Mapping[str, str]) -> None:
    version = metadata.get("version", "1")
    if metadata.get("format", "").startswith("terminator") and version not in VERSIONS:
        raise OtherVersion(
            f"{path} is a model file of version {version[:20]!r}, written by a later version of "
            f"the kit; allowed: {', '.join(VERSIONS)}. Install that version, or get a file of this "
            "one"
        )


def digest_of(model: nn.Module) -> str:
    """The SHA-256 of a network's weights, hexadecimal."""
    return _digest(model.state_dict())


def is_finite(value: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinite numbers."""
    return not value.is_floating_point() or bool(value.isfinite().all())


@contextmanager
def understood(path: str | Path) -> Iterator[None]:
    """Turn whatever a description that makes no sense raises into one error that names the
    file.
    """
    try:
        yield
    except MemoryError:
        raise
    except KeyError as error:
        raise ValueError(f"{path} does not hold a whole model: it lacks {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(_said(path, error)) from error
    except RecursionError as error:
        raise ValueError(f"{path} does not hold a whole model: nested too deeply") from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(_said(path, error)) from error


def _said(path: str | Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.startswith(str(path)) else f"{path} does not hold a whole model: {text}"


def values(text: str, what: str) -> dict[str, Any]:
    """The JSON object in a file's description.

    Raises:
        ValueError: if it is none.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"its {what} is {text[:80]}; allowed: an object")
    return found


def fitted(path: str | Path, build: Callable[[], M], tensors: Mapping[str, Tensor]) -> M:
    """The network that `build` makes, with a file's weights; nothing is made before they are found
    to fit it.

    Raises:
        ValueError: naming the file and the first weights that do not fit.
    """
    check_fit(path, build, tensors)
    with filled_later():
        model = build()
    model.load_state_dict(dict(tensors))
    return model


def info_of(path: str | Path) -> dict[str, Any]:
    """What a model file says beside its settings.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    with understood(path):
        return values(read_metadata(path).get("info", "{}"), "info")


def check_fit(
    path: str | Path, build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]
) -> None:
    """Compare a file's weights with those of the network that `build` makes, which takes no memory.

    Raises:
        ValueError: naming the file and the first weights that do not fit.
    """
    try:
        own = sketch(build).state_dict()
    except RuntimeError as error:  # sizes beyond all bounds; nothing was allocated
        raise ValueError(_said(path, error)) from error
    problems = [
        _listed("missing", own.keys() - tensors.keys()),
        _listed("unexpected", tensors.keys() - own.keys()),
        *(
            f"{name} is {_form(tensors[name])}, expected {_form(value)}"
            for name, value in own.items()
            if name in tensors and _form(tensors[name]) != _form(value)
        ),
    ]
    if problems := [problem for problem in problems if problem]:
        raise ValueError(
            f"{path} does not hold a whole model: its weights do not fit the network it describes: "
            f"{_few(problems, '; ')}"
        )


def sketch(build: Callable[[], M]) -> M:
    """The network that `build` makes, on the meta device: names, shapes and types, no memory."""
    with torch.device("meta"), _Undrawn(), filled_later():
        return build()


class _Undrawn(TorchFunctionMode):
    """Leaves out what gives values to tensors that have none: for these calls torch would import
    its compiler, which takes longer than all the rest of a sketch.
    """

    OF_ONE_FORM = frozenset(
        "normal_ uniform_ div_ mul_ fill_ zero_ zeros_like normalize div true_divide".split()
    )
    SMALLER = {"mv": 1, "vdot": 0}  # of a spectral norm: the dimensions of what they give

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in self.OF_ONE_FORM:  # with their first argument
            return args[0] if args else kwargs["tensor"]
        if name in self.SMALLER:
            return args[0].new_empty(args[0].shape[: self.SMALLER[name]])
        return func(*args, **kwargs)


def fits(value: Tensor, own: Tensor) -> bool:
    """Whether a file's tensor can take the place of a network's: its shape, its type, finite."""
    return _form(value) == _form(own) and is_finite(value)


def _form(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _listed(what: str, names: Any) -> str:
    return f"{what}: {_few(sorted(names))}" if names else ""


def _few(names: list[str], between: str = ", ") -> str:
    more = len(names) - FEW
    return between.join(names[:FEW]) + (f" and {more} more" if more > 0 else "")


def _metadata_digest(metadata: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names and values; safetensors itself would not notice a flipped bit."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(
            name.encode() + tensors[name].cpu().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
