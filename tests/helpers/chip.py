"""A PN532 on a serial port, as nfcpy meets it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.pn532 import Pn532
from tests.helpers.stopwatch import Stopwatch


def in_own_time(read: Callable[[Any, float], bytearray]):
    """nfcpy's TTY.read, whose patience with the chip counts time in which both could
    run, or ten times as long by the clock."""

    def patient_read(port, timeout: float) -> bytearray:  # in milliseconds
        watch = Stopwatch()
        while True:
            try:
                return read(port, timeout)
            except OSError as error:
                patience_s = 0.9 * timeout / 1000  # a read ends a little early
                if (
                    error.errno != errno.ETIMEDOUT
                    or watch.own_s >= patience_s
                    or watch.wall_s >= 10 * patience_s
                ):
                    raise

    return patient_read


def new_chip() -> Pn532:
    try:
        return Pn532()
    except OSError as error:
        pytest.skip(f"nfcpy finds ports in /dev alone, and that is: {error.strerror}")
