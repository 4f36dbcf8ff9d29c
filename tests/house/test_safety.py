"""What a file from a stranger can do here: be read, or be refused with a reason; nothing else."""

import ast
import io
import json
import pickle
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from data_files import encode, make_cifar, pack, pixels_of, write
from notebook_outputs import MACHINE_PATH, output_texts
from PIL import Image
from places import ROOT

import terminator
from terminator import Terminator
from terminator.__main__ import main
from terminator.classification import released
from terminator.classification.predict import predict_files, read_image
from terminator.data import decoder, files, load
from terminator.runtime import checkpoint

PACKAGE = Path(terminator.__file__).parent

# -- nothing is unpickled, run or unpacked ---------------------------------------------------------


def calls(path):
    """(full name, keyword arguments as source) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Call):
            yield (
                ast.unparse(node.func),
                {word.arg: ast.unparse(word.value) for word in node.keywords},
            )


SOURCES = [*sorted(PACKAGE.rglob("*.py")), ROOT / "run_all.py"]


def test_no_file_is_unpickled_or_run():
    found = set()
    for path in SOURCES:
        for name, words in calls(path):
            last = name.split(".")[-1]
            where = f"{path.name}: {name}"
            if name == "torch.load":
                assert words.get("weights_only") == "True", where
            elif name == "np.load":
                assert words.get("allow_pickle") == "False", where
            assert name not in (
                "eval",
                "exec",
                "pickle.load",
                "pickle.loads",
                "os.system",
                "yaml.load",
            ), where
            assert last not in ("extractall", "unpack_archive", "extract"), (
                f"{where} unpacks an archive to disk"
            )
            assert words.get("shell") in (None, "False"), where
            found.add(name)
    assert {"torch.load", "np.load"} <= found  # the walk sees something


class Trap:
    """Unpickled by plain pickle, it would leave a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_would_run_code_is_refused_wherever_files_are_read(
    tmp_path, monkeypatch, protocol
):
    mark, trap = tmp_path / "was_run", Trap(tmp_path / "was_run")
    torch.save({"state_dict": trap}, tmp_path / "model.ckpt", pickle_protocol=protocol)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(trap, protocol))
    make_cifar(tmp_path, monkeypatch)
    batch = next((tmp_path / "cifar-10-batches-py").glob("data_batch_1"))
    batch.write_bytes(pickle.dumps(trap, protocol))
    # .npy: test_episode_sources.py
    attempts = [
        lambda: released.load(tmp_path / "model.ckpt"),
        lambda: released.load(tmp_path / "plain.pt"),
        lambda: Terminator.load(tmp_path / "plain.pt"),
        lambda: checkpoint.read(tmp_path / "plain.pt"),
        lambda: load("CIFAR10", data_dir=tmp_path, download=False),
    ]
    for attempt in attempts:
        with pytest.raises((ValueError, checkpoint.CheckpointError)):
            attempt()
    assert not mark.exists()
    pickle.loads(pickle.dumps(trap, protocol))
    assert mark.exists()  # the trap works


