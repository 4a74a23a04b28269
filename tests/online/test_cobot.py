"""[cobot]: the members of a co-working space, read again and again, and checked in."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    Answer,
    Change,
    ConfigError,
    Inbox,
    Medium,
    Origin,
    Reason,
    Result,
    Unavailable,
    Wants,
    is_running,
    look_up_folder,
)
from tests.fakes.cloud import FAULTS, answers
from tests.fakes.cobot import TOKEN, Booking, Pass, Plan, answered
from tests.helpers.cobot import CobotBench
from tests.helpers.world import KEN, MIKA, STRANGER, card_of

MORNING = datetime(2026, 11, 18, 9, 0, tzinfo=UTC)
HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def desk(tmp_path, clock):
    clock.at = MORNING
    made: list[CobotBench] = []

    def make(**table: object) -> CobotBench:
        made.append(CobotBench(tmp_path / str(len(made)), clock, **table))
        return made[-1]

    yield make
    for each in made:
        each.close()


def members(desk: CobotBench, count: int, **more) -> list[str]:
    """So many members with cards."""
    uids = [f"0A{number:012X}" for number in range(count)]
    for number, uid in enumerate(uids):
        desk.server.add(f"member{number}", uid, **more)
    return uids


# -- the list


def test_members_are_listed_and_may_enter(desk):
    space = desk(schedule="day")
    space.server.add("m1", KEN, name="Ken Sato")

    assert space.run() == ""

    who = space.find(KEN)
    assert (who.holder, who.source, who.schedule) == ("Ken Sato", Origin.COBOT, "day")
    assert (who.membership.id, who.membership.plan) == ("m1", "Fix Desk")
    assert (space.reason(KEN), space.reason(MIKA)) == (Reason.GRANTED, Reason.NOT_FOUND)
    (event,) = space.store.events.read()
    assert (event.reason, event.source) == (Change.SYNC, "cobot")


def test_cards_with_four_bytes_at_cobot_open(desk):
    space = desk(uid_format="decimal-le4")
    space.server.add("m1", str(int.from_bytes(bytes.fromhex(KEN)[:4], "little")))
    space.run()
    assert space.reason(KEN) is Reason.GRANTED


def test_the_list_is_read_every_interval(desk):
    space = desk(interval_s=900)
    space.server.add("m1", KEN)
    at: list[float] = []
    space.server.before_call = lambda name: (
        name == "tokens" and at.append(space.clock.t)
    )
    space.run(2 * HOUR, pace_s=2.0)
    waits = [later - before for before, later in pairwise(at)]
    assert min(waits) >= 810
    assert max(waits) <= 990 + 6 * 2.0
    assert len({round(wait) for wait in waits}) > 3


def test_a_large_space_is_read_within_the_budget(desk):
    space = desk()
    space.server.page_size = 25
    uids = members(space, 320)
    at: list[float] = []
    space.server.before_call = lambda name: at.append(space.clock.t)

    space.run(170)

    assert len(at) == 2 + 13 + 13
    assert all(at[i + 20] - at[i] >= 60 for i in range(len(at) - 20))
    assert all(space.reason(uid) is Reason.GRANTED for uid in uids[::40])


def test_somebody_who_is_missing_for_once_stays(desk):
    """Pages shift while they are read."""
    space = desk()
    uids = members(space, 8)
    space.run()
    gone = space.server.tokens.pop(uids[0])

    space.run(1_000)
    assert space.reason(uids[0]) is Reason.GRANTED
    space.run(1_000)
    assert space.reason(uids[0]) is Reason.NOT_FOUND
    assert gone


def test_the_end_of_a_membership_needs_no_cobot(desk):
    space = desk()
    space.server.add("m1", KEN, canceled="2026-11-18")
    space.run()
    space.server.go_offline()
    assert space.reason(KEN) is Reason.GRANTED
    space.clock.advance(DAY)
    assert space.reason(KEN) is Reason.EXPIRED


def test_without_cobot_the_list_holds_for_trust_for_s(desk):
    space = desk(trust_for_s=7200)
    space.server.add("m1", KEN)
    space.run()
    space.server.go_offline()
    space.clock.advance(7190)
    assert space.reason(KEN) is Reason.GRANTED
    space.run(60)
    assert space.reason(KEN) is Reason.LIST_TOO_OLD
    space.server.go_online()
    space.run(120)
    assert space.reason(KEN) is Reason.GRANTED


def test_nothing_is_read_while_the_clock_is_not_set(desk, clock):
    space = desk()
    clock.set = False
    assert "clock" in space.run()
    assert space.server.asked == []


def test_a_plan_that_nobody_has_is_a_finding(desk):
    space = desk(plans=("Fix Desk", "24/7"))
    space.server.add("m1", KEN)
    space.server.tokens["0815"] = "m1"
    space.run()
    plan, token = json.loads(space.notes.recall("findings cobot"))
    assert "24/7" in plan
    assert "0815" in token


# -- lists that are refused


@pytest.mark.parametrize("name", ["tokens", "members", "plans"])
@pytest.mark.parametrize("fault", ["empty", "halved"])
def test_a_list_that_lost_many_is_refused_until_the_owner_takes_it(desk, name, fault):
    space = desk()
    uids = members(space, 30)
    space.run()
    getattr(space.server, fault).add(name)

    refusal = space.run(4_000)

    assert "--accept" in refusal
    assert all(space.reason(uid) is Reason.GRANTED for uid in uids)
    space.notes.keep("accepted cobot", space.notes.recall("refused cobot"))
    assert space.run(60) == ""
    getattr(space.server, fault).clear()
    assert space.run(2_000) == ""
    getattr(space.server, fault).add(name)
    assert "--accept" in space.run(2_000), "accepted once, not for good"


@pytest.mark.parametrize("name", ["plans", "members", "bookings"])
def test_pages_that_do_not_fit_are_no_list(desk, name):
    space = desk(resource="room-1")
    space.server.page_size = 3
    uids = members(space, 8)
    for number in range(8):
        space.server.bookings.append(
            Booking(MORNING, MORNING + timedelta(hours=9), f"member{number}")
        )
    space.run()
    assert all(space.reason(uid) is Reason.GRANTED for uid in uids)
    space.server.torn.add(name)
    assert "changed while" in space.run(2_000)
    assert all(space.reason(uid) is Reason.GRANTED for uid in uids)
    space.server.torn.clear()
    assert space.run(120) == ""


def test_a_list_without_an_end_is_given_up(desk):
    space = desk()
    space.server.add("m1", KEN)
    here = "/spaces/x/memberships?page=1"
    page = answered({"data": [], "links": {"next": f"https://elsewhere.example{here}"}})
    space.server.fail_at("members", *[answers(200, page.body)] * 300)
    assert "does not end" in space.run(590)
    assert space.server.calls["members"] >= 200
    assert all("elsewhere" not in request.path for request in space.server.requests)


def test_many_who_lose_their_passes_lose_them_when_cobot_says_so_twice(desk):
    space = desk(time_passes=True)
    uids = members(space, 10, plan="Ten Days")
    space.server.catalogue["Ten Days"] = True
    space.server.passes = [Pass(f"member{number}") for number in range(10)]
    space.run()
    space.server.empty.add("passes")
    space.run(1_100)
    assert {space.reason(uid) for uid in uids} == {Reason.GRANTED}
    space.run(1_100)
    assert {space.reason(uid) for uid in uids} == {Reason.NO_PASS}


def test_new_settings_count_at_once(desk):
    space = desk()
    uids = members(space, 10)
    space.run()
    space.start(plans=("24/7",))
    space.run()
    assert {space.reason(uid) for uid in uids} == {Reason.PLAN_NOT_HERE}


# -- faults


def filled(space: CobotBench) -> CobotBench:
    """Ken may enter, Mika may not."""
    server = space.server
    server.add("m1", KEN, plan="Ten Days")
    server.add("m2", MIKA, plan="Ten Days")
    server.catalogue["Ten Days"] = True
    server.passes = [Pass("m1")]
    booked = MORNING, MORNING + timedelta(days=2)
    server.bookings = [Booking(*booked, "m1"), Booking(*booked, "m3")]
    return space


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        (
            {"time_passes": True},
            ("user", "tokens", "members", "plans", "passes", "catalogue"),
        ),
        ({"resource": "Meeting Room"}, ("resources", "bookings")),
    ],
    ids=["passes", "room"],
)
def test_no_fault_of_a_call_opens_or_shuts_anybody(desk, settings, calls, fault):
    """Each call of a list in turn; afterwards it is read as if nothing had happened."""
    space = filled(desk(interval_s=200, **settings))
    space.run(20)
    denied = Reason.NO_PASS if "time_passes" in settings else Reason.NO_BOOKING
    for name in calls:
        read = space.server.calls["tokens"]
        space.server.fail_at(name, fault)
        for seconds in (230, 300):
            space.run(seconds, pace_s=4.0)
            decided = [space.reason(uid) for uid in (KEN, MIKA, STRANGER)]
            assert decided == [Reason.GRANTED, denied, Reason.NOT_FOUND], name
        assert space.server.calls["tokens"] > read + 1, name


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_fault_that_stays_is_one_trouble(desk, status):
    """Not one that ends and begins again with each try: the journal gets every change."""
    space = desk()
    space.server.add("m1", KEN)
    space.run()
    space.server.fail_at("plans", *[answers(status)] * 500)
    space.run(1_100, pace_s=2.0)
    seen = {space.run(30, pace_s=0.2) for _ in range(10)}
    assert len(seen) == 1
    assert str(status) in seen.pop()


def test_a_token_that_is_not_valid_is_left_alone_for_a_while(desk):
    space = desk()
    space.server.add("m1", KEN)
    space.run()
    space.server.token = "another"
    space.run(1_000, pace_s=2.0)
    before = len(space.server.requests)
    assert "401" in space.run(800, pace_s=2.0)
    assert len(space.server.requests) <= before + 1
    assert space.reason(KEN) is Reason.GRANTED
    assert TOKEN not in space.run(900, pace_s=2.0)


def test_retry_after_is_obeyed_up_to_a_quarter_of_an_hour(desk):
    space = desk(interval_s=60)
    space.server.add("m1", KEN)
    space.server.fail_at("members", answers(429, b"", "Retry-After: 86400"))
    at: list[float] = []
    space.server.before_call = lambda name: at.append(space.clock.t)
    space.run(1_000, pace_s=1.0)
    pauses = [later - before for before, later in pairwise(at)]
    assert 899 <= max(pauses) <= 905
    assert space.reason(KEN) is Reason.GRANTED


# -- check-ins


def entered(desk, **table: object) -> CobotBench:
    """Ken, who has a pass, was let in."""
    space = desk(**{"check_in": "after", "time_passes": True, **table})
    space.server.add("m1", KEN, plan="Ten Days", name="Ken Sato")
    space.server.catalogue["Ten Days"] = True
    space.server.passes = [Pass("m1"), Pass("m1")]
    space.run()
    space.enter(KEN)
    return space


TODAY = "2026-11-18 m1"


def test_a_member_is_checked_in_once_a_day(desk):
    space = entered(desk)
    for _ in range(3):
        space.run()
        space.enter(KEN)
    space.run()

    assert space.check_ins == {TODAY: "done"}
    assert space.server.calls["check-in"] == 1
    assert [each.is_used for each in space.server.passes] == [True, False]

    space.clock.advance(DAY)
    space.run(60)
    space.enter(KEN)
    space.run()
    assert space.check_ins == {TODAY: "done", "2026-11-19 m1": "done"}
    assert space.server.guests == []


def test_an_entry_after_midnight_is_of_the_same_day(desk):
    space = entered(desk)
    space.run()
    space.clock.at = datetime(2026, 11, 19, 3, 0, tzinfo=UTC)
    space.enter(KEN)
    space.run()
    assert space.check_ins == {TODAY: "done"}


def test_nobody_is_checked_in_who_did_not_come_in(desk):
    space = entered(desk, check_in="off")
    space.enter(KEN)
    space.run()
    space.start(check_in="after")
    space.run()
    for changes in (
        {"reason": Reason.NO_PASS, "result": None, "command": None},
        {"result": Result.UNSURE},
        {"result": Result.UNREACHABLE},
        {"result": Result.LOCKED},
        {"source": "qr"},
        {"source": "relock"},
    ):
        space.enter(KEN, **changes)
    space.run()
    assert space.server.calls["check-in"] == 0
    assert space.check_ins == {}


def test_the_owner_s_own_people_are_not_checked_in(desk):
    space = entered(desk)
    space.server.tokens[MIKA] = "m1"
    space.store.people.add_card(card_of(uid=MIKA, source=Origin.DB), space.clock.now())
    space.run(1_000)
    space.notes.change({f"check-in {TODAY}": None})
    space.enter(MIKA)
    space.run()
    assert space.check_ins == {}


def test_a_member_who_was_checked_in_at_the_desk_is_not_again(desk):
    space = entered(desk)
    until = {"validFrom": "2026-11-18T08:00:00Z", "validUntil": "2026-11-19T03:59:59Z"}
    space.server.check_ins = [{"membership": "m1", **until}]
    space.run()
    assert space.check_ins == {TODAY: "done"}
    assert space.server.calls["check-in"] == 0


def test_a_new_log_in_place_of_a_broken_one_is_read_on(desk):
    space = desk(check_in="after")
    space.server.add("m1", KEN)
    space.notes.keep("cobot bookmark", "5000")
    space.run()
    space.enter(KEN)
    space.run()
    assert space.check_ins == {TODAY: "done"}


def test_an_old_check_in_is_none(desk):
    """Cobot's own example of a current one is of 2018."""
    space = entered(desk)
    until = {"validFrom": "2018-01-01T12:45:00Z", "validUntil": "2018-01-01T23:59:59Z"}
    old = answered({"data": [{"id": "c", "type": "checkIns", "attributes": until}]})
    space.server.fail_at("current", answers(200, old.body))
    space.run()
    assert space.server.calls["check-in"] == 1


