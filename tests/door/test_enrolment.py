"""A master card at the reader: enrolment without a computer.  And the lockdown."""

from __future__ import annotations

import pytest

from doorpi import Credential, Door, Origin, Reason, Role, Signal, StoreError, Uid
from tests.helpers.world import KEN, NOON, STRANGER, World, card_of, config_of

MASTER, PHONE, OTHER = Uid("AABBCCDD"), Uid("08112233"), Uid("01020304")
CONFIG = config_of(card_of(), card_of(MASTER, "Boss", role=Role.MASTER))
NAME = "Card of 2026-11-18 12:00:00"


@pytest.fixture
def door(world) -> Door:
    return world.door(CONFIG)


def present(world: World, door: Door, *uids: Uid) -> None:
    """Each for one look; then it is away for a second, which the calendar ignores."""
    for uid in uids:
        world.reader.shows = [uid]
        door.step()
        door.step()
        world.clock.advance(1.0)
        door.step()
        world.clock.at = NOON


def told(world: World) -> list[tuple[str, str, str]]:
    return [
        (event.holder, event.reason.value, event.detail)
        for event in world.store.events.values()
    ]


def test_enrolment_puts_the_next_unknown_card_on_the_list(world, door):
    present(world, door, MASTER, STRANGER)

    assert world.store.cards == {
        STRANGER: Credential(uid=STRANGER, holder=NAME, source=Origin.DB)
    }
    assert world.lights.signals == [Signal.ENROLLING, Signal.ENROLLED]
    assert world.lights.standing is Signal.READY
    assert told(world) == [
        ("Boss", "granted", "enrolment open for 15 s"),
        (NAME, "granted", "enrolled"),
    ]


def test_enrolment_lets_the_new_card_open_at_its_next_tap(world, door):
    present(world, door, MASTER, STRANGER, STRANGER)

    assert len(world.lock.sent) == 1
    assert told(world)[-1] == (NAME, "granted", "")


def test_enrolment_never_asks_or_moves_the_lock(world, door):
    present(world, door, MASTER, KEN, PHONE, STRANGER, MASTER, MASTER)

    assert (world.lock.sent, world.lock.calls) == ([], 0)


def test_enrolment_window_is_for_one_card(world, door):
    present(world, door, MASTER, STRANGER, OTHER)

    assert list(world.store.cards) == [STRANGER]
    assert told(world)[-1] == ("", "not-found", "")


def test_enrolment_window_closes_after_15_seconds(world, door):
    present(world, door, MASTER)
    assert world.lights.standing is Signal.ENROLLING
    began_at = world.lights.shown[0][0]
    world.clock.advance(began_at + 14.9 - world.clock.monotonic())
    door.step()
    assert world.lights.standing is Signal.ENROLLING

    world.clock.advance(0.1)
    door.step()
    present(world, door, STRANGER)

    assert world.lights.shown[-2][1] == (Signal.READY,)
    assert world.lights.signals[-1] is Signal.DENIED
    assert world.store.cards == {}


def test_enrolment_window_is_closed_by_the_master_card(world, door):
    present(world, door, MASTER, MASTER, STRANGER)

    assert world.store.cards == {}
    assert told(world)[1] == ("Boss", "granted", "enrolment closed")
    assert world.lights.signals == [Signal.ENROLLING, Signal.READY, Signal.DENIED]


BLINKED = {
    "a known card":       (KEN, "not-permitted-at-this-time", "nobody may enter while a card is enrolled"),
    "a phone":            (PHONE, "random-uid", ""),
}  # fmt: skip


@pytest.mark.parametrize(("uid", "reason", "detail"), BLINKED.values(), ids=BLINKED)
def test_enrolment_denies_known_cards_and_stays_open(world, door, uid, reason, detail):
    present(world, door, MASTER, uid)

    assert world.lights.shown[-1][1] == (Signal.DENIED, Signal.ENROLLING)
    assert told(world)[-1][1:] == (reason, detail)
    present(world, door, STRANGER)
    assert list(world.store.cards) == [STRANGER]


