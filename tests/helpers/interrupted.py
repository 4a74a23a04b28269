"""SIGTERM at a given line of the door's own code."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable

import doorpi
from doorpi import (
    ProcessSignals,
    Stopped,
)

CODE = {
    function.__code__
    for kind in (
        doorpi.Door,
        doorpi.Doorkeeper,
        doorpi.Display,
        doorpi.Passage,
        doorpi.LockControl,
        doorpi.Relocking,
        doorpi.Runner,
    )
    for function in vars(kind).values()
    if hasattr(function, "__code__")
}


def is_stopped_at(line: int, run: Callable[[], object]) -> bool:
    """``run`` with SIGTERM at the ``line``-th line; False when it has no such line."""
    left = line
    ProcessSignals().install()

    def watch(frame, what, _):
        nonlocal left
        if frame.f_code not in CODE:
            return None
        if what == "line":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGTERM)
        return watch

    sys.settrace(watch)
    try:
        with contextlib.suppress(Stopped):
            run()
    finally:
        sys.settrace(None)
    return left <= 0
