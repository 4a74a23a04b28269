"""A member whom the list does not let in: read again, decided again, one event."""

from __future__ import annotations

from datetime import timedelta

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    CobotConfig,
    Found,
    InlineWorker,
    Medium,
    MemberLookUp,
    Membership,
    Origin,
    Reason,
    Signal,
    Uid,
    Wants,
    only_door,
)
from tests.door.test_one_way_in import ANNA, PHONE, LaterWorker, door_of, serve
from tests.helpers.world import KEN, NOON, card_of

RULE = Membership("m1", "Ten Days", NOON + timedelta(days=3))
NO_PASS = RULE._replace(refusal=Reason.NO_PASS)
HAS_PASS = NO_PASS._replace(spans=((NOON, NOON + timedelta(hours=9)),))


def member(rule: Membership = RULE, **changes):
    return card_of(ANNA, "Anna", source=Origin.COBOT, membership=rule, **changes)


class Beside(doorpi.Authority):
    """`doorpi online`: what it does to the list when it is asked, and what it says."""

    name, schedule = "cobot", ""

    def __init__(self, world, takes_s: float = 0.5, comes_first: bool = False) -> None:
        self.world, self.worker = world, LaterWorker(world.clock, takes_s)
        self.answer_s, self.comes_first = 3.0, comes_first
        self.becomes: list = []  # the entries on the list after each question
        self.says: Reason | None = None
        self.asked: list[Reason] = []

    def takes(self, request: AccessRequest) -> bool:
        return False

    def question(self, request, who, reason):
        is_asked = reason in (Reason.NOT_FOUND, Reason.NO_PASS)
        is_asked |= self.comes_first and reason is Reason.GRANTED
        if is_asked:
            self.asked.append(reason)
        return request if is_asked else None

    def look_up(self, request: AccessRequest) -> Found:
        if self.becomes:
            self.world.store.cards[ANNA] = self.becomes.pop(0)
        return Found(reason=self.says)

    def close(self) -> None: ...


def tap(world, beside: Beside, uid: Uid = ANNA):
    """The event of a tap."""
    door = door_of(world, beside)
    world.reader.shows = [uid]
    serve(world, door)
    (event,) = world.store.events.values()
    return event


def test_a_member_of_this_minute_opens_with_one_event(world):
    beside = Beside(world)
    beside.becomes = [member()]
    event = tap(world, beside)
    assert (event.reason, event.holder, event.note) == (
        Reason.GRANTED,
        "Anna",
        "asked cobot",
    )
    assert world.lights.signals == [Signal.ASKING, Signal.WORKING, Signal.UNLOCKED]


def test_who_is_denied_by_an_old_list_is_decided_again(world):
    beside = Beside(world)
    world.store.cards[ANNA] = member(NO_PASS)
    beside.becomes = [member(HAS_PASS)]
    assert tap(world, beside).reason is Reason.GRANTED


@pytest.mark.parametrize("listed", [None, member(NO_PASS)])
def test_nothing_new_leaves_the_first_decision(world, listed):
    beside = Beside(world)
    if listed:
        world.store.cards[ANNA] = listed
    event = tap(world, beside)
    assert event.reason is (Reason.NO_PASS if listed else Reason.NOT_FOUND)
    assert world.lights.signals == [Signal.ASKING, Signal.DENIED]
    assert world.lock.calls == 0


def test_the_door_waits_three_seconds_at_most(world):
    beside = Beside(world, takes_s=60.0)
    beside.becomes = [member()]
    event = tap(world, beside)
    assert event.reason is Reason.NOT_FOUND, "no answer is no fault: the list decides"
    assert world.lights.signals == [Signal.ASKING, Signal.DENIED]
    assert world.lights.shown[-1][0] - 1000.0 == pytest.approx(3.0, abs=0.2)


