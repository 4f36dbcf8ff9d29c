"""Where things lie, for tests in whatever folder."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PACKAGE = ROOT / "terminator"
GOLDEN = TESTS / "golden"
