r"""Invariant 14: flat for ever.  A long day in a short test; more by hand:

DOORPI_TAPS=100000 DOORPI_FAULTS=1000 sh tests/run.sh -n 0 -s --timeout 9000 \
    tests/process/test_flat.py

A real door, a real reader, a real database; the lock and the lights are fakes.  The door's
pauses are skipped: its clock is the computer's, put forward by each sleep.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from doorpi import (
    NfcReader,
    ReaderConfig,
    SqliteEvents,
    SqliteStore,
    Uid,
)
from tests.fakes.cards import card
from tests.fakes.virtual import VirtualCard
from tests.helpers.bench import FAULTS
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import FakeSupervisor, QuickClock, World, card_of, config_of

TAPS = int(os.environ.get("DOORPI_TAPS", "60"))
FAULTY = int(os.environ.get("DOORPI_FAULTS", "10"))
WARM_UP = 50
#: Of the database, for a tap's event and its outcome; 270 were measured.
ROWS_BYTES = 600
GROWTH_KB = 2048
RENEW_S = 1000.0
#: From one tap to the next: a crowd of the denied would be counted, not stored.
GAP_S = 150.0

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

MEMBERS = ("04A93C715ED284", "D3C2B1A0", "04112233445566")
PEOPLE: tuple[tuple[Callable[[], VirtualCard], str, str], ...] = (
    (lambda: card("ntag213", uid=MEMBERS[0]), MEMBERS[0], "granted"),
    (lambda: card("classic", uid=MEMBERS[1]), MEMBERS[1], "granted"),
    (lambda: card("phone"), "08", "random-uid"),
    (lambda: card("desfire", uid=MEMBERS[2]), MEMBERS[2], "granted"),
    (lambda: card("ten-bytes"), card("ten-bytes").uid.hex().upper(), "not-found"),
)


class LastWords(FakeSupervisor):
    text = ""

    def status(self, text: str) -> None:
        self.text = text


class CountingEvents(SqliteEvents):
    begun = 0

    def begin(self, *args):
        self.begun += 1
        return super().begin(*args)


class Soak(World):
    """A door before which people come and go, and whose reader fails."""

    rearm_s = poll_s = 0.05

    def __init__(self, field, path: Path) -> None:
        super().__init__(clock=QuickClock(), supervisor=LastWords())
        self.field = field
        self.reader = NfcReader(field.device)
        self.reader.renew_s = RENEW_S
        self.store = SqliteStore(path)
        self.store.events.__class__ = CountingEvents
        self.taps = self.faults = 0
        config = replace(
            config_of(*(card_of(Uid(uid)) for uid in MEMBERS)),
            readers=(
                ReaderConfig(
                    device=field.device, poll_s=self.poll_s, rearm_s=self.rearm_s
                ),
            ),
        )
        self.steps = self.door(config)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        watch = Stopwatch()
        while not condition():
            self.steps.step()
            self._forget()
            assert not watch.is_past(10), f"tap {self.taps}: {what}"

    def look(self, times: int) -> None:
        for _ in range(times):
            self.steps.step()

    @property
    def is_lost(self) -> bool:
        return "card reader" in self.supervisor.text

    def people_come(self, count: int, faults: int) -> None:
        """``count`` taps, ``faults`` of them with a reader that fails."""
        for number in range(count):
            show, _, _ = PEOPLE[self.taps % len(PEOPLE)]
            if number * faults // count == (number + 1) * faults // count:
                self.field.put(show())
            else:
                self.fails(show())
            self.taps += 1
            self.until(lambda: self.store.events.begun == self.taps, "no event")
            self.look(1 + number % 3)  # it lies there a while
            assert self.store.events.begun == self.taps, "a second event"
            self.field.take()
            self.look(3)
            self.clock.advance(GAP_S)

    def fails(self, shown: VirtualCard) -> None:
        """A fault before, in or during what ``shown`` is here for, or while it lies
        there afterwards; every kind at every moment in turn."""
        kinds = breaks_of(self.field, self.reader)
        round_, kind = divmod(self.faults, len(kinds))
        break_it, cure = kinds[kind]
        served = self.store.events.begun + 1
        match (kind + round_) % 4:
            case 0:
                break_it()
                self.until(lambda: self.is_lost, "not lost")
                self.field.put(shown)
            case 1:
                self.field.put(shown)
                break_it()
            case 2:
                self.field.put(shown)
                self._while_served(break_it)
                self.until(lambda: self.store.events.begun == served, "not served")
            case 3:
                self.field.put(shown)
                self.until(lambda: self.store.events.begun == served, "not served")
                break_it()
        self.until(lambda: self.is_lost, "not lost")
        self.look(self.faults % 2 * 6)  # more tries, or fewer
        cure()
        self.until(lambda: not self.is_lost, "not back")
        self.faults += 1

    def _while_served(self, action: Callable[[], object]) -> None:
        """Do it while the card's event is written to the disk."""
        begin = type(self.store.events).begin

        def begin_meanwhile(*args):
            del self.store.events.begin
            action()
            return begin(self.store.events, *args)

        self.store.events.begin = begin_meanwhile

    def at_rest(self) -> int:
        """Resident kB, without SQLite's cache of pages; what the -wal held is in the
        file."""
        self.store.close()
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def _forget(self) -> None:
        """What the fakes remember is not the door's."""
        for memory in (
            self.lights.shown,
            self.supervisor.said,
            self.lock.sent,
            self.lock.send_bys,
            self.lock.asked,
            self.lock.answer_within_s,
        ):
            memory.clear()


