"""What a broker's clients see of the door: its lock, its events, its health."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

import doorpi
from doorpi import (
    Change,
    Command,
    DoorState,
    Event,
    MqttConfig,
    Reason,
    Result,
    utc_text,
)
from tests.fakes.link import FakeLink
from tests.helpers.world import KEN, NOON, STRANGER

NAME = "Ken \"K\" 'Sato' 健 {{ 1 }}"
UNLOCKED, LOCKED, UNSURE = Result.UNLOCKED, Result.LOCKED, Result.UNSURE
LOCK = Command.LOCK


def table(**more) -> MqttConfig:
    return MqttConfig(host="broker", door="front", **more)


class Watched(FakeLink):
    """The part on a real log, which the test writes as the door does."""

    def __init__(self, context, **more) -> None:
        context.started = lambda: 900.0
        super().__init__(context, DoorState, table(**more))
        self.log = context.events

    def begin(self, command=Command.UNLOCK, holder=NAME, **more) -> Event:
        event = Event(self.clock.now(), KEN, holder, Reason.GRANTED, command)
        event = event._replace(**more)
        return event._replace(id=self.log.begin(event))

    def end(self, event: Event, result: Result, detail: str = "") -> None:
        self.log.finish(event._replace(result=result, detail=detail))

    def move(self, result: Result, command=Command.UNLOCK, **more) -> Event:
        event = self.begin(command, **more)
        self.end(event, result)
        self.steps(1)
        return event

    def deny(self, reason=Reason.NOT_FOUND, **more) -> Event:
        event = Event(self.clock.now(), STRANGER, "", reason)._replace(**more)
        return event._replace(id=self.log.begin(event))

    @property
    def states(self) -> list[str]:
        return [each["state"] for each in self.all_json("lock")]

    @property
    def types(self) -> list[str]:
        return [each["event_type"] for each in self.all_json("event")]


@pytest.fixture
def door(context) -> Watched:
    watched = Watched(context)
    watched.steps(1)
    return watched


def test_the_broker_keeps_no_name_that_is_forgotten(door):
    door.move(UNLOCKED)
    assert door.json("last")["holder"] == door.json("lock")["by"] == NAME

    told = Event(door.clock.now(), None, "", Change.FORGET, source="command")
    door.log.forget_person(doorpi.Redaction({NAME}, (), ()), told, lambda: None)
    door.steps(1)

    assert door.json("last")["holder"] == door.json("lock")["by"] == doorpi.FORGOTTEN


# -- the lock


def test_a_move_shows_at_once_and_its_end_when_the_lock_has_confirmed_it(door):
    assert door.json("lock") == {"state": "None", "at": None, "by": "", "result": None}

    event = door.begin()
    door.steps(door.part.look_s)
    assert door.json("lock") == {
        "state": "unlocking", "at": utc_text(event.at), "by": NAME, "result": None,
    }  # fmt: skip
    door.steps(5)
    door.end(event, UNLOCKED)
    door.steps(1)

    assert door.json("lock") == {
        "state": "unlocked", "at": utc_text(event.at), "by": NAME, "result": "unlocked",
    }  # fmt: skip
    assert door.states == ["None", "unlocking", "unlocked"]
    assert all(each.is_retained for each in door.sent if each.topic.endswith("/lock"))


@pytest.mark.parametrize(
    ("command", "result", "state"),
    [
        ("unlock", "unlocked", "unlocked"), ("lock", "locked", "locked"),
        ("lock", "unsure", "None"), ("unlock", "unknown-state", "None"),
        ("lock", "interrupted", "None"), ("unlock", "refused", "locked"),
        ("unlock", "unreachable", "locked"),
    ],
)  # fmt: skip
def test_the_state_is_the_last_one_that_the_lock_has_confirmed(
    door, command, result, state
):
    door.move(LOCKED, LOCK, holder="Aya Abe")

    door.move(Result(result), Command(command))

    found = door.json("lock")
    assert (found["state"], found["result"]) == (state, result)
    assert found["by"] == ("Aya Abe" if result in ("refused", "unreachable") else NAME)


def test_a_move_without_an_end_is_not_believed_for_ever(door):
    door.begin()
    door.steps(200)

    assert door.states == ["None", "unlocking", "None"]


def test_a_move_that_a_dead_door_has_begun_ends_when_it_is_back(door):
    event = door.begin()
    door.steps(1)
    door.end(event, Result.INTERRUPTED)
    door.steps(1)

    assert door.states == ["None", "unlocking", "None"]
    assert door.types == ["failed"]


def test_after_a_restart_the_state_is_that_of_the_log(door):
    door.move(UNLOCKED)
    door.move(LOCKED, LOCK, holder="", source="relock")
    before = {name: door.texts(name)[-1] for name in ("lock", "last", "health")}

    del door.sent[:]
    door.restart()
    door.steps(1)

    assert {name: door.texts(name) for name in before} == {
        name: [text] for name, text in before.items()
    }
    assert not door.types


def test_a_move_that_was_under_way_at_the_restart_shows_too(door):
    event = door.begin(LOCK)
    door.restart()
    door.steps(1)
    assert door.states[-1] == "locking"

    door.end(event, LOCKED)
    door.steps(1)

    assert door.states[-1] == "locked"
    assert door.types == ["locked"]


def test_what_the_lock_was_asked_counts_as_confirmed(door):
    door.move(UNSURE)
    door.part.saw("locked")
    door.steps(1)

    assert door.json("lock") == {
        "state": "locked", "at": utc_text(door.clock.now() - timedelta(seconds=1)),
        "by": "", "result": None,
    }  # fmt: skip


def test_another_log_is_read_from_its_beginning(door, tmp_path):
    for _ in range(3):
        door.move(UNLOCKED)
    door.log.close()
    for file in tmp_path.glob("doorpi.db*"):
        file.unlink()
    door.move(LOCKED, LOCK)

    assert door.states[-1] == "locked"


# -- the events


@pytest.mark.parametrize(
    ("more", "result", "kind"),
    [
        ({}, "unlocked", "unlocked"), ({"command": LOCK}, "locked", "locked"),
        ({}, "unsure", "unsure"), ({}, "refused", "failed"),
        ({}, "unreachable", "failed"), ({}, "interrupted", "failed"),
        ({}, "unknown-state", "failed"),
        ({"source": "relock", "command": LOCK}, "unsure", "unsure"),
    ],
)  # fmt: skip
def test_each_outcome_is_an_event(door, more, result, kind):
    event = door.begin(**more)
    door.steps(1)
    door.end(event, Result(result))
    door.steps(1)

    assert door.all_json("event") == [{
        "event_type": kind, "holder": NAME, "reason": "granted",
        "source": event.source, "id": event.id, "at": utc_text(event.at),
    }]  # fmt: skip
    (sent,) = (each for each in door.sent if each.topic == "doorpi/main/front/event")
    assert not sent.is_retained


def test_a_denial_is_an_event_at_once(door):
    event = door.deny(Reason.LOCKED_DOWN)
    door.steps(door.part.look_s)

    assert door.json("event") == {
        "event_type": "denied", "holder": "", "reason": "locked-down",
        "source": "card", "id": event.id, "at": utc_text(event.at),
    }  # fmt: skip


def test_a_move_that_was_never_begun_is_an_event_too(door):
    event = Event(NOON, KEN, NAME, Reason.GRANTED, result=Result.UNREACHABLE)
    door.log.record(event)
    door.steps(1)

    assert door.types == ["failed"]
    assert (door.states[-1], door.json("lock")["result"]) == ("None", "unreachable")


@pytest.mark.parametrize("reason", ["forced-open", "held-open", "closed"])
def test_what_the_door_contact_notices_is_an_event(door, reason):
    door.deny(reason, uid=None, source="door")
    door.steps(1)

    assert door.types == [reason]


def test_a_change_of_the_list_and_an_enrolment_are_none(door):
    for event in (
        Event(NOON, None, "", Change.ALLOW, source="command", detail="by root: Ken"),
        Event(NOON, STRANGER, "Card of today", Reason.GRANTED, detail="enrolled"),
    ):
        door.log.record(event)
    door.steps(2)

    assert not door.types


def test_each_event_has_the_name_of_its_own_person(door):
    """Not that of the person before, as it was elsewhere."""
    for name in ("Ken", "Aya", "Mika"):
        door.move(UNLOCKED, holder=name)

    assert [each["holder"] for each in door.all_json("event")] == ["Ken", "Aya", "Mika"]
    assert door.json("last")["holder"] == "Mika"


def test_what_is_old_is_no_event(door):
    """Catching up must not reach an automation: it would disarm an alarm now."""
    door.is_up = False
    door.deny()
    door.steps(50)
    door.deny()
    door.steps(15)
    door.is_up = True
    door.reconnect()
    door.steps(2)

    assert [each["id"] for each in door.all_json("event")] == [2]


def test_an_event_that_was_not_acknowledged_is_sent_on_the_next_connection(door):
    door.reason = None
    door.deny()
    door.steps(1)
    door.reason = 0
    door.reconnect()
    door.steps(5)

    assert [each["id"] for each in door.all_json("event")] == [1, 1]


@pytest.mark.parametrize("reason", [0, 0x10, 0x87])
def test_an_event_that_was_answered_is_not_sent_again(door, reason):
    """Where the broker refused it, the next try would be later than it is fresh."""
    door.reason = None
    door.deny()
    door.steps(0.25)
    door.answer(*[0] * (len(door._waiting) - 1), reason)
    door.reconnect()
    door.steps(0.25)

    assert len(door.types) == 1


def test_what_happened_before_the_process_began_is_no_event(door):
    door.deny()
    door.restart()
    door.steps(5)

    assert not door.types


# -- last and health


def test_the_last_person_is_who_was_let_in(door):
    event = door.move(UNLOCKED)
    door.move(LOCKED, LOCK)
    door.move(Result.REFUSED, holder="Aya Abe")
    door.deny()
    door.move(UNLOCKED, holder="", source="button")

    assert door.json("last") == {
        "holder": NAME, "at": utc_text(event.at), "id": event.id,
    }  # fmt: skip


def test_the_health_of_a_door_without_trouble(door):
    assert door.json("health") == {
        "faults": [], "lockdown": "off", "battery_low": False,
        "since": utc_text(NOON - timedelta(seconds=100)), "version": "0.1.0",
        "clock": "set", "list": {}, "calls": 0,
    }  # fmt: skip


def test_the_health_follows_what_is_wrong(door, context):
    context.troubles = lambda: {"reader-lost": "no reader", "locked-down": "x"}
    context.people.lock_down("by ken")
    door.clock.set = False
    door.refused["doorpi/main/front/event"] = "not authorized"
    door.move(UNLOCKED)
    event = door.begin()
    door.end(event, UNLOCKED, "the lock's battery is low: 9 %")
    door.steps(3)

    found = door.json("health")
    assert found["faults"] == ["mqtt-refused", "reader-lost"]
    assert (found["lockdown"], found["clock"]) == ("on", "not-set")
    assert found["battery_low"] is True
    door.move(UNLOCKED)
    door.steps(3)
    assert door.json("health")["battery_low"] is False


def test_a_clock_that_need_not_be_set_counts_as_set(door, context):
    context.config = doorpi.Config(door=doorpi.DoorConfig(require_synced_clock=False))
    door.clock.set = False
    door.steps(3)

    assert door.json("health")["clock"] == "set"


def test_a_door_that_does_not_run_is_a_fault(door, context):
    context.troubles, context.started = lambda: None, lambda: None
    door.steps(3)

    found = door.json("health")
    assert (found["faults"], found["since"]) == (["door"], None)


def test_a_door_that_does_not_run_is_offline_once_that_lasts(door, context):
    context.troubles = lambda: None
    door.steps(80)
    assert door.texts("online") == ["online"]

    door.steps(12)
    context.troubles = dict
    door.steps(3)

    assert door.texts("online") == ["online", "offline", "online"]
    assert all(e.is_retained for e in door.sent if e.topic.endswith("/online"))


def test_a_door_whose_log_cannot_be_read_is_online_all_the_same(door, monkeypatch):
    def broken(*_: object) -> None:
        raise doorpi.StoreError("disk I/O error")

    monkeypatch.setattr(door.log, "last_id", broken)
    door.reconnect()

    with pytest.raises(doorpi.StoreError):
        door.part.step()
    assert door.texts("online") == ["online", "online"]


def test_since_follows_a_clock_that_is_set_late(door):
    before = door.json("health")["since"]
    door.clock.set = False
    door.steps(3)
    door.clock.at += timedelta(days=1)
    door.clock.set = True
    door.steps(3)

    assert (
        before
        != door.json("health")["since"]
        == utc_text(NOON + timedelta(days=1, seconds=-100))
    )


# -- what stays here


def test_nothing_is_sent_while_nothing_happens(door):
    before = len(door.sent)
    door.steps(3600)

    assert len(door.sent) == before


def test_no_uid_and_no_name_where_the_settings_say_so(context):
    door = Watched(context, names=False)
    door.steps(1)
    door.move(UNLOCKED)
    door.begin()
    door.steps(1)

    assert door.json("last")["holder"] == door.json("event")["holder"] == ""
    assert door.states == ["None", "unlocked", "unlocking"]
    everything = json.dumps([each.text for each in door.sent])
    assert "Sato" not in everything
    assert KEN not in everything
