"""Guest passes at the door: who may enter with one, how often, and until when."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from datetime import timedelta

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    Block,
    Command,
    GuestPass,
    InlineWorker,
    Medium,
    NotSent,
    PassCode,
    Reason,
    Result,
    Signal,
    SqliteStore,
    Wants,
    pass_in,
    sign_pass,
    signing_key,
)
from tests.helpers.values import replace
from tests.helpers.world import NOON, World, card_of, config_of

HOUR = timedelta(hours=1)


class Scans(doorpi.Source):
    """A scanner; each poll shows the next of ``shows``."""

    point, due, trouble = "lobby", -float("inf"), ""

    def __init__(self, world: World) -> None:
        self.worker = InlineWorker()
        self.world = world
        self.shows: list[str] = []
        self.rests_until = 0.0

    def open(self) -> None: ...

    def poll(self, now: float) -> AccessRequest | None:
        if not self.shows:
            return None
        text = self.shows.pop(0)
        return AccessRequest(
            Medium.QR,
            text,
            self.world.clock.now(),
            now,
            float("inf"),
            wants=Wants.UNLOCK,
            point=self.point,
            id=hashlib.sha256(text.encode()).hexdigest()[:12],
        )

    def prove(self, credential) -> None:
        return None

    def answer(self, request, answer) -> None: ...

    def rest(self, until: float) -> None:
        self.rests_until = until

    def close(self) -> None: ...


class Office:
    """A door with a scanner, a database and a key for passes."""

    def __init__(self, folder) -> None:
        self.store = SqliteStore(folder / "doorpi.db")
        self.world = World(store=self.store)
        self.key = folder / "pass.key"
        self.scans = Scans(self.world)
        self.config = config_of(card_of())
        self.world.door(self.config)
        self.equip()

    def equip(self) -> None:
        equipment = self.world.equipment
        equipment.sources = [self.scans]
        equipment.read_pass = functools.partial(pass_in, self.key)
        self.door = self.world.door_on_equipment(self.config)

    def make(self, pass_id: str = "ABCDEFG2", once: bool = False, **changes) -> str:
        code = PassCode(pass_id, NOON + HOUR, once)
        made = GuestPass(code, "Jo Guest", NOON, "ken")._replace(**changes)
        self.store.people.put_pass(made, NOON - 30 * 24 * HOUR)
        return sign_pass(made.code, signing_key(self.key))

    def scan(self, text: str):
        """Present a code; the event that comes of it."""
        self.scans.shows = [text]
        while self.scans.shows or not self.door.is_idle:
            self.door.step()
        return list(self.store.events.read())[-1]


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.store.close()


def test_a_guest_pass_opens_with_no_network(office):
    event = office.scan(office.make())

    assert (event.holder, event.source, event.point) == ("Jo Guest", "qr", "lobby")
    assert (event.reason, event.result) == (Reason.GRANTED, Result.UNLOCKED)
    assert (event.uid, event.details) == (None, "pass ABCDEFG2")
    assert office.world.lights.signals == [Signal.WORKING, Signal.UNLOCKED]


def test_a_guest_pass_never_locks(office):
    text = office.make()
    office.scan(text)
    office.world.clock.advance(60)

    office.scan(text)

    assert [each for _, each in office.world.lock.sent] == [Command.UNLOCK] * 2


DENIED = {
    "ended": ({"code": PassCode("ABCDEFG2", NOON - HOUR)}, Reason.EXPIRED),
    "not yet": ({"starts": NOON + HOUR / 2}, Reason.NOT_ACTIVE),
    "revoked": ({"revoked_at": NOON}, Reason.NOT_ENABLED),
    "outside its schedule": (
        {"schedule": "no such"},
        Reason.NOT_PERMITTED_AT_THIS_TIME,
    ),
}


@pytest.mark.parametrize(("changes", "reason"), DENIED.values(), ids=DENIED)
def test_a_guest_pass_is_judged_like_a_card(office, changes, reason):
    event = office.scan(office.make(**changes))

    assert (event.holder, event.reason) == ("Jo Guest", reason)
    assert office.world.lock.sent == []
    assert office.world.lights.signals == [Signal.DENIED]


def test_a_guest_pass_needs_a_clock(office):
    office.world.clock.set = False

    assert office.scan(office.make()).reason is Reason.CLOCK_NOT_SET


@pytest.mark.parametrize("jump", [-2 * HOUR, 2 * HOUR])
def test_a_guest_pass_goes_by_the_clock_even_if_it_jumps(office, jump):
    text = office.make(starts=NOON - HOUR)
    office.world.clock.at += jump

    event = office.scan(text)

    early = jump < timedelta(0)
    assert event.reason is (Reason.NOT_ACTIVE if early else Reason.EXPIRED)


def test_a_lockdown_keeps_guests_out(office):
    text = office.make()
    office.store.people.lock_down("fire drill")

    assert office.scan(text).reason is Reason.LOCKED_DOWN


def test_a_block_on_the_holder_covers_passes(office):
    text = office.make()
    block = Block("Jo Guest", NOON, "ken")
    office.store.people.change_cards([], [], NOON, block=[block])

    assert office.scan(text).reason is Reason.NOT_ENABLED


def test_a_pass_that_the_list_has_lost_is_refused(office):
    text = sign_pass(PassCode("ZZZZZZZ2", NOON + HOUR), signing_key(office.key))

    assert office.scan(text).reason is Reason.NOT_ENABLED


def test_a_pass_of_another_door_is_an_unreadable_code(office, tmp_path):
    other = signing_key(tmp_path / "other.key")
    office.make()

    event = office.scan(sign_pass(PassCode("ABCDEFG2", NOON + HOUR), other))

    assert (event.reason, event.holder) == (Reason.UNREADABLE_CODE, "")


@pytest.mark.parametrize("text", ["https://example.org", "x", 600 * "y", "\x00\x1b[2J"])
def test_any_other_code_is_unreadable(office, text):
    event = office.scan(text)

    assert event.reason is Reason.UNREADABLE_CODE
    assert text not in event.details
    assert office.world.lights.signals == [Signal.DENIED]


def test_unreadable_codes_are_counted_by_scanner_and_code(office):
    for text in ("one", "one", "one", "one", "two"):
        office.scan(text)
        office.world.clock.advance(5)

    requests = [event.request for event in office.store.events.read()]
    assert len(requests) == 4
    assert len(set(requests)) == 2


# -- once


def test_a_pass_for_one_visit_opens_once_for_ever(office):
    text = office.make(once=True)
    assert office.scan(text).result is Result.UNLOCKED
    office.world.clock.advance(60)

    assert office.scan(text).reason is Reason.USED_UP
    assert len(office.world.lock.sent) == 1


def test_a_used_pass_is_remembered_over_a_restart(office):
    text = office.make(once=True)
    office.scan(text)

    office.equip()

    assert office.scan(text).reason is Reason.USED_UP


def test_a_pass_for_one_visit_is_used_before_the_command_leaves(office):
    """A power cut between command and outcome must not give a second visit."""
    text, used = office.make(once=True), []
    send = office.world.lock.send

    def sending(*args):
        used.append(office.store.people.find_pass("ABCDEFG2").used_at)
        return send(*args)

    office.world.lock.send = sending
    office.scan(text)

    assert used[0] is not None


def test_a_pass_is_not_used_up_by_a_lock_that_was_not_reached(office):
    text = office.make(once=True)
    office.world.lock.sends = [NotSent("no network")] * 9
    assert office.scan(text).result is Result.UNREACHABLE
    office.world.lock.sends = []
    office.world.clock.advance(60)

    assert office.scan(text).result is Result.UNLOCKED


def test_a_pass_for_one_visit_stays_shut_if_its_use_cannot_be_noted(office):
    text = office.make(once=True)
    broken = SqliteStore(office.store.events.path)
    with contextlib.closing(broken):
        people = broken.people
        people.use_pass = refuse
        office.world.equipment.people = people
        office.equip()

        assert office.scan(text).reason is Reason.USED_UP
    assert office.world.lock.sent == []


def refuse(pass_id, at):
    from doorpi import StoreError

    raise StoreError("disk full")


def test_two_scanners_cannot_use_one_visit_twice(office):
    """Both were judged before either was noted."""
    text = office.make(once=True)
    office.scans.shows = [text, text]
    while office.scans.shows or not office.door.is_idle:
        office.door.step()

    assert len(office.world.lock.sent) == 1


def test_a_pass_is_revoked_while_the_lock_is_asked(office):
    text = office.make()
    status, people = office.world.lock.status, office.store.people

    def revoked_meanwhile(by):
        made = people.find_pass("ABCDEFG2")
        people.put_pass(replace(made, revoked_at=NOON), NOON - HOUR)
        return status(by)

    office.world.lock.status = revoked_meanwhile

    assert office.scan(text).reason is Reason.NOT_ENABLED
    assert office.world.lock.sent == []
