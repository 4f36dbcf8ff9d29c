"""The one decoder of picture files, whoever asks: class folders, archives, single files, label
maps, characters.

Formats: those that cameras, scanners, programs and the web write, one picture a file (FORMATS). Not
read are files that start a program (PostScript, WMF), scientific arrays (FITS, HDF5, GRIB, SPIDER),
textures (DDS, BLP), icons of several sizes (ICO, ICNS), films and documents with layers (FLI, PSD).

Rules: up to 8 bits per channel, in grey, RGB, CMYK, YCbCr or with a palette; CMYK and YCbCr become
RGB by Pillow's formulas, AVIF of 10 or 12 bits comes from its decoder with 8. Deeper pixels (16
bits, integers, floats) and other colour spaces are refused, as any choice of what white is would be
a guess. Transparent pixels are laid on white. A picture is turned by its orientation tag alone. One
frame a file; a telephone's second view (MPO) is left out.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from terminator.data.errors import DatasetCorrupt

# Pillow's name: what such files are called; TGA, which has no mark of its own, is tried last
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "PCX": (".pcx",),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "SUN": (".ras",),
    "MSP": (".msp",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "TGA": (".tga",),
}
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_PIXELS = 64 * 2**20  # of one picture; what claims more is refused before it is decoded
GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
STRETCHED = {"L;2": 85, "L;4": 17}  # grey of 2 and 4 bits, which Pillow spreads over 0..255
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Refused(Exception):
    """A picture that could be read, but is not what is wanted."""


def is_picture(name: str) -> bool:
    """Whether a file's name ends as that of a picture which is read here."""
    return PurePath(name).suffix.lower() in SUFFIXES


def open_picture(data: bytes, where: str) -> Image.Image:
    """Decode the picture in a file: upright, on white, of mode L where the file is grey, else RGB.

    Args:
        data: the file's content.
        where: what errors call it.

    Raises:
        DatasetCorrupt: if it cannot be decoded to its end.
        ValueError: if it is too large, moves, or has deeper or other pixels than the top of this
            file says.
    """
    image, raw, _ = _decoded(data, where)
    if raw in STRETCHED and "transparency" in image.info:  # a grey value as it is in the file
        image.info["transparency"] *= STRETCHED[raw]
    mode = "L" if image.mode in GREY else "RGB"
    if "A" in image.mode or "transparency" in image.info:  # what lies underneath was never meant
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def open_labels(data: bytes, where: str) -> np.ndarray:
    """Decode a label map: the class index of every pixel, grey value or index of a palette, (H, W)
    uint8.

    Raises:
        as open_picture.
        ValueError: if it has colours, or was stored with loss.
    """
    image, raw, kind = _decoded(data, where)
    if image.mode not in ("L", "P", "1"):
        raise ValueError(
            f"{where} has pixel mode {image.mode}; allowed: one class index per pixel (L or P)"
        )
    if kind in LOSSY:
        raise ValueError(
            f"{where} is a {kind} file, whose pixels may not be what was stored; allowed: PNG"
        )
    return np.asarray(image).astype(np.uint8) // STRETCHED.get(raw, 1)


def _decoded(data: bytes, where: str) -> tuple[Image.Image, str, str]:
    """The picture as stored, but upright; how its pixels lay in the file, and its format."""
    try:
        with _strictly(), Image.open(io.BytesIO(data), formats=_formats()) as opened:
            raw, kind = _check(opened, data, where), opened.format or ""
            opened.load()
            _check(opened, data, where)  # some plugins know the pixels only now
            return _upright(opened), raw, kind
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{where} is too large to be decoded; allowed: {MAX_PIXELS:,} pixels ({error})"
        ) from None
    except UnidentifiedImageError:  # its own text names an object in memory
        raise DatasetCorrupt(
            f"{where} is corrupt or truncated: it is no image file that Pillow can read as one of "
            f"{', '.join(FORMATS)}"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all sorts of things on damaged input
        raise DatasetCorrupt(
            f"{where} is corrupt or truncated: {error}. Replace or remove it"
        ) from error


def _formats() -> list[str]:
    """The formats that this Pillow has; MPO is opened as JPEG."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check(opened: Image.Image, data: bytes, where: str) -> str:
    """Refuse what must not be decoded, before memory is spent; return how pixels lie in the
    file, e.g. "L;4".
    """
    if opened.width * opened.height > MAX_PIXELS:
        raise _Refused(
            f"{where} is {opened.width}x{opened.height} pixels large; allowed: {MAX_PIXELS:,} "
            "pixels"
        )
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":
        raise _Refused(f"{where} has {frames} frames; allowed: one picture per file")
    raw = _raw_mode(opened)
    mode = opened.mode
    if mode in GREY + COLOUR and (
        re.search(r";(12|16|32)", raw) or _is_deep_jpeg2000(opened, data)
    ):
        mode = raw if ";" in raw else f"{mode};16"
    if mode not in GREY + COLOUR:
        raise _Refused(
            f"{where} has pixel mode {mode}: convert it to 8 bits per channel, grey or RGB"
        )
    return raw


def _raw_mode(opened: Image.Image) -> str:
    """How pixels lie in the file, as Pillow's plugins call it; "" where it does not say."""
    for codec, _, _, words in getattr(opened, "tile", ()):
        words = words if isinstance(words, tuple) else (words,)
        raw = next((word for word in words if isinstance(word, str)), "")
        depth = next((word for word in words[1:2] if isinstance(word, int)), 255)
        if codec == "SGI16" or (codec.startswith("ppm") and depth > 255):
            return f"{opened.mode};16"
        return raw
    return ""


def _is_deep_jpeg2000(opened: Image.Image, data: bytes) -> bool:
    """Whether a component has more than 8 bits, by the header that every code stream begins with
    (SOC, SIZ).
    """
    start = data.find(b"\xff\x4f\xff\x51") if opened.format == "JPEG2000" else -1
    if start < 0:
        return False
    components = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = data[start + 42 : start + 42 + 3 * components : 3]
    return any((depth & 0x7F) + 1 > 8 for depth in depths)


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned by its orientation tag; other tags, however odd, are nobody's business
    here.
    """
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # a damaged tag of a sound photograph
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


_lock, _inside = threading.Lock(), []


def text_of_png(path: Path) -> dict[str, str]:
    """The words that stand in a PNG before its pixels, by key; none in what is no PNG."""
    if not path.is_file():  # a pipe would never end
        return {}
    try:
        with _strictly(), Image.open(path, formats=["PNG"]) as opened:
            return {k: str(v) for k, v in opened.info.items() if isinstance(v, str)}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}


@contextmanager
def _strictly() -> Iterator[None]:
    """Let no decoder fill up what is cut off, nor warn of what is checked here.

    Both are switches of the whole process: the first of several threads sets them, the last one
    sets them back.
    """
    with _lock:
        if not _inside:
            quiet = warnings.catch_warnings()
            quiet.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _inside.append((quiet, ImageFile.LOAD_TRUNCATED_IMAGES))
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _inside.append(None)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if len(_inside) == 1:
                quiet, ImageFile.LOAD_TRUNCATED_IMAGES = _inside.pop()
                quiet.__exit__(None, None, None)
