"""A card that is revoked, or a door that is locked down, while the lock is being asked."""

from __future__ import annotations

import pytest

from doorpi import (
    Command,
    LockAccess,
    LockPolicy,
    NotSent,
    Progress,
    Reason,
    Result,
    Signal,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, FakeLock, World, card_of, config_of


def lock_down(world: World) -> None:
    world.store.lockdown = True


def revoke(world: World) -> None:
    world.store.cards.clear()


def switch_off(world: World) -> None:
    world.store.cards[KEN] = card_of(enabled=False)


WITHDRAWN = {
    lock_down: (Reason.LOCKED_DOWN, "Ken Sato"),
    revoke: (Reason.NOT_FOUND, ""),
    switch_off: (Reason.NOT_ENABLED, "Ken Sato"),
}
BY_NAME = {change.__name__: change for change in WITHDRAWN}


@pytest.fixture
def world() -> World:
    """Ken's card is on the list of the database."""
    world = World()
    world.store.cards = {KEN: card_of()}
    return world


def meanwhile(world: World, method: str, change, lock: FakeLock | None = None) -> None:
    """``change`` happens while ``method`` of the lock is under way, the first time."""
    lock = lock or world.lock
    original = getattr(lock, method)

    def changed(*args):
        setattr(lock, method, original)
        change(world)
        return original(*args)

    setattr(lock, method, changed)


@pytest.mark.parametrize("change", BY_NAME.values(), ids=BY_NAME)
def test_access_withdrawn_during_the_look_is_a_denial(world, change):
    meanwhile(world, "status", change)

    event = world.tap(KEN, config=config_of())

    assert world.lock.sent == []
    assert (event.reason, event.holder) == WITHDRAWN[change]
    assert (event.command, event.result) == (None, None)
    assert world.lights.signals == [Signal.WORKING, Signal.DENIED]
    assert len(world.store.events) == 1


@pytest.mark.parametrize("change", BY_NAME.values(), ids=BY_NAME)
def test_access_withdrawn_during_the_write_sends_nothing(world, change):
    begin = world.store.begin

    def slow_begin(*args):
        change(world)
        return begin(*args)

    world.store.begin = slow_begin

    event = world.tap(KEN, config=config_of())

    assert world.lock.sent == []
    assert (event.command, event.result) == (Command.UNLOCK, Result.REFUSED)
    assert event.detail == WITHDRAWN[change][0]
    assert world.lights.signals == [Signal.WORKING, Signal.DENIED]


@pytest.mark.parametrize("change", BY_NAME.values(), ids=BY_NAME)
def test_access_withdrawn_during_the_preparation_sends_nothing(world, change):
    meanwhile(world, "prepare", change)

    event = world.tap(KEN, config=config_of())

    assert world.lock.sent == []
    assert (event.command, event.result) == (Command.UNLOCK, Result.REFUSED)
    assert world.lights.signals == [Signal.WORKING, Signal.DENIED]


def test_access_withdrawn_is_not_retried(world):
    world.lock.sends = [NotSent("no TLS")]
    meanwhile(world, "send", lock_down)

    event = world.tap(KEN, config=config_of())

    assert len(world.lock.sent) == 1
    assert (event.result, event.detail) == (Result.REFUSED, "locked-down")
    assert world.lights.signals == [Signal.WORKING, Signal.DENIED]


def test_access_withdrawn_is_not_resent(world):
    """The first one did leave: nobody can say what comes of it."""
    world.lock.policy = LockPolicy(confirm_at_s=(3.0,), confirm_every_s=1.0)
    world.lock.progress = [Progress.NO_EFFECT]
    meanwhile(world, "confirm", lock_down)

    event = world.tap(KEN, config=config_of())

    assert len(world.lock.sent) == 1
    assert (event.result, event.detail) == (
        Result.UNSURE,
        "sending it again: locked-down",
    )
    assert world.lights.signals == [Signal.WORKING, Signal.UNSURE]


def test_access_withdrawn_uses_no_fallback(world):
    world.fallback = FakeLock(world.clock)
    world.lock.statuses = [NotSent("no name")] * 3
    meanwhile(world, "status", lock_down, world.fallback)

    config = replace(config_of(), fallback=LockAccess(kind="tedee"))
    event = world.tap(KEN, config=config)

    assert (world.lock.sent, world.fallback.sent) == ([], [])
    assert (event.reason, event.result) == (Reason.LOCKED_DOWN, None)
    assert world.lights.signals == [Signal.WORKING, Signal.DENIED]


def test_access_withdrawn_counts_the_calls_of_the_look(world):
    control = world.door(config_of())
    world.reader.shows = [KEN]
    meanwhile(world, "status", lock_down)

    control.step()

    assert [n for name, n in world.store.kept.items() if name.startswith("calls")] == [
        "1"
    ]


def test_access_is_not_withdrawn_by_a_failing_disk(world):
    def break_disk(world):
        world.store.broken = "disk I/O error"

    meanwhile(world, "status", break_disk)

    world.tap(KEN, config=config_of())

    assert len(world.lock.sent) == 1
    assert Signal.UNLOCKED in world.lights.signals


def test_access_of_a_card_of_the_file_is_checked_again(world):
    meanwhile(world, "status", lock_down)

    event = world.tap(KEN, config=config_of(card_of()))

    assert (world.lock.sent, event.reason) == ([], Reason.LOCKED_DOWN)


def test_relock_continues_in_a_lockdown(world):

    config = config_of()
    config = replace(config, lock=replace(config.lock, relock_after_s=10.0))
    door = world.door(config)
    world.reader.shows = [KEN]
    door.step()
    lock_down(world)

    world.clock.advance(10.0)
    door.step()

    assert [command for _, command in world.lock.sent] == [Command.UNLOCK, Command.LOCK]
