"""Relock: what was unlocked is locked again, through failures, restarts and taps."""

from __future__ import annotations

import contextlib
from itertools import cycle, pairwise

import pytest

import doorpi
from doorpi import (
    Busy,
    Card,
    Command,
    LockConfig,
    LockPolicy,
    LockState,
    LockStatus,
    MaybeSent,
    NotSent,
    Outcome,
    Progress,
    QuotaError,
    Rejected,
    Relock,
    Relocking,
    Result,
    Signal,
    SqliteStore,
    Stopped,
    Uid,
    relocks_from,
    relocks_text,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, STRANGER, FakeLock, card_of, config_of, idle, tap

AFTER_S = 60.0
LOCKED, UNLOCKED = LockState.LOCKED, LockState.UNLOCKED


def config(**changes):
    lock = LockConfig(**{"relock_after_s": AFTER_S} | changes)
    return replace(config_of(card_of()), lock=lock)


@pytest.fixture
def door(world):
    return world.door(config())


def told(world) -> list[tuple[str, Command | None, Result | None, str]]:
    return [
        (e.source, e.command, e.result, e.detail) for e in world.store.events.values()
    ]


def commands(world) -> list[tuple[float, Command]]:
    """What was sent, in whole seconds after the first tap."""
    return [(round(at - 1000.0), command) for at, command in world.lock.sent]


# -- when


def test_relock_locks_after_the_time_set(world, door):
    tap(world, door)

    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]
    assert told(world) == [
        ("card", Command.UNLOCK, Result.UNLOCKED, ""),
        ("relock", Command.LOCK, Result.LOCKED, ""),
    ]


def test_relock_makes_no_new_presentation_of_a_card_that_stays(world):
    """While the lock is asked nobody looks: that is no time in which it was away."""
    looks = cycle([Card(KEN), None, None])
    world.reader.sense = lambda: next(looks)
    world.lock.takes_s = 2.0
    door = world.door(config())

    idle(world, door, 300)

    assert [command for _, command in world.lock.sent] == [Command.UNLOCK, Command.LOCK]


def test_relock_is_off_by_default(world):
    door = world.door()

    tap(world, door)
    idle(world, door, 1000)

    assert commands(world) == [(0, Command.UNLOCK)]
    assert "relock" not in world.store.kept


def test_relock_is_cancelled_by_a_tap_that_locks(world, door):
    tap(world, door)
    tap(world, door)

    idle(world, door, 120)

    assert [command for _, command in world.lock.sent] == [Command.UNLOCK, Command.LOCK]
    assert not world.store.kept.get("relock")


def test_relock_time_restarts_at_a_tap_that_unlocks(world):
    door = world.door(replace(config(), door=doorpi.DoorConfig(on_tap="unlock")))

    tap(world, door)
    idle(world, door, 29)
    tap(world, door)
    idle(world, door, 120)

    assert commands(world) == [
        (0, Command.UNLOCK),
        (30, Command.UNLOCK),
        (90, Command.LOCK),
    ]


def test_relock_follows_an_unlock_that_may_have_worked(world):
    door = world.door(config(confirm_s=5.0))
    world.lock.progress = [MaybeSent("no answer")] * 9

    tap(world, door)
    world.lock.progress = []
    idle(world, door, 120)

    assert [e.result for e in world.store.events.values()] == ["unsure", "locked"]


@pytest.mark.parametrize(
    "failure", [Rejected("LOW_BATTERY"), NotSent("no network")], ids=["refused", "lost"]
)
def test_relock_does_not_follow_an_unlock_that_surely_failed(world, door, failure):
    world.lock.sends = [failure] * 3

    tap(world, door)
    idle(world, door, 120)

    assert [e.result for e in world.store.events.values()] == [failure.result]
    assert not world.store.kept.get("relock")


def test_relock_stays_pending_after_a_later_unlock_failed(world):
    door = world.door(replace(config(), door=doorpi.DoorConfig(on_tap="unlock")))

    tap(world, door)
    world.lock.sends = [Rejected("LOW_BATTERY")]
    tap(world, door)
    idle(world, door, 120)

    results = [e.result for e in world.store.events.values()]
    assert results == ["unlocked", "refused", "locked"]


def test_relock_is_not_needed_for_a_strike(world):
    world.lock.policy = LockPolicy(confirm_at_s=(0.0,), locks_itself=True)
    door = world.door(config())

    tap(world, door)
    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK)]


# -- how it ends


