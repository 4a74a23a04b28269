"""The inbox: other processes ask the running door, and each request acts once at most."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    Answer,
    Inbox,
    InboxSource,
    Medium,
    StoreError,
    SystemClock,
    Wants,
)

DONE = Answer(True, ["unlocked"])


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run" / "inbox.db"


def door_of(path: Path, clock) -> Inbox:
    inbox = Inbox(path, clock, busy_s=0.05)
    inbox.begin()
    return inbox


@pytest.fixture
def door(path, clock):
    with closing(door_of(path, clock)) as door:
        yield door


@pytest.fixture
def sender(door, path, clock):
    with closing(Inbox(path, clock)) as sender:
        yield sender


def request(clock, name="one", **changes) -> AccessRequest:
    now = clock.monotonic()
    unlock = AccessRequest(
        Medium.COMMAND, "ken", clock.now(), now, now + 10.0, Wants.UNLOCK, "", name
    )
    return unlock._replace(**changes)


# -- one request on its way


def test_request_and_answer_arrive_unchanged(door, sender, clock):
    sent = request(clock, medium=Medium.CHAT, identifier="4711", point="front")

    assert sender.put(sent)
    clock.advance(0.5)
    taken = door.take()

    assert taken == sent._replace(at=clock.now())
    assert sender.answer_to("one") is None
    door.answer("one", DONE)
    assert sender.answer_to("one") == DONE


def test_a_request_is_taken_once(door, sender, clock):
    sender.put(request(clock))

    assert [door.take() is None for _ in range(3)] == [False, True, True]


def test_an_id_counts_once(door, sender, clock):
    sender.put(request(clock))
    door.take()

    assert not sender.put(request(clock))
    assert door.take() is None
    door.answer("one", DONE)
    assert not sender.put(request(clock))
    assert door.take() is None


def test_requests_are_taken_in_order_of_arrival(door, sender, path, clock):
    with closing(Inbox(path, clock)) as other:
        sender.put(request(clock, "b"))
        clock.advance(0.1)
        other.put(request(clock, "a"))

    assert [door.take().id, door.take().id, door.take()] == ["b", "a", None]


def test_request_taken_back_is_never_delivered(door, sender, clock):
    sender.put(request(clock))

    assert sender.take_back("one")
    assert door.take() is None
    assert not sender.take_back("one")


def test_request_that_was_begun_cannot_be_taken_back(door, sender, clock):
    sender.put(request(clock))
    door.take()

    assert not sender.take_back("one")
    door.answer("one", DONE)
    assert not sender.take_back("one")
    assert sender.answer_to("one") == DONE


def test_steps_of_an_order_are_shown_once_each(door, sender, clock):
    shown: list[str] = []
    sender.show = shown.append
    sender.put(request(clock, wants=Wants.ISSUE))
    order = door.take()

    for lines in (["one"], ["one"], ["one", "two", "three"]):
        assert door.report(order.id, lines)
        assert sender.answer_to("one") is None
    door.answer("one", DONE)

    assert sender.answer_to("one") == DONE
    assert shown == ["one", "two", "three"]


def test_order_that_was_begun_can_be_withdrawn(door, sender, clock):
    sender.put(request(clock, wants=Wants.WIPE))
    order = door.take()
    assert door.report(order.id, [])

    assert sender.take_back("one", is_order=True)
    assert not door.report(order.id, ["one"])
    door.answer("one", DONE)
    assert sender.answer_to("one") is None


def test_inbox_of_an_earlier_version_is_used(path, clock):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute(doorpi.INBOX_TABLE)
        db.execute("PRAGMA user_version = 1")
    with closing(door_of(path, clock)) as door, closing(Inbox(path, clock)) as sender:
        sender.put(request(clock, wants=Wants.ISSUE))
        assert door.report(door.take().id, ["one"])


@pytest.mark.parametrize(
    "changes",
    [
        {"wants": Wants.TAP},
        {"wants": "open"},
        {"medium": Medium.CARD},
        {"medium": Medium.RELOCK},
        {"wants": Wants.ISSUE, "medium": Medium.CHAT},
        {"wants": Wants.WIPE, "medium": Medium.MQTT},
        {"medium": "fax"},
        {"good_until": "soon"},
        {"good_until": "nan"},
        {"good_until": "inf"},
        {"arrived": "now"},
    ],
    ids=str,
)
def test_inbox_refuses_requests_that_only_a_reader_may_make(
    door, sender, clock, changes
):
    """From afar nothing toggles, and nobody passes for a card."""
    sender.put(request(clock, **changes))

    assert door.take() is None
    assert sender.answer_to("one") == doorpi.NOT_UNDERSTOOD


def test_arrival_in_the_future_counts_as_now(door, sender, clock):
    for name, arrived in (("one", clock.monotonic() + 1e6), ("two", "nan")):
        sender.put(request(clock, name, arrived=arrived))

    assert door.take().arrived == door.take().arrived == clock.monotonic()


def test_id_is_forgotten_an_hour_after_its_expiry(door, sender, clock):
    sender.put(request(clock))
    door.take()
    door.answer("one", DONE)
    clock.advance(10.0 + Inbox.kept_s + 0.1)

    sender.put(request(clock, "two"))
    door.take()
    door.answer("two", DONE)

    assert sender.answer_to("one") is None
    assert sender.answer_to("two") == DONE


# -- restarts


def test_waiting_request_survives_a_restart_of_the_door(door, sender, path, clock):
    sender.put(request(clock))
    door.close()

    with closing(door_of(path, clock)) as next_door:
        assert next_door.take().id == "one"


def test_begun_request_is_never_begun_again_after_a_restart(door, sender, path, clock):
    sender.put(request(clock))
    door.take()
    door.close()

    with closing(door_of(path, clock)) as next_door:
        assert next_door.take() is None
        assert not sender.put(request(clock))
        assert next_door.take() is None
    assert sender.answer_to("one") == doorpi.CUT_OFF


def test_requests_of_an_earlier_boot_are_void(door, sender, path, clock):
    """Its monotonic seconds mean nothing then."""
    sender.put(request(clock, good_until=1e9))
    door.close()
    clock.boot_id = "boot-2"

    with closing(door_of(path, clock)) as next_door:
        assert next_door.take() is None
        assert sender.put(request(clock))
        assert next_door.take().id == "one"


def test_sender_notices_that_its_inbox_was_removed(door, sender, path, clock):
    """The service was stopped, and its folder in memory went with it."""
    sender.put(request(clock))
    assert not sender.is_gone()

    door.close()
    for file in path.parent.iterdir():
        file.unlink()

    assert sender.is_gone()
    assert sender.take_back("one")


def test_a_sender_makes_no_file(tmp_path, clock):
    sender = Inbox(tmp_path / "inbox.db", clock)

    with pytest.raises(StoreError, match="unable to open"):
        sender.put(request(clock))
    assert list(tmp_path.iterdir()) == []


# -- the source


@pytest.fixture
def source(path, clock):
    with closing(InboxSource(Inbox(path, clock, busy_s=0.05))) as source:
        assert source.poll(clock.monotonic()) is None
        yield source


def put(path: Path, clock, name: str) -> None:
    with closing(Inbox(path, clock)) as sender:
        assert sender.put(request(clock, name))


def answer_to(path: Path, clock, name: str) -> Answer | None:
    with closing(Inbox(path, clock)) as sender:
        return sender.answer_to(name)


def test_the_source_gives_a_request_and_takes_its_answer(source, path, clock):
    put(path, clock, "one")

    taken = source.poll(clock.monotonic())

    assert taken.id == "one"
    source.answer(taken, DONE)
    assert answer_to(path, clock, "one") == DONE


def test_removed_inbox_is_made_again(source, path, clock):
    for file in path.parent.iterdir():
        file.unlink()

    assert source.poll(clock.monotonic()) is None
    put(path, clock, "one")

    assert source.poll(clock.monotonic()).id == "one"


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"x"])
def test_a_broken_inbox_is_made_again(path, clock, content):
    path.parent.mkdir()
    path.write_bytes(content)

    with closing(InboxSource(Inbox(path, clock))) as source:
        assert source.poll(clock.monotonic()) is None  # it is set aside
        clock.advance(InboxSource.retry_s)
        assert source.poll(clock.monotonic()) is None
        put(path, clock, "one")
        assert source.poll(clock.monotonic()).id == "one"


def test_unusable_inbox_is_retried(tmp_path, clock):
    path = tmp_path / "run" / "inbox.db"
    (tmp_path / "run").write_text("a file, no folder")
    source = InboxSource(Inbox(path, clock))

    for _ in range(30):
        assert source.poll(clock.monotonic()) is None
        assert source.trouble.startswith("cannot read requests")
        clock.advance(1.0)

    (tmp_path / "run").unlink()
    clock.advance(InboxSource.retry_s)
    assert source.poll(clock.monotonic()) is None
    put(path, clock, "one")
    assert source.poll(clock.monotonic()).id == "one"
    source.close()


def test_answer_is_written_later_if_the_inbox_is_busy(source, path, clock):
    put(path, clock, "one")
    taken = source.poll(clock.monotonic())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        source.answer(taken, DONE)
        other.execute("ROLLBACK")
    assert answer_to(path, clock, "one") is None

    source.poll(clock.monotonic())

    assert answer_to(path, clock, "one") == DONE


# -- where it is


def test_it_is_in_memory_where_the_service_has_a_folder_there(tmp_path):
    assert doorpi.inbox_files(Path("/var/lib/doorpi")) == [
        Path("/run/doorpi/inbox.db"),
        Path("/var/lib/doorpi/inbox.db"),
    ]
    assert doorpi.inbox_files(tmp_path) == [tmp_path / "inbox.db"]


# -- at most once, whoever is killed


def child(work) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def note(path: Path, line: str) -> None:
    """On disk when it returns, whoever is killed then."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


