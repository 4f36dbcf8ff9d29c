"""Pickles of plain values and arrays, decoded without pickle: what is known, and what is refused."""

import ast
import io
import os
import pickle
import struct
import subprocess
import sys
import time
from collections import OrderedDict, deque
from fractions import Fraction

import numpy as np
import pytest
from data_files import own_places, pixels_of
from places import PACKAGE, ROOT

from terminator.data import DatasetCorrupt
from terminator.data.arrays import read_npy, read_pickle
from terminator.data.episodes.sources import load_classes
from terminator.data.plain_pickle import Array, Foreign, decode

__all__ = ["own_places"]  # a fixture that every test here uses
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def plain(value):
    """A decoded value with arrays in the place of Array."""
    if isinstance(value, Array):
        return plain(value.values)
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def decoded(content):
    return plain(decode(io.BytesIO(content), len(content)))


def same(one, other):
    if isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    return type(one) is type(other) and one == other


SHARED = pixels_of(2, 3)
VALUES = {
    "nothing": None,
    "truth": [True, False],
    "integers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**63, 10**40, -(10**40)],
    "floats": [0.0, -1.5, 1e300, float("inf")],
    "texts": ["", "n01532829", "äöü ∑", "x" * 300],
    "bytes": [b"", b"a", bytes(range(256)), b"x" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "nested": {"a": {"b": [[], {}, ()]}, "c": [{"d": 1}, {"d": 2}]},
    "shared": [SHARED, SHARED, "x", "x"],
    "a long list": list(range(2500)),
    "a long dictionary": {f"class {i}": [i] for i in range(2500)},
    **{
        f"array of {kind}": (pixels_of(2, 3, 4) % 2).astype(kind)
        for kind in (*"?bBhHiIlLqQefd", ">i4", ">u2", ">f8")
    },
    "empty arrays": [np.zeros((0,), np.uint8), np.zeros((3, 0, 2))],
    "an array of one": np.array(7),
    "columns first": np.asfortranarray(pixels_of(3, 4)),
    "a part of an array": pixels_of(6, 6)[::2, 1:4],
    "numbers of NumPy": [np.int64(3).item(), 4],
    "miniImageNet": {
        "image_data": pixels_of(6, 4, 4, 3),
        "class_dict": {"n01": [0, 1, 2], "n02": [3, 4, 5]},
    },
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", VALUES)
def test_plain_values_come_back(what, protocol):
    assert same(decoded(pickle.dumps(VALUES[what], protocol)), VALUES[what])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_and_lists_of_numpy(protocol):
    found = decoded(pickle.dumps([np.int64(3), np.float32(0.5), np.uint8(200)], protocol))
    assert found == [3, 0.5, 200]
    ragged = np.empty(3, object)
    ragged[:] = [pixels_of(2, 2), pixels_of(3), None]
    assert same(decoded(pickle.dumps(ragged, protocol)), list(ragged))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_python_without_its_fast_pickler_writes_the_same(protocol):
    buffer = io.BytesIO()
    pickle._Pickler(buffer, protocol).dump(VALUES["miniImageNet"])
    assert same(decoded(buffer.getvalue()), VALUES["miniImageNet"])


def short(text):
    return b"U" + bytes([len(text)]) + text


def test_pickles_of_python_2():
    content = (
        b"\x80\x02}q\x00(" + short(b"image_data") + b"cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\n"
        + short(b"u1") + b"K\x00K\x01\x87R(K\x03" + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + short(b"\x00\x01\xfe\xff")
        + b"tb" + short(b"labels") + b"]q\x01(K\x00K\x01eu."
    )  # fmt: skip
    found = decoded(content)
    assert found["labels"] == [0, 1]
    assert found["image_data"].tolist() == [[0, 1], [254, 255]]


# -- what is refused -------------------------------------------------------------------------------


class Call:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class Slots:
    """An object of nobody's business."""


FOREIGN = {
    "os.system": (Call(os.system, ("touch was_run",)), r"(posix|nt)\.system"),
    "print": (Call(print, ("run",)), "print"),
    "eval": (Call(eval, ("1",)), "eval"),
    "getattr": (Call(getattr, ("a", "upper")), "getattr"),
    "an object": (Slots(), "Slots|copyreg|copy_reg"),
    "a class": (Fraction, "fractions.Fraction"),
    "a set": ({1, 2}, "set|EMPTY_SET"),
    "a frozen set": (frozenset((1,)), "frozenset|FROZENSET"),
    "a number with parts": (1j, "complex"),
    "an ordered dictionary": (OrderedDict(a=1), "OrderedDict"),
    "a queue": (deque((1,)), "deque"),
    "keys that are numbers": ({1: 2}, "a dictionary with a key of type int"),
    "keys that are tuples": ({("a",): 2}, "a dictionary with a key of type tuple"),
    "complex": (np.zeros(2, complex), "an array of type c16"),
    "text": (np.array(["a"]), "an array of type U1"),
    "bytes text": (np.array([b"a"]), "an array of type S1"),
    "dates": (np.zeros(2, "M8[s]"), "an array of type M8|form that is not known"),
    "records": (np.zeros(2, [("a", "u1"), ("b", "u1")]), "an array of type V2|parts"),
    "long double": (np.zeros(2, np.longdouble), "an array of type f16|g"),
    "masked": (np.ma.array([1, 2], mask=[0, 1]), "numpy.ma"),
    "a matrix of objects": (np.array([[None, 1], [2, 3]], object), "no list"),
    "a type": (np.dtype("u1"), None),
    "a generator": (np.random.default_rng(0), "numpy.random|copyreg"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", FOREIGN)
def test_everything_else_is_refused_by_its_name(tmp_path, monkeypatch, capsys, what, protocol):
    monkeypatch.chdir(tmp_path)
    value, words = FOREIGN[what]
    if what == "long double" and value.dtype.itemsize <= 8:
        pytest.skip("a long double is a double here")
    content = pickle.dumps(value, protocol)
    if words is not None:
        with pytest.raises(Foreign, match=words):
            decoded(content)
    (tmp_path / "mine.pkl").write_bytes(content)
    with pytest.raises(DatasetCorrupt, match="mine.pkl") as caught:
        load_classes("mine", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was_run").exists()
    assert not capsys.readouterr().out


def header(shape=(1,), code="|O"):
    text = f"{{'descr': '{code}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


ADDRESS = struct.pack("<Q", 0x4141414141414141)
BUILT = "K\x01({shape}tcnumpy\ndtype\n({code}I00\nI01\ntR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"
HOSTILE = {
    # numpy.ndarray called with a type of objects and a buffer: its bytes would be addresses
    "objects over a buffer": b"cnumpy\nndarray\n((K\x01tcnumpy\ndtype\n(U\x02O8I00\nI01\ntRC\x08" + ADDRESS + b"tR.",
    # an array of objects whose state is bytes, not a list
    "objects from bytes": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01(K\x01t"
    b"cnumpy\ndtype\n(U\x02O8I00\nI01\ntR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftbI00\nC\x08"
    + ADDRESS + b"tb.",
    "objects through frombuffer": b"cnumpy.core.numeric\n_frombuffer\n(C\x08" + ADDRESS + b"cnumpy\ndtype\n(U\x02O8I00"
    b"\nI01\ntR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb(K\x01tU\x01CtR.",
    "a scalar of objects": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02O8I00\nI01\ntR(K\x03U\x01|NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftbC\x08" + ADDRESS + b"tR.",
    "a type of another type": b"cnumpy\ndtype\n(U\x02O8I00\nI01\ntR(K\x03U\x01|(cnumpy\ndtype\nK\x08tNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x3ftb.",
    "a type that is completed twice": b"cnumpy\ndtype\n(U\x02u1I00\nI01\ntR" + 2 * (
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb") + b".",
    "a shape far too large": b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n(U\x02u1I00\nI01\ntR(K\x03U\x01|"
    b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb(\x8a\x06\xff\xff\xff\xff\xff\x7ftU\x01CtR.",
    "a negative shape": b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n(U\x02u1I00\nI01\ntR(K\x03U\x01|"
    b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb(J\xff\xff\xff\xfftU\x01CtR.",
    "a shape that wraps around": b"cnumpy.core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\n(U\x02u1I00\nI01\ntR(K\x03U\x01|"
    b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb(\x8a\x05\x00\x00\x00\x00\x01\x8a\x05\x00\x00\x00\x00\x01tU\x01CtR.",
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "a text that is not there": b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"abc.",
    "bytes of more than 2^63": b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"abc.",
    "a buffer that is not there": b"\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "a long integer that is not there": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
    "digits without end": b"I" + b"9" * 100_000 + b"\n.",
    "long digits without end": b"L" + b"9" * 100_000 + b"L\n.",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b")" + b"\x85" * 200_000 + b".",
    "deep marks": b"(" * 200_000 + b"t" * 200_000 + b".",
    "deep types": b"cnumpy\ndtype\n)" + b"\x85" * 100_000 + b"R.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00X\x01\x00\x00\x00ah\x00s.",
    "an array in itself": b"cnumpy.core.multiarray\n_reconstruct\nq\x00(cnumpy\nndarray\n(K\x00tC\x01btRq\x01(K\x01(K\x01t"
    b"cnumpy\ndtype\n(U\x02O8I00\nI01\ntR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftbI00\n]h\x01atb.",
    "doubled thirty times": b"]q\x00" + b"".join(b"]h%ch%caq%c" % (i, i, i + 1) for i in range(30)).replace(b"a", b"aa") + b".",
    "more parts than anybody writes": b"(" + b"N" * 2_200_000 + b"t.",
    "more notes than anybody writes": b"N" + b"\x94" * 2_200_000 + b".",
    "a note without end": b"Np99999999999999999999\n.",
    "a negative note": b"Np-1\n.",
    "a note that is not there": b"g7\n.",
    "persistent": b"Pname\n.",
    "binary persistent": b"Nq\x00Q.",
    "extension 1": b"\x82\x01.",
    "extension 2": b"\x83\x01\x00.",
    "extension 4": b"\x84\x01\x00\x00\x00.",
    "an instance": b"(ios\nsystem\n.",
    "an old object": b"(cos\nsystem\no.",
    "a new object": b"cnumpy\nndarray\n)\x81.",
    "a new object with words": b"cnumpy\nndarray\n)}\x92.",
    "next buffer": b"\x97.",
    "read-only buffer": b"N\x98.",
    "a call of a number": b"K\x01)R.",
    "a call of a class": b"cnumpy\nndarray\n)R.",
    "attributes of a list": b"]}b.",
    "attributes of a name": b"cnumpy\ndtype\n}b.",
    "a name that only looks known": b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
    "names with dots": b"\x8c\x05numpy\x8c\x0edtype.__class__\x93.",
    "names of numbers": b"K\x01K\x02\x93.",
    "another encoding": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
    "bytes of a number": b"c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR.",
    "nothing": b"",
    "no end": b"]",
    "an end alone": b".",
    "two values": b"NN.",
    "an open mark": b"(N.",
    "more behind the end": b"N.N.",
    "an unknown operation": b"\xff.",
    "a pop of nothing": b"0.",
    "half a pair": b"}(X\x01\x00\x00\x00au.",
    "a list filled from nothing": b"a.",
    "text that is none": b"X\x02\x00\x00\x00\xff\xff.",
    "a name that is no text": b"c\xff\xfe\n\xff\n.",
}  # fmt: skip


@pytest.mark.parametrize(
    "what",  # millions of parts are read before they are too many
    [pytest.param(w, marks=pytest.mark.slow if " than anybody" in w else ()) for w in HOSTILE],
)
def test_hostile_pickles_are_refused_quickly_in_one_line(tmp_path, what):
    began = time.monotonic()
    for name, content in (("mine.pkl", HOSTILE[what]), ("mine.npy", header() + HOSTILE[what])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetCorrupt) as caught:
            load_classes("mine", tmp_path)
        (tmp_path / name).unlink()
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert time.monotonic() - began < 20


def test_a_refused_pickle_comes_with_two_lines_that_convert_it(tmp_path):
    """Run as they are printed, they make what can be read."""
    stacks = [pixels_of(count, 6, 6, 3, seed=count) for count in (3, 5)]
    for name, save in (("one.npy", np.save), ("two.pkl", None), ("three.pkl", None)):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        value = np.empty(2, object)
        value[:] = [np.ma.array(stack) for stack in stacks]  # a class that is not known
        if save:
            save(tmp_path / name, value, allow_pickle=True)
        elif name == "two.pkl":
            (tmp_path / name).write_bytes(pickle.dumps(list(value)))
        else:
            rows = {"a": [0, 1, 2], "b": np.arange(3, 8)}
            whole = {"image_data": np.ma.array(np.concatenate(stacks)), "class_dict": rows}
            (tmp_path / name).write_bytes(pickle.dumps(whole))
        with pytest.raises(DatasetCorrupt, match="If you trust who made it, convert it") as caught:
            load_classes(folder.name, tmp_path)
        lines = str(caught.value).partition(f"a new folder {folder.name}: ")[2].split("  ")
        assert len(lines) == 2
        code = "\n".join(["import numpy, pickle", *lines])
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
        (tmp_path / name).unlink()
        found = load_classes(folder.name, tmp_path)
        assert found.counts.tolist() == [3, 5]
        assert (found.images.numpy() == np.concatenate(stacks).transpose(0, 3, 1, 2)).all()


# -- .npy headers ----------------------------------------------------------------------------------

NPY = {
    "no magic": b"\x93NUMPX\x01\x00",
    "version 9": b"\x93NUMPY\x09\x00",
    "nothing": b"",
    "no header": b"\x93NUMPY\x01\x00",
    "a header of gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    "gigabytes in the shape": header((2**20, 2**20), "|u1"),
    "more axes than there are": header((1,) * 40, "|u1") + b"a",
    "a negative size": header((-1, 4), "|u1"),
    "a huge size": header((10**30,), "|u1"),
    "a zero and a huge size": header((0, 10**12), "|u1") + b"a",
    "a call": header("(__import__('os').system('touch was_run'),)", "|u1"),
    "deep": header("(" * 60 + ")" * 60, "|u1"),
    "a type with parts": header((1,), "u1,u1") + b"ab",
    "a long type": header((1,), "V99999999999"),
    "rubbish in the type": header((1,), "<x9"),
    "fewer bytes": header((4,), "<u4") + b"abc",
    "more bytes": header((4,), "|u1") + b"abcde",
    "objects without a pickle": header((4,), "|O"),
    "objects of numbers": header((2,), "|O") + pickle.dumps([1, 2]),
}


@pytest.mark.parametrize("what", NPY)
def test_headers_that_cannot_be_meant(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(NPY[what])
    with pytest.raises(DatasetCorrupt, match="a.npy cannot be used") as caught:
        read_npy(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["?", "u1", ">i4", "<f2", "f8"])
def test_arrays_of_every_version_of_the_format(tmp_path, version, order, kind):
    array = np.asarray((pixels_of(2, 3, 4) % 2).astype(kind), order=order)
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version)
    assert same(read_npy(tmp_path / "a.npy"), array)


def test_headers_of_other_programs(tmp_path):
    for text in (
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3L, 2L)}",
        "{ 'descr':'|u1','fortran_order':False,'shape':(3,2), } \n",
        "{'descr': 'u1', 'fortran_order': True, 'shape': (3, 2), }\n",
    ):
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"abcdef"
        (tmp_path / "a.npy").write_bytes(content)
        assert read_npy(tmp_path / "a.npy").shape == (3, 2)


# -- caches ----------------------------------------------------------------------------------------


def mini(seed, classes):
    images = pixels_of(3 * len(classes), 6, 6, 3, seed=seed)
    rows = {name: list(range(i, len(images), len(classes))) for i, name in enumerate(classes)}
    return images, {"image_data": images, "class_dict": rows}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_published_cache_of_miniimagenet(tmp_path, protocol):
    folder = tmp_path / "miniimagenet"
    folder.mkdir()
    parts = {"train": ["n1", "n2", "n3"], "val": ["n4"], "test": ["n5", "n6"]}
    for seed, (split, classes) in enumerate(parts.items()):
        content = pickle.dumps(mini(seed, classes)[1], protocol)
        (folder / f"mini-imagenet-cache-{split}.pkl").write_bytes(content)
    found = load_classes("miniimagenet", tmp_path)
    assert found.classes == ("n1", "n2", "n3", "n4", "n5", "n6")  # train, val, test
    assert found.counts.tolist() == [3] * 6
    second = mini(0, parts["train"])[0][1::3].transpose(0, 3, 1, 2)
    assert (found.images[3:6].numpy() == second).all()


WRONG = {
    "no class_dict": ({"image_data": pixels_of(2, 6, 6, 3)}, "holds dict with the keys image_data"),
    "a number": (7, "holds int; allowed: a list of arrays"),
    "images in a list": ({"image_data": [1], "class_dict": {}}, "has no image_data"),
    "a row too many": ({"image_data": pixels_of(2, 6, 6, 3), "class_dict": {"a": [2]}}, "0 to 1"),
    "a negative row": ({"image_data": pixels_of(2, 6, 6, 3), "class_dict": {"a": [-1]}}, "0 to 1"),
    "half a row": ({"image_data": pixels_of(2, 6, 6, 3), "class_dict": {"a": [0.5]}}, "0 to 1"),
    "a row twice": ({"image_data": pixels_of(2, 6, 6, 3), "class_dict": {"a": [0, 0]}}, "twice"),
    "a row in two classes": (
        {"image_data": pixels_of(2, 6, 6, 3), "class_dict": {"a": [0], "b": [0]}},
        "'b' twice; allowed: every image in one class",
    ),
    "no classes": ({"image_data": pixels_of(2, 6, 6, 3), "class_dict": {}}, "has no classes"),
    "an empty class": ({"image_data": pixels_of(2, 6, 6, 3), "class_dict": {"a": []}}, "shape"),
    "an empty list": ([], "has no classes"),
    "a list of numbers": ([1, 2], "has int as class 0; allowed: an array"),
    "one class of numbers": ([pixels_of(2, 6, 6, 3), [1]], "has list as class 1"),
    "images of several shapes": ([[pixels_of(6, 6, 3), pixels_of(5, 5, 3)]], "several shapes"),
}


@pytest.mark.parametrize("what", WRONG)
def test_plain_pickles_of_another_form(tmp_path, what):
    value, words = WRONG[what]
    (tmp_path / "mine.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DatasetCorrupt, match=f"mine.pkl .*{words}"):
        load_classes("mine", tmp_path)


def test_lists_of_arrays_of_arrays(tmp_path):
    stacks = [pixels_of(count, 6, 6, 3, seed=count) for count in (3, 5)]
    for value in (stacks, tuple(stacks), [list(stack) for stack in stacks]):
        (tmp_path / "mine.pickle").write_bytes(pickle.dumps(value))
        found = load_classes("mine", tmp_path)
        assert found.counts.tolist() == [3, 5]
        assert (found.images.numpy() == np.concatenate(stacks).transpose(0, 3, 1, 2)).all()
    assert isinstance(read_pickle(tmp_path / "mine.pickle"), list)


# -- no other way in -------------------------------------------------------------------------------


def test_nothing_in_the_package_unpickles_or_lets_numpy_do_it():
    words = 0
    for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "run_all.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                words += 1
                assert ast.unparse(node.value) == "False", f"{path}: allow_pickle"
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
                assert node.attr in ("UnpicklingError", "PickleError"), (
                    f"{path}: pickle.{node.attr}"
                )
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("pickle", "_pickle", "marshal", "shelve", "dill"), path
            if isinstance(node, ast.Import):
                tops = {alias.name for alias in node.names}
                assert not tops & {"_pickle", "marshal", "shelve", "dill", "cloudpickle"}, path
    assert words  # the walk sees something
