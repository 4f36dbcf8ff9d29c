"""Which image data sets are known, and where they lie: the folders of --data-dir and
TERMINATOR_DATA, torchvision's downloads, paths.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import NamedTuple

from terminator.data import cifar_binary, files, folders, pathfinder, standard
from terminator.data.errors import DatasetNotFound, LayoutError
from terminator.data.places import is_path, kind_of, tried
from terminator.data.standard import STANDARD
from terminator.runtime.paths import DATA_VARIABLE, data_dirs, expanded, is_offline


class DatasetRow(NamedTuple):
    """One line of the list of data sets; shape and classes are None where only loading would
    tell.
    """

    name: str
    title: str
    shape: tuple[int, ...] | None
    classes: int | None
    status: str  # "ready: where (kind of source)", "incomplete: where" or "not found"
    how: str

    @property
    def is_ready(self) -> bool:
        """Whether it is on this machine, whole."""
        return self.status.startswith("ready")


def copy_of(name: str) -> tuple[str, str | None]:
    """Return the title of a class folder, and a note if it is named as the JPEG copy of a standard
    set.
    """
    for key, known in STANDARD.items():
        if name.lower() == f"{key.lower()}-jpeg":
            return f"{known.title} (JPEG)", f"lossy JPEG copy of {known.title}"
    return name, None


def standard_root(name: str, data_dir: str | os.PathLike | None, download: bool) -> Path:
    """Return the folder from which `name` can be read, downloading it if allowed and needed."""
    looked_in = []
    for folder in (*data_dirs(data_dir), standard.download_root(name)):
        if standard.is_present(name, folder):
            return folder
        looked_in.append(f"{folder} ({_why_not(name, folder)})")
    failure = "download not allowed"
    if download and not is_offline():
        try:
            return standard.download(name)
        except ConnectionError as error:
            failure = f"failed: {error}"
    raise DatasetNotFound(
        f"data set {name!r} was not found. Tried: {'; '.join(looked_in)}; torchvision's download "
        f"({failure}). To get it: {_how(name)}."
    )


def _why_not(name: str, folder: Path) -> str:
    if not os.path.isdir(folder):
        return f"is {kind}, no folder" if (kind := kind_of(folder)) else "no such folder"
    read = (*standard.standard_files(name, folder), *cifar_binary.files(name, folder))
    inside = {path.parent for path in read}
    for place in (folder, *sorted(inside)):
        if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK):
            return f"no permission to read {place}: chmod u+rx"
    packed = getattr(standard.torchvision_class(name), "filename", None)
    for archive in (packed, packed and packed.replace("python", "binary")):
        if archive and os.path.isfile(folder / archive):
            return f"{archive} is there but not unpacked: unpack it in that folder"
    return f"no {STANDARD[name].layout}"


def _how(name: str) -> str:
    return (
        f"run once with a network, or put its files ({STANDARD[name].layout}) in a "
        f"folder and name that folder with --data-dir or {DATA_VARIABLE}"
    )


def class_folder_path(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """Return the class folder or archive called `name`: in a data folder, else as a path.

    Raises:
        DatasetNotFound: naming the places tried, and what may have been meant.
        ValueError: for a file that is no archive.
    """
    places = data_dirs(data_dir)
    path = expanded(name)
    by_path = is_path(name)
    found = None if by_path else files.find(name, places)
    if found or files.is_source(path):
        return (found or path).absolute()
    kind = kind_of(path)
    if kind == "a file":
        raise LayoutError(
            f"{path} is no archive: its name must end with {', '.join(files.ARCHIVE_SUFFIXES)}"
        )
    if by_path:
        but = f", which is {kind}" if kind else ""
        raise DatasetNotFound(f"no such folder or archive: {path}{but}")
    known = [
        "digits",
        *pathfinder.PICTURES,
        *STANDARD,
        *(row.name for row in _class_folder_rows(places)),
    ]
    lower = {key.lower(): key for key in known}
    close = [
        lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.5)
    ]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise DatasetNotFound(
        f"unknown data set {name!r}.{hint} Known: {', '.join(known)}. Any class folder or archive "
        f"of one is found by its path, or by its name in a data folder. Tried: {tried(places)}. "
        f"Layout: "
        f"{folders.LAYOUT}."
    )


def available(data_dir: str | os.PathLike | None = None) -> list[DatasetRow]:
    """List the data sets that are known or found in the data folders, without downloading or
    decoding.
    """
    rows = [
        DatasetRow(
            "digits",
            "digits (8x8)",
            (1, 8, 8),
            10,
            "ready: scikit-learn (embedded)",
            "nothing to do",
        )
    ]
    rows += [
        DatasetRow(
            name,
            f"Pathfinder, {level} (32x32)",
            (1, 32, 32),
            2,
            "ready: made when first asked for",
            "nothing to do",
        )
        for name, level in pathfinder.PICTURES.items()
    ]
    places = data_dirs(data_dir)
    for name, known in STANDARD.items():
        where = next(
            (p for p in (*places, standard.download_root(name)) if standard.is_present(name, p)),
            None,
        )
        status = "not found"
        if where is not None:
            missing = standard.missing_files(name, where)
            kind = "binary version" if standard.is_binary(name, where) else "torchvision layout"
            kind = kind if where in places else "earlier download"
            status = (
                f"incomplete: {where} lacks {', '.join(missing)}"
                if missing
                else f"ready: {where} ({kind})"
            )
        how = "nothing to do" if status.startswith("ready") else _how(name)
        rows.append(DatasetRow(name, known.title, known.shape, known.class_count, status, how))
    return rows + _class_folder_rows(places)


def ready(data_dir: str | os.PathLike | None = None) -> set[str]:
    """Names of the data sets that are on this machine."""
    return {row.name for row in available(data_dir) if row.is_ready}


def _class_folder_rows(places: list[Path]) -> list[DatasetRow]:
    """Return a row per class folder or archive in the data folders, judged by its first file
    names.
    """
    rows: dict[str, DatasetRow] = {}
    for place in places:
        for path in files.entries(place):
            name = files.base_name(path)
            if (
                name in rows
                or not files.is_data(name)
                or not folders.looks_like_class_folders(path)
            ):
                continue
            kind = "class folders" if path.is_dir() else "archive of class folders"
            title, status = copy_of(name)[0], f"ready: {path} ({kind})"
            rows[name] = DatasetRow(name, title, None, None, status, "nothing to do")
    return list(rows.values())
