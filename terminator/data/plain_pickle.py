"""Pickles of plain values and arrays, decoded without pickle: nothing in a file decides what is
called.

Known are the forms in which caches of few-shot images are handed around, in protocols 0 to 5:
dictionaries with keys of text, lists, tuples, texts, bytes, numbers, None, and NumPy's arrays and
numbers as NumPy writes them (_reconstruct or _frombuffer, of booleans, integers and floats of up to
8 bytes, or of such values in a list). Arrays are made here, from bytes whose number fits their
shape. Everything else is refused by its name.

Source: Python's pickletools, for the operations and how their arguments are read.
"""

from __future__ import annotations

import pickletools
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

MAX_OPERATIONS = 2**21  # an array takes some thirty, so do all its fellows: files have thousands
MAX_MEMO = 2**32
MAX_AXES = 32
ALLOWED = "lists and NumPy arrays of numbers, dictionaries of them"
_NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
    **{
        (f"numpy.{core}.{module}", name): name
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
}
_NUMBER_TYPE = re.compile(r"[<>|=]?(b1|[ui][1248]|f[248])")
_OBJECT_TYPE = re.compile(r"\|?O[48]?")
_ORDERS = {"<", ">", "|", "="}


class Foreign(ValueError):
    """A pickle that holds something else than plain values; the message names it."""


class Array:
    """An array in a pickle: `values` is a NumPy array, or a list where it is one of objects."""

    def __init__(self) -> None:
        self.values: np.ndarray | list | None = None


class _Name:
    """A name of NumPy's that is known; it is never looked up."""

    def __init__(self, kind: str):
        self.kind = kind


class _Type:
    """A type of elements: known once its byte order is."""

    def __init__(self, code: str):
        self.code, self.known = code, False
        self.number: np.dtype | None = None  # nothing: objects


class Bounded:
    """So many bytes of an open file as pickletools reads them: never more than there are."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.left, self.place = file, size, 0

    def _count(self, found: bytes) -> bytes:
        self.left -= len(found)
        self.place += len(found)
        return found

    def read(self, size: int) -> bytes:
        return self._count(self.file.read(min(size, self.left)))

    def readline(self) -> bytes:
        return self._count(self.file.readline(self.left))

    def tell(self) -> int:
        return self.place


def array_of(buffer: Any, kind: np.dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """Bytes as an array.

    Raises:
        ValueError: if there are more or fewer of them than its shape has room for.
    """
    count = 1
    for size in shape:
        count *= size
    if count * kind.itemsize != len(buffer):
        raise ValueError(
            f"an array of shape {shape} and type {kind} has {len(buffer):,} bytes; needed: "
            f"{count * kind.itemsize:,}"
        )
    if kind.kind == "b":  # any byte may stand there, true is any but 0
        return (np.frombuffer(buffer, np.uint8) != 0).reshape(shape, order=order)
    return np.frombuffer(buffer, kind).reshape(shape, order=order)


def decode(file: BinaryIO, size: int) -> Any:
    """The value in the next `size` bytes of a file; arrays in it are of the class Array.

    Raises:
        Foreign: naming what is not known here.
        ValueError: for damaged bytes, or some behind the value's end.
    """
    source, machine = Bounded(file, size), _Machine()
    try:
        for count, (name, argument) in enumerate(_operations(source)):
            if count > MAX_OPERATIONS:
                raise Foreign(f"more than {MAX_OPERATIONS:,} parts")
            machine.do(name, argument)
        if source.left:
            raise ValueError(f"{source.left:,} bytes stand behind its end")
        return machine.result()
    except (IndexError, KeyError, OverflowError, struct.error) as error:
        raise ValueError(f"the pickle is damaged ({type(error).__name__})") from error
    except UnicodeError as error:
        raise ValueError("the pickle has text that is damaged, or of Python 2") from error


def _operations(source: Bounded) -> Iterator[tuple[str, Any]]:
    """Name and argument of every operation; pickletools' errors are for those who know pickles."""
    found = pickletools.genops(source)
    while True:
        try:
            operation, argument, _ = next(found)
        except StopIteration:
            return
        except UnicodeError:
            raise
        except ValueError as error:
            raise ValueError("the pickle is damaged, or cut off") from error
        yield operation.name, argument


def _refuse(what: str) -> Foreign:
    return Foreign(f"it holds {what}; allowed: {ALLOWED}")


_PUSHED = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SILENT = frozenset(("PROTO", "FRAME", "STOP"))
_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))


