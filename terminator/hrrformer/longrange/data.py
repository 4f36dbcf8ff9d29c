"""The token sequences that a configuration names, with what a record says of them."""

import os

from terminator.data import generated, images
from terminator.data import pathfinder as pathfinder_data
from terminator.data.files import find_source
from terminator.data.places import is_path
from terminator.data.sequences import listops as listops_data
from terminator.data.sequences.byte_files import CLASSES, load_byte_files
from terminator.data.sequences.pixels import VOCABULARY as GREY_LEVELS
from terminator.data.sequences.pixels import pixel_splits
from terminator.data.sequences.text import IMDB_NAMES, halves, load_aan, load_imdb
from terminator.data.sequences.text import VOCABULARY as BYTES
from terminator.data.sequences.tokens import Sequences, Split, TokenData, describe, split_up
from terminator.data.standard import own_names
from terminator.hrrformer.longrange.config import GENERATED, LongRangeConfig, LongRangeData
from terminator.runtime.settings import ConfigError, changed_settings, require

DIGITS = tuple("0123456789")


def load_long_range(
    config: LongRangeConfig, data_dir: str | os.PathLike | None = None
) -> TokenData:
    """The splits that the configuration names, reduced and cut.

    Raises:
        ConfigError: as its message says.
        ValueError: for more examples than there are.
        DatasetNotFound: as its message says.
        DatasetCorrupt: as its message says.
    """
    _check_use(config)
    data = _load(config, data_dir)
    if data.info.vocabulary > config.network_settings.vocabulary:
        raise ConfigError(
            f"network.task is {config.network.task!r}, with a vocabulary of "
            f"{config.network_settings.vocabulary} tokens; needed for {data.info.title}: at least "
            f"{data.info.vocabulary}"
        )
    if config.data.val_size and "val" not in data.splits:
        raise ConfigError(
            f"data.val_size is {config.data.val_size}; allowed: nothing, since {data.info.title} "
            "has no validation part"
        )
    return data


def _check_use(config: LongRangeConfig) -> None:
    """Refuse settings that data of this kind have no use for: they would be dropped without a word,
    and make another run of the same training. (Not where settings are made: records may have them.)
    """
    kind, name = config.data.kind, config.data.name
    require(
        kind not in ("pixels", "pathfinder") or config.network_settings.masking == "none",
        "network.masking",
        config.network_settings.masking,
        f"none, for data.kind={kind}, whose token 0 is a black pixel and no padding",
    )
    for group in ("listops", "pathfinder"):
        given = getattr(config, group)
        for key, value in changed_settings(given, type(given)()).items() if kind != group else ():
            raise ConfigError(
                f"{group}.{key} is {value!r}; allowed: the default, for data.kind={kind}"
            )
    if kind in GENERATED:
        require(name == LongRangeData.name, "data.name", name, f"nothing, for data.kind={kind}")
    if kind in ("listops_files", "aan", "byte_files"):
        require(name != LongRangeData.name, "data.name", name, "a folder or an archive of files")
    if kind in ("imdb", "imdb_halves"):
        require(
            name in (LongRangeData.name, *IMDB_NAMES) or is_path(name),
            "data.name",
            name,
            f"nothing (IMDB), or the path of a folder or archive, {os.path.join('.', name)} say",
        )