def test_relock_shows_only_its_result(world, door):
    tap(world, door)
    world.lights.shown.clear()

    idle(world, door, 60)

    assert world.lights.signals == [Signal.LOCKED]
    assert world.lights.standing is Signal.READY


@pytest.mark.parametrize(("percent", "is_low"), [(14, True), (15, False)])
def test_relock_shows_a_low_battery(world, door, percent, is_low):
    tap(world, door)
    world.lock.statuses = [LockStatus(state=UNLOCKED, battery_percent=percent)]
    world.lights.shown.clear()

    idle(world, door, 60)

    signals = (Signal.LOCKED, *[Signal.LOW_BATTERY] * is_low, Signal.READY)
    assert world.lights.shown[0][1] == signals


def test_relock_does_not_wait_for_a_busy_lock(world, door):
    tap(world, door)
    world.lock.sends = [Busy("moving", 35.0)]

    idle(world, door, 61)

    assert told(world)[-1] == ("relock", Command.LOCK, Result.REFUSED, "moving")
    assert world.lock.send_bys[-1] == pytest.approx(1060 + 10, abs=0.2)


FAILURE = NotSent("no network")


def test_relock_retries_at_growing_intervals_and_then_gives_up(world, door, caplog):
    tap(world, door)
    world.lock.statuses = [FAILURE] * 99
    world.lock.sends = [FAILURE] * 99

    idle(world, door, 1000)

    began = [round(e.at.timestamp() - 1) for e in world.store.events.values()]
    waits_s = [later - sooner for sooner, later in pairwise(began[1:])]
    took_s = 6  # two tries more to look, and to send, 1 and 2 s apart
    assert waits_s == [took_s + wait_s for wait_s in (15, 30, 60, 120)]
    assert told(world)[1:] == [
        *[("relock", Command.LOCK, Result.UNREACHABLE, "no network")] * 4,
        ("relock", Command.LOCK, Result.UNREACHABLE, "no network; given up"),
    ]
    assert world.lights.standing is Signal.NOT_LOCKED
    assert "the door could not be locked again: please check it" in caplog.messages
    assert world.supervisor.said[-1] == (
        "status: the door could not be locked again: please check it"
    )


def test_relock_retries_a_current_sesame_less_often(world):
    world.lock.policy = doorpi.Sesame.policy
    door = world.door(config())
    tap(world, door)
    world.lock.progress = [MaybeSent("no answer")] * 99

    idle(world, door, 2000)

    relocks = [e for e in world.store.events.values() if e.source == "relock"]
    waits_s = [(b.at - a.at).total_seconds() for a, b in pairwise(relocks)]
    assert [round(wait_s) for wait_s in waits_s] == [20 + 60, 20 + 300]
    assert world.lights.standing is Signal.NOT_LOCKED


@pytest.mark.parametrize("failures", range(1, 5))
def test_relock_ends_when_it_is_confirmed(world, door, failures):
    tap(world, door)
    world.lock.statuses = [FAILURE] * 3 * failures
    world.lock.sends = [FAILURE] * 3 * failures

    idle(world, door, 1000)

    results = [e.result for e in world.store.events.values() if e.source == "relock"]
    assert results == ["unreachable"] * failures + ["locked"]
    assert world.lights.standing is Signal.READY
    assert not world.store.kept.get("relock")


def test_not_locked_light_ends_when_a_card_locks(world, door):
    tap(world, door)
    world.lock.statuses = [FAILURE] * 15
    world.lock.sends = [FAILURE] * 15
    idle(world, door, 1000)
    assert world.lights.standing is Signal.NOT_LOCKED

    tap(world, door)

    assert commands(world)[-1][1] is Command.LOCK
    idle(world, door, 10)
    assert world.lights.standing is Signal.READY


def test_relock_counts_a_used_up_quota_as_a_failure(world, door):
    tap(world, door)
    world.lock.statuses = [QuotaError("no calls left")] * 5

    idle(world, door, 1000)

    assert told(world)[-1] == (
        "relock",
        None,
        Result.REFUSED,
        "no calls left; given up",
    )


# -- a person goes first


def test_relock_is_not_delayed_by_a_stranger(world, door):
    tap(world, door)
    idle(world, door, 58.8)
    world.lock.progress = [Progress.PENDING] * 5  # the bolt takes its time
    world.reader.shows = [*[None] * 20, STRANGER]
    world.lights.shown.clear()

    idle(world, door, 10)

    assert world.lights.signals == [Signal.DENIED, Signal.LOCKED]
    assert told(world)[1:] == [
        ("relock", Command.LOCK, Result.LOCKED, ""),
        ("card", None, None, ""),
    ]


