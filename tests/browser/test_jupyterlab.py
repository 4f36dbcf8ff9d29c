"""Notebooks as a person sees them: JupyterLab in a real, headless Chromium; skipped where there is
none.

TERMINATOR_BROWSER_ALL=1 TERMINATOR_SCREENSHOTS=shots python -m pytest -m "" tests/browser
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from places import ROOT

selenium = pytest.importorskip(
    "selenium", reason="selenium is not installed (pip install -e .[browser])"
)
from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import WebDriverException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ALL = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CHOSEN = ALL if os.environ.get("TERMINATOR_BROWSER_ALL") else ["00_tour", "02_hyperzzw"]
SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,1000",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver"),
]

EMPTY = ("[ ]:", "[]:", "")  # the prompt of a cell that has not run
# State of the notebook in the front: counts of the cells, errors, widths of figures, headings,
# bars, widgets
STATE = """
const panel = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)');
if (!panel) return null;
const prompts = [...panel.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent.trim());
return {
  status: panel.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status,
  prompts: prompts,
  errors: [...panel.querySelectorAll('[data-mime-type="application/vnd.jupyter.error"]')].map(e => e.textContent),
  images: [...panel.querySelectorAll('.jp-OutputArea-output img')].map(i => [i.clientWidth, i.naturalWidth,
      i.closest('.jp-OutputArea-output').clientWidth]),
  headings: panel.querySelectorAll('.jp-RenderedMarkdown h1, .jp-RenderedMarkdown h2').length,
  contents: document.querySelectorAll('.jp-TableOfContents:not(.lm-mod-hidden) .jp-tocItem').length,
  bars: panel.querySelectorAll('.jp-OutputArea-output .widget-hprogress').length,
  broken: [...panel.querySelectorAll('.jp-OutputArea-output')].map(o => o.textContent).filter(
      text => /Loading widget|Error (displaying|creating) widget/.test(text)),
};
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab over a copy of the notebooks: (address, token)."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    for name in ALL:  # as before their first run: what is shown afterwards is new
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"execution_count": None, "outputs": []}
        (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf8")
    tracker = (
        folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    )
    tracker.parent.mkdir(parents=True)
    # else only the cells in view are in the page, and a question may stand in the way
    tracker.write_text('{"windowingMode": "none", "autoStartDefaultKernel": true}')
    news = (
        folder
        / "settings"
        / "@jupyterlab"
        / "apputils-extension"
        / "notification.jupyterlab-settings"
    )
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')  # else a question covers a corner of every screenshot
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TERMINATOR_RESULTS": str(folder / "results"),
        "TERMINATOR_CACHE": str(folder / "cache"),
        "HOME": str(folder),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
    }
    environment.pop("TERMINATOR_HEADLESS", None)  # a person watches: progress bars
    log = open(folder / "lab.log", "wb")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={port}",
            f"--IdentityProvider.token={token}",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(
            lambda: urllib.request.urlopen(f"{address}/api?token={token}", timeout=2).status == 200,
            90,
            "JupyterLab did not start",
            tolerate=OSError,
        )
        yield address, token
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        log.close()


@pytest.fixture
def browser(lab, tmp_path):
    """A browser; after the test its kernels are shut down, else each keeps more than a gigabyte."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()
    address, token = lab
    for session in sessions(lab):
        urllib.request.urlopen(
            urllib.request.Request(
                f"{address}/api/sessions/{session['id']}?token={token}", method="DELETE"
            ),
            timeout=60,
        ).close()


def wait_for(condition, seconds, complaint, tolerate=()):
    """The first true value of `condition`, asked twice a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(*((tolerate,) if isinstance(tolerate, type) else tolerate)):
            if found := condition():
                return found
        time.sleep(0.5)
    raise AssertionError(f"{complaint} within {seconds} s")


def click(browser, selector, seconds, complaint):
    """Click what the selector finds, as soon as it can be clicked."""

    def clicked():
        for element in browser.find_elements(By.CSS_SELECTOR, selector):
            element.click()
            return True

    wait_for(clicked, seconds, complaint, tolerate=WebDriverException)


