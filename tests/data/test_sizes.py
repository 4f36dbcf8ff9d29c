"""Sizes are checked before memory or time is spent: headers, members, texts, pictures, links to
what never ends.
"""

import gzip
import io
import lzma
import resource
import struct
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
from data_files import class_files, encode, own_places, pack, pixels_of, write
from segmentation_files import camvid_files

from terminator.data import DatasetCorrupt, load
from terminator.data.episodes.sources import load_classes
from terminator.data.files import list_files, read_files
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.sequences import byte_files, text

__all__ = ["own_places"]  # a fixture that every test here uses
MIB = 2**20


@pytest.fixture(autouse=True)
def little_memory_and_time():
    """What a test may take beyond what the process has taken before."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB
    assert time.monotonic() - began < 20


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def packed(path, content):
    """Bytes as .tar, .tar.gz or .tar.xz."""
    pack_by = {
        ".tar": bytes,
        ".gz": lambda content: gzip.compress(content, 1),
        ".xz": lambda content: lzma.compress(content, preset=0),
    }
    path.write_bytes(pack_by[path.suffix](content))
    return path


EXTENDED = [
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.SOLARIS_XHDTYPE,
]


@pytest.mark.parametrize("kind", EXTENDED)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("first", [True, False])
def test_headers_that_ask_for_gigabytes(tmp_path, kind, suffix, first):
    before = b"" if first else header("a/0.png", 0)
    source = packed(
        tmp_path / f"set{suffix}", before + header("x", 3 * 2**30, kind) + bytes(32 * MIB)
    )
    with pytest.raises(
        DatasetCorrupt, match="a header of 3,221,225,472 bytes; allowed: 1,048,576"
    ) as caught:
        load(str(source))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_that_claim_gigabytes(tmp_path, suffix):
    source = packed(tmp_path / f"set{suffix}", header("a/0.png", 3 * 2**30) + bytes(10_000))
    with pytest.raises(
        DatasetCorrupt, match="set.tar.* (unpacks to more than 1,073,741,824 bytes|cannot be read)"
    ):
        load(str(source))


def test_members_that_end_before_they_begin(tmp_path):
    pax = b"24 size=-1000000000000\n".ljust(512, b"\0")
    body = (
        header("x", 23, tarfile.XHDTYPE)
        + pax
        + header("a/0.png", 10)
        + bytes(512)
        + header("a/1.png", 0)
        + bytes(1024)
    )
    member = bytearray(header("a/2.png", 0))
    member[124:136] = b"\xff" * 12  # a negative number in base 256
    member[148:156] = b"        "
    member[148:156] = f"{sum(member):06o}\0 ".encode()
    for number, content in enumerate((body, bytes(member) + bytes(1024))):
        with pytest.raises(DatasetCorrupt, match=r"\.tar"):
            list_files(packed(tmp_path / f"{number}.tar", content))


def test_sparse_members_are_refused(tmp_path):
    member = header("a/0.png", 0, tarfile.GNUTYPE_SPARSE)
    with pytest.raises(DatasetCorrupt, match="a sparse file; allowed: whole ones"):
        load(str(packed(tmp_path / "a.tar", member + bytes(1024))))
    words = b"GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=a/0.png\nGNU.sparse.realsize=9999999999\n"
    pax = b"".join(f"{len(word) + 4} ".encode() + word + b"\n" for word in words.split(b"\n")[:-1])
    body = (
        header("x", len(pax), tarfile.XHDTYPE)
        + pax.ljust(512, b"\0")
        + header("a/0.png", 512)
        + b"1000000\n".ljust(512)
    )
    with pytest.raises(DatasetCorrupt, match=r"b.tar"):
        load(str(packed(tmp_path / "b.tar", body + bytes(1024))))


def test_nested_headers_end(tmp_path):
    with pytest.raises(DatasetCorrupt, match=r"set.tar"):
        load(str(packed(tmp_path / "set.tar", header("x", 0, tarfile.GNUTYPE_LONGNAME) * 5000)))


def test_much_from_little_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("terminator.data.archives.ALWAYS_ALLOWED", 10 * MIB)
    for suffix in (".tar.gz", ".tar.xz"):
        files = class_files() | {"junk.bin": bytes(32 * MIB)}
        with pytest.raises(
            DatasetCorrupt,
            match=f"set{suffix} unpacks to more than 1.,.* times its size; no data do",
        ):
            load(str(pack(tmp_path / f"set{suffix}", files)))
        # behind the end
        after = gzip.decompress(pack(tmp_path / "x.tar.gz", class_files()).read_bytes()) + bytes(
            32 * MIB
        )
        with pytest.raises(DatasetCorrupt, match="unpacks to more than"):
            load(str(packed(tmp_path / f"after{suffix}", after)))
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            {"a/0.png": b"", "b/0.png": b""} | {f"{i}.bin": bytes(MIB) for i in range(32)}
        ).items():
            archive.writestr(name, content)
    with pytest.raises(DatasetCorrupt, match="set.zip unpacks to more than 10,485,760 bytes"):
        load(str(tmp_path / "set.zip"))


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.xz", ""])
def test_more_members_than_can_be_meant(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("terminator.data.files.MAX_FILES", 20)
    source = (
        pack(tmp_path / f"set{suffix}", class_files())
        if suffix
        else write(tmp_path / "set", class_files())
    )
    with pytest.raises(DatasetCorrupt, match="allowed: 20"):
        load(str(source))


def lying_zip(path, size, claimed):
    """A zip of one member, zeros, which its directories claim to be small; made piece by piece."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/0.png", "w") as member:
            for _ in range(size // MIB):
                member.write(bytes(MIB))
    raw = path.read_bytes()
    assert raw.count(struct.pack("<I", size)) == 2
    path.write_bytes(raw.replace(struct.pack("<I", size), struct.pack("<I", claimed)))
    return path


def test_a_zip_that_lies_about_its_size(tmp_path):
    source = lying_zip(tmp_path / "set.zip", 600 * MIB, 100)
    assert source.stat().st_size < MIB
    with pytest.raises(DatasetCorrupt, match="set.zip"):
        list(read_files(source, {"a/0.png"}))


# -- texts -----------------------------------------------------------------------------------------


def reviews(**more):
    return {
        f"aclImdb/{split}/{kind}/{i}.txt": f"{split} {kind} {i}".encode()
        for split in ("train", "test")
        for kind in ("neg", "pos")
        for i in range(3)
    } | {f"aclImdb/train/neg/{name}.txt": content for name, content in more.items()}


@pytest.mark.parametrize("suffix", [".zip", ".tar.xz"])
def test_archives_of_texts_that_unpack_to_far_more(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text, "ALWAYS_READ", 5 * MIB)
    files = reviews(**{f"long{i}": bytes([65 + i]) * 2 * MIB for i in range(8)})
    source = tmp_path / f"aclImdb{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        pack(source, files)
    with pytest.raises(
        DatasetCorrupt, match=f"aclImdb{suffix} unpacks to more than 5,242,880 bytes of texts"
    ):
        text.read_reviews(source)
    folder = write(tmp_path / "folder", files)
    assert len(text.read_reviews(folder)["train"]) == 14  # these bytes are really there


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar.gz"])
def test_one_text_that_is_too_long(tmp_path, suffix):
    files = reviews(long=bytes(17 * MIB))
    source = pack(tmp_path / f"set{suffix}", files) if suffix else write(tmp_path / "set", files)
    with pytest.raises(
        DatasetCorrupt, match="long.txt in .*set.* is 17,825,792 bytes large; allowed: 16,777,216"
    ):
        text.read_reviews(source)


def test_packed_byte_files_are_unpacked_no_further_than_needed(tmp_path):
    files = {
        f"{kind}/{i}": f"{kind} {i}".encode() for kind in ("benign", "malware") for i in range(5)
    }
    files["malware/bomb"] = gzip.compress(bytes(200 * MIB), 1)
    splits = byte_files.load_byte_files(write(tmp_path / "files", files), 100)
    assert max(int(part.texts[0].lengths.max()) for part in splits.values()) == 100


def test_arrays_that_unpack_to_far_more(tmp_path, monkeypatch):
    monkeypatch.setattr("terminator.data.archives.ALWAYS_ALLOWED", MIB)
    names = np.array(["x"] * 4)
    np.savez_compressed(
        tmp_path / "omniglot28.npz",
        images=np.zeros((4, 20, 200, 200), np.uint8),
        alphabet=names,
        character=names,
    )
    with pytest.raises(DatasetCorrupt, match="omniglot28.npz unpacks to more than 1,.* bytes"):
        load_classes("omniglot28", tmp_path)
    (tmp_path / "omniglot28.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(DatasetCorrupt, match="omniglot28.npz cannot be used"):
        load_classes("omniglot28", tmp_path)


# -- pictures --------------------------------------------------------------------------------------


def flat(side):
    """A large picture in few bytes."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_more_pictures_than_fit_into_memory_are_refused_after_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr("terminator.data.files.memory_bytes", lambda: 100 * MIB)
    large = flat(4096)
    files = {f"{name}/{i}.png": large for name in "ab" for i in range(10)}
    with pytest.raises(
        ValueError,
        match="20 pictures of .*set.zip take 0.3 GiB in memory.* pass dataset.image_size",
    ):
        load(str(pack(tmp_path / "set.zip", files)))
    assert load(str(tmp_path / "set.zip"), image_size=8).info.shape == (1, 8, 8)
    monkeypatch.setattr("terminator.data.files.memory_bytes", lambda: 5000)
    with pytest.raises(ValueError, match="13 pictures of .*camvid take .* pass data.size"):
        load_segmentation(str(write(tmp_path / "camvid", camvid_files())))


def test_a_link_to_what_never_ends(tmp_path):
    root = write(tmp_path / "set", class_files())
    (root / "train" / "cat" / "x.png").symlink_to("/dev/zero")
    with pytest.raises(DatasetCorrupt, match="train/cat/x.png in .*set is a device or pipe"):
        load(str(root))
    folder = write(tmp_path / "imdb", reviews())
    (folder / "aclImdb" / "train" / "neg" / "x.txt").symlink_to("/dev/zero")
    with pytest.raises(DatasetCorrupt, match="x.txt in .*imdb is a device or pipe"):
        text.read_reviews(folder)


def test_files_of_honest_size_are_read(tmp_path):
    content = io.BytesIO(encode(pixels_of(600, 600, 3))).getvalue()
    assert len(content) > MIB
    for suffix in (".zip", ".tar.xz"):
        source = pack(tmp_path / f"set{suffix}", {"a/0.png": content})
        assert list(read_files(source, {"a/0.png"})) == [("a/0.png", content)]