def test_a_check_in_that_cobot_refuses_is_told_and_not_repeated(desk):
    space = entered(desk)
    space.server.passes.clear()
    space.run(60)
    assert space.check_ins == {TODAY: "refused"}
    assert space.server.calls["check-in"] == 1
    assert space.reason(KEN) is Reason.NO_PASS
    *_, event = space.store.events.read()
    assert event.holder == "Ken Sato"
    assert "No time passes left" in event.detail


def test_after_a_refusal_a_pass_that_is_bought_counts(desk):
    space = entered(desk)
    space.server.passes.clear()
    space.run(60)
    space.server.passes.append(Pass("m1"))
    space.run(1_000)
    assert space.reason(KEN) is Reason.GRANTED
    space.enter(KEN)
    space.run()
    assert space.check_ins == {TODAY: "done"}


def test_what_was_not_sent_by_the_end_of_the_day_is_missed(desk):
    space = entered(desk)
    space.server.go_offline()
    space.run(60)
    assert space.check_ins == {TODAY: "due"}
    space.clock.advance(DAY)
    space.server.go_online()
    space.run(200)
    assert space.check_ins == {TODAY: "missed"}
    assert space.server.calls["check-in"] == 0


def test_old_check_ins_are_forgotten(desk):
    space = entered(desk)
    space.run()
    space.clock.advance(9 * DAY)
    space.run(200)
    assert space.check_ins == {}


