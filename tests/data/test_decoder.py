"""One decoder: the same file is the same picture, or the same refusal, whoever reads it."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from data_files import encode, own_places, pack, pixels_of, write
from PIL import Image, ImageFile
from segmentation_files import camvid_files, make_voc
from torchvision import datasets

from terminator.data import DatasetCorrupt, load
from terminator.data.decoder import FORMATS, SUFFIXES, open_labels, open_picture
from terminator.data.episodes.sources import load_classes
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.pixels import decode
from terminator.hamburger.segmentation.predict import read_photograph

__all__ = ["own_places"]  # a fixture that every test here uses
SIDE = 12


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def corner(size=(SIDE, SIDE)):
    """Red, with a blue upper left quarter."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, size[0] // 2, size[1] // 2))
    return image


def png(depth, colour, channels, values):
    """A PNG of any depth, every pixel the same."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    bits = "".join(f"{value:0{depth}b}" for value in values * SIDE)
    row = int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * SIDE))
        + chunk(b"IEND", b"")
    )


def deep_tiff():
    """A TIFF of 16 bits per sample in colour, written tag by tag, as Pillow writes none."""
    size = SIDE * SIDE * 6
    tags = [
        (256, 3, 1, SIDE),
        (257, 3, 1, SIDE),
        (258, 3, 3, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (277, 3, 1, 3),
        (278, 3, 1, SIDE),
        (279, 4, 1, size),
    ]
    directory = (
        struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + bytes(4)
    )
    return (
        b"II*\0"
        + struct.pack("<I", 14 + size)
        + struct.pack("<3H", 16, 16, 16)
        + bytes(size)
        + directory
    )


def ppm(magic, largest):
    size = SIDE * SIDE * (3 if magic == "P6" else 1) * (2 if largest > 255 else 1)
    return f"{magic}\n{SIDE} {SIDE}\n{largest}\n".encode() + bytes(size)


def animated(kind):
    frames = [Image.new("RGB", (SIDE, SIDE), (i * 80, 0, 0)) for i in range(3)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


REFUSED = {  # {what: (its content, the words of the refusal)}
    "grey of 16 bits": (
        lambda: saved(Image.new("I;16", (SIDE, SIDE), 40000)),
        "pixel mode I;16: convert it to 8 bits",
    ),
    "colour of 16 bits": (
        lambda: png(16, 2, 3, (0, 0, 65298)),
        "pixel mode RGB;16B: convert it to 8 bits",
    ),
    "transparent colour of 16 bits": (
        lambda: png(16, 6, 4, (0, 0, 65298, 65535)),
        "pixel mode RGBA;16B",
    ),
    "transparent grey of 16 bits": (lambda: png(16, 4, 2, (30000, 65535)), "pixel mode LA;16B"),
    "colour TIFF of 16 bits": (lambda: deep_tiff(), "pixel mode RGB;16"),
    "float TIFF": (
        lambda: saved(Image.new("F", (SIDE, SIDE), 0.5), "TIFF"),
        "pixel mode F: convert it to 8 bits",
    ),
    "TIFF of integers": (
        lambda: saved(Image.new("I", (SIDE, SIDE), 70000), "TIFF"),
        "pixel mode I: convert",
    ),
    "TIFF of 16 bits": (
        lambda: saved(Image.new("I;16", (SIDE, SIDE), 9), "TIFF"),
        "pixel mode I;16",
    ),
    "Lab colour": (
        lambda: saved(Image.new("LAB", (SIDE, SIDE)), "TIFF"),
        "pixel mode LAB: .*grey or RGB",
    ),
    "deep PGM": (lambda: ppm("P5", 65535), "pixel mode I"),
    "deep PPM": (lambda: ppm("P6", 65535), "pixel mode RGB;16"),
    "deep JPEG 2000": (
        lambda: saved(Image.new("I;16", (SIDE, SIDE)), "JPEG2000"),
        "pixel mode I;16",
    ),
    "moving GIF": (lambda: animated("GIF"), "has 3 frames; allowed: one"),
    "moving PNG": (lambda: animated("PNG"), "has 3 frames; allowed: one"),
    "pages": (lambda: animated("TIFF"), "has 3 frames; allowed: one"),
    "PostScript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n",
        "no image file that Pillow",
    ),
    "PostScript of Pillow": (
        lambda: saved(corner(), "EPS"),
        "no image file that Pillow can read as one of JPEG",
    ),
    "Windows metafile": (lambda: b"\xd7\xcd\xc6\x9a" + bytes(60), "no image file that Pillow"),
    "FITS": (
        lambda: b"SIMPLE  =                    T".ljust(80) + bytes(2800),
        "no image file that Pillow",
    ),
    "icons": (lambda: saved(corner(), "ICO"), "no image file that Pillow"),
    "textures": (lambda: saved(corner(), "DDS"), "no image file that Pillow"),
}


def as_class_folder(root, content):
    write(
        root / "set",
        {
            f"train/{k}/{i}.png": encode(pixels_of(8, 8, 3, seed=i + ord(k)))
            for k in "ab"
            for i in range(2)
        }
        | {"train/a/x.png": content},
    )
    load(str(root / "set"), image_size=8)


def as_archive(root, content):
    files = {
        f"{k}/{i}.png": encode(pixels_of(8, 8, 3, seed=i + ord(k))) for k in "ab" for i in range(2)
    }
    load(str(pack(root / "set.zip", files | {"a/x.png": content})), image_size=8)


def as_photograph(root, content):
    read_photograph(write(root, {"x.png": content}) / "x.png")


def as_street(root, content):
    files = camvid_files()
    write(root / "camvid", files | {"train/000.png": content})
    load_segmentation("camvid", data_dir=root)


def as_voc(root, content):
    make_voc(root)
    write(root, {"VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg": content})
    load_segmentation("voc2012", data_dir=root, train="train").splits["train"].batch([0])


def as_label_map(root, content):
    write(root / "camvid", camvid_files() | {"trainannot/000.png": content})
    load_segmentation("camvid", data_dir=root)


def as_character(root, content):
    drawings = {
        f"omniglot-py/images_{part}/Greek{part}/character01/{i}.png": encode(
            pixels_of(12, 12, seed=i)
        )
        for part in ("background", "evaluation")
        for i in range(2)
    }
    write(
        root,
        drawings | {"omniglot-py/images_background/Greekbackground/character01/1.png": content},
    )
    load_classes("omniglot", root)


READERS = [
    as_class_folder,
    as_archive,
    as_photograph,
    as_street,
    as_voc,
    as_label_map,
    as_character,
]


@pytest.fixture(autouse=True)
def whole_omniglot(monkeypatch):
    # sums of the real archives
    monkeypatch.setattr(datasets.Omniglot, "_check_integrity", lambda self: True)


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("read", READERS)
def test_what_one_reader_refuses_all_refuse(tmp_path, read, what):
    make, words = REFUSED[what]
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        read(tmp_path, make())
    assert "\n" not in str(caught.value)


def test_no_reader_opens_a_picture_by_itself():
    import ast

    from places import PACKAGE

    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "Image.open",
                "PIL.Image.open",
            ):
                assert path.name == "decoder.py", path
                assert any(word.arg == "formats" for word in node.keywords), path


SMALL = {
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100},
    "JPEG": {"quality": 100, "subsampling": 0},
}


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_read_in_class_folders(tmp_path, suffix):
    kind = next(kind for kind, suffixes in FORMATS.items() if suffix in suffixes)
    if kind in ("SUN", "XPM"):  # Pillow writes none
        make = {"SUN": sun, "XPM": xpm}[kind]
    else:
        mode = "1" if kind in ("MSP", "XBM") else "RGB"
        kind, options = ("JPEG" if kind == "MPO" else kind), SMALL.get(kind, {})

        def make(seed):
            return saved(
                Image.fromarray(pixels_of(16, 16, 3, seed=seed)).convert(mode), kind, **options
            )

    files = {
        f"{name}/{i}{suffix.upper() if i % 2 else suffix}": make(seed=i + 10 * ord(name))
        for name in "ab"
        for i in range(5)
    }
    info = load(str(write(tmp_path / "set", files)), image_size=8).info
    assert (info.train_size, info.test_size, info.classes) == (8, 2, ("a", "b"))


def sun(seed):
    pixels = pixels_of(16, 16, seed=seed)
    return struct.pack(">8I", 0x59A66A95, 16, 16, 8, 256, 1, 0, 0) + pixels.tobytes()


def xpm(seed):
    rows = "".join(
        f'"{"".join("ab"[v % 2] for v in row)}",\n' for row in pixels_of(16, 16, seed=seed)
    )
    return f'/* XPM */\nstatic char *x[] = {{\n"16 16 2 1",\n"a c #ff0000",\n"b c #0000ff",\n{rows}}};\n'.encode()


@pytest.mark.parametrize(
    "kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "TGA", "PCX", "QOI", "SGI", "WEBP", "JPEG2000"]
)
def test_the_content_decides_not_the_suffix(tmp_path, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read_photograph(
        write(tmp_path, {"x.jpg": saved(corner(), kind, **options)}) / "x.jpg"
    )
    assert np.array_equal(np.asarray(picture), np.asarray(corner()))


WHITE, BLUE = (255, 255, 255), (0, 0, 255)


def clear(mode):
    """Hidden red, transparent, under an opaque blue corner."""
    image = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, SIDE // 2, SIDE // 2))
    return image.convert(mode)


@pytest.mark.parametrize(
    "content",
    [
        saved(clear("RGBA")),
        saved(clear("RGBA"), "WEBP", lossless=True),
        saved(clear("RGBA"), "TIFF"),
        saved(clear("RGBA"), "TGA"),
        saved(clear("RGBA"), "QOI"),
        saved(corner(), transparency=(255, 0, 0)),
        saved(
            corner().quantize(2), transparency=corner().quantize(2).getpixel((SIDE - 1, SIDE - 1))
        ),
        saved(
            corner().quantize(2),
            "GIF",
            transparency=corner().quantize(2).getpixel((SIDE - 1, SIDE - 1)),
        ),
    ],
)
def test_transparent_pixels_are_white_for_every_reader(tmp_path, content):
    picture = read_photograph(write(tmp_path, {"x.png": content}) / "x.png")
    assert (picture.getpixel((0, 0)), picture.getpixel((SIDE - 1, SIDE - 1))) == (BLUE, WHITE)
    pixels, _ = decode(content, "x.png", None, None)
    assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), pixels)
    write(tmp_path / "camvid", camvid_files(size=(SIDE, SIDE)) | {"train/000.png": content})
    stored = (
        load_segmentation("camvid", data_dir=tmp_path).splits["train"].batch([0]).images[0].numpy()
    )
    assert np.array_equal(stored, pixels)


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_a_transparent_grey_is_white_at_every_depth(tmp_path, depth):
    """The PNG says which grey is transparent as it lies in the file, unspread."""
    value = struct.pack(">H", 2)
    chunk = b"tRNS" + value
    data = png(depth, 0, 1, (2,))
    at = data.index(b"IDAT") - 4
    added = struct.pack(">I", len(value)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    picture = read_photograph(write(tmp_path, {"x.png": data[:at] + added + data[at:]}) / "x.png")
    assert picture.convert("RGB").getpixel((0, 0)) == WHITE


# -- orientation -----------------------------------------------------------------------------------


def turned(tag, kind="JPEG", **more):
    exif = Image.Exif()
    exif[0x0112] = tag
    exif.update(more)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    return saved(corner((24, 16)), kind, exif=exif, **options)


def blue_corner(content):
    """Where the blue corner is: (right?, below?)."""
    pixels = np.asarray(open_picture(content, "x"), dtype=int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 0
    rows, columns = np.nonzero(blue)
    return (
        bool(columns.mean() > blue.shape[1] / 2),
        bool(rows.mean() > blue.shape[0] / 2),
        blue.shape,
    )


PLACES = {
    1: (False, False, (16, 24)),
    2: (True, False, (16, 24)),
    3: (True, True, (16, 24)),
    4: (False, True, (16, 24)),
    5: (False, False, (24, 16)),
    6: (True, False, (24, 16)),
    7: (True, True, (24, 16)),
    8: (False, True, (24, 16)),
}


@pytest.mark.parametrize("tag", PLACES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_by_its_orientation_tag(kind, tag):
    assert blue_corner(turned(tag, kind)) == PLACES[tag]


def patched_exif(content, old, new):
    """A sound JPEG with some bytes of its EXIF part changed."""
    start = content.index(b"Exif\0\0")
    place = content.index(old, start)
    return content[:place] + new + content[place + len(old) :]


def odd_photographs():
    tagged = turned(6)
    entry = struct.pack(">HHI", 0x0112, 3, 1)
    if entry not in tagged:
        entry = struct.pack("<HHI", 0x0112, 3, 1)
    order = ">" if entry == struct.pack(">HHI", 0x0112, 3, 1) else "<"

    def with_entry(*values):
        return patched_exif(tagged, entry, struct.pack(f"{order}HHI", *values))

    start = tagged.index(b"Exif\0\0")
    exif = tagged[start : start + 32]
    return {
        "unknown type": (with_entry(0x0112, 99, 1), (16, 24)),
        "no value": (with_entry(0x0112, 3, 0), (16, 24)),
        "a text": (with_entry(0x0112, 2, 4), (16, 24)),
        "far too many": (with_entry(0x0112, 3, 2**31), (16, 24)),
        "a rational": (with_entry(0x0112, 5, 1), (16, 24)),
        "no directory": (tagged.replace(exif, exif[:6] + b"\xff" * 26), (16, 24)),
        "out of range": (turned(9), (16, 24)),
        "zero": (turned(0), (16, 24)),
        "other tags of wrong types": (odd_fields(), (24, 16)),
    }


def odd_fields():
    """Turned, with fields of wrong types that cannot be written again: what exif_transpose trips
    over.
    """
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x927C] = 6, (72, 1), b"\0" * 7
    content = saved(corner((24, 16)), "JPEG", exif=exif, quality=100, subsampling=0)
    for order in "<>":
        old = struct.pack(f"{order}HH", 0x011A, 5)
        if old in content:
            content = patched_exif(content, old, struct.pack(f"{order}HH", 0x011A, 2))
    return content


@pytest.mark.parametrize("what", odd_photographs())
def test_odd_fields_do_not_make_a_sound_photograph_corrupt(what):
    content, shape = odd_photographs()[what]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(open_picture(content, "x")).shape[:2] == shape


# -- label maps ------------------------------------------------------------------------------------


def indexed(value):
    picture = Image.new("P", (SIDE, SIDE), value)
    picture.putpalette(sum(([i, 255 - i, i // 2] for i in range(256)), []))
    return picture


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved(Image.new("L", (SIDE, SIDE), 7)), 7),
        (saved(indexed(5)), 5),
        (png(8, 0, 1, (9,)), 9),
        (png(4, 0, 1, (9,)), 9),
        (png(2, 0, 1, (3,)), 3),
        (png(1, 0, 1, (1,)), 1),
        (saved(Image.new("L", (SIDE, SIDE), 4), "TIFF"), 4),
        (saved(Image.new("L", (SIDE, SIDE), 4), "BMP"), 4),
    ],
)
def test_label_maps_are_what_was_stored_whatever_their_depth(content, expected):
    assert (open_labels(content, "x") == expected).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            encode(pixels_of(8, 8), ".jpg"),
            "x is a JPEG file, whose pixels may not be what was stored; allowed: PNG",
        ),
        (saved(corner()), "pixel mode RGB; allowed: one class index per pixel"),
        (saved(Image.new("LA", (8, 8))), "pixel mode LA; allowed"),
    ],
)
def test_label_maps_that_may_be_wrong_are_refused(content, words):
    with pytest.raises(ValueError, match=words):
        open_labels(content, "x")


# -- switches of the process -----------------------------------------------------------------------


def test_threads_leave_pillows_switches_as_they_were(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encode(pixels_of(64, 64, 3), ".jpg")
    found, before = [], list(warnings.filters)

    def read(content):
        for _ in range(20):
            try:
                open_picture(content, "x")
            except DatasetCorrupt:
                found.append(content)

    threads = [
        threading.Thread(target=read, args=(content,))
        for content in (whole, whole[:700], whole[:900]) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert whole not in found
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert warnings.filters == before