def test_relock_is_not_delayed_by_endless_cards(world, door):
    """A gadget that shows another UID at each look."""
    tap(world, door)
    world.reader.shows = [Uid(f"04{number:012X}") for number in range(2000)]

    idle(world, door, 70)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]


def test_relock_stays_pending_after_a_tap_that_fails(world, door):
    tap(world, door)
    idle(world, door, 58.8)
    world.lock.progress = [Progress.PENDING] * 5
    world.lock.sends = ["task-1", Rejected("LOW_BATTERY")]
    world.reader.shows = [*[None] * 20, KEN]

    idle(world, door, 10)

    assert [(source, result) for source, _, result, _ in told(world)[1:]] == [
        ("relock", Result.INTERRUPTED),
        ("card", Result.REFUSED),
        ("relock", Result.LOCKED),
    ]


def test_relock_gives_way_to_a_tap(world, door):
    tap(world, door)
    idle(world, door, 58.8)
    world.lock.progress = [Progress.PENDING] * 5  # the bolt takes its time
    world.reader.shows = [*[None] * 20, KEN]

    world.lights.shown.clear()

    idle(world, door, 12)

    assert world.lights.signals[:2] == [Signal.WORKING, Signal.UNLOCKED]
    assert told(world)[1:] == [
        ("relock", Command.LOCK, Result.INTERRUPTED, "a card was presented"),
        ("card", Command.UNLOCK, Result.UNLOCKED, ""),
    ]
    assert world.store.recall("relock") is not None  # and the time begins anew


def test_tap_during_a_relock_is_timed_from_its_card(world, door):
    tap(world, door)
    idle(world, door, 58.8)
    world.lock.progress = [Progress.PENDING] * 5
    world.reader.shows = [*[None] * 20, KEN]
    finish = world.store.finish

    def finish_slowly(*args):
        world.clock.advance(2.0)
        finish(*args)

    world.store.finish = finish_slowly
    idle(world, door, 12)

    (sent_at, command), send_by = world.lock.sent[-1], world.lock.send_bys[-1]
    assert command is Command.UNLOCK
    assert send_by - sent_at == pytest.approx(10 - 2)


# -- through restarts


def restart(world, boot_id: str = "") -> doorpi.Door:
    world.clock.boot_id = boot_id or world.clock.boot_id
    return world.door(config())


def test_relock_survives_a_restart(world, door):
    tap(world, door)

    door = restart(world)
    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]


def test_relock_is_due_at_once_after_a_reboot(world, door):
    tap(world, door)
    world.clock.advance(-500)  # its seconds count from its own start

    door = restart(world, "boot-2")
    idle(world, door, 1)

    assert [command for _, command in world.lock.sent] == [Command.UNLOCK, Command.LOCK]
    assert world.lock.sent[-1][0] == pytest.approx(501, abs=0.2)


@pytest.mark.parametrize("stops_in", ["send", "confirm"])
def test_relock_survives_a_kill_during_the_unlock(world, door, stops_in):
    script = world.lock.sends if stops_in == "send" else world.lock.progress
    script.append(KeyboardInterrupt())  # nothing of the door's catches it
    world.reader.shows = [KEN]
    with pytest.raises(KeyboardInterrupt):
        door.step()

    door = restart(world)
    idle(world, door, 120)

    assert commands(world)[-1] == (60, Command.LOCK)


def test_relock_survives_a_stop_during_the_unlock(world, door):
    world.lock.progress = [Stopped(15)]
    world.reader.shows = [KEN]
    with pytest.raises(Stopped):
        door.step()

    door = restart(world)
    idle(world, door, 120)

    assert [e.result for e in world.store.events.values()] == ["interrupted", "locked"]


def test_stop_during_a_relock_closes_its_event_and_the_next_start_retries(world, door):
    tap(world, door)
    world.lock.progress = [Stopped(15)]
    with pytest.raises(Stopped):
        idle(world, door, 120)

    door = restart(world)
    idle(world, door, 120)

    results = [e.result for e in world.store.events.values()]
    assert results == ["unlocked", "interrupted", "locked"]


def test_not_locked_light_survives_a_restart_without_a_retry(world, door):
    tap(world, door)
    world.lock.statuses = [FAILURE] * 99
    world.lock.sends = [FAILURE] * 99
    idle(world, door, 1000)
    tries = len(world.store.events)

    door = restart(world)
    idle(world, door, 1000)

    assert world.lights.standing is Signal.NOT_LOCKED
    assert len(world.store.events) == tries


