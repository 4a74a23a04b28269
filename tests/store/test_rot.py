"""Rot on the disk after a power cut: who was revoked stays out, and a lockdown lasts.

What a door and the owner's verbs have written is copied while it is open, as a power cut
would leave it, and each time some of it is spoiled before the next door starts on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import Event, Reason, Result, SqliteStore, StoreError, Uid, main
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, card_of

ROTS = int(os.environ.get("DOORPI_ROTS", "60"))
TAP = Event(
    at=NOON, uid=STRANGER, holder="Jo", reason=Reason.GRANTED, result=Result.UNLOCKED
)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What is on disk after: Ken is revoked, Jo, who is in the file, is blocked, and the
    door is locked down."""
    live, image = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("image")

    def by_verb(change) -> None:
        with contextlib.closing(SqliteStore(live / "doorpi.db")) as verb:
            change(verb)

    with contextlib.closing(SqliteStore(live / "doorpi.db", repair=True)) as door:
        members = [card_of(Uid(f"{number:08X}"), "A member") for number in range(20)]
        by_verb(lambda verb: verb.people.change_cards([card_of(), *members], [], NOON))
        assert door.people.find(KEN)  # it has the list open from now on
        for _ in range(20):
            door.events.record(TAP)
        block = doorpi.Block(uid=STRANGER, holder="Jo", since=NOON, by="owner")
        by_verb(lambda verb: verb.people.change_cards([], [KEN], NOON, block=[block]))
        by_verb(lambda verb: verb.people.lock_down("owner"))
        door.events.record(TAP)
        for file in live.iterdir():
            if not file.name.endswith("-shm"):  # made anew after a power cut
                shutil.copy(file, image)
    return image


def rot(file: Path, chance: random.Random) -> str:
    """Spoil ``file`` as memory cards do; how."""
    data = bytearray(file.read_bytes())
    if not data:
        return "nothing"
    at, kind = chance.randrange(len(data)), chance.choice(["bit", "bit", *KINDS])
    if kind == "bit":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "end":
        del data[at:]
    else:
        size = 512 if kind == "sector" else 4096
        at -= at % size
        here = len(data[at : at + size])
        data[at : at + size] = (
            chance.randbytes(here) if kind == "sector" else bytes(here)
        )
    file.write_bytes(data)
    return kind


KINDS = ("sector", "page", "end")


def found(store: SqliteStore, ask):
    """The answer, however often the store must mend itself first; None for none."""
    for _ in range(4):
        with contextlib.suppress(StoreError):
            return ask(store)
    return None


def test_no_rot_in_any_file_brings_a_card_back_or_ends_a_lockdown(image, tmp_path):
    chance, wrong = random.Random(11), Counter()
    files = sorted(file.name for file in image.iterdir())
    assert {"cards.db", "cards.db-wal", "cards.copy", "doorpi.db-wal"} <= set(files)
    for number in range(ROTS):
        state = tmp_path / str(number)
        shutil.copytree(image, state)
        name = chance.choice(files)
        how = f"{name}: {rot(state / name, chance)}"

        with contextlib.closing(SqliteStore(state / "doorpi.db", repair=True)) as door:
            for first in (
                lambda store: store.events.close_interrupted(),
                lambda store: store.events.tidy(),
                lambda store: store.people.tidy(),
            ):
                found(door, first)
            ken = found(door, lambda store: store.people.find(KEN))
            is_back = doorpi.decide(KEN, ken, doorpi.Circumstances(at=NOON)).granted
            wrong[f"{how}: a revoked card is back"] += is_back
            jo = found(door, lambda store: store.people.block_on(STRANGER, "Jo"))
            wrong[f"{how}: a block is gone"] += jo is None
            is_down = found(door, lambda store: store.people.locked_down())
            wrong[f"{how}: the lockdown is over"] += not is_down
        shutil.rmtree(state)

    assert +wrong == Counter()


# -- values that make no sense, in a file that is whole

#: Of other types than the column's, or of a form that nothing can be done with.
VALUES = [
    b"\x00", 2**63 - 1, -1, 1.5, "", "noon", "\x1b[2J", "2026-11-18T12:00:00",
    "9999-12-31T23:59:59.999Z", "0001-01-01", "9" * 40,
]  # fmt: skip
TABLES = {
    "doorpi.db": ("events", "outcomes", "chains", "states"),
    "cards.db": ("cards", "marks"),
}
YEAR = timedelta(days=365)
VERBS = ["cards"], ["log"], ["log", "--verify"], ["why", "A", "member"]


def spoil_a_value(state: Path, chance: random.Random) -> str:
    """Put another value into one column of one row, or of all; what and where."""
    file = chance.choice(list(TABLES))
    table = chance.choice(TABLES[file])
    with contextlib.closing(sqlite3.connect(state / file, isolation_level=None)) as db:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        column, value = chance.choice(columns), chance.choice(VALUES)
        with contextlib.suppress(sqlite3.IntegrityError):  # ids are numbers always
            db.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))
    if chance.random() < 0.5:  # where the copy does not help
        (state / "cards.copy").unlink()
    return f"{table}.{column} = {value!r}"


def a_days_work(store: SqliteStore):
    """All that a door and the verbs ask of it, each by itself."""
    tap = Event(at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.GRANTED)
    yield store.events.close_interrupted
    yield store.people.tidy
    yield lambda: store.people.find(KEN)
    yield lambda: store.events.last_moved(STRANGER)
    yield store.people.locked_down
    yield lambda: store.events.record(replace(tap, result=Result.UNLOCKED))
    yield lambda: store.events.recall("relock")
    yield lambda: store.events.last_seen(STRANGER)
    yield lambda: list(store.people.cards())
    yield lambda: list(store.events.read(since=NOON - YEAR))
    yield store.events.last_id
    yield store.events.verify
    yield store.people.lost
    yield store.people.changed_at
    yield lambda: store.events.forget(NOON - YEAR, NOON, 3)
    yield lambda: store.events.forget(NOON + YEAR, NOON + 2 * YEAR, 3)
    yield lambda: store.people.change_cards([card_of()], [STRANGER], NOON)
    yield lambda: store.people.lock_down("")


def test_no_value_in_any_row_is_more_than_trouble_with_the_database(
    image, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("STATE_DIRECTORY", "")
    settings, chance = tmp_path / "doorpi.toml", random.Random(4)
    settings.write_text(f'[door]\nstate_dir = "{tmp_path}/s"\n[lock]\nkind = "relay"\n')
    for _ in range(ROTS // 2):
        shutil.copytree(image, tmp_path / "s")
        print(spoil_a_value(tmp_path / "s", chance))  # for who reads why it fails
        assert main(["--config", str(settings), *chance.choice(VERBS)]) in (0, 1)
        assert "\x1b" not in capsys.readouterr().out
        path = tmp_path / "s" / "doorpi.db"
        with contextlib.closing(SqliteStore(path, repair=True)) as store:
            store.events.keep(doorpi.NO_NOTES)  # makes the database
            store.events._connection().execute("PRAGMA synchronous = OFF")
            for ask in a_days_work(store):
                with contextlib.suppress(StoreError):
                    ask()
        shutil.rmtree(tmp_path / "s")