#: Those after which the check-in may have been made.
UNCLEAR = sorted(set(FAULTS) - {"400", "401", "403", "404"})


@pytest.mark.parametrize("fault", UNCLEAR)
def test_a_check_in_whose_answer_is_lost_is_made_once(desk, fault):
    space = entered(desk)
    space.server.fail_at("check-in", fault)
    space.run(30)
    sent = space.server.calls["check-in"]
    assert sent == 1, "nothing more for a minute"
    space.run(180, pace_s=3.0)
    assert space.check_ins == {TODAY: "done"}
    assert len(space.server.check_ins) == 1
    assert space.server.guests == []


@pytest.mark.parametrize("fault", UNCLEAR)
def test_a_check_in_is_sent_twice_at_most(desk, fault):
    space = entered(desk)
    space.server.fail_at("check-in", *[fault] * 9)
    space.run(400, pace_s=4.0)
    assert space.server.calls["check-in"] <= 2
    assert len(space.server.check_ins) <= 1
    acts = FAULTS[fault].acts
    assert space.check_ins == {TODAY: "done" if acts else "gave-up"}


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_check_in_without_permission_is_made_later(desk, fault):
    space = entered(desk)
    space.server.scopes = tuple(
        s for s in space.server.scopes if s != "write_check_ins"
    )
    space.server.fail_at("check-in", fault)
    assert fault in space.run(30, pace_s=1.0)
    space.server.scopes = (*space.server.scopes, "write_check_ins")
    space.run(1_200, pace_s=5.0)
    assert space.check_ins == {TODAY: "done"}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_check_in_while_cobot_does_not_say_who_is_in(desk, fault):
    space = entered(desk)
    space.server.fail_at("current", fault, fault)
    seconds = 2_400 if fault == "401" else 300
    space.run(seconds, pace_s=seconds / 100)
    assert space.check_ins == {TODAY: "done"}
    assert len(space.server.check_ins) == 1


