"""Processes that work for another one end with it, however it ended."""

from __future__ import annotations

import os
import threading
import time

LOOK_S = 0.5  # between two looks at who the parent is


def end_with(parent: int) -> None:
    """Have this process end soon after its parent: a thread looks whether it has been given
    another one, as orphans are. Called again, it does nothing.

    Windows gives orphans no other parent: there they end by themselves, once they have been idle.

    Args:
        parent: the process that started this one.
    """
    if os.name == "posix" and not any(thread.name == __name__ for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), name=__name__, daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)  # at once: nobody is there who could want anything of it
