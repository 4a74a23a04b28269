"""What the tests of `doorpi online` share: an context on real databases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from doorpi import (
    Config,
    Context,
    DoorConfig,
    OnlineStore,
    SqliteStore,
    SyncedPeople,
)
from tests.helpers.world import FakeClock


@pytest.fixture
def context(tmp_path: Path, clock: FakeClock) -> Iterator[Context]:
    """Of a door that runs and has no troubles; a test may change ``troubles``."""
    store, own = (
        SqliteStore(tmp_path / "doorpi.db"),
        OnlineStore(tmp_path / "online.db"),
    )
    synced = SyncedPeople(tmp_path / "synced.db")
    with contextlib.closing(store), contextlib.closing(own), contextlib.closing(synced):
        yield Context(
            config=Config(door=DoorConfig(name="Front")),
            clock=clock,
            store=own,
            people=store.people,
            synced=synced,
            events=store.events,
            ask=lambda request: None,
            troubles=dict,
        )
