"""Data files that somebody else made, damaged or built on purpose: each is read, or refused in a line
that names it, within 20 seconds and 1.5 GB; nothing runs, nothing is written elsewhere.

Fixed seeds. TERMINATOR_ALL_FAULTS makes all of them.
"""

import io
import json
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from data_files import class_files, own_places, pixels_of, write
from places import TESTS

__all__ = ["own_places"]  # a fixture that every test here uses
COUNT = 100 if os.environ.get("TERMINATOR_ALL_FAULTS") else 40  # of arrays, and of archives
MEMORY = 1.5e6  # KiB
SECONDS = 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")


def damaged(content, chance):
    """Some bytes with a bit flipped, a stretch overwritten, or an end cut off."""
    found, place = bytearray(content), chance.randrange(len(content))
    kind = chance.randrange(4)
    if kind < 2:
        found[place] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del found[place:]
    else:
        found[place : place + 16] = chance.randbytes(len(found[place : place + 16]))
    return bytes(found)


def survey(folder, whole):
    """What a process of its own says of every case in a folder, checked.

    Args:
        whole: names of cases that must be read.
    """
    outside = {path for path in folder.parent.rglob("*") if "cache" not in path.parts}
    done = subprocess.run(
        [sys.executable, str(TESTS / "fault_reader.py"), str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=SECONDS * 60,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    names = sorted(path.name for path in folder.iterdir())
    left = names[len(found) :]
    assert done.returncode == 0, f"ended by {done.returncode} at {left[:1]}: {done.stderr[-1500:]}"
    assert [case["case"] for case in found] == names
    for case in found:
        assert case["outcome"] in ("read", "refused"), json.dumps(case)
        assert case["seconds"] < SECONDS, json.dumps(case)
        assert case["memory"] < MEMORY, json.dumps(case)
        assert case["outcome"] == "read" or case["case"] not in whole, json.dumps(case)
    after = {path for path in folder.parent.rglob("*") if "cache" not in path.parts}
    assert after == outside  # nothing was written but the cache
    return found


# -- arrays ----------------------------------------------------------------------------------------


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def ragged():
    found = np.empty(3, object)
    found[:] = [pixels_of(count, 4, 4, 3, seed=count) for count in (2, 3, 2)]
    return found


def sources():
    mini = {"image_data": pixels_of(6, 4, 4, 3), "class_dict": {"a": [0, 1, 2], "b": [3, 4, 5]}}
    found = [
        ("set.npy", npy(pixels_of(3, 4, 5, 5))),
        ("set.npy", npy(pixels_of(3, 4, 5, 5) / 255)),
        ("set.npy", npy(np.asfortranarray(pixels_of(3, 4, 5, 5).astype(np.int32)))),
        ("set.npy", npy(ragged())),
    ]
    found += [("set.pkl", pickle.dumps(mini, protocol)) for protocol in range(6)]
    return found + [("set.pkl", pickle.dumps(list(ragged()), protocol)) for protocol in (2, 5)]


def operations(content):
    """The operations of a pickle as bytes, one after the other."""
    places = [place for _, _, place in pickletools.genops(content)] + [len(content)]
    return [content[a:b] for a, b in zip(places, places[1:])]


HARMFUL = [
    b"cposix\nsystem\n",
    b"cbuiltins\neval\n",
    b"cnumpy\nndarray\n",
    b"\x82\x01",
    b"Pname\n",
    b"0",
    b"2",
    b"(",
    b"R",
    b"b",
    b"\x81",
    b"\x93",
    b"\x8e" + struct.pack("<Q", 2**40),
    b"J\xff\xff\xff\xff",
    b"\x8a\x08" + struct.pack("<q", 2**62),
    b"U\x02O8",
    b"\x8c\x02O8",
    b"N",
    b"]",
    b")",
]


def rebuilt(name, content, chance):
    """A pickle with some of its operations left out, doubled, exchanged, or others put in."""
    head = 0 if name.endswith(".pkl") else 128
    parts = operations(content[head:])
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(parts))
        kind = chance.randrange(5)
        if kind == 0 and len(parts) > 1:
            del parts[place]
        elif kind == 1:
            parts.insert(place, parts[place])
        elif kind == 2:
            other = chance.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        elif kind == 3:
            parts.insert(place, chance.choice(HARMFUL))
        else:
            parts[place] = chance.choice(HARMFUL)
    return content[:head] + b"".join(parts)


def reheaded(content, chance):
    """A .npy whose header says something else."""
    head = content[10:128].decode("latin-1")
    size = chance.choice(("99999999", "0", "-1", "4L", "1" * 30, "4, 4, 4, 4"))
    code = chance.choice(
        ("|O", "<f8", ">f8", "<c16", "|V8", "|S1", "<U4", "<M8[s]", "|u1,|u1", "?")
    )
    old = head.split("'")[3]
    changed = chance.choice(
        (
            head.replace(old, code, 1),
            head.replace("3,", f"{size},", 1),
            head.replace("False", "True"),
        )
    )
    return content[:8] + struct.pack("<H", len(changed)) + changed.encode("latin-1") + content[128:]


def test_arrays_and_pickles(tmp_path):
    chance, given = random.Random(10), sources()
    whole = set()
    for number in range(COUNT):
        which = number % len(given)
        name, content = given[which]
        is_pickle = name.endswith(".pkl") or which == 3
        how = chance.randrange(3)
        if number < len(given):
            changed = content
            whole.add(f"{number:03}-arrays")
        elif how == 0 or (how == 1 and not is_pickle):
            changed = damaged(content, chance)
        elif is_pickle:
            changed = rebuilt(name, content, chance)
        else:
            changed = reheaded(content, chance)
        write(tmp_path / "cases" / f"{number:03}-arrays", {name: changed})
    found = survey(tmp_path / "cases", whole)
    assert sum(case["outcome"] == "refused" for case in found) > COUNT // 3
    clean = {case["case"]: case["text"] for case in found if case["case"] in whole}
    assert len(set(clean.values())) == 3  # the same pixels are the same data in every form


# -- archives and folders --------------------------------------------------------------------------


def pictures():
    return class_files(("",), (6,), ("ant", "bee"))


def reviews():
    return {
        f"{split}/{kind}/{i}.txt": f"{split} {kind} {i} {'x' * 40}".encode()
        for split in ("train", "test")
        for kind in ("neg", "pos")
        for i in range(3)
    }


def odd_name(name, chance):
    return chance.choice(
        (
            f"../../{name}",
            f"/{name}",
            f"{'d/' * 300}{name}",
            name.replace("/", "\\"),
            f"{name}\x1b[2J.png",
            f"{'n' * 200}/{name}",
            name.upper(),
            "",
            "/",
            ".",
            f"{name}/",
            f".hidden/{name}",
        )
    )


def zipped(files, chance):
    """A zip with odd members, then forged in its directory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as z:
        for name, content in files.items():
            if chance.random() < 0.1:
                name = odd_name(name, chance)
            member = zipfile.ZipInfo(name)
            if chance.random() < 0.05:
                member.external_attr = 0o120777 << 16  # a link
            z.writestr(member, content)
    content = bytearray(buffer.getvalue())
    place = content.find(b"PK\x01\x02")
    # version, flags, method, sums, sizes
    offset = chance.choice((6, 8, 10, 16, 20, 24, 28, 30, 42))
    if chance.random() < 0.7:
        content[place + offset : place + offset + 4] = chance.choice(
            (b"\xff" * 4, bytes(4), b"\1\0\0\0", chance.randbytes(4))
        )
    return bytes(content)


def tarred(files, chance, mode):
    """A tar with odd members and forged headers."""
    buffer = io.BytesIO()
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
    kinds += (tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"Z")
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(odd_name(name, chance) if chance.random() < 0.1 else name)
            member.size = len(content)
            if chance.random() < 0.08:
                member.type, member.linkname = chance.choice(kinds), "/etc/passwd"
            if chance.random() < 0.05:
                tar.fileobj.write(forged(member, chance))
                continue
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def forged(member, chance):
    """A header whose size is another one, with a check sum that fits."""
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = chance.choice((b"77777777777\0", b"\xff" * 12, b"\x80" + bytes(7) + b"\1" * 4))
    head[148:156] = b"        "
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return bytes(head)


def strange_folder(root, files, chance):
    """A folder with links, pipes, holes, deep and odd names among its files."""
    write(root, files)
    names = sorted(files)
    for _ in range(chance.randrange(1, 4)):
        path = root / chance.choice(names)
        new = path.with_name(f"new{chance.randrange(9)}{path.suffix}")
        kind = chance.randrange(9)
        if kind == 0 and not new.exists():
            os.mkfifo(new)
        elif kind == 1 and not new.is_symlink():
            new.symlink_to(
                chance.choice(("/dev/zero", "/dev/urandom", new.name, "..", "/proc/self/mem"))
            )
        elif kind == 2:
            (path.parent / f"loop{chance.randrange(99)}").symlink_to(root)
        elif kind == 3 and path.is_file():
            os.truncate(path, chance.choice((0, 2**33, 5)))  # a hole of 8 GiB takes no room
        elif kind == 4 and path.is_file():
            path.unlink()
            path.mkdir()
        elif kind == 5:
            deep = root / "/".join(["deep"] * 60)
            deep.mkdir(parents=True, exist_ok=True)
            (deep / new.name).write_bytes(b"x")
        elif kind == 6:
            odd = os.fsencode(path.parent) + b"/\xff\xfe" + os.fsencode(path.suffix)
            with open(odd, "wb") as file:
                file.write(b"no content")
        elif kind == 7:
            new.write_bytes(chance.randbytes(500))
        else:
            path.with_name("\x1b[31mred" + path.suffix).write_bytes(b"")


def test_archives_and_folders(tmp_path):
    chance, whole = random.Random(20), set()
    kinds = (("pictures", pictures()), ("reviews", reviews()))
    forms = (".zip", ".tar", ".tar.gz", ".tar.xz", "")
    for number in range(COUNT):
        kind, files = kinds[number % 2]
        form = forms[number // 2 % len(forms)]
        case = tmp_path / "cases" / f"{number:03}-{kind}"
        case.mkdir(parents=True)
        if number < 2 * len(forms):  # sound ones first
            whole.add(case.name)
            calm = random.Random(0)
            calm.random = lambda: 1.0
        else:
            calm = chance
        if form == ".zip":
            (case / "set.zip").write_bytes(zipped(files, calm))
        elif form:
            (case / f"set{form}").write_bytes(
                tarred(files, calm, "w" + form.removeprefix(".tar").replace(".", ":"))
            )
        elif calm is chance:
            strange_folder(case / "set", files, chance)
        else:
            write(case / "set", files)
        path = case / f"set{form}"
        if form and calm is chance and chance.random() < 0.3:
            path.write_bytes(damaged(path.read_bytes(), chance))
    found = survey(tmp_path / "cases", whole)
    for kind, _ in kinds:  # the same data, however packed
        texts = {c["text"] for c in found if c["case"] in whole and c["case"].endswith(kind)}
        assert len(texts) == 1
    assert sum(case["outcome"] == "refused" for case in found) > COUNT // 4
