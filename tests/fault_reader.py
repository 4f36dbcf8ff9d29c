"""Read damaged data, case by case, in a process of its own: fault_reader.py FOLDER.

Every folder in FOLDER is a case, which holds `set`, `set.npy`, `set.zip` or the like. A line of JSON
each: what came of it, the seconds it took, and the most memory that this process has had (KiB).
"""

import json
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

SECONDS = 20  # of a case; then the process is ended
# bytes that may be asked for beyond what the process has: a belt for the machine
MEMORY = 3 * 2**30


def read(root):
    """(fingerprint, whether the data are as such data are)"""
    from terminator.data import load
    from terminator.data.episodes.sources import load_classes
    from terminator.data.sequences import text

    kind = root.name.split("-")[1]
    if kind == "arrays":
        found = load_classes("set", root)
        sound = len(found.images) == int(found.starts[-1]) and len(found.classes) > 0
        return found.fingerprint, sound and str(found.images.dtype) == "torch.uint8"
    (source,) = (path for path in root.iterdir() if path.name.startswith("set"))
    if kind == "reviews":
        splits = text.read_reviews(source)
        names = repr(
            [(k, s.labels.tolist(), s.texts[0].values.tolist()) for k, s in splits.items()]
        )
        return names, {"train", "test"} <= set(splits)
    info = load(str(source), image_size=8).info
    return info.fingerprint, info.train_size > 0 and len(info.classes) > 1


def memory():
    """The most this process has had; getrusage tells of the one that started it as well."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def one(root):
    began = time.monotonic()
    signal.alarm(SECONDS)
    try:
        fingerprint, sound = read(root)
        answer = {"outcome": "read" if sound else "wrong", "text": fingerprint}
    except (ValueError, FileNotFoundError) as error:  # DatasetCorrupt, DatasetNotFound
        kind = type(error).__name__
        ours = kind in ("DatasetCorrupt", "DatasetNotFound", "ValueError")
        text = str(error)
        named = "set" in text or any(part in text for part in root.parts[-1:])
        answer = {
            "outcome": "refused" if ours and named and "\n" not in text else kind,
            "text": text,
        }
    except BaseException as error:
        answer = {"outcome": type(error).__name__, "text": str(error)}
    signal.alarm(0)
    return {"case": root.name, "seconds": time.monotonic() - began, "memory": memory()} | answer


def main():
    import terminator.data.episodes.sources  # noqa: F401
    import terminator.data.sequences.text  # noqa: F401  # before memory is limited

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    for root in sorted(Path(os.fsdecode(sys.argv[1])).iterdir()):
        print(json.dumps(one(root)), flush=True)


if __name__ == "__main__":
    main()