class Yard:
    """A door that notes what it does, and senders that note what they took back."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, SystemClock()
        self.acted, self.back = path.with_name("acted"), path.with_name("back")

    def door(self) -> None:
        source = InboxSource(Inbox(self.path, self.clock))
        while True:
            taken = source.poll(self.clock.monotonic())
            if taken is None:
                time.sleep(0.0005)
                continue
            note(self.acted, taken.id)
            source.answer(taken, DONE)

    def sender(self, seed: int) -> None:
        dice, inbox = random.Random(seed), Inbox(self.path, self.clock)
        for name in (f"{seed}-{number}" for number in range(10_000)):
            for _ in range(
                dice.choice([1, 1, 3])
            ):  # sent again where nothing came back
                inbox.put(request(self.clock, name))
                time.sleep(dice.choice([0.0, 0.001, 0.004]))
            if dice.random() < 0.5 and inbox.take_back(name):
                note(self.back, name)


def test_no_request_acts_twice_whoever_is_killed(path):
    yard, dice = Yard(path), random.Random(7)
    running = {"door": child(yard.door)}
    while not path.exists():
        time.sleep(0.01)
    for turn in range(40):
        for who in ("sender", "other"):
            if who not in running:
                seed = dice.getrandbits(32)
                running[who] = child(lambda seed=seed: yard.sender(seed))
        before = len(lines(yard.acted))
        while turn % 3 == 0 and len(lines(yard.acted)) == before:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.01)
        killed = dice.choice(["door", "door", "sender", "other"])
        kill(running.pop(killed))
        if killed == "door":
            running["door"] = child(yard.door)
    for pid in running.values():
        kill(pid)

    acted, back = lines(yard.acted), lines(yard.back)
    assert len(acted) == len(set(acted)) > 12
    assert back
    assert not {*acted} & {*back}