# -- on disk


def test_relocks_of_a_verb_are_followed_within_a_second(world, door):
    idle(world, door, 5)
    due = relocks_text([Relock("lock", world.clock.t + 10)], "boot-1")
    world.store.kept["relock"] = due

    idle(world, door, 20)

    assert [round(at) for at, _ in world.lock.sent] == [1015]


def test_relock_is_cancelled_by_a_verb_that_locks(world, door):
    tap(world, door)
    world.store.kept["relock"] = ""

    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK)]


def test_not_locked_light_ends_by_a_verb_also_with_relocks_off(world, door):
    tap(world, door)
    world.store.kept["relock"] = relocks_text(
        [Relock("lock", float("inf"), 5)], "boot-1"
    )
    door = world.door(config(relock_after_s=0.0))
    idle(world, door, 5)
    assert world.lights.standing is Signal.NOT_LOCKED

    world.store.kept["relock"] = ""
    idle(world, door, 5)

    assert world.lights.standing is Signal.READY


def test_tap_before_the_first_read_loses_no_relock(world):
    world.store.kept["relock"] = relocks_text(
        [Relock("lock", world.clock.t + 60)], "boot-1"
    )
    world.lock.state = UNLOCKED
    world.lock.sends = [Rejected("LOW_BATTERY")]
    door = world.door(config())

    tap(world, door)  # the very first look finds a card
    idle(world, door, 120)

    assert commands(world) == [(0, Command.LOCK), (60, Command.LOCK)]


def meanwhile(world, text: str) -> None:
    """Somebody else writes ``text`` while the lock is next asked what came of it."""
    confirm = world.lock.confirm

    def confirm_late(*args):
        world.store.kept["relock"] = text
        world.lock.confirm = confirm
        return confirm(*args)

    world.lock.confirm = confirm_late


@pytest.mark.parametrize("failure", [None, MaybeSent("no answer")], ids=str)
def test_unlock_by_a_verb_during_a_relock_is_relocked_in_its_time(world, door, failure):
    tap(world, door)
    idle(world, door, 58)
    world.lock.policy = replace(world.lock.policy, confirm_every_s=0.0)
    world.lock.progress = [failure] if failure else []
    meanwhile(world, "boot-1 lock 1100.000 0")

    idle(world, door, 100)

    assert commands(world)[1:] == [(60, Command.LOCK), (100, Command.LOCK)]


def test_lock_by_a_verb_during_a_relock_ends_it(world, door):
    tap(world, door)
    idle(world, door, 58)
    world.lock.policy = replace(world.lock.policy, confirm_every_s=0.0)
    world.lock.progress = [MaybeSent("no answer")]
    meanwhile(world, "")

    idle(world, door, 100)

    assert commands(world)[1:] == [(60, Command.LOCK)]


def test_relock_survives_a_lost_database(world, door):
    tap(world, door)
    idle(world, door, 5)
    world.store.kept.clear()  # removed, or set aside because it was broken

    idle(world, door, 5)
    assert world.store.kept["relock"] == "boot-1 lock 1060.000 0"
    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]


def test_relock_survives_a_real_database_that_breaks(world, tmp_path):
    door = world.door(config())
    store = SqliteStore(tmp_path / "doorpi.db", repair=True)
    world.equipment.people, world.equipment.events = store.people, store.events
    door = world.door_on_equipment(config())
    tap(world, door)
    idle(world, door, 5)
    store.close()  # into one file

    store.events.path.write_bytes(b"rubbish" * 1000)
    idle(world, door, 5)
    kept = store.events.recall("relock")
    idle(world, door, 120)

    assert kept == "boot-1 lock 1060.000 0"
    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]
    assert len(list(tmp_path.glob("doorpi.db.broken-*"))) == 1
    store.close()


def test_relock_that_could_not_be_stored_is_stored_later(world, door):
    world.store.broken = "database is locked"
    tap(world, door)
    world.store.broken = ""

    idle(world, door, 2)

    assert world.store.kept["relock"] == "boot-1 lock 1060.000 0"


def test_relock_that_ended_is_removed_from_a_disk_that_was_busy(world, door):
    tap(world, door)
    idle(world, door, 2)
    world.store.broken = "database is locked"
    tap(world, door)  # locks
    world.store.broken = ""

    idle(world, door, 2)

    assert world.store.kept["relock"] == ""


