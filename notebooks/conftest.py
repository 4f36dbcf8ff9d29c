"""nbval runs the notebooks against a results folder of its own: no older result may stand in."""

import os
import tempfile

_results = tempfile.TemporaryDirectory(prefix="terminator-results-", ignore_cleanup_errors=True)
os.environ["TERMINATOR_RESULTS"] = _results.name
os.environ["TERMINATOR_HEADLESS"] = "1"