class Killed(BaseException):
    """kill -9."""


def killed_at(space: CobotBench, step: int) -> bool:
    """Kill the service before its ``step``-th act: a row on disk, or a call; an even
    number is right after it.  False if there is no such act."""
    left = step

    def deadly(act):
        def run(*args, **more):
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            done = act(*args, **more)
            left -= 1
            if left == 0:
                raise Killed
            return done

        return run

    api = space.desk._api
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space.notes, "keep", deadly(space.notes.keep))
        patch.setattr(space.synced, "put", deadly(space.synced.put))
        patch.setattr(api, "checked_in_until", deadly(api.checked_in_until))
        patch.setattr(api, "check_in", deadly(api.check_in))
        try:
            space.run()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("fault", [None, "cut-after", "cut-before"])
def test_a_kill_at_any_step_makes_no_second_check_in_and_loses_none(desk, fault):
    """Where it was killed ahead of a request, that counts as one of the two."""
    step, was_killed, given_up = 0, True, []
    while was_killed:
        step += 1
        space = entered(desk)
        space.server.fail_at("check-in", *[fault] * bool(fault))
        was_killed = killed_at(space, step)
        space.start()
        space.run(250, pace_s=2.0)
        ended = space.check_ins[TODAY], len(space.server.check_ins)
        given_up += [step] * (ended == ("gave-up", 0))
        assert ended in (("done", 1), ("gave-up", 0)), step
    assert step >= 10
    assert len(given_up) <= 2 * (fault == "cut-before")


