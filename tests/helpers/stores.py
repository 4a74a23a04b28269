"""What the tests of databases on disk share: events, SQL by hand, a second process."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

from doorpi import Command, Event, Reason, SqliteStore
from tests.helpers.processes import environment
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER

INTENT = Event(
    at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.GRANTED, command=Command.UNLOCK
)
DENIED = Event(at=NOON, uid=STRANGER, holder="", reason=Reason.NOT_FOUND)


def record(store: SqliteStore, event: Event = INTENT, **outcome) -> Event:
    """``event`` from begin to finish, as the log then has it."""
    event = replace(event, id=store.events.begin(event), **outcome)
    if event.result:
        store.events.finish(event)
    return event


def run_sql(path: Path, *scripts: str) -> list[list[tuple]]:
    """What somebody with the sqlite3 shell could do: the rows of each statement."""
    statements = [each for script in scripts for each in script.split(";")]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        return [db.execute(each).fetchall() for each in statements if each.strip()]


def ids(store: SqliteStore) -> list[int]:
    return [event.id for event in store.events.read()]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def started(program: str, *args: object, **options) -> subprocess.Popen:
    """Another process with the same ``doorpi``, which reads and writes lines."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys, os, doorpi\n" + program, *map(str, args)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(), **options,
    )  # fmt: skip
