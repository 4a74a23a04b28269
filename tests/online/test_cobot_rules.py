"""Who may enter by what Cobot says: cards, plans, passes and bookings, without a network."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from doorpi import (
    ODD_SHAPE,
    Circumstances,
    CobotConfig,
    Reason,
    Space,
    Uid,
    WallClock,
    decide,
    spelled,
    uid_of,
)

NOON = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
LONG, SHORT = Uid("040F2C82DC7280"), Uid("0123AB07")

#: (form, what Cobot has, the UID)
SPELLINGS = [
    ("hex", "040f2c82dc7280", LONG),
    ("hex", " 04 0f 2c 82 dc 72 80\n", LONG),
    ("hex", "040F2C82DC7280", None),
    ("hex", "40f2c82dc7280", None),
    ("HEX", "040F2C82DC7280", LONG),
    ("HEX", "0123AB07", SHORT),
    ("HEX", "0123ab07", None),
    ("hex-colon", "04:0F:2C:82:DC:72:80", LONG),
    ("hex-colon", "01:23:ab:07", SHORT),
    ("hex-colon", "0123ab07", None),
    ("decimal-le4", "2183925508", "040F2C82*"),
    ("decimal-le4", "128656129", "0123AB07*"),
    ("decimal-le4", "0128656129", None),
    ("decimal-le4", "99999999999", None),
    ("decimal-le4", "-1", None),
    ("decimal-be4", "19114759", "0123AB07*"),
    ("dotted", "4.15.44.130", "040F2C82*"),
    ("dotted", "4.15.44", None),
    ("dotted", "4.15.44.300", None),
    ("hex", "", None),
    ("hex", "Ken Sato", None),
    ("HEX", "0123AB", None),
]  # fmt: skip


@pytest.mark.parametrize(("form", "token", "uid"), SPELLINGS)
def test_a_token_spells_a_uid(form, token, uid):
    assert uid_of(token, form) == uid


@pytest.mark.parametrize("form", sorted({form for form, _, _ in SPELLINGS}))
@pytest.mark.parametrize("uid", [LONG, SHORT])
def test_every_form_is_read_as_it_is_written(form, uid):
    assert (uid_of(spelled(uid, form), form) or "").rstrip("*") in (uid, uid[:8])


#: (time in UTC, zone, the Cobot day)
DAYS = [
    ("2026-11-18 03:59:59", "UTC", "2026-11-17"),
    ("2026-11-18 04:00:00", "UTC", "2026-11-18"),
    ("2026-11-18 02:59:59", "Europe/Berlin", "2026-11-17"),
    ("2026-11-18 03:00:00", "Europe/Berlin", "2026-11-18"),
    ("2026-11-18 03:00:00", "Asia/Tokyo", "2026-11-18"),
    ("2026-03-29 01:59:59", "Europe/Berlin", "2026-03-28"),  # 03:59:59, one hour less
    ("2026-03-29 02:00:00", "Europe/Berlin", "2026-03-29"),
    ("2026-10-25 02:59:59", "Europe/Berlin", "2026-10-24"),
    ("2026-10-25 03:00:00", "Europe/Berlin", "2026-10-25"),
]


@pytest.mark.parametrize(("at", "zone", "day"), DAYS)
def test_the_cobot_day_begins_at_four_in_the_spaces_zone(at, zone, day):
    wall, now = WallClock(zone), datetime.fromisoformat(f"{at}+00:00")
    assert wall.day_of(now) == date.fromisoformat(day)
    begins, ends = wall.bounds(wall.day_of(now))
    assert begins <= now < ends


def test_a_zone_that_nobody_knows_is_this_computers():
    assert WallClock("Nowhere/At all").day_of(NOON) == WallClock().day_of(NOON)


# -- who may enter


def member(member_id: str = "m1", first="2020-01-01", last=None, **more: Any) -> dict:
    about = {"name": "Ken Sato", "confirmedAt": first, "canceledAt": last}
    return {"id": member_id, "attributes": {**about, **more}}


def plan(name: str, starts="2020-01-01", canceled=None, extras=(), owner="m1") -> dict:
    about = {"name": name, "startsAt": starts, "canceledAt": canceled}
    about["extras"] = [{"name": each} for each in extras]
    owned = {"membership": {"data": {"id": owner, "type": "memberships"}}}
    return {"attributes": about, "relationships": owned}


def hours(start: str, end: str, weekdays=()) -> dict[str, Any]:
    (a, b), (c, d) = (map(int, each.split(":")) for each in (start, end))
    span = {"from_hour": a, "from_minute": b, "to_hour": c, "to_minute": d}
    return {**span, "weekdays": list(weekdays)}


def time_pass(*spans: dict, expires=None, used=None) -> dict[str, Any]:
    about = {"expires_at": expires, "used_at": used, "membership": {"id": "m1"}}
    return {**about, "parsed_timespans": list(spans)}


def booking(start: str, end: str, booker="m1", room="room-1", emails=()) -> dict:
    about = {"from": f"2026-11-{start}:00Z", "to": f"2026-11-{end}:00Z"}
    about["attendees"] = [{"email": each} for each in emails]
    data = {"id": booker, "type": "memberships"} if booker else None
    links = {"membership": {"data": data}, "resource": {"data": {"id": room}}}
    return {"attributes": about, "relationships": links}


class Case:
    """A space with Ken's card, and what is said about him."""

    def __init__(self, **settings: object) -> None:
        config = CobotConfig(subdomain="my-space", uid_format="HEX", **settings)
        self.space = Space(config, WallClock("UTC"))
        self.space.add_token({"token": SHORT, "membership": {"id": "m1"}})
        self.check_ins: dict[str, datetime] = {}

    def say(self, **said: list[dict]) -> Case:
        for kind, items in said.items():
            for item in items:
                args = ("room-1",) if kind == "booking" else ()
                getattr(self.space, f"add_{kind}")(*args, item)
        return self

    def at(self, at: datetime = NOON, read_at: datetime = NOON) -> Reason | str:
        """The door's decision at a time about what was read at another."""
        cards = {card.uid: card for card in self.space.cards(read_at, self.check_ins)}
        return decide(SHORT, cards.get(SHORT), Circumstances(at)).reason


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}:00+00:00")