def test_a_failing_check_in_does_not_keep_the_list_from_being_read(desk):
    space = entered(desk, interval_s=60)
    space.server.scopes = tuple(
        s for s in space.server.scopes if s != "write_check_ins"
    )
    read = space.server.calls["tokens"]
    space.run(600, pace_s=5.0)
    assert space.check_ins == {TODAY: "due"}
    assert space.server.calls["tokens"] > read + 1


# -- a member of this minute


class Asking:
    """The door's side of the questions to `doorpi online`."""

    def __init__(self, space: CobotBench) -> None:
        self.space, self.folder = space, look_up_folder(space.folder)
        self.count = 0

    def ask(self, uid: str, wants: Wants = Wants.STATUS) -> Answer | None:
        clock = self.space.clock
        self.count += 1
        inbox = Inbox(self.folder / "inbox.db", clock)
        now = clock.monotonic()
        name = f"question {self.count}"
        question = AccessRequest(
            Medium.COMMAND, uid, clock.now(), now, now + 3, wants, id=name
        )
        with contextlib.closing(inbox):
            inbox.put(question)
            with contextlib.suppress(Unavailable):
                self.space.desk.step()
            return inbox.answer_to(name)

    @property
    def may_ask(self) -> bool:
        return is_running(self.folder)


def asking(desk, **table: object) -> tuple[CobotBench, Asking]:
    space = desk(**table)
    space.server.add("m1", KEN)
    space.run()
    return space, Asking(space)