class _Machine:
    """A stack of values, what was there at every mark, and what was noted to be used again."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1 or self.below:
            raise ValueError("the pickle is damaged (it ends with more than one value)")
        return self.stack[0]

    def do(self, name: str, argument: Any) -> None:
        """One operation."""
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PUT:
            self._put(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in _GET:
            self.stack.append(self.memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            found = self.stack[-count:]
            if len(found) < count:
                raise IndexError
            self.stack[-count:] = [tuple(found)]
        elif name not in _SILENT:
            step = _STEPS.get(name)
            if step is None:
                raise _refuse(f"the operation {name}")
            step(self, argument)

    def _put(self, place: int) -> None:
        if not 0 <= place < MAX_MEMO:
            raise IndexError
        self.memo[place] = self.stack[-1]

    def _mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def _tuple(self, _: None) -> None:
        found = tuple(self._since_mark())
        self.stack.append(found)

    def _list(self, _: None) -> None:
        found = self._since_mark()
        self.stack.append(found)

    def _dict(self, _: None) -> None:
        found = self._since_mark()
        self.stack.append({})
        self._set(found)

    def _append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _refuse("something that is filled like a list and is none")
        self.stack[-1].extend(values)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _: None) -> None:
        self._set(self._since_mark())

    def _set(self, found: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise _refuse("something that is filled like a dictionary and is none")
        if len(found) % 2:
            raise IndexError
        for key, value in zip(found[::2], found[1::2]):
            if type(key) is not str:  # numbers could be chosen so that looking one up takes hours
                raise _refuse(f"a dictionary with a key of type {type(key).__name__}")
            self.stack[-1][key] = value

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._named(module, name)

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise IndexError
        self._named(module, name)

    def _named(self, module: str, name: str) -> None:
        kind = _NAMES.get((module, name))
        if kind is None:
            raise _refuse(f"{module[:80]}.{name[:80]}")
        self.stack.append(_Name(kind))

    def _reduce(self, _: None) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if type(called) is not _Name or type(arguments) is not tuple:
            raise _refuse("a call of something that cannot be called")
        call = _CALLS.get(called.kind)
        if call is None:
            raise _refuse(f"a call of {called.kind}")
        self.stack.append(call(arguments))

    def _build(self, _: None) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) is _Type:
            _complete_type(self.stack[-1], state)
        elif type(self.stack[-1]) is Array:
            _complete_array(self.stack[-1], state)
        else:
            raise _refuse("an object with attributes of its own")


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple,
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
}


# -- NumPy's forms, field by field -----------------------------------------------------------------


def _type(arguments: tuple) -> _Type:
    """numpy.dtype("u1", False, True)"""
    if len(arguments) != 3 or type(arguments[0]) is not str:
        raise _refuse("a NumPy type in a form that is not known")
    code = arguments[0]
    if not (_NUMBER_TYPE.fullmatch(code) or _OBJECT_TYPE.fullmatch(code)):
        raise _refuse(f"an array of type {code[:20]}")
    return _Type(code)


def _complete_type(kind: _Type, state: Any) -> None:
    """(3, "<", None, None, None, -1, -1, flags): version, byte order; no parts, no names."""
    plain = type(state) is tuple and len(state) == 8 and not kind.known
    if not plain or any(type(part) not in (int, str, type(None)) for part in state):
        raise _refuse("a NumPy type in a form that is not known")
    if state[0] != 3 or state[1] not in _ORDERS or state[2:7] != (None, None, None, -1, -1):
        raise _refuse("an array of a type with parts")
    if not _OBJECT_TYPE.fullmatch(kind.code):
        kind.number = np.dtype(kind.code).newbyteorder(state[1])
    kind.known = True


def _begin_array(arguments: tuple) -> Array:
    """_reconstruct(numpy.ndarray, (0,), b"b"): an array to be completed."""
    plain = len(arguments) == 3 and type(arguments[0]) is _Name and arguments[0].kind == "ndarray"
    if not plain:
        raise _refuse("an array of another class than numpy.ndarray")
    return Array()


def _complete_array(array: Array, state: Any) -> None:
    """(1, shape, type, whether columns come first, bytes or list)"""
    plain = type(state) is tuple and len(state) == 5 and array.values is None
    if not plain or type(state[0]) is not int or state[0] != 1 or type(state[3]) not in (bool, int):
        raise _refuse("an array in a form that is not known")
    _, shape, kind, columns_first, content = state
    _fill(array, content, kind, shape, "F" if columns_first else "C")


def _array(arguments: tuple) -> Array:
    """_frombuffer(bytes, type, shape, "C")"""
    if len(arguments) != 4 or arguments[3] not in ("C", "F"):
        raise _refuse("an array in a form that is not known")
    content, kind, shape, order = arguments
    array = Array()
    _fill(array, content, kind, shape, order)
    return array


def _fill(array: Array, content: Any, kind: Any, shape: Any, order: str) -> None:
    if type(kind) is not _Type or not kind.known:
        raise _refuse("an array without a type")
    is_shape = type(shape) is tuple and len(shape) <= MAX_AXES
    if not is_shape or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise _refuse("an array without a shape")
    if kind.number is None:
        if type(content) is not list or len(shape) != 1 or shape[0] != len(content):
            raise _refuse("an array of objects that is no list")
        array.values = content
        return
    content = content.encode("latin-1") if type(content) is str else content  # of Python 2
    if type(content) not in (bytes, bytearray):
        raise _refuse("an array without bytes")
    array.values = array_of(content, kind.number, shape, order)


def _scalar(arguments: tuple) -> Any:
    """scalar(type, bytes): a number."""
    if len(arguments) != 2:
        raise _refuse("a number in a form that is not known")
    array = Array()
    _fill(array, arguments[1], arguments[0], (), "C")
    assert isinstance(array.values, np.ndarray)  # a list has a shape
    return array.values.item()


def _encoded(arguments: tuple) -> bytes:
    """encode(text, "latin1"), how protocols 0 to 2 write bytes."""
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
        raise _refuse("bytes in a form that is not known")
    return arguments[0].encode("latin-1")


def _no_bytes(arguments: tuple) -> bytes:
    if arguments:
        raise _refuse("bytes in a form that is not known")
    return b""


_CALLS: dict[str, Callable[[tuple], Any]] = {
    "dtype": _type,
    "_reconstruct": _begin_array,
    "_frombuffer": _array,
    "scalar": _scalar,
    "encode": _encoded,
    "bytes": _no_bytes,
}