def test_relock_that_was_not_stored_survives_a_reload(world, door):
    world.store.broken = "disk I/O error"
    tap(world, door)

    world.settings.reload, world.settings.renewed = True, config()
    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]


def test_relocking_that_is_off_does_not_read_the_disk(world):
    asked = []
    recall = world.store.recall
    world.store.recall = lambda name: asked.append(name) or recall(name)

    idle(world, world.door(), 60)

    assert asked == ["relock"]


def test_relocking_writes_nothing_while_nothing_is_pending(world, door):
    idle(world, door, 10)

    assert world.store.kept == {}


def test_relock_works_with_a_broken_disk(world, door):
    world.store.broken = "disk I/O error"

    tap(world, door)
    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]


def test_relock_that_ended_does_not_return_from_a_failing_disk(world, door):
    tap(world, door)
    world.store.broken = "disk I/O error"
    tap(world, door)  # locks: the disk still has the old entry
    world.store.broken = ""

    idle(world, door, 50)

    assert len(world.lock.sent) == 2


def test_relock_is_in_the_database_before_the_command_is_sent(world, tmp_path):
    door = world.door(config())
    store = SqliteStore(tmp_path / "doorpi.db")
    world.equipment.people, world.equipment.events = store.people, store.events
    door = world.door_on_equipment(config())
    seen = []
    send = world.lock.send

    def watched_send(*args):
        with contextlib.closing(SqliteStore(store.events.path)) as other:
            seen.append(other.events.recall("relock"))
        return send(*args)

    world.lock.send = watched_send
    tap(world, door)

    assert seen == ["boot-1 lock 1060.000 0"]
    store.close()


# -- the rules, without a door

PENDING = Relock("lock", 100.0)
LATER = Relock("lock", 1060.0)
OTHER = Outcome(Command.UNLOCK, Result.UNLOCKED, lock="fallback")
RULES = {
    # what came of it                                    what is pending then
    "unlocked":       (Outcome(Command.UNLOCK, Result.UNLOCKED),     [LATER]),
    "unsure, unlock": (Outcome(Command.UNLOCK, Result.UNSURE),       [LATER]),
    "refused":        (Outcome(Command.UNLOCK, Result.REFUSED),      [PENDING]),
    "unreachable":    (Outcome(Command.UNLOCK, Result.UNREACHABLE),  [PENDING]),
    "unknown":        (Outcome(None, Result.UNKNOWN_STATE),          [PENDING]),
    "locked":         (Outcome(Command.LOCK, Result.LOCKED),         []),
    "unsure, lock":   (Outcome(Command.LOCK, Result.UNSURE),         [PENDING]),
    "the other lock": (OTHER, [PENDING, Relock("fallback", 1060.0)]),
}  # fmt: skip


def relocking(world) -> Relocking:
    found = world.door(config())._keeper.relocking
    found.pending = {"lock": PENDING}
    return found


@pytest.mark.parametrize(("outcome", "expected"), RULES.values(), ids=RULES)
def test_settle_keeps_what_is_to_be_locked_again(world, outcome, expected):
    pending = relocking(world)

    pending.settle(outcome)

    assert [*pending.pending.values()] == expected


def test_settle_waits_longer_after_each_failure_and_gives_up(world):
    clock, found = world.clock, []
    pending = relocking(world)
    pending._keeper.control.policy = LockPolicy(relock_waits_s=(15.0, 30.0))
    for _ in range(3):
        (relock,) = pending.pending.values()
        _, notes = pending.settle(Outcome(Command.LOCK, Result.UNSURE), relock)
        world.store.keep(notes)
        (relock,) = pending.pending.values()
        found.append((relock.due - clock.monotonic(), relock.failures))
        clock.advance(30.0)

    assert found == [(15.0, 1), (30.0, 2), (float("inf"), 3)]


def test_settle_stores_the_time_it_remembers(world):
    world.clock.advance(1 / 3)
    pending = relocking(world)

    _, notes = pending.settle(Outcome(Command.UNLOCK, Result.UNLOCKED))

    assert relocks_from(notes.words["relock"], "boot-1", 7.0) == pending.pending