def test_a_check_in_comes_before_the_door_opens(world):
    beside = Beside(world, comes_first=True)
    world.store.cards[ANNA] = member(HAS_PASS)
    assert tap(world, beside).reason is Reason.GRANTED
    assert beside.asked == [Reason.GRANTED]


def test_who_is_found_just_now_is_checked_in_too(world):
    beside = Beside(world, comes_first=True)
    beside.becomes = [member(HAS_PASS)]
    assert tap(world, beside).reason is Reason.GRANTED
    assert beside.asked == [Reason.NOT_FOUND, Reason.GRANTED]


@pytest.mark.parametrize("reason", [Reason.NO_PASS, Reason.AUTHORITY_UNREACHABLE])
def test_a_check_in_that_is_not_made_denies(world, reason):
    beside = Beside(world, comes_first=True)
    world.store.cards[ANNA] = member(HAS_PASS)
    beside.says = reason
    event = tap(world, beside)
    assert (event.reason, event.holder) == (reason, "Anna")
    assert world.lock.calls == 0


def test_a_check_in_without_an_answer_in_time_denies(world):
    beside = Beside(world, takes_s=60.0, comes_first=True)
    world.store.cards[ANNA] = member(HAS_PASS)
    assert tap(world, beside).reason is Reason.AUTHORITY_UNREACHABLE


def test_a_lockdown_is_not_asked_about(world):
    beside = Beside(world, comes_first=True)
    world.store.lockdown = True
    assert tap(world, beside).reason is Reason.LOCKED_DOWN
    assert beside.asked == []


def test_a_block_overrules_what_was_read(world):
    beside = Beside(world)
    beside.becomes = [member()]
    world.store.blocks[ANNA] = doorpi.Block("Anna", NOON, "owner", ANNA)
    assert tap(world, beside).reason is Reason.NOT_ENABLED
    assert beside.asked == []


# -- what `doorpi online` is asked about


#: (settings, the credential, the decision, the question)
QUESTIONS = [
    ("off", None, Reason.NOT_FOUND, Wants.STATUS),
    ("off", None, Reason.AUTHORITY_UNREACHABLE, Wants.STATUS),
    ("off", None, Reason.REVOKED, None),
    ("off", None, Reason.LOCKED_DOWN, None),
    ("off", member(NO_PASS), Reason.NO_PASS, Wants.STATUS),
    ("off", member(), Reason.EXPIRED, Wants.STATUS),
    ("off", member(), Reason.LIST_TOO_OLD, Wants.STATUS),
    ("off", member(), Reason.NOT_ENABLED, None),
    ("off", member(), Reason.CLOCK_NOT_SET, None),
    ("off", member(), Reason.NOT_PERMITTED_AT_THIS_TIME, None),
    ("off", member(HAS_PASS), Reason.GRANTED, None),
    ("after", member(HAS_PASS), Reason.GRANTED, None),
    ("before", member(HAS_PASS), Reason.GRANTED, Wants.UNLOCK),
    ("before", member(), Reason.GRANTED, None),
    ("before", card_of(), Reason.GRANTED, None),
    ("before", card_of(), Reason.EXPIRED, None),
]


@pytest.mark.parametrize(("check_in", "who", "reason", "wants"), QUESTIONS)
def test_only_what_cobot_may_change_is_asked(
    tmp_path, clock, check_in, who, reason, wants
):
    config = CobotConfig(check_in=check_in)
    beside = MemberLookUp(config, tmp_path, clock, InlineWorker())
    tapped = AccessRequest(Medium.CARD, KEN, NOON, 1000.0, 1010.0)

    assert beside.question(tapped, who, reason) is None, "nobody answers"
    with only_door(tmp_path):
        question = beside.question(tapped, who, reason)
        assert (question and question.wants) == wants
        if question:
            assert question.good_until <= 1006.0
        for other in (
            tapped._replace(medium=Medium.CHAT),
            tapped._replace(identifier=PHONE) if who is None else None,
        ):
            assert other is None or beside.question(other, who, reason) is None
