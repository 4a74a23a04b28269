"""The quick tier: no processes, no sockets, no waiting."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

LEFT_TO_OTHERS: tuple[tuple[object, str], ...] = (
    (subprocess, "Popen"), (os, "fork"), (socket, "socket"), (time, "sleep"),
)  # fmt: skip


def forbidden(name: str) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError(f"{name} in the quick tier: the test belongs elsewhere")

    return fail


@pytest.fixture(autouse=True, scope="module")
def pure() -> Iterator[None]:
    """`sh tests/run.sh --quick` runs these folders; tests/README.md has the tiers."""
    with pytest.MonkeyPatch.context() as patch:
        for where, name in LEFT_TO_OTHERS:
            patch.setattr(where, name, forbidden(name))
        yield