def test_enrolment_needs_a_valid_master_card(world):
    config = config_of(card_of(MASTER, "Boss", role=Role.MASTER, enabled=False))
    present(world, world.door(config), MASTER, STRANGER)

    assert world.store.cards == {}
    assert [event.reason for event in world.store.events.values()] == [
        Reason.NOT_ENABLED, Reason.NOT_FOUND,
    ]  # fmt: skip


def test_enrolment_accepts_a_master_card_of_the_database(world):
    world.store.cards = {MASTER: card_of(MASTER, "Boss", role=Role.MASTER)}

    present(world, world.door(config_of()), MASTER, STRANGER)

    assert world.store.cards.keys() == {MASTER, STRANGER}


def test_enrolment_shows_a_fault_when_the_disk_fails(world, door):
    present(world, door, MASTER)
    add = world.store.add_card
    world.store.add_card = full_disk

    present(world, door, STRANGER)

    assert world.lights.signals[-1] is Signal.FAULT
    assert world.store.cards == {}
    assert told(world)[-1] == ("", "not-found", "could not be enrolled")
    world.store.add_card = add
    present(world, door, MASTER, STRANGER)
    assert list(world.store.cards) == [STRANGER]


def full_disk(*_: object) -> None:
    raise StoreError("database or disk is full")


def test_enrolment_overwrites_no_card_that_could_not_be_looked_up(world, door):
    """Fail closed: a known card must not become a new one by a hiccup of the disk."""
    world.store.cards = {STRANGER: card_of(STRANGER, "Mika", enabled=False)}
    find, failures = world.store.find, [StoreError("locked")]

    def find_later(uid):
        if failures:
            raise failures.pop()
        return find(uid)

    present(world, door, MASTER)
    world.store.find = find_later
    present(world, door, STRANGER)

    assert world.store.cards == {STRANGER: card_of(STRANGER, "Mika", enabled=False)}
    assert world.lights.signals[-1] is Signal.FAULT


# -- lockdown


def test_lockdown_is_shown_without_a_tap(world, door):
    door.step()
    world.store.lockdown = True
    world.clock.advance(1.0)
    door.step()
    assert world.lights.standing is Signal.LOCKED_DOWN
    assert world.supervisor.said[-1] == ("status: locked down: nobody may enter")

    world.store.lockdown = False
    world.clock.advance(1.0)
    door.step()
    assert world.lights.standing is Signal.READY


def test_lockdown_applies_to_the_next_tap(world, door):
    door.step()
    world.store.lockdown = True

    present(world, door, KEN)

    assert told(world) == [("Ken Sato", "locked-down", "")]
    assert world.lock.sent == []
    assert (Signal.DENIED, Signal.LOCKED_DOWN) in [s for _, s in world.lights.shown]


def test_lockdown_lets_a_master_enrol_and_nobody_enter(world, door):
    world.store.lockdown = True

    present(world, door, MASTER, STRANGER, STRANGER)

    assert list(world.store.cards) == [STRANGER]
    assert told(world)[-1] == (NAME, "locked-down", "")
    assert world.lock.sent == []


@pytest.mark.parametrize("trouble", ["the disk fails", "the file is lost"])
def test_lockdown_is_not_lifted_by_disk_trouble(world, door, trouble):
    world.store.lockdown = True
    present(world, door, KEN)
    if trouble == "the disk fails":
        world.store.broken = "disk I/O error"
    else:
        world.store.lockdown = None

    present(world, door, KEN)

    assert world.lock.sent == []
    assert world.lights.standing is Signal.LOCKED_DOWN


def test_lockdown_applies_from_the_first_tap(world):
    world.store.lockdown = True

    event = world.tap(KEN, config=CONFIG)

    assert event.reason is Reason.LOCKED_DOWN
