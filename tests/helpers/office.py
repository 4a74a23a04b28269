"""A verb in this process, on the settings in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from doorpi import main


class Said(NamedTuple):
    """How a verb ended: its exit code, and the lines that it printed."""

    code: int
    out: list[str]
    err: list[str]


def verbs_on(path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs one verb with the settings at ``path``."""

    def run(*args: str) -> Said:
        code = main(["--config", str(path), *args])
        out, err = capsys.readouterr()
        return Said(code, out.splitlines(), err.splitlines())

    return run
