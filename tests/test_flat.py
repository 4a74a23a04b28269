"""Invariant 14: flat for ever.  A long day in a short test; more by hand:

DOORPI_TAPS=100000 sh tests/run.sh --timeout 600 tests/test_flat.py
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

from conftest import KEN

from doorpi import ReaderLost, SqliteStore

TAPS = int(os.environ.get("DOORPI_TAPS", "1500"))
ROWS_BYTES = (
    600  # of the database, for a tap's event and its outcome; 310 were measured
)


def resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def taps(world, door, count: int) -> None:
    """``count`` taps, every twentieth with a reader that fails in the middle."""
    for number in range(count):
        world.reader.shows = [KEN, *[None] * 12]
        if number % 20 == 0:
            world.reader.shows[4] = ReaderLost("unplugged")
        while world.reader.shows:
            door.step()
        for memory in (
            world.lights.shown,
            world.clock.slept,
            world.supervisor.said,
            world.lock.sent,
            world.lock.send_bys,
            world.lock.asked,
            world.lock.answer_within_s,
        ):  # fmt: skip  -- what the fakes remember is not the door's
            memory.clear()


def test_taps_and_reader_faults_cost_no_memory_no_descriptor_and_little_disk(
    world, tmp_path, caplog
):
    caplog.set_level("CRITICAL")
    door = world.door()
    world.equipment.store = store = SqliteStore(tmp_path / "doorpi.db")
    taps(world, door, 300)
    gc.collect()
    memory_kb, files = resident_kb(), open_files()

    taps(world, door, TAPS)

    gc.collect()
    events = list(store.events())
    assert len(events) == 300 + TAPS
    assert {event.result for event in events} == {"unlocked", "locked"}
    del events
    assert open_files() == files
    assert store.verify() is None
    store.close()  # what the -wal holds goes into the file
    assert store.path.stat().st_size < (300 + TAPS) * ROWS_BYTES + 100_000
    world.equipment.store = SqliteStore(tmp_path / "another.db")
    taps(world, door, 300)
    gc.collect()
    world.equipment.store.close()
    assert resident_kb() - memory_kb < 2048
