"""nbval runs the notebooks against a results folder of its own: no older result may stand in; and
with this worker's share of the cores, as run_all.py does.
"""

import os
import tempfile

from terminator.runner.headless import thread_variables

_results = tempfile.TemporaryDirectory(prefix="terminator-results-", ignore_cleanup_errors=True)
os.environ["TERMINATOR_RESULTS"] = _results.name
os.environ["TERMINATOR_HEADLESS"] = "1"
os.environ.update(thread_variables(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
