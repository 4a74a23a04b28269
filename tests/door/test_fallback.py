"""A second lock lets a member in when the first is out of reach, and never else."""

from __future__ import annotations

import signal

import pytest

import doorpi
from doorpi import (
    Busy,
    Command,
    LockAccess,
    LockConfig,
    LockPolicy,
    LockState,
    LockStatus,
    MaybeSent,
    NotSent,
    Offline,
    Progress,
    QuotaError,
    Result,
    Signal,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, FakeLock, card_of, config_of

MANY = 100
LOST = NotSent("no network")
AWAY = LockStatus(
    state=LockState.UNKNOWN, why="the hub is offline", reachable=False, is_old=True
)
UNKNOWN = LockStatus(state=LockState.UNKNOWN, why="the bolt is moving")


@pytest.fixture
def second(world) -> FakeLock:
    world.fallback = FakeLock(world.clock)
    return world.fallback


def config(**changes):
    lock = LockConfig(kind="sesame-mini", **changes)
    return replace(config_of(card_of()), lock=lock, fallback=LockAccess(kind="tedee"))


def tap(world, **changes):
    """One card; what the log says of it."""
    event = world.tap(KEN, config=config(**changes))
    return event.command, event.result, event.detail


def sent(lock) -> list[Command]:
    return [command for _, command in lock.sent]


# -- when it is used

BY_FALLBACK = "moved by the fallback (tedee); the lock: "
OUT_OF_REACH = {
    # what the first lock's status comes to: the words, seconds until the fallback moves
    "no connection":  ([LOST] * MANY, "no network", 3.0),
    "no answer":      ([MaybeSent("no answer")] * MANY, "no answer", 3.0),
    "hub offline":    ([Offline("hub offline")], "hub offline", 0.0),
    "says so itself": ([AWAY], "state unknown: the hub is offline", 0.0),
    "plan used up":   ([QuotaError("no calls left")], "no calls left", 0.0),
}  # fmt: skip


@pytest.mark.parametrize("case", OUT_OF_REACH)
def test_fallback_opens_when_the_lock_is_out_of_reach(world, second, case):
    world.lock.statuses, words, seconds = OUT_OF_REACH[case]

    assert tap(world) == (Command.UNLOCK, Result.UNLOCKED, BY_FALLBACK + words)
    assert world.lock.sent == []
    assert [(at - 1000, command) for at, command in second.sent] == [
        (seconds, Command.UNLOCK)
    ]
    assert world.lights.signals == [Signal.WORKING, Signal.UNLOCKED]


#: Whether the second lock opens when the first fails so: at the look, and at the
#: command.  A cloud that says no has passed nothing on; a lock that says no is heeded.
FREED = """
                look   command
LockError        yes     no
NotSent          yes     yes
MaybeSent        yes     no
Busy             no      no
Throttled        yes     yes
Unreadable       yes     no
Offline          yes     no
NotForwarded      yes     yes
Rejected         no      no
RemoteBarred           no      no
RequestRefused       yes     yes
AuthError        yes     yes
QuotaError       yes     yes
AccessWithdrawn        no      no
"""
FREED_BY = [
    (name, stage, word == "yes")
    for name, *words in map(str.split, FREED.strip().split("\n")[1:])
    for stage, word in zip(("look", "command"), words, strict=True)
]


def kinds_of(error) -> set[str]:
    return {error.__name__}.union(*map(kinds_of, error.__subclasses__()))


def test_table_has_every_lock_error():
    assert {name for name, _, _ in FREED_BY} == kinds_of(doorpi.LockError)


@pytest.mark.parametrize(("name", "stage", "is_freed"), FREED_BY)
def test_fallback_opens_when_nothing_was_sent_and_the_lock_did_not_refuse(
    world, second, name, stage, is_freed
):
    failures = [getattr(doorpi, name)("no")] * MANY
    world.lock.progress = [Progress.PENDING] * MANY
    if stage == "look":
        world.lock.statuses = failures
    else:
        world.lock.sends = failures

    _, result, detail = tap(world)

    assert sent(second) == [Command.UNLOCK] * is_freed
    assert (result is Result.UNLOCKED) == is_freed
    assert (detail == f"{BY_FALLBACK}no") == is_freed


@pytest.mark.parametrize("why", ["the lock is jammed", "the bolt is moving"])
def test_fallback_does_not_open_past_a_lock_that_answers(world, second, why):
    world.lock.statuses = [LockStatus(state=LockState.UNKNOWN, why=why)]

    assert tap(world)[1] is Result.UNKNOWN_STATE
    assert second.sent == []


def test_fallback_is_not_used_when_the_lock_works(world, second):
    assert tap(world) == (Command.UNLOCK, Result.UNLOCKED, "")
    assert second.calls == 0


def test_fallback_gets_a_command_that_was_never_sent(world, second):
    world.lock.sends = [LOST] * MANY

    assert tap(world) == (
        Command.UNLOCK,
        Result.UNLOCKED,
        f"{BY_FALLBACK}no network",
    )
    assert sent(second) == [Command.UNLOCK]
    assert len(world.store.events) == 1


def test_fallback_gets_the_same_command_whatever_its_state(world, second):
    world.lock.sends = [LOST] * MANY
    second.state = LockState.UNLOCKED

    assert tap(world)[:2] == (Command.UNLOCK, Result.UNLOCKED)
    assert sent(second) == [Command.UNLOCK]


def test_fallback_does_not_open_a_door_that_was_to_be_locked(world, second):
    world.lock.state = LockState.UNLOCKED
    world.lock.sends = [LOST] * MANY

    assert tap(world) == (Command.LOCK, Result.UNREACHABLE, "no network")
    assert second.sent == []


@pytest.mark.parametrize("on_unknown", ["unlock", "lock"])
def test_fallback_is_used_before_a_guess(world, second, on_unknown):
    world.lock.statuses = [AWAY]
    settings = replace(config(), door=doorpi.DoorConfig(on_unknown=on_unknown))

    event = world.tap(KEN, config=settings)

    assert (event.command, event.result) == (Command.UNLOCK, Result.UNLOCKED)
    assert world.lock.sent == []


# -- in time


def test_fallback_gets_half_of_the_window(world, second):
    """An internet that swallows everything: each try takes its whole 5 s."""
    world.lock.takes_s = 5.0
    world.lock.statuses = [MaybeSent("no answer")] * MANY

    assert tap(world)[1] is Result.UNLOCKED
    assert [at - 1000 for at, _ in second.sent] == [5.0]


def test_fallback_does_not_shorten_the_wait_for_a_busy_lock(world, second):
    world.lock.statuses = [Busy("moving", 7.0)]

    assert tap(world) == (Command.UNLOCK, Result.UNLOCKED, "")
    assert [at - 1000 for at, _ in world.lock.sent] == [7.0]


def test_fallback_does_not_shorten_the_wait_for_a_moving_bolt(world, second):
    world.lock.statuses = [replace(UNKNOWN, is_moving=True)] * 4

    assert tap(world) == (Command.UNLOCK, Result.UNLOCKED, "")
    assert [at - 1000 for at, _ in world.lock.sent] == [8.0]


def test_fallback_gets_half_of_the_window_after_a_wake(world, second):
    world.lock.policy = doorpi.SesameMini.policy
    world.lock.statuses = [AWAY] * MANY
    world.lock.awake = [False] * MANY

    assert tap(world)[1] is Result.UNLOCKED
    assert [at - 1000 for at, _ in second.sent] == [4.0]


def test_fallback_keeps_to_the_window(world, second):
    world.lock.takes_s = 5.0
    world.lock.statuses = [MaybeSent("no answer")] * MANY
    second.takes_s = 6.0

    command, result, detail = tap(world)

    assert (command, result) == (Command.UNLOCK, Result.UNREACHABLE)
    assert detail == "no answer; the fallback (tedee): too late to send"
    assert second.sent == []


# -- what is said


def test_fallback_out_of_reach_too_gives_both_reasons(world, second):
    world.lock.statuses = [AWAY]
    second.statuses = [Offline("its bridge is gone")]

    assert tap(world) == (
        None,
        Result.UNREACHABLE,
        "state unknown: the hub is offline; the fallback (tedee): its bridge is gone",
    )
    assert world.lights.signals == [Signal.WORKING, Signal.FAULT]


def test_fallback_that_does_not_confirm_is_unsure(world, second):
    world.lock.statuses = [AWAY]
    second.progress = [Progress.PENDING] * MANY

    assert tap(world) == (
        Command.UNLOCK,
        Result.UNSURE,
        (
            "moved by the fallback (tedee); not confirmed within 30 s; "
            "the lock: state unknown: the hub is offline"
        ),
    )


def test_fallback_battery_is_shown_when_it_moved(world, second):
    world.lock.statuses = [replace(AWAY, battery_percent=90)]
    second.statuses = [LockStatus(state=LockState.LOCKED, battery_percent=5)]

    tap(world)

    assert world.lights.shown[-1][1][:2] == (Signal.UNLOCKED, Signal.LOW_BATTERY)


# -- and afterwards


def test_fallback_locks_again_what_it_opened(world, second):
    world.lock.statuses = [AWAY]
    door = world.door(config(relock_after_s=30.0))
    world.reader.shows = [KEN]

    for _ in range(400):
        door.step()

    assert sent(second) == [Command.UNLOCK, Command.LOCK]
    assert world.lock.sent == []
    event = list(world.store.events.values())[-1]
    assert (event.source, event.result) == ("relock", Result.LOCKED)
    assert event.detail == "the fallback (tedee)"


def test_fallback_that_was_removed_leaves_its_relock_to_the_lock(world, second):
    world.store.kept["relock"] = "boot-1 fallback 1001.000 0"
    door = world.door(replace(config(), fallback=None))

    for _ in range(20):
        door.step()

    assert sent(world.lock) == [Command.LOCK]
    assert world.store.kept["relock"] == ""


@pytest.mark.parametrize("lost_at", ["the look", "the command"])
def test_fallback_relock_survives_a_kill_during_the_unlock(world, second, lost_at):
    if lost_at == "the look":
        world.lock.statuses = [AWAY]
    else:
        world.lock.sends = [LOST] * 3
    second.progress = [KeyboardInterrupt()]  # nothing of the door's catches it
    with pytest.raises(KeyboardInterrupt):
        world.tap(KEN, config=config(relock_after_s=30.0))
    tries = len(world.lock.sent)

    door = world.door(config(relock_after_s=30.0))
    for _ in range(400):
        door.step()

    assert sent(second) == [Command.UNLOCK, Command.LOCK]
    assert len(world.lock.sent) == tries


def test_fallback_relock_survives_a_kill_after_the_unlock(world, second):
    world.lock.statuses = [AWAY]
    world.lock.progress = [KeyboardInterrupt()]
    door = world.door(config(relock_after_s=30.0))
    world.reader.shows = [KEN, *[None] * 9]
    while world.reader.shows:
        door.step()
    world.reader.shows = [KEN]
    with pytest.raises(KeyboardInterrupt):
        door.step()

    door = world.door(config(relock_after_s=30.0))
    for _ in range(400):
        door.step()

    assert sent(world.lock) == sent(second) == [Command.UNLOCK, Command.LOCK]


def test_fallback_strike_leaves_no_relock_after_a_kill(world, second):
    world.lock.statuses = [AWAY]
    second.policy = LockPolicy(confirm_at_s=(0.0,), locks_itself=True)
    second.progress = [KeyboardInterrupt()]
    world.reader.shows = [KEN]
    with pytest.raises(KeyboardInterrupt):
        world.door(config(relock_after_s=30.0)).step()

    door = world.door(config(relock_after_s=30.0))
    for _ in range(400):
        door.step()

    assert sent(second) == [Command.UNLOCK]
    assert world.lock.sent == []


def test_fallback_strike_needs_no_relock(world, second):
    world.lock.statuses = [AWAY]
    second.policy = LockPolicy(confirm_at_s=(0.0,), locks_itself=True)
    door = world.door(config(relock_after_s=30.0))
    world.reader.shows = [KEN]

    for _ in range(400):
        door.step()

    assert sent(second) == [Command.UNLOCK]
    assert world.lock.sent == []


def test_fallback_is_never_used_for_a_relock(world, second):
    door = world.door(config(relock_after_s=30.0))
    world.reader.shows = [KEN]
    door.step()
    world.lock.statuses = [LOST] * MANY
    world.lock.sends = [LOST] * MANY

    for _ in range(600):
        door.step()

    assert len(world.store.events) > 1
    assert second.sent == []


def test_fallback_is_kept_ready_and_closed_too(world, second):
    door = world.door(config())
    world.clock.stop_at = world.clock.t + 2.0

    with pytest.raises(doorpi.Stopped):
        door.run()

    assert world.lock.kept_ready == second.kept_ready > 5
    assert 0 not in (world.lock.closed, second.closed)


def test_fallback_strike_shuts_before_the_lights_show_stopping(world, second):
    def interrupted():
        raise doorpi.Stopped(signal.SIGINT)

    world.lock.keep_ready = interrupted
    closed = []
    show = world.lights.show

    def watched_show(*signals):
        closed.append((signals[0], world.lock.closed, second.closed))
        show(*signals)

    door = world.door(config())
    world.lights.show = watched_show
    with pytest.raises(doorpi.Stopped):
        door.run()

    assert closed[-1] == (Signal.STOPPING, 1, 1)
