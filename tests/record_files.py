"""Records as finished runs write them, with invented numbers."""

from terminator.classification.config import Config
from terminator.runs import records
from terminator.runtime.paths import results_dir
from terminator.runtime.settings import to_dict


def record(
    seed=0, accuracy=90.0, profile="laptop", experiment="images", fingerprint="f" * 64, **changes
):
    """A record as a finished run writes it, with an invented accuracy."""
    config = Config().updated(train={"seed": seed}).updated(**changes)
    name = f"digits-{profile}-s{seed}-{abs(hash((accuracy, fingerprint, str(changes)))):x}"
    return {
        "run_id": name,
        "experiment": experiment,
        "status": "ok",
        "profile": profile,
        "seed": seed,
        "model": "Terminator",
        "parameters": 1000,
        "flops_per_image": 10,
        "config": to_dict(config),
        "results": {
            "released": {"accuracy": accuracy, "images": 360},
            "calibrated": {"accuracy": accuracy - 1, "images": 360},
        },
        "data": {
            "title": "digits (8x8)",
            "train_size": 1437,
            "test_size": 360,
            "shape": [3, 8, 8],
            "fingerprint": fingerprint,
        },
        "wall_s": 60.0,
        "images_per_s": 100.0,
        "peak_memory_bytes": 10**8,
        "device": "a processor",
        "provenance": {"commit": "abc", "dirty": False},
        "finished": "2024-01-01T00:00:00+00:00",
    }


def put(*given):
    for r in given:
        records.write_json(
            results_dir() / "runs" / r["experiment"] / r["run_id"] / "record.json", r
        )
