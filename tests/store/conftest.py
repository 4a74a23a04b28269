"""A state folder with both databases, as a verb and as the door open them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from doorpi import SqliteStore


@pytest.fixture
def path(tmp_path) -> Path:
    """The event log's."""
    return tmp_path / "doorpi.db"


@pytest.fixture
def cards(path) -> Path:
    return path.with_name("cards.db")


@pytest.fixture
def store(path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(path)) as store:
        yield store


@pytest.fixture
def door_store(path) -> Iterator[SqliteStore]:
    """As the door has it: it repairs what is broken."""
    with contextlib.closing(SqliteStore(path, repair=True)) as store:
        yield store
