"""What other processes ask of the running door: judged, carried out once and answered."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import count
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    Answer,
    Command,
    Credential,
    Event,
    Found,
    Inbox,
    InboxSource,
    InlineWorker,
    LockState,
    LockStatus,
    Medium,
    NotSent,
    ProcessSignals,
    Progress,
    Reason,
    Result,
    Schedule,
    Signal,
    Span,
    Stopped,
    Wants,
)
from tests.helpers import interrupted
from tests.helpers.processes import (
    DoorProcess,
    doorpi_says,
    environment,
    wait_for,
    write_config,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, FakeLock, World, card_of, config_of

# -- a door on fake ports, with rows that the tests put in


class Members(doorpi.Authority):
    """An authority that knows one chat user and one MQTT sender."""

    name, schedule, answer_s = "members", "", 3.0

    def __init__(self, **limits) -> None:
        self.worker = InlineWorker()
        self.limits = limits

    def takes(self, request: AccessRequest) -> bool:
        return True

    def look_up(self, request: AccessRequest) -> Found:
        known = {(Medium.CHAT, "4711"): "Mika Mori", (Medium.MQTT, "ha"): "home"}
        holder = known.get((request.medium, request.identifier))
        uid = doorpi.Uid(request.identifier)
        who = holder and Credential(uid=uid, holder=holder, **self.limits)
        return Found(who or None)


class Street(World):
    """A door with an inbox, and whoever asks through it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.members: list[Members] = []
        self.inboxes: list[InboxSource] = []

    def close(self) -> None:
        for inbox in self.inboxes:
            inbox.close()

    def door(self, config=None):
        door = super().door(config or config_of(card_of()))
        source = InboxSource(Inbox(self.path, self.clock))
        self.inboxes.append(source)
        self.equipment.sources = [*self.equipment.sources, source]
        self.equipment.authorities = self.members
        if not self.path.exists():  # nobody can have asked
            source.poll(self.clock.monotonic())
        self.running = door
        return door

    def put(self, name="one", wants=Wants.UNLOCK, good_s=10.0, **changes) -> None:
        now = self.clock.monotonic()
        request = AccessRequest(
            Medium.COMMAND, "ken", self.clock.now(), now, now + good_s, wants, "", name
        )
        with closing(Inbox(self.path, self.clock)) as sender:
            assert sender.put(request._replace(**changes))

    def answer(self, name="one") -> Answer | None:
        with closing(Inbox(self.path, self.clock)) as sender:
            return sender.answer_to(name)

    def serve(self, *names: str) -> list[Event]:
        """Let the door go on until the requests are answered; the events of the log."""
        for _ in range(10_000):
            if all(map(self.answer, names or ["one"])):
                return list(self.store.events.values())
            self.running.step()
        raise AssertionError("there is no answer")

    def serve_or_stop(self) -> None:
        try:
            for _ in range(5):
                self.running.step()
        except Stopped as end:
            self.running._stop(end)
            self.running._equipment.sources[-1].close()
            raise


INBOX_CODE = {
    function.__code__
    for kind in (Inbox, InboxSource)
    for function in vars(kind).values()
    if hasattr(function, "__code__")
}


@pytest.fixture
def street(tmp_path) -> Iterator[Street]:
    with closing(Street(tmp_path / "inbox.db")) as street:
        yield street


@pytest.mark.parametrize("state", [LockState.LOCKED, LockState.UNLOCKED])
@pytest.mark.parametrize("wants", [Wants.UNLOCK, Wants.LOCK])
def test_request_sends_the_command_that_it_asks_for(street, state, wants):
    """Never the other one, however the lock stands."""
    street.lock.state = state
    street.door()
    street.put(wants=wants)

    (event,) = street.serve()

    assert [command for _, command in street.lock.sent] == [Command(wants)]
    assert event.result == Command(wants).target.value
    assert street.answer() == Answer(True, [f"{wants}ed"])


def test_request_id_and_sender_are_in_the_event(street):
    street.door()
    street.put("b2f6")

    (event,) = street.serve("b2f6")

    assert (event.request, event.source, event.holder) == ("b2f6", "command", "ken")
    assert (event.uid, event.reason) == (None, Reason.GRANTED)


def test_request_is_shown_on_the_lights(street):
    street.door()
    street.put()

    street.serve()

    assert [sign for sign in street.lights.signals if sign is not Signal.READY] == [
        Signal.WORKING,
        Signal.UNLOCKED,
    ]