@pytest.mark.parametrize("pending", [PENDING, Relock("fallback", float("inf"), 5)])
def test_relocks_from_reads_what_relocks_text_writes(pending):
    text = relocks_text([pending], "b")
    assert relocks_from(text, "b", 7.0) == {pending.lock: pending}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "b lock",
        "b lock nan 0",
        "b lock 1 0",
        "b lock 1.0 -1",
        "b lock 1.0 0\n",
        f"b lock 1.0 {'9' * 5000}",
        f"b lock {'9' * 400}.0 0",
    ],
)
def test_relocks_from_ignores_what_makes_no_sense(text):
    assert relocks_from(text, "b", 7.0) == {}


def test_relocks_from_before_a_reboot_are_due_now():
    assert relocks_from("a lock inf 5", "b", 7.0) == {"lock": Relock("lock", 7.0)}


# -- two locks


@pytest.fixture
def second(world):
    world.fallback = FakeLock(world.clock)
    return world.fallback


def both(relock_after_s: float = AFTER_S):
    fallback = doorpi.LockAccess(kind="tedee")
    return replace(config(relock_after_s=relock_after_s), fallback=fallback)


AWAY = NotSent("no network")


def test_two_locks_are_each_locked_again(world, second):
    door = world.door(both())
    tap(world, door)
    world.lock.statuses = [AWAY] * 3
    tap(world, door)  # the internet is away: the second lock opens

    world.lock.statuses = []
    idle(world, door, 120)

    assert commands(world) == [(0, Command.UNLOCK), (60, Command.LOCK)]
    assert [command for _, command in second.sent] == [Command.UNLOCK, Command.LOCK]
    assert not world.store.kept.get("relock")


def test_two_locks_the_second_does_not_count_for_the_first(world, second):
    second.state = LockState.UNLOCKED
    door = world.door(both())
    tap(world, door)
    world.lock.statuses = [AWAY] * 3
    tap(world, door)  # the second lock is locked by it

    world.lock.statuses = []
    idle(world, door, 120)

    assert commands(world)[-1][1] is Command.LOCK
    assert [command for _, command in second.sent] == [Command.LOCK]


def test_two_locks_a_verb_opens_one_while_the_other_is_relocked(world, second):
    world.store.kept["relock"] = "boot-1 lock 1001.000 0"
    meanwhile(world, "boot-1 lock 1001.000 0; boot-1 fallback 1030.000 0")

    idle(world, world.door(both()), 60)

    assert commands(world) == [(1, Command.LOCK)]
    assert [(round(at), what) for at, what in second.sent] == [(1030, Command.LOCK)]


def test_two_locks_the_detail_names_the_one_given_up(world, second):
    gone = Relock("fallback", float("inf"), 5)
    due = Relock("lock", world.clock.t + 1)
    world.store.kept["relock"] = relocks_text([gone, due], "boot-1")
    world.lock.statuses = [AWAY] * 3
    world.lock.sends = [AWAY] * 3

    idle(world, world.door(both()), 10)

    assert told(world) == [("relock", Command.LOCK, Result.UNREACHABLE, "no network")]
    assert world.lights.standing is Signal.NOT_LOCKED


def test_two_locks_are_retried_as_their_kinds_need(world, second):
    second.policy = replace(second.policy, relock_waits_s=(99.0,))
    world.store.kept["relock"] = "boot-1 fallback 1001.000 0"
    second.sends = [Rejected("LOW_BATTERY")]

    idle(world, world.door(both()), 120)

    assert [round(at) for at, _ in second.sent] == [1001, 1100]


def test_two_locks_survive_a_restart(world, second):
    door = world.door(both())
    tap(world, door)
    world.lock.statuses = [AWAY] * 3
    tap(world, door)

    world.lock.statuses = []
    idle(world, world.door(both()), 120)

    assert world.lock.state is second.state is LockState.LOCKED


def test_tap_during_a_relock_opens_although_the_status_is_old(world, door):
    """The command to lock has left, the status has not followed: a toggle would lock."""
    tap(world, door)
    idle(world, door, 58.8)
    world.lock.progress = [Progress.PENDING] * 5
    world.lock.statuses = [LockStatus(state=LockState.UNLOCKED)] * 2
    world.reader.shows = [*[None] * 20, KEN]

    idle(world, door, 10)

    assert [command for _, command in world.lock.sent] == [
        Command.UNLOCK,
        Command.LOCK,
        Command.UNLOCK,
    ]


def test_relock_waits_until_the_cloud_may_be_called(world, door):
    tap(world, door)
    world.lock.statuses = [QuotaError("HTTP 403", 1800.0)]

    idle(world, door, 2000)

    assert commands(world)[-1] == (60 + 1800 + 15, Command.LOCK)
    assert world.lights.standing is Signal.READY