YES, NO = Answer(True, []), Answer(False, [])


def test_a_member_of_this_minute_is_looked_up(desk):
    space, door = asking(desk)
    space.server.add("m2", MIKA, name="Mika Mori")
    before = len(space.server.requests)
    assert door.ask(MIKA) == YES
    assert space.find(MIKA).holder == "Mika Mori"
    assert space.reason(MIKA) is Reason.GRANTED
    assert len(space.server.requests) == before + 2
    space.run(1_000)
    assert space.reason(MIKA) is Reason.GRANTED


def test_an_unknown_card_is_looked_up_once_in_five_minutes(desk):
    space, door = asking(desk)
    assert door.ask(STRANGER) == NO
    before = len(space.server.requests)
    space.run(60, pace_s=1.0)
    assert door.ask(STRANGER) == NO
    assert len(space.server.requests) == before
    space.run(300, pace_s=1.0)
    assert door.ask(STRANGER) == NO
    assert len(space.server.requests) == before + 1


def test_a_pack_of_cards_is_looked_up_every_ten_seconds(desk):
    space, door = asking(desk)
    for number in range(60):
        assert door.ask(f"0B{number:012X}") == NO
        space.clock.advance(1)
    assert space.server.calls["token"] == 6


#: What changed at Cobot a moment ago: (the door's settings, why the card was denied, what
#: happens there).
CHANGES = {
    "a plan": ({"plans": ("Flex",)}, Reason.PLAN_NOT_HERE, lambda s: s.plans.append(Plan("m1", "Flex"))),
    "a pass": ({"time_passes": True}, Reason.NO_PASS, lambda s: s.passes.append(Pass("m1"))),
    "a booking": ({"resource": "room-1"}, Reason.NO_BOOKING, lambda s: s.bookings.append(
        Booking(MORNING, MORNING + timedelta(hours=9), "m1"))),
    "a check-in at the desk": ({"time_passes": True}, Reason.NO_PASS, lambda s: s.check_ins.append(
        {"membership": "m1", "validFrom": "2026-11-18T08:00:00Z", "validUntil": "2026-11-19T03:59:59Z"})),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_a_moment_ago_opens(desk, name):
    settings, reason, change = CHANGES[name]
    space = desk(**settings)
    space.server.add("m1", KEN, plan="Ten Days")
    space.server.catalogue["Ten Days"] = True
    space.run()
    assert space.reason(KEN) is reason
    change(space.server)
    assert Asking(space).ask(KEN) == YES
    assert space.reason(KEN) is Reason.GRANTED
    space.run(1_200)
    assert space.reason(KEN) is Reason.GRANTED


def test_the_door_does_not_ask_while_cobot_cannot_be_asked(desk):
    space, door = asking(desk)
    assert door.may_ask
    space.server.go_offline()
    assert door.ask(MIKA) == NO
    assert not door.may_ask
    space.server.go_online()
    space.run(5)
    assert door.may_ask
    space.stop()
    assert not door.may_ask
    space.start()
    space.run(5)
    assert door.may_ask, "after an edit, in the same process"


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_a_look_up_opens_or_shuts_anybody(desk, fault):
    space, door = asking(desk)
    space.server.add("m2", MIKA)
    space.server.fail_at("token", fault)
    space.server.fail_at("member", fault)
    for uid in (MIKA, MIKA, KEN):
        door.ask(uid)
        space.clock.advance(30)
        assert space.reason(KEN) is Reason.GRANTED
        assert space.reason(MIKA) is Reason.NOT_FOUND


# -- a check-in before the door opens


BEFORE = {"check_in": "before", "time_passes": True}


def at_the_door(desk) -> tuple[CobotBench, Asking]:
    space = desk(**BEFORE)
    space.server.add("m1", KEN, plan="Ten Days")
    space.server.catalogue["Ten Days"] = True
    space.server.passes = [Pass("m1"), Pass("m1")]
    space.run()
    return space, Asking(space)


def test_a_member_is_checked_in_before_the_door_opens(desk):
    space, door = at_the_door(desk)
    assert [door.ask(KEN, Wants.UNLOCK) for _ in range(3)] == [YES] * 3
    assert space.server.calls["check-in"] == 1
    space.enter(KEN)
    space.run()
    assert space.server.calls["check-in"] == 1


def test_a_refused_check_in_is_no_pass(desk):
    space, door = at_the_door(desk)
    space.server.passes.clear()
    assert door.ask(KEN, Wants.UNLOCK) == Answer(False, [Reason.NO_PASS])
    assert space.reason(KEN) is Reason.NO_PASS


def test_a_lost_answer_opens_only_if_cobot_says_that_the_member_is_in(desk):
    unclear = Answer(False, [Reason.AUTHORITY_UNREACHABLE])
    space, door = at_the_door(desk)
    space.server.fail_at("check-in", "cut-after")
    assert door.ask(KEN, Wants.UNLOCK) == unclear
    space.run(2)
    assert door.ask(KEN, Wants.UNLOCK) == YES
    assert space.server.guests == []

    other, door = at_the_door(desk)
    other.server.fail_at("check-in", "cut-before")
    assert door.ask(KEN, Wants.UNLOCK) == unclear
    other.run(2)
    assert door.ask(KEN, Wants.UNLOCK) == unclear
    other.run(61)
    assert door.ask(KEN, Wants.UNLOCK) == YES
    assert other.server.calls["check-in"] == 2


def test_what_surely_was_not_sent_leaves_it_to_the_list(desk):
    space, door = at_the_door(desk)
    space.server.go_offline()
    assert door.ask(KEN, Wants.UNLOCK) == YES
    space.enter(KEN)
    space.server.go_online()
    space.run(120)
    assert space.check_ins == {TODAY: "done"}
    assert len(space.server.check_ins) == 1


# -- settings


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"resource": "Room", "plans": ("Fix Desk",)}, "bookings alone"),
        ({"resource": "Room", "time_passes": True}, "bookings alone"),
        ({"subdomain": "my-space.cobot.me"}, "leave out .cobot.me"),
        ({"site_url": "http://cobot.example.org"}, "https"),
        ({"uid_format": "decimal"}, "uid_format"),
        ({"schedule": "night"}, "night"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(desk, table, words):
    with pytest.raises(ConfigError, match=words):
        desk(**table)


# -- what `doctor` says


def diagnosed(space: CobotBench) -> str:
    """The findings that are not all right, a line each."""
    table = space.config.online["cobot"]
    found = doorpi.diagnose_table("cobot", table, space.folder, space.clock)
    return "\n".join(f"{f.health}: {f.words}" for f in found if f.health != "ok")


def test_doctor_finds_nothing_wrong(desk):
    space = entered(desk)
    space.run()
    assert diagnosed(space) == ""
    assert all(
        TOKEN not in path or "access_tokens" in path for path in space.server.asked
    )


#: name: (what is wrong, the words)
WRONG = {
    "the token": (lambda s: setattr(s.server, "token", "other"), "fail: .*401"),
    "another space": (lambda s: s.server.space.update(subdomain="x"), "fail: .*not an administrator of my-space"),
    "scopes": (lambda s: setattr(s.server, "scopes", ("read_user", "read_spaces")), "fail: the token lacks checkin_tokens, read_check_ins, read_memberships, read_time_passes, write_check_ins"),
    "no answer": (lambda s: s.server.go_offline(), "fail: 127.0.0.1: .*refused"),
    "an old list": (lambda s: s.clock.advance(HOUR), "warn: 1 card, confirmed 60 min ago"),
    "tokens of another form": (lambda s: s.server.tokens.update({"0815": "m1"}), "warn: 1 check-in token .*0815"),
    "a missed check-in": (lambda s: s.notes.keep("check-in 2026-11-17 m1", json.dumps({"state": "missed"})), "warn: 1 check-in .*missed"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_doctor_says_what_is_wrong(desk, name):
    spoil, words = WRONG[name]
    space = entered(desk)
    space.run()
    if name == "tokens of another form":
        spoil(space)
        space.run(1_100)
    else:
        spoil(space)
    assert re.search(words, diagnosed(space))
    assert TOKEN not in diagnosed(space)