def test_request_in_a_lockdown_opens_for_the_owner_only(street):
    street.members = [Members()]
    street.store.lockdown = True
    street.door()
    street.put("owner")
    street.put("member", medium=Medium.CHAT, identifier="4711")

    events = street.serve("owner", "member")

    assert {event.request: event.reason for event in events} == {
        "owner": Reason.GRANTED,
        "member": Reason.LOCKED_DOWN,
    }
    assert len(street.lock.sent) == 1
    assert street.answer("member") == Answer(False, ["denied: locked-down"])


@pytest.mark.parametrize(
    ("medium", "identifier", "holder"),
    [(Medium.CHAT, "4711", "Mika Mori"), (Medium.MQTT, "ha", "home")],
)
def test_request_of_a_remote_member_opens_and_has_a_name(
    street, medium, identifier, holder
):
    street.members = [Members()]
    street.door()
    street.put(medium=medium, identifier=identifier)

    (event,) = street.serve()

    assert (event.source, event.holder) == (medium, holder)
    assert event.result is Result.UNLOCKED


@pytest.mark.parametrize(
    ("changes", "lockdown", "reason", "holder"),
    [
        ({"identifier": "ha"}, False, Reason.GRANTED, "ha"),
        ({"identifier": "ha", "wants": Wants.LOCK}, False, Reason.NOT_FOUND, ""),
        ({"identifier": "eve"}, False, Reason.NOT_FOUND, ""),
        ({"identifier": "ha"}, True, Reason.LOCKED_DOWN, "ha"),
        ({"identifier": "ha", "good_s": -1.0}, False, Reason.STALE, "ha"),
    ],
)
def test_a_sender_of_mqtt_may_do_what_the_settings_say(
    street, changes, lockdown, reason, holder
):
    street.store.lockdown = lockdown
    table = doorpi.MqttConfig(host="localhost", may={"ha": ["unlock"]})
    street.door(replace(config_of(), online={"mqtt": table}))
    street.put("7-1 ha 1795871216.76", medium=Medium.MQTT, **changes)

    (event,) = street.serve("7-1 ha 1795871216.76")

    assert (event.reason, event.source, event.holder) == (reason, "mqtt", holder)
    assert (event.request, event.uid) == ("7-1", None)
    assert len(street.lock.sent) == (reason is Reason.GRANTED)


LIMITS = {
    "nobody-knows": ({"identifier": "4712"}, {}, Reason.NOT_FOUND),
    "another-medium": ({"medium": Medium.MQTT}, {}, Reason.NOT_FOUND),
    "switched-off": ({}, {"enabled": False}, Reason.NOT_ENABLED),
    "last-day-over": ({}, {"valid_until": date(2026, 11, 1)}, Reason.EXPIRED),
    "at-night-only": ({}, {"schedule": "night"}, Reason.NOT_PERMITTED_AT_THIS_TIME),
}


@pytest.mark.parametrize(("changes", "limits", "reason"), LIMITS.values(), ids=LIMITS)
def test_request_of_a_remote_member_is_judged_like_a_card(
    street, changes, limits, reason
):
    street.members = [Members(**limits)]
    span = Span(days=frozenset(range(7)), start_min=0, end_min=5)
    config = config_of()
    night = Schedule(name="night", spans=(span,))
    street.door(replace(config, schedules={"night": night}))
    street.put(**{"medium": Medium.CHAT, "identifier": "4711"} | changes)

    (event,) = street.serve()

    assert event.reason is reason
    assert street.lock.sent == []
    assert street.answer() == Answer(False, [f"denied: {reason}"])


def test_request_that_comes_too_late_is_stale(street):
    street.door()
    street.put(good_s=3.0)
    street.clock.advance(3.0)

    (event,) = street.serve()

    assert (event.reason, event.request) == (Reason.STALE, "one")
    assert street.lock.sent == []
    assert street.answer() == Answer(False, ["denied: stale"])


def test_request_that_expires_in_the_queue_sends_nothing(
    street,
):
    street.lock.progress = [Progress.PENDING] * 100
    street.door()
    street.put("one")
    street.put("two", good_s=5.0)

    street.serve("one", "two")

    assert len(street.lock.sent) == 1
    assert not street.answer("two").done


def test_requests_at_once_are_served_one_after_the_other(street):
    street.door()
    street.put("one", Wants.UNLOCK)
    street.put("two", Wants.LOCK)

    events = street.serve("one", "two")

    assert [command for _, command in street.lock.sent] == ["unlock", "lock"]
    assert [event.result for event in events] == ["unlocked", "locked"]


def test_request_sends_nothing_after_its_expiry(street):
    street.lock.sends = [NotSent("no network")] * 50
    street.door()
    street.put(good_s=2.5)

    street.serve()

    assert street.lock.send_bys
    assert max(street.lock.send_bys) <= 1000.0 + 2.5 + 0.1
    assert all(at < by for (at, _), by in zip(street.lock.sent, street.lock.send_bys, strict=True))  # fmt: skip


