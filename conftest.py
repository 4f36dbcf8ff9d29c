"""The order of the test files: what takes long comes first, so that no worker ends alone with it.

A file goes to one worker (`--dist loadfile`), which takes the next one of this order when it has
done with its last. Notebooks that read the same runs stand apart: the second finds what the first
has trained.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
LONGEST_FIRST = (
    "notebooks/00_tour.ipynb",
    "notebooks/12_convergence.ipynb",
    "notebooks/14_slow_neural_loss.ipynb",
    "notebooks/13_ablations.ipynb",
    "notebooks/22_hypertransformer.ipynb",
    "notebooks/20_hamburger.ipynb",
    "notebooks/05_your_own_images.ipynb",
    "notebooks/31_speed.ipynb",
    "notebooks/30_one_bench.ipynb",
    "notebooks/21_hrrformer.ipynb",
    "tests/core/test_compile.py",
    "tests/runner/test_run_all.py",
)


def pytest_configure(config):
    """xdist would begin with the files that hold the most tests, which are the quickest ones."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    places = {ROOT / name: place for place, name in enumerate(LONGEST_FIRST)}

    def place(item):
        return places.get(item.path, len(places) + (item.path.suffix != ".ipynb"))

    items.sort(key=place)  # stable: within a file the order stays
