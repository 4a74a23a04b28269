"""What the tests of `doorpi online` share: an context on real databases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doorpi import (
    Config,
    Context,
    DoorConfig,
    OnlineStore,
    SqliteStore,
    SyncedPeople,
)
from tests.helpers.broker import Broker, Linked, Peer, running
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
            started=lambda: None,
        )


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that lets anybody do anything."""
    with running(tmp_path) as broker:
        yield broker


@pytest.fixture
def peers() -> Iterator[Callable[..., Peer]]:
    """Makes clients of a broker: ``peers(port, "topic/#")``."""
    made: list[Peer] = []

    def peer(*args: Any, **more: Any) -> Peer:
        made.append(Peer(*args, **more))
        return made[-1]

    yield peer
    for each in made:
        each.close()


@pytest.fixture
def links(tmp_path: Path) -> Iterator[Callable[..., Linked]]:
    """Makes running links: ``links(port, Part, door="front")``."""
    made: list[Linked] = []

    def linked(port: int, *parts: Any, **settings: Any) -> Linked:
        folder = tmp_path / f"door{len(made)}"
        folder.mkdir()
        made.append(Linked(folder, port, *parts, **settings))
        return made[-1]

    yield linked
    for each in made:
        each.close()