def test_status_has_the_words_of_the_verb_and_is_no_event(street):
    street.lock.statuses = [LockStatus(state=LockState.LOCKED, battery_percent=71)]
    street.store.lockdown = True
    street.fallback = FakeLock(street.clock)
    street.fallback.statuses = [NotSent("no network")] * 9
    lock = doorpi.LockConfig(calls_per_month=100)
    config = replace(config_of(), lock=lock, fallback=doorpi.LockAccess(kind="relay"))
    street.door(config)
    street.put(wants=Wants.STATUS)

    assert street.serve() == []

    first, second, *more = street.answer().lines
    assert street.answer().done
    assert first == "locked, battery 71 %"
    assert second == "fallback (relay): not known: no network"
    assert any("this month's 100 calls" in line for line in more)
    assert more[-1] == doorpi.LOCKED_DOWN_WORDS


def test_status_waits_until_the_lock_is_free(street):
    street.lock.progress = [Progress.PENDING] * 3
    street.door()
    street.put("one")
    street.put("two", Wants.STATUS)

    street.serve("one", "two")

    assert street.answer("two").lines == ["unlocked, it answers"]


def test_request_cut_off_by_a_stop_is_logged_and_not_repeated(street):
    street.lock.progress = [Progress.PENDING] * 100
    door = street.door()
    street.put()
    while not street.lock.sent:
        door.step()
    for _ in range(3):
        door.step()

    door._stop(Stopped(signal.SIGTERM))
    street.door()
    for _ in range(20):
        street.running.step()

    assert [event.result for event in street.store.events.values()] == ["interrupted"]
    assert len(street.lock.sent) == 1
    assert street.answer() == doorpi.CUT_OFF


def test_request_is_served_once_wherever_a_stop_comes(tmp_path, monkeypatch):
    """Nor does it leave one without an answer, once the door runs again."""
    monkeypatch.setattr(interrupted, "CODE", interrupted.CODE | INBOX_CODE)
    before = {number: signal.getsignal(number) for number in ProcessSignals.stops}
    told = set()
    for line in count(1, 7):  # of some 900
        street = Street(tmp_path / f"{line}.db")
        street.door()
        street.put()
        was_stopped = interrupted.is_stopped_at(line, street.serve_or_stop)
        street.door()
        results = [event.result for event in street.serve()]

        assert len(street.lock.sent) <= len(results) <= 1, f"at line {line}"
        assert street.answer().done <= (results == ["unlocked"]), f"at line {line}"
        told.add((*results, street.answer().done))
        street.close()
        if not was_stopped:
            break
    for number, handler in before.items():
        signal.signal(number, handler)

    assert line > 100
    assert {("unlocked", True), ("interrupted", False), (False,)} <= told


def test_request_is_served_with_a_full_disk(street):
    """The inbox is in memory, and the log on the disk."""
    street.door()
    street.store.broken = "database or disk is full"
    street.put()
    street.put("two", Wants.STATUS)

    street.serve("one", "two")

    assert street.answer("one") == Answer(True, ["unlocked"])
    assert street.answer("two") == Answer(True, ["unlocked, it answers"])


def test_inbox_that_cannot_be_opened_keeps_nobody_out(street):
    street.path = street.path / "no" / "folder"
    street.path.parent.parent.write_text("a file")
    door = street.door()
    street.reader.shows = [KEN]

    while street.reader.shows or not door.is_idle:
        door.step()

    (event,) = street.store.events.values()
    assert event.result is Result.UNLOCKED
    assert Signal.READER_LOST not in street.lights.signals


# -- verbs, and a door that runs as a process


@pytest.fixture
def config(tmp_path, cloud, radio) -> Path:
    return write_config(tmp_path, cloud, radio.device)


@contextlib.contextmanager
def verb(config: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "doorpi", "--config", str(config), *args],
        env=environment(USER="ken", SUDO_USER=None), cwd="/", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def says(config: Path, *args: str) -> tuple[int, str, str]:
    said = doorpi_says("--config", str(config), *args, USER="ken", SUDO_USER=None)
    return said.returncode, said.stdout, said.stderr


def has_put(config: Path) -> bool:
    """Whether a request is in the inbox that no door has answered."""
    with closing(sqlite3.connect(config.parent / "state" / "inbox.db")) as db:
        query = "SELECT count(*) FROM requests WHERE coalesce(answer, '') = ''"
        return db.execute(query).fetchone()[0] > 0