def _load(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> TokenData:
    use, kind = config.data, config.data.kind
    loader = {
        "pixels": _pixels,
        "listops": _listops,
        "listops_files": _listops_files,
        "imdb": _imdb,
        "imdb_halves": _halves,
        "aan": _aan,
        "pathfinder": _pathfinder,
        "byte_files": _byte_files,
    }[kind]
    splits, title, vocabulary, classes, notes = loader(config, data_dir)
    notes += tuple(note for part in splits.values() for note in part.notes)
    sizes = {"train": use.train_size, "val": use.val_size, "test": use.test_size}
    if kind not in GENERATED:  # those have the sizes that were asked for
        whole = {split: len(part) for split, part in splits.items()}
        splits = {
            split: part.reduced(sizes[split], f"data.{split}_size")
            for split, part in splits.items()
            if sizes[split] != 0
        }
        notes += tuple(
            f"{len(part)} of {whole[split]} {split} examples"
            for split, part in splits.items()
            if len(part) < whole[split]
        )
    longest = max(int(text.lengths.max()) for part in splits.values() for text in part.texts)
    if longest > use.length:
        notes += (f"cut to {use.length} tokens",)
    name = use.name if kind in ("pixels", "byte_files", "aan", "listops_files") else kind
    return describe(
        splits,
        os.path.basename(os.path.normpath(name)),
        title,
        use.length,
        vocabulary,
        classes,
        notes,
        own_names(name, classes) if kind == "pixels" else b"",
    )


# splits, title, vocabulary, classes, notes
Loaded = tuple[dict[str, Split], str, int, tuple[str, ...], tuple[str, ...]]


def _sizes(config: LongRangeConfig) -> dict[str, int]:
    use = config.data
    return {"train": use.train_size or 0, "val": use.val_size or 0, "test": use.test_size or 0}


def _listops(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    sizes, use = _sizes(config), config.listops
    found = listops_data.generate(use, sum(sizes.values()))
    title = (
        "ListOps"
        if use.max_length == 2000
        else f"ListOps, {use.min_length} to {use.max_length} tokens"
    )
    return (
        split_up(found, sizes),
        f"{title} (generated)",
        listops_data.VOCABULARY,
        DIGITS,
        (generated.NOTE,),
    )


def _pathfinder(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    sizes, use = _sizes(config), config.pathfinder
    pixels, labels = pathfinder_data.generate(use, sum(sizes.values()))
    found = Split((Sequences.equal(pixels.flatten(1)),), labels)
    return (
        split_up(found, sizes),
        use.title,
        GREY_LEVELS,
        pathfinder_data.CLASSES,
        (generated.NOTE,),
    )


def _listops_files(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    folder = find_source(
        (config.data.name,),
        data_dir,
        "ListOps",
        "basic_{train,val,test}.tsv in a folder or an archive",
    )
    return listops_data.read_released(folder), "ListOps", listops_data.VOCABULARY, DIGITS, ()


def _imdb(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    return load_imdb(data_dir, config.data.name), "IMDB, bytes", BYTES, ("negative", "positive"), ()


def _halves(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    splits = {split: halves(part) for split, part in load_imdb(data_dir, config.data.name).items()}
    note = (
        "a substitute for AAN: halves of IMDB reviews, of one review or of two; never compare it "
        "with AAN"
    )
    return splits, "IMDB halves (in place of AAN)", BYTES, ("different", "same"), (note,)


def _aan(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    return load_aan(config.data.name, data_dir), "AAN", BYTES, ("no citation", "citation"), ()


def _byte_files(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    splits = load_byte_files(config.data.name, config.data.length, data_dir)
    return splits, os.path.basename(os.path.normpath(config.data.name)), BYTES, CLASSES, ()


def _pixels(config: LongRangeConfig, data_dir: str | os.PathLike | None) -> Loaded:
    use = config.data
    data = images.load(use.name, data_dir=data_dir, image_size=use.image_size)
    splits = pixel_splits(data, use.permutation_seed, use.leave_out_last_tenth)
    side = data.info.shape[-1]
    if side**2 != use.length:
        raise ConfigError(
            f"data.length is {use.length}, but {data.info.title} has {side}x{side} pixels; "
            f"allowed: {side**2}, or another data.image_size"
        )
    title = f"{data.info.title}, grey {side}x{side}"
    notes = data.info.notes + (
        ("the last tenth of the training images left out",) if use.leave_out_last_tenth else ()
    )
    if use.permutation_seed is not None:
        notes += (f"pixels permuted (seed {use.permutation_seed})",)
        title += ", permuted"
    return splits, title, GREY_LEVELS, data.info.classes, notes