def sessions(lab):
    address, token = lab
    return json.load(urllib.request.urlopen(f"{address}/api/sessions?token={token}", timeout=30))


def connected(lab):
    """Whether the page has its connection to the kernel; before that, running cells asks for a
    kernel.
    """
    return any(session["kernel"]["connections"] for session in sessions(lab))


def run_all_cells(browser):
    """Menu Run, Run All Cells, until something runs: a click that comes too early is lost.

    Not the button that restarts as well: the kernel is fresh, and a message sent while its
    connection is being replaced makes the server drop that connection.
    """

    def begun():
        return any(prompt not in EMPTY for prompt in browser.execute_script(STATE)["prompts"])

    def clicked():
        with contextlib.suppress(WebDriverException):
            next(
                item
                for item in browser.find_elements(By.CSS_SELECTOR, ".lm-MenuBar-item")
                if item.text == "Run"
            ).click()
            time.sleep(0.5)
            browser.find_element(
                By.CSS_SELECTOR, ".lm-Menu-item[data-command='runmenu:run-all']"
            ).click()
            wait_for(begun, 20, "nothing ran")
        return begun()

    wait_for(clicked, 120, "nothing ran", tolerate=AssertionError)


def shoot(browser, name, folder):
    """Screenshots of the whole notebook, page by page."""
    scroller = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
    pages = browser.execute_script(
        "const e = document.querySelector(arguments[0]); return e ? Math.ceil(e.scrollHeight / "
        "e.clientHeight) : 1;",
        scroller,
    )
    for page in range(min(pages, 40)):
        browser.execute_script(
            "const e = document.querySelector(arguments[0]); if (e) e.scrollTop = arguments[1] * "
            "e.clientHeight;",
            scroller,
            page,
        )
        time.sleep(0.4)
        browser.save_screenshot(str(folder / f"{name}-{page:02d}.png"))


@pytest.mark.parametrize("name", CHOSEN)
def test_run_all_in_jupyterlab(lab, browser, tmp_path, name):
    address, token = lab
    folder = Path(os.environ.get("TERMINATOR_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    browser.set_script_timeout(30)
    browser.get(f"{address}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token={token}&reset")
    wait_for(
        lambda: (browser.execute_script(STATE) or {}).get("prompts"), 120, "no notebook was shown"
    )
    wait_for(
        lambda: (browser.execute_script(STATE) or {}).get("status") == "idle" and connected(lab),
        120,
        "the kernel was not ready",
    )
    try:
        run_all_cells(browser)
    finally:
        browser.save_screenshot(str(folder / f"{name}-running.png"))

    bars = 0

    def is_done():
        nonlocal bars
        found = browser.execute_script(STATE)
        if found["bars"] > bars:
            bars = found["bars"]
            browser.save_screenshot(str(folder / f"{name}-bar.png"))
        waiting = any("*" in prompt or prompt in EMPTY for prompt in found["prompts"])
        return (found["errors"] or (found["status"] == "idle" and not waiting)) and found

    state = wait_for(is_done, 1800, "the notebook did not come to its end")
    with contextlib.suppress(AssertionError):  # first the pictures: a failure below leaves them
        click(
            browser,
            ".lm-TabBar-tab[data-id='table-of-contents']",
            60,
            "no tab for the table of contents",
        )
        wait_for(
            lambda: (now := browser.execute_script(STATE))["contents"] >= now["headings"] >= 2,
            60,
            "no contents",
        )
    shoot(browser, name, folder)
    state = state | {"contents": browser.execute_script(STATE)["contents"]}
    assert not state["errors"], state["errors"][0][:2000]
    code = sum(
        cell["cell_type"] == "code"
        for cell in json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf8"))[
            "cells"
        ]
    )
    assert state["prompts"] == [f"[{number}]:" for number in range(1, code + 1)]
    assert state["contents"] >= state["headings"] >= 2, (
        "no table of contents, or not of every heading"
    )
    assert bars or name != "00_tour", "no progress bar was seen, although a model was trained"
    assert not state["broken"], f"a widget was not shown: {state['broken'][0]}"
    for shown, natural, available in state["images"]:
        assert shown <= available + 1, f"a figure {natural} pixels wide is cut off at {available}"