def test_archive_members_write_nothing_and_links_are_refused(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    picture = encode(pixels_of(8, 8, 3))
    files = {f"{k}/{i}.png": picture for k in "ab" for i in range(10)}
    for top, found in (("../../escape/", False), ("/escape/", True)):
        for suffix in (".zip", ".tar"):
            archive = pack(inside / f"pictures{suffix}", files, top)
            before = [path for path in tmp_path.rglob("*") if "cache" not in path.parts]
            if found:  # read in memory, whatever its name
                assert load(str(archive), image_size=8).info.train_size == 16
            else:
                with pytest.raises(ValueError, match="no images found"):
                    load(str(archive), image_size=8)
            assert [path for path in tmp_path.rglob("*") if "cache" not in path.parts] == before
            assert not Path("/escape").exists()
    with tarfile.open(inside / "links.tar", "w") as tar:
        link = tarfile.TarInfo("a/0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match="is a link or device"):
        load(str(inside / "links.tar"))


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("terminator.data.files.MAX_FILE_BYTES", 100_000)
    files = {f"{k}/{i}.png": encode(pixels_of(8, 8, 3)) for k in "ab" for i in range(4)} | {
        "a/9.png": bytes(2_000_000)
    }
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    pack(tmp_path / "bomb.tar", files)
    write(tmp_path / "bomb", files)
    for source in ("bomb.zip", "bomb.tar", "bomb"):
        with pytest.raises(
            ValueError, match="9.png in .*bomb.* is 2,000,000 bytes large; allowed: 100,000"
        ):
            load(str(tmp_path / source), image_size=8)


# -- hostile and unusual images --------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small calibrated model for 8x8 colour images, saved with what `predict` needs."""
    torch.manual_seed(0)
    model = Terminator(size=8, factors=(4, 1), classes=3, global_hidden=4, local_hidden=4)
    terminator.calibrate(model, [torch.randn(8, 3, 8, 8)])
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(file, data={"classes": ["ant", "bee", "cat"], "mean": [0.5] * 3, "std": [0.5] * 3})
    return file


def saved(image, path, **options):
    image.save(path, **options)
    return path


def corner(mode="RGB", size=(16, 16)):
    """Red, with a blue upper left quarter."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, size[0] // 2, size[1] // 2))
    return image.convert(mode)


def colours(path, model):
    """The network's input in [0, 1]: upper left and lower right pixel."""
    x = read_image(path, Terminator.load(model)) * 0.5 + 0.5
    assert x.shape == (3, 8, 8)
    return [[round(v, 1) for v in x[:, i, i].tolist()] for i in (0, -1)]


BLUE, RED, WHITE = [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif", "a.webp", "a.tiff", "a.ppm"])
def test_every_kind_of_file_gives_the_same_picture(model, tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    assert colours(saved(corner(), tmp_path / name, **options), model) == [BLUE, RED]
    frame = predict_files(model, [tmp_path / name])
    assert frame["class"].isin(["ant", "bee", "cat"]).all()
    assert frame["probability"].between(0, 1).all()


def test_cmyk_grey_and_one_bit(model, tmp_path):
    assert colours(saved(corner("CMYK"), tmp_path / "a.tif"), model) == [BLUE, RED]
    jpeg = saved(corner("CMYK", (64, 64)), tmp_path / "a.jpg", quality=100)
    x = read_image(jpeg, Terminator.load(model)) * 0.5 + 0.5
    assert x[2, 1, 1] > 0.8
    assert x[0, -1, -1] > 0.8
    grey = read_image(saved(corner("L"), tmp_path / "grey.png"), Terminator.load(model))
    assert torch.equal(grey[0], grey[2])
    bits = Image.new("1", (16, 16), 1)
    assert colours(saved(bits, tmp_path / "bits.png"), model) == [WHITE, WHITE]


def test_an_upright_picture_from_a_camera_on_its_side(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    x = (
        read_image(saved(corner(), tmp_path / "a.png", exif=exif), Terminator.load(model)) * 0.5
        + 0.5
    )
    assert x[:, 0, -1].round().tolist() == BLUE  # upper right


def test_transparent_pixels_are_white_whatever_lies_under_them(model, tmp_path):
    image = corner("RGBA")
    image.paste((255, 0, 0, 0), (8, 8, 16, 16))
    assert colours(saved(image, tmp_path / "rgba.png"), model) == [BLUE, WHITE]
    palette = corner("P")
    transparent = palette.getpixel((15, 15))
    assert colours(saved(palette, tmp_path / "p.png", transparency=transparent), model) == [
        BLUE,
        WHITE,
    ]
    grey = Image.new("LA", (16, 16), (0, 0))
    assert colours(saved(grey, tmp_path / "la.png"), model) == [WHITE, WHITE]


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of_size(width, height):
    """A few bytes that claim to be this large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def text_bomb():
    text = zlib.compress(bytes(80 * 2**20), 9)
    body = encode(pixels_of(8, 8, 3))
    return body[:33] + chunk(b"zTXt", b"k\0\0" + text) + body[33:]


def animated(suffix):
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    frames[0].save(buffer, format=suffix, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def sixteen_bit():
    buffer = io.BytesIO()
    Image.fromarray(pixels_of(8, 8).astype(np.uint16) * 257).save(buffer, format="PNG")
    return buffer.getvalue()


HOSTILE = {
    "bomb.png": (lambda: png_of_size(100_000, 100_000), "too large to be decoded|pixels large"),
    "large.png": (
        lambda: png_of_size(10_000, 10_000),
        "is 10000x10000 pixels large; allowed: 67,108,864",
    ),
    "thin.png": (lambda: png_of_size(2**31 - 1, 1), "too large|pixels large"),
    "zero.png": (lambda: png_of_size(0, 0), "corrupt or truncated"),
    "text.png": (text_bomb, "corrupt or truncated"),
    "half.png": (lambda: encode(pixels_of(64, 64, 3))[:2000], "corrupt or truncated"),
    "half.jpg": (lambda: encode(pixels_of(64, 64, 3), ".jpg")[:700], "corrupt or truncated"),
    "moving.gif": (lambda: animated("GIF"), "has 3 frames; allowed: one picture per file"),
    "moving.webp": (lambda: animated("WEBP"), "has 3 frames"),
    "pages.tiff": (lambda: animated("TIFF"), "has 3 frames"),
    "moving.png": (lambda: animated("PNG"), "has 3 frames"),
    "deep.png": (sixteen_bit, "pixel mode I;16: convert it to 8 bits"),
    "empty.png": (lambda: b"", "no image file that Pillow can read"),
    "text.txt": (lambda: b"not an image", "no image file that Pillow can read"),
    "script.eps": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n",
        "corrupt or truncated",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_in_one_line(model, tmp_path, capsys, name):
    make, words = HOSTILE[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(ValueError, match=words):
        predict_files(model, [tmp_path / name])
    assert main(["predict", str(model), str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert name in error
    assert " at 0x" not in error


def test_sixteen_bits_a_channel_in_colour_are_refused_as_in_grey(model, tmp_path):
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + struct.pack(">3H", 0, 0, 0xFF12) * 8 for _ in range(8))
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(
        ValueError, match="deep.png has pixel mode RGB;16B: convert it to 8 bits per channel"
    ):
        predict_files(model, [tmp_path / "deep.png"])


def test_limits_are_those_of_a_large_photograph():
    assert decoder.MAX_PIXELS >= 50e6
    assert files.MAX_FILE_BYTES >= 100e6


# -- what is committed says nothing of the machine -------------------------------------------------


def committed():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = done.stdout.splitlines() if done.returncode == 0 else []
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def words_of(path):
    """Texts of a file, without base64 pictures and addresses in the web."""
    if path.suffix == ".ipynb":
        notebook = nbformat.read(path, 4)
        outputs = [
            text
            for cell in notebook.cells
            for o in cell.get("outputs", [])
            for text in output_texts(o)
        ]
        return "\n".join(
            [*(cell.source for cell in notebook.cells), *outputs, json.dumps(notebook.metadata)]
        )
    return path.read_text(encoding="utf8", errors="ignore")


EVIDENCE = (".ipynb", ".json", ".csv", ".html", ".svg", ".md")


def test_notebooks_records_and_pages_name_no_folder_user_or_host():
    import getpass
    import platform

    files = [path for path in committed() if path.suffix in EVIDENCE]
    if not files:
        pytest.skip("no checkout: nothing is committed here")
    assert any(path.suffix == ".ipynb" for path in files)
    assert any(path.name == "record.json" for path in files)
    own = {platform.node(), getpass.getuser()} - {"runner", "localhost"}
    own = [name for name in own if len(name) > 4]  # "root" is a word like any other
    for path in files:
        text = words_of(path)
        found = MACHINE_PATH.search(text)
        assert not found, (
            f"{path.relative_to(ROOT)}: {text[max(0, found.start() - 40) : found.end() + 40]!r}"
        )
        for name in own:
            assert name not in text, f"{path.relative_to(ROOT)} names {name}"