def freeze(door: DoorProcess, config: Path) -> None:
    """Let ``door`` stand still, with its inbox open."""
    door.until_ready()
    assert says(config, "status")[0] == 0
    door.send(signal.SIGSTOP)


@pytest.mark.parametrize("command", ["unlock", "lock"])
def test_verb_asks_the_running_door(config, cloud, command):
    with DoorProcess(config) as door:
        door.until_ready()
        assert says(config, command) == (0, f"{command}ed\n", "")
        event = door.until_event(1)

        assert f"ken: {command} -> {command}ed" in door.journal
        assert [sent for _, sent in cloud.commands] == [command]
        assert (event.source, event.holder) == ("command", "ken")
        assert f'"request": "{event.request}"' in says(config, "log", "--json")[1]
        assert event.request


def test_verb_says_why_the_door_failed(config, cloud):
    with DoorProcess(config) as door:
        door.until_ready()
        cloud.fail_always("401")

        code, said, _ = says(config, "unlock")

        assert code == 1
        assert said.startswith("refused: ")
        assert says(config, "status")[:2] == (1, f"not known: {said[9:]}")


def test_verb_status_is_the_same_with_and_without_the_door(config, cloud):
    without = says(config, "status")
    with DoorProcess(config) as door:
        door.until_ready()

        assert says(config, "status") == without
        assert without == (0, "locked, it answers, battery 80 %\n", "")


def test_verbs_at_once_are_served_one_after_the_other(config, cloud):
    cloud.latency_s = 0.05
    with DoorProcess(config) as door:
        door.until_ready()
        with verb(config, "unlock") as one, verb(config, "lock") as other:
            assert one.communicate() == ("unlocked\n", "")
            assert other.communicate() == ("locked\n", "")
        results = [door.until_event(number).result for number in (1, 2)]

    assert sorted(results) == ["locked", "unlocked"]
    assert [f"{sent}ed" for _, sent in cloud.commands] == results


def test_verb_that_is_interrupted_withdraws_its_request(config, cloud):
    with DoorProcess(config) as door:
        freeze(door, config)
        with verb(config, "unlock") as process:
            wait_for(lambda: has_put(config), "a request")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 128 + signal.SIGINT
        assert not has_put(config)
        door.send(signal.SIGCONT)
        assert says(config, "lock")[1] == "locked\n"

        assert [sent for _, sent in cloud.commands] == ["lock"]
        assert len(door.events) == 1


def test_verb_that_is_killed_leaves_a_request_that_expires(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device, lock="unlock_window_s = 1.0\n")
    with DoorProcess(config) as door:
        freeze(door, config)
        with verb(config, "unlock") as process:
            wait_for(lambda: has_put(config), "a request")
            process.kill()
        time.sleep(1.0)  # it is good for so long
        door.send(signal.SIGCONT)
        event = door.until_event(1)

    assert (event.reason, event.holder) == ("stale", "ken")
    assert cloud.commands == []


def test_verb_withdraws_its_request_from_a_door_that_hangs(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device, lock="unlock_window_s = 1.0\n")
    with DoorProcess(config) as door:
        freeze(door, config)

        code, said, _ = says(config, "unlock")

        door.send(signal.SIGCONT)
        assert says(config, "lock")[0] == 0
        assert [sent for _, sent in cloud.commands] == ["lock"]
    assert (code, [said.strip()]) == (1, doorpi.NOT_TAKEN.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_verb_learns_that_the_door_stopped_during_its_request(config, cloud, number):
    cloud.bolt.motor_s = 60.0
    with DoorProcess(config) as door:
        door.until_ready()
        with verb(config, "unlock") as process:
            wait_for(lambda: cloud.commands, "the command")
            door.send(number)
            said, _ = process.communicate(timeout=20)
            assert (process.returncode, [said.strip()]) == (1, doorpi.CUT_OFF.lines)
    with DoorProcess(config) as door:
        door.until_ready()
        assert door.until_event(1).result == "interrupted"
        assert says(config, "status")[1]  # by then it has looked into its inbox

    assert [sent for _, sent in cloud.commands] == ["unlock"]


def test_verb_moves_the_lock_when_the_door_stops_before_it(config, cloud):
    with DoorProcess(config) as door:
        freeze(door, config)
        with verb(config, "unlock") as process:
            wait_for(lambda: has_put(config), "a request")
            door.send(signal.SIGKILL)
            door.process.wait()
            assert process.communicate(timeout=20)[0] == "unlocked\n"

        assert [sent for _, sent in cloud.commands] == ["unlock"]
        assert [event.result for event in door.events] == ["unlocked"]
