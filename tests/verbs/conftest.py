"""An owner's folder, and the verbs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.office import Said, verbs_on


@pytest.fixture(autouse=True)
def own_world(monkeypatch) -> None:
    """Verbs look at the environment: here nobi runs them, by hand."""
    for name in (
        "DOORPI_CONFIG", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "SUDO_USER",
        "NO_COLOR",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USER", "nobi")


@pytest.fixture
def folder(tmp_path, request) -> Path:
    """Has the settings of the test's file: what that calls CONFIG."""
    path = tmp_path / "doorpi.toml"
    path.write_text(request.module.CONFIG, encoding="utf-8")
    path.chmod(0o640)
    return tmp_path


@pytest.fixture
def path(folder) -> Path:
    return folder / "doorpi.toml"


@pytest.fixture
def verb(path, capsys) -> Callable[..., Said]:
    """Runs one verb on the settings in ``folder``."""
    return verbs_on(path, capsys)