def breaks_of(field, reader) -> list[tuple[Callable[[], object], ...]]:
    """How to break the reader, and what ends that."""
    if hasattr(field, "hang_up"):
        chips = [*FAULTS.values(), (leave_at_high_speed, lambda chip: None)]
        return [(lambda b=b: b(field), lambda c=c: c(field)) for b, c in chips]

    def lose():  # its socket dies under nfcpy's udp driver
        if reader._frontend is not None:
            reader._frontend.device._create_socket()
            reader._frontend.device.socket.close()

    return [(lose, lambda: None)]


def leave_at_high_speed(chip) -> None:
    chip.baud = (921600, 460800, 230400)[chip.senses % 3]


def held() -> tuple[int, int]:
    """Descriptors and threads."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


@pytest.mark.parametrize("field_kind", ["pn532", "udp"])
def test_taps_and_reader_faults_cost_no_memory_no_descriptor_and_little_disk(
    field_kind, request, tmp_path, caplog
):
    caplog.set_level("CRITICAL")
    field = request.getfixturevalue({"pn532": "chip", "udp": "radio"}[field_kind])
    soak = Soak(field, tmp_path / "doorpi.db")
    store, count = soak.store, WARM_UP + TAPS
    soak.people_come(WARM_UP, faults=10)
    memory_kb, resources, began_at = soak.at_rest(), held(), time.monotonic()

    soak.people_come(TAPS, faults=FAULTY)

    took_s, grown_kb = time.monotonic() - began_at, soak.at_rest() - memory_kb
    size = store.events.path.stat().st_size
    print(
        f"\n{field_kind}: {TAPS} taps and {soak.faults - 10} faults in {took_s:.0f} s;"
        f" {memory_kb} kB + {grown_kb} kB, {resources[0]} descriptors;"
        f" {size / count:.0f} bytes of database for a tap"
    )
    assert grown_kb < GROWTH_KB
    assert held() == resources
    assert store.events.verify() is None
    assert size < count * ROWS_BYTES + 100_000
    number = -1
    for number, event in enumerate(store.events.read()):
        _, uid, reason = PEOPLE[number % len(PEOPLE)]
        assert (event.uid[: len(uid)], event.reason) == (uid, reason)
        assert bool(event.result) is (reason == "granted")
    assert number + 1 == count
    store.close()
