"""What an installation without the extra `notebooks` lacks, played in one that has it."""

import tomllib
from pathlib import Path

from places import ROOT

# what comes with the extra's packages and is imported somewhere
WITH_THEM = {"IPython", "nbclient", "jupyter_client", "jupyter_core", "traitlets", "psutil"}
HOOK = """import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, *rest, **more):
        return None if name.partition(".")[0] in {hidden} else super().find_spec(name, *rest, **more)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]


def distribution(requirement):
    """The name in a requirement: "pillow" of "pillow>=10.0"."""
    return requirement.partition(">")[0].partition("[")[0]


def hide(folder: Path):
    """Let no Python that starts with this folder on its path find what the extra brings."""
    extra = project()["optional-dependencies"]["notebooks"]
    hidden = {distribution(entry) for entry in extra} | WITH_THEM
    (folder / "sitecustomize.py").write_text(HOOK.replace("{hidden}", repr(hidden)))
