"""Rot on the disk after a power cut: who was revoked stays out, and a lockdown lasts.

What a door and the owner's verbs have written is copied while it is open, as a power cut
would leave it, and each time some of it is spoiled before the next door starts on it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import KEN, NOON, STRANGER, card_of

import doorpi
from doorpi import Event, Reason, Result, SqliteStore, StoreError, Uid

ROTS = int(os.environ.get("DOORPI_ROTS", "60"))
TAP = Event(
    at=NOON, uid=STRANGER, holder="Jo", reason=Reason.GRANTED, result=Result.UNLOCKED
)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What is on disk after: Ken is revoked, and the door is locked down."""
    live, image = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("image")

    def by_verb(change) -> None:
        with contextlib.closing(SqliteStore(live / "doorpi.db")) as verb:
            change(verb)

    with contextlib.closing(SqliteStore(live / "doorpi.db", repair=True)) as door:
        members = [card_of(Uid(f"{number:08X}"), "A member") for number in range(20)]
        by_verb(lambda verb: verb.change_cards([card_of(), *members], [], NOON))
        assert door.find(KEN)  # it has the list open from now on
        for _ in range(20):
            door.record(TAP)
        by_verb(lambda verb: verb.change_cards([], [KEN], NOON))
        by_verb(lambda verb: verb.lock_down("owner"))
        door.record(TAP)
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
            for first in (SqliteStore.close_interrupted, SqliteStore.tidy):
                found(door, first)
            ken = found(door, lambda store: store.find(KEN))
            is_back = doorpi.decide(KEN, ken, doorpi.Circumstances(at=NOON)).granted
            wrong[f"{how}: a revoked card is back"] += is_back
            is_down = found(door, SqliteStore.locked_down)
            wrong[f"{how}: the lockdown is over"] += not is_down
        shutil.rmtree(state)

    assert +wrong == Counter()