#: name: (what Cobot says about the member, the decision at noon)
MEMBERS = {
    "a member": (member(), Reason.GRANTED),
    "confirmed today": (member(first="2026-11-18"), Reason.GRANTED),
    "from tomorrow on": (member(first="2026-11-19"), Reason.NOT_ACTIVE),
    "not confirmed": (member(first=None), Reason.NOT_FOUND),
    "the last day": (member(last="2026-11-18"), Reason.GRANTED),
    "ended yesterday": (member(last="2026-11-17"), Reason.EXPIRED),
    "another member": (member("m2"), Reason.NOT_FOUND),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_membership_holds_by_its_local_dates(name):
    said, reason = MEMBERS[name]
    assert Case().say(member=[said]).at() == reason


def test_a_member_without_a_name_has_its_number():
    (card,) = Case().say(member=[member(name=None)]).space.cards(NOON, {})
    assert card.holder == "Cobot member m1"


def test_a_card_of_two_memberships_opens_for_neither():
    case = Case().say(member=[member(), member("m2")])
    case.say(token=[{"token": SHORT, "membership": {"id": "m2"}}])
    assert case.at() == Reason.AMBIGUOUS
    assert any("two memberships" in line for line in case.space.findings())


def test_without_cobot_its_list_ends_after_trust_for_s():
    case = Case(trust_for_s=3600).say(member=[member()])
    assert case.at(NOON + HOUR - timedelta(seconds=1)) == Reason.GRANTED
    assert case.at(NOON + HOUR) == Reason.LIST_TOO_OLD


#: name: (the member's plans, the decision at a door for "Fix Desk")
PLANS = {
    "its plan": ([plan("Fix Desk")], Reason.GRANTED),
    "another plan": ([plan("Flex Desk")], Reason.PLAN_NOT_HERE),
    "no plan": ([], Reason.PLAN_NOT_HERE),
    "its plan as an extra": ([plan("Flex Desk", extras=["Fix Desk"])], Reason.GRANTED),
    "like its plan": ([plan("fix desk")], Reason.PLAN_NOT_HERE),
    "the plan's last day": ([plan("Fix Desk", canceled="2026-11-18")], Reason.GRANTED),
    "a former plan": ([plan("Fix Desk", canceled="2026-11-17")], Reason.PLAN_NOT_HERE),
    "a later plan": ([plan("Fix Desk", "2026-11-19")], Reason.PLAN_NOT_HERE),
    "another's plan": ([plan("Fix Desk", owner="m2")], Reason.PLAN_NOT_HERE),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_open_the_doors_that_name_them(name):
    plans, reason = PLANS[name]
    case = Case(plans=("Fix Desk",)).say(member=[member()], plan=plans)
    assert case.at() == reason
    without = Case().say(member=[member()], plan=plans)
    assert without.at() == Reason.GRANTED


def test_a_change_of_plan_happens_at_midnight_without_cobot():
    plans = [plan("Fix Desk", canceled="2026-11-18"), plan("Flex Desk", "2026-11-19")]
    midnight = datetime(2026, 11, 19, tzinfo=UTC)
    old = Case(plans=("Fix Desk",)).say(member=[member()], plan=plans)
    new = Case(plans=("Flex Desk",)).say(member=[member()], plan=plans)
    before = midnight - timedelta(seconds=1)
    assert [old.at(before), new.at(before)] == [Reason.GRANTED, Reason.PLAN_NOT_HERE]
    assert [old.at(midnight), new.at(midnight)] == [
        Reason.PLAN_NOT_HERE,
        Reason.GRANTED,
    ]


DURATION = {"duration_hours": 2, "duration_minutes": 0, "weekdays": []}
DAY = hours("4:00", "3:59")

#: name: (the unused passes, at which time, the decision)
PASSES = {
    "no pass": ([], "18 12:00", Reason.NO_PASS),
    "a day pass": ([time_pass(DAY)], "18 12:00", Reason.GRANTED),
    "its last minute": ([time_pass(DAY)], "19 03:59", Reason.GRANTED),
    "the day after, unread": ([time_pass(DAY)], "19 04:00", Reason.NO_PASS),
    "a pass that is used": ([time_pass(DAY, used="2026/11/17 12:00:00 +0000")], "18 12:00", Reason.NO_PASS),
    "two hours": ([time_pass(DURATION)], "18 23:00", Reason.GRANTED),
    "office hours begin": ([time_pass(hours("9:00", "17:00"))], "18 09:00", Reason.GRANTED),
    "before context hours": ([time_pass(hours("9:00", "17:00"))], "18 08:59", Reason.NO_PASS),
    "after context hours": ([time_pass(hours("9:00", "17:00"))], "18 17:00", Reason.NO_PASS),
    "on a Wednesday": ([time_pass(hours("9:00", "17:00", [3]))], "18 12:00", Reason.GRANTED),
    "on other days": ([time_pass(hours("9:00", "17:00", [1, 2, 4, 5, 6, 7]))], "18 12:00", Reason.NO_PASS),
    "across midnight": ([time_pass(hours("20:00", "2:00", [3]))], "19 01:59", Reason.GRANTED),
    "after midnight, over": ([time_pass(hours("20:00", "2:00", [3]))], "19 02:00", Reason.NO_PASS),
    "yesterday's night": ([time_pass(hours("20:00", "6:00", [2]))], "18 05:00", Reason.GRANTED),
    "not expired": ([time_pass(DAY, expires="2026/11/18 13:00:00 +0000")], "18 12:00", Reason.GRANTED),
    "expired meanwhile": ([time_pass(DAY, expires="2026/11/18 13:00:00 +0000")], "18 13:00", Reason.NO_PASS),
    "a second pass": ([time_pass(hours("9:00", "10:00")), time_pass(DAY)], "18 12:00", Reason.GRANTED),
    "two times in one pass": ([time_pass(hours("8:00", "9:00"), hours("12:00", "13:00"))], "18 12:00", Reason.GRANTED),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_members_of_pass_plans_need_a_pass_that_covers_now(name):
    passes, at, reason = PASSES[name]
    said = {"member": [member()], "plan": [plan("Ten Days")], "pass": passes}
    assert Case(time_passes=True).say(**said).at(time_of(at)) == reason
    assert Case().say(**said).at(time_of("18 12:00")) == Reason.GRANTED


def test_a_check_in_covers_the_rest_of_its_day():
    case = Case(time_passes=True).say(member=[member()])
    case.check_ins = {"m1": time_of("19 03:59")}
    assert case.at(time_of("19 03:58")) == Reason.GRANTED
    assert case.at(time_of("19 03:59")) == Reason.NO_PASS


def test_a_plan_without_passes_needs_none():
    offers = [{"name": "Full Time", "time_passes": []}]
    offers.append({"name": "Ten Days", "time_passes": [{"id": "0"}]})
    case = Case(time_passes=True).say(member=[member()], offer=offers)
    assert case.say(plan=[plan("Full Time")]).at() == Reason.GRANTED
    other = Case(time_passes=True).say(member=[member()], offer=offers)
    assert other.say(plan=[plan("Ten Days")]).at() == Reason.NO_PASS


def test_a_plan_for_other_doors_comes_before_a_missing_pass():
    case = Case(time_passes=True, plans=("Fix Desk",)).say(member=[member()])
    assert case.say(plan=[plan("Ten Days")]).at() == Reason.PLAN_NOT_HERE


#: name: (the booking, further settings, at which time, the decision)
BOOKINGS = {
    "ten minutes before": (booking("18T13:00", "18T14:00"), {}, "18 12:50", Reason.GRANTED),
    "eleven minutes before": (booking("18T13:00", "18T14:00"), {}, "18 12:49", Reason.NO_BOOKING),
    "until its end": (booking("18T13:00", "18T14:00"), {}, "18 13:59", Reason.GRANTED),
    "at its end": (booking("18T13:00", "18T14:00"), {}, "18 14:00", Reason.NO_BOOKING),
    "some minutes after": (booking("18T13:00", "18T14:00"), {"after_min": 5}, "18 14:04", Reason.GRANTED),
    "another room": (booking("18T12:00", "18T14:00", room="room-2"), {}, "18 13:00", Reason.NO_BOOKING),
    "another member": (booking("18T12:00", "18T14:00", "m2"), {}, "18 13:00", Reason.NO_BOOKING),
    "an administrator": (booking("18T12:00", "18T14:00", None), {}, "18 13:00", Reason.NO_BOOKING),
    "an attendee": (booking("18T12:00", "18T14:00", "m2", emails=["Ken@example.org "]), {"attendees": True}, "18 13:00", Reason.GRANTED),
    "attendees are not asked for": (booking("18T12:00", "18T14:00", "m2", emails=["ken@example.org"]), {}, "18 13:00", Reason.NO_BOOKING),
    "an e-mail address of two": (booking("18T12:00", "18T14:00", "m3", emails=["both@example.org"]), {"attendees": True}, "18 13:00", Reason.NO_BOOKING),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOKINGS)
def test_a_room_is_for_those_who_booked_it(name):
    said, settings, at, reason = BOOKINGS[name]
    case = Case(resource="room-1", **settings)
    case.say(member=[member(email="ken@example.org"), member("m2")])
    case.say(member=[member("m4", email="both@example.org")])
    case.say(member=[member("m5", email="both@example.org")], booking=[said])
    assert case.at(time_of(at)) == reason


def test_plans_and_passes_do_not_matter_for_a_room():
    case = Case(resource="room-1", plans=("Fix Desk",), time_passes=True)
    case.say(member=[member()], booking=[booking("18T12:00", "18T14:00")])
    assert case.at() == Reason.GRANTED


# -- what is wrong


def test_the_owner_is_shown_tokens_and_plans_that_match_nothing():
    case = Case(plans=("Fix Desk", "24/7")).say(
        member=[member()], plan=[plan("Fix Desk")]
    )
    case.say(token=[{"token": "0815-ken", "membership": {"id": "m1"}}] * 3)
    plans, tokens = case.space.findings()
    assert "24/7" in plans
    assert "3 check-in tokens" in tokens
    assert "0815-ken" in tokens


#: Anything that is not of Cobot's shape must be noticed, not read as nobody.
ODD = {
    "token": [{}, {"token": 7, "membership": {"id": "m1"}}, {"token": "x"}, None, "x"],
    "member": [{}, {"id": "m1"}, member(first="soon"), member(first=20), [], None],
    "plan": [{}, plan("x", starts=None), plan("x", starts="-"), plan(7), None],
    "pass": [{}, time_pass({}), time_pass(hours("9:00", "17:00", ["x"])),
             time_pass(expires="never"), time_pass(DAY, expires="2026-11-18T12:00:00")],
    "offer": [{}, {"name": "x", "time_passes": None}, {"name": 7, "time_passes": []}],
    "booking": [{}, booking("18T25:00", "18T14:00"), {"attributes": {}}, None],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "number"),
    [(kind, n) for kind, rows in ODD.items() for n in range(len(rows))],
)
def test_another_shape_is_no_answer(kind, number):
    with pytest.raises(ODD_SHAPE):
        Case().say(**{kind: [ODD[kind][number]]})
