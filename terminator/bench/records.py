"""Records of measurements: evidence of one moment on one machine."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from terminator.runs import records
from terminator.runtime import provenance
from terminator.runtime.paths import results_dir


def write_record(rows: list[dict[str, Any]], profile: str, started: str, experiment: str = "benchmark",
                 **more: Any) -> Path:
    """Write results/runs/<experiment>/speed-<profile>-<time>-<hash>/benchmark.json: rows, machine, code."""
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:6]
    name = f"speed-{profile}-{started.replace(':', '').removesuffix('+0000')}-{digest}"
    path = results_dir() / "runs" / experiment / name / "benchmark.json"
    device = "cuda" if any(row["device"] == "cuda" for row in rows) else "cpu"
    records.write_record(path, {"profile": profile, "machine": provenance.device_name(device), "rows": rows, **more,
                              "provenance": provenance.provenance(), "started": started, "finished": provenance.now()})
    return path


def load(profile: str | None = None, experiment: str = "benchmark") -> list[dict[str, Any]]:
    """All benchmark records of a profile (or all), oldest first."""
    paths = sorted(results_dir().glob(f"runs/{experiment}/*/benchmark.json"))
    found = [records.read_measurement(path) for path in paths]
    return [record for record in found if profile in (None, record["profile"])]


def newest(profile: str, experiment: str, device: str) -> dict[str, Any] | None:
    """The newest record of a profile and kind of device (cpu, cuda), if there is one."""
    found = [record for record in load(profile, experiment) if record["rows"][0]["device"] == device]
    return found[-1] if found else None


def recorded(profile: str, experiment: str, device: str, measured: Callable[[], dict[str, Any]], again: bool = False
             ) -> dict[str, Any]:
    """The newest record of a profile and kind of device, or one that is made and written now.

    Args:  measured: gives `rows`, each with its `device`, and whatever else the record is to hold;
           again: measure in any case.
    """
    if again or newest(profile, experiment, device) is None:
        started, content = provenance.now(), measured()
        write_record(content.pop("rows"), profile, started, experiment, **content)
    found = newest(profile, experiment, device)
    assert found is not None
    return found
