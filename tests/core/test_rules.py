"""Who may enter, and when: each rule one row, each precedence one row."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import cycle, islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorpi import (
    RULES,
    Backoff,
    Circumstances,
    Debounce,
    GuestPass,
    LockPolicy,
    Membership,
    PassCode,
    Reason,
    Role,
    Schedule,
    Span,
    Uid,
    Verdict,
    decide,
    is_open,
    parse_span,
)
from tests.helpers.world import KEN, NOON, card_of, utc

TODAY = NOON.date()  # Wednesday 2026-11-18
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
WALL = NOON.replace(tzinfo=None)  # Tokyo's
PHONE = Uid("08112233")


def hours(*spans: str, closed: tuple[date, ...] = ()) -> Schedule:
    return Schedule(
        name="hours", spans=tuple(map(parse_span, spans)), closed=frozenset(closed)
    )


# -- decide: one card, one answer

OPEN, SHUT = hours("Wed 00:00-24:00"), hours("Thu 00:00-24:00")
MASTER = {"role": Role.MASTER}
JUST_NOW = NOON - timedelta(seconds=1)
USED = GuestPass(PassCode("ABCDEFG2", NOON, True), "Jo", NOON, "ken", used_at=JUST_NOW)

MEMBER = Membership("m1", "Fix Desk", trusted_until=NOON + DAY)
TOO_OLD = MEMBER._replace(trusted_until=NOON)
NO_PASS = MEMBER._replace(refusal=Reason.NO_PASS)
BOOKED = MEMBER._replace(refusal=Reason.NO_BOOKING, spans=((NOON, NOON + TICK),))

OUT = {"is_exit": True, "ignores_hours": True}

#: name: (changes of the card or None, circumstances, reason)
DECISIONS = {
    "on the list":                    ({}, {}, Reason.GRANTED),
    "a master":                       (MASTER, {}, Reason.GRANTED),
    "not on the list":                (None, {}, Reason.NOT_FOUND),
    "disabled":                       ({"enabled": False}, {}, Reason.NOT_ENABLED),
    "not yet":                        ({"valid_from": TODAY + DAY}, {}, Reason.NOT_ACTIVE),
    "no more":                        ({"valid_until": TODAY - DAY}, {}, Reason.EXPIRED),
    "outside its hours":              ({"schedule": "shut"}, {}, Reason.NOT_PERMITTED_AT_THIS_TIME),
    "inside its hours":               ({"schedule": "open"}, {}, Reason.GRANTED),
    "its schedule is gone":           ({"schedule": "?"}, {}, Reason.NOT_PERMITTED_AT_THIS_TIME),
    "again too soon":                 ({}, {"last_moved": JUST_NOW, "passback_s": 60}, Reason.PASSBACK),

    "locked down":                    ({}, {"locked_down": True}, Reason.LOCKED_DOWN),
    "locked down, a master":          (MASTER, {"locked_down": True}, Reason.GRANTED),
    "locked down, a disabled master": ({"enabled": False, **MASTER}, {"locked_down": True}, Reason.NOT_ENABLED),

    "first day":                      ({"valid_from": TODAY}, {}, Reason.GRANTED),
    "its first instant":              ({"valid_from": TODAY}, {"at": NOON.replace(hour=0)}, Reason.GRANTED),
    "the instant before":             ({"valid_from": TODAY}, {"at": NOON.replace(hour=0) - TICK}, Reason.NOT_ACTIVE),
    "last day":                       ({"valid_until": TODAY}, {}, Reason.GRANTED),
    "its last instant":               ({"valid_until": TODAY}, {"at": NOON.replace(hour=0) + DAY - TICK}, Reason.GRANTED),
    "the instant after":              ({"valid_until": TODAY}, {"at": NOON.replace(hour=0) + DAY}, Reason.EXPIRED),
    "one day only":                   ({"valid_from": TODAY, "valid_until": TODAY}, {}, Reason.GRANTED),

    "a time, from now on":            ({"valid_from": WALL}, {}, Reason.GRANTED),
    "an instant too soon":            ({"valid_from": WALL + TICK}, {}, Reason.NOT_ACTIVE),
    "a time, until now":              ({"valid_until": WALL}, {}, Reason.EXPIRED),
    "the last instant of a time":     ({"valid_until": WALL + TICK}, {}, Reason.GRANTED),
    "a time, in another zone":        ({"valid_until": WALL}, {"at": NOON.astimezone(UTC)}, Reason.GRANTED),
    "the end of all days":            ({"valid_until": date.max}, {}, Reason.GRANTED),
    "clock unset, a time":            ({"valid_until": WALL + DAY}, {"clock_set": False}, Reason.CLOCK_NOT_SET),

    "a pass from now on":             ({"starts": NOON}, {}, Reason.GRANTED),
    "a pass an instant too soon":     ({"starts": NOON + TICK}, {}, Reason.NOT_ACTIVE),
    "a pass until now":               ({"ends": NOON}, {}, Reason.EXPIRED),
    "the last instant of a pass":     ({"ends": NOON + TICK}, {}, Reason.GRANTED),
    "a pass in another zone":         ({"ends": NOON.astimezone(UTC)}, {}, Reason.EXPIRED),
    "a pass that was used":           ({"guest_pass": USED}, {}, Reason.USED_UP),
    "a pass that was not used":       ({"guest_pass": USED._replace(used_at=None)}, {}, Reason.GRANTED),

    "a member":                       ({"membership": MEMBER}, {}, Reason.GRANTED),
    "a list that is too old":         ({"membership": TOO_OLD}, {}, Reason.LIST_TOO_OLD),
    "its last instant of trust":      ({"membership": TOO_OLD}, {"at": NOON - TICK}, Reason.GRANTED),
    "a plan for other doors":         ({"membership": MEMBER._replace(refusal=Reason.PLAN_NOT_HERE)}, {}, Reason.PLAN_NOT_HERE),
    "no time pass":                   ({"membership": NO_PASS}, {}, Reason.NO_PASS),
    "a booking begins":               ({"membership": BOOKED}, {}, Reason.GRANTED),
    "an instant before the booking":  ({"membership": BOOKED}, {"at": NOON - TICK}, Reason.NO_BOOKING),
    "the booking has ended":          ({"membership": BOOKED}, {"at": NOON + TICK}, Reason.NO_BOOKING),
    "clock unset, a member":          ({"membership": MEMBER}, {"clock_set": False}, Reason.CLOCK_NOT_SET),

    "clock unset, plain":             ({}, {"clock_set": False}, Reason.GRANTED),
    "clock unset, a pass begins":     ({"starts": NOON}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock unset, a pass ends":       ({"ends": NOON}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock unset, first day":         ({"valid_from": TODAY}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock unset, last day":          ({"valid_until": TODAY}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock unset, hours":             ({"schedule": "open"}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock unset, a dated master":    ({"valid_until": TODAY, **MASTER}, {"clock_set": False}, Reason.CLOCK_NOT_SET),

    "a proof that is asked for":      ({"proof": "ntag424"}, {"proofs": ("ntag424",)}, Reason.GRANTED),
    "a proof that nobody knows":      ({"proof": "ntag999"}, {"proofs": ("", "ntag424")}, Reason.PROOF_UNAVAILABLE),
    "a master without its proof":     ({"proof": "ntag424", **MASTER}, {"locked_down": True}, Reason.PROOF_UNAVAILABLE),
    "a UID alone, refused":           ({}, {"proofs": ("ntag424",)}, Reason.NO_PROOF),
    "a UID alone of a master":        (MASTER, {"proofs": ("ntag424",)}, Reason.NO_PROOF),
    "a guest pass has no card":       ({"uid": "", "guest_pass": USED._replace(used_at=None)}, {"proofs": ()}, Reason.GRANTED),

    "never moved the lock":           ({}, {"passback_s": 60}, Reason.GRANTED),
    "at the same instant":            ({}, {"last_moved": NOON, "passback_s": 60}, Reason.PASSBACK),
    "at the end of passback":         ({}, {"last_moved": NOON - timedelta(seconds=60), "passback_s": 60}, Reason.GRANTED),
    "just before that":               ({}, {"last_moved": NOON - timedelta(seconds=60) + TICK, "passback_s": 60}, Reason.PASSBACK),
    "moved in the future":            ({}, {"last_moved": NOON + TICK, "passback_s": 60}, Reason.GRANTED),
    "moved in the far future":        ({}, {"last_moved": NOON + 9999 * DAY, "passback_s": 60}, Reason.GRANTED),
    "no passback set":                ({}, {"last_moved": NOON}, Reason.GRANTED),
    "kept in UTC":                    ({}, {"last_moved": JUST_NOW.astimezone(UTC), "passback_s": 60}, Reason.PASSBACK),
    "came in, and not out":           ({}, {"last_moved": JUST_NOW, "passback_s": 60, "is_inside": True}, Reason.PASSBACK),

    "out, outside the hours":         ({"schedule": "shut"}, OUT, Reason.GRANTED),
    "out, by hours, clock unset":     ({"schedule": "open"}, {**OUT, "clock_set": False}, Reason.GRANTED),
    "out, the booking has ended":     ({"membership": BOOKED}, {**OUT, "at": NOON + TICK}, Reason.GRANTED),
    "out, in a lockdown":             ({}, {**OUT, "locked_down": True}, Reason.GRANTED),
    "out, not on the list":           (None, {**OUT, "locked_down": True}, Reason.NOT_FOUND),
    "out, blocked":                   ({"enabled": False}, {**OUT, "locked_down": True}, Reason.NOT_ENABLED),
    "out, no more":                   ({"valid_until": TODAY - DAY}, OUT, Reason.EXPIRED),
    "out, where hours count":         ({"schedule": "shut"}, {"is_exit": True}, Reason.NOT_PERMITTED_AT_THIS_TIME),
    "passback holds masters too":     (MASTER, {"last_moved": JUST_NOW, "passback_s": 60}, Reason.PASSBACK),
}  # fmt: skip

PASSED_BACK = {"last_moved": JUST_NOW, "passback_s": 60}
NEVER = {"valid_from": TODAY + DAY, "valid_until": TODAY - DAY}

#: Both reasons hold; the first of the name is given.
PRECEDENCES = {
    "locked-down before not-found":        (None, {"locked_down": True}, Reason.LOCKED_DOWN),
    "locked-down before not-enabled":      ({"enabled": False}, {"locked_down": True}, Reason.LOCKED_DOWN),
    "locked-down before passback":         ({}, {"locked_down": True, **PASSED_BACK}, Reason.LOCKED_DOWN),
    "not-found before passback":           (None, PASSED_BACK, Reason.NOT_FOUND),
    "not-found before clock-not-set":      (None, {"clock_set": False}, Reason.NOT_FOUND),
    "not-enabled before not-active":       ({"enabled": False, "valid_from": TODAY + DAY}, {}, Reason.NOT_ENABLED),
    "not-enabled before proof-unavailable": ({"enabled": False, "proof": "ntag424"}, {}, Reason.NOT_ENABLED),
    "proof-unavailable before no-proof":   ({"proof": "ntag424"}, {}, Reason.PROOF_UNAVAILABLE),
    "no-proof before clock-not-set":       (NEVER, {"proofs": (), "clock_set": False}, Reason.NO_PROOF),
    "not-active before expired":           (NEVER, {}, Reason.NOT_ACTIVE),
    "not-enabled before clock-not-set":    ({"enabled": False, **NEVER}, {"clock_set": False}, Reason.NOT_ENABLED),
    "clock-not-set before not-active":     ({"valid_from": TODAY + DAY}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock-not-set before expired":        ({"valid_until": TODAY - DAY}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "expired before used-up":              ({"ends": NOON - TICK, "guest_pass": USED}, {}, Reason.EXPIRED),
    "used-up before schedule":             ({"schedule": "shut", "guest_pass": USED}, {}, Reason.USED_UP),
    "expired before schedule":             ({"valid_until": TODAY - DAY, "schedule": "shut"}, {}, Reason.EXPIRED),
    "clock-not-set before schedule":       ({"schedule": "shut"}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "clock-not-set before a lost schedule": ({"schedule": "?"}, {"clock_set": False}, Reason.CLOCK_NOT_SET),
    "schedule before passback":            ({"schedule": "shut"}, PASSED_BACK, Reason.NOT_PERMITTED_AT_THIS_TIME),
    "schedule before list-too-old":        ({"schedule": "shut", "membership": TOO_OLD}, {}, Reason.NOT_PERMITTED_AT_THIS_TIME),
    "list-too-old before no-pass":         ({"membership": NO_PASS._replace(trusted_until=NOON)}, {}, Reason.LIST_TOO_OLD),
    "not-enabled before no-pass":          ({"enabled": False, "membership": NO_PASS}, {}, Reason.NOT_ENABLED),
    "a master's rules stay in lockdown":   ({**NEVER, **MASTER}, {"locked_down": True}, Reason.NOT_ACTIVE),
}  # fmt: skip

CASES = DECISIONS | PRECEDENCES


def circumstances(changes: dict[str, Any]) -> Circumstances:
    return Circumstances(
        **{"at": NOON, "schedules": {"open": OPEN, "shut": SHUT}, **changes}
    )


@pytest.mark.parametrize(("card", "changes", "reason"), CASES.values(), ids=CASES)
def test_a_card_is_granted_or_denied_for_the_first_reason(card, changes, reason):
    who = None if card is None else card_of(**{"uid": KEN, **card})

    decision = decide(who.uid if who else KEN, who, circumstances(changes))

    assert decision == Verdict(reason, who.holder if who else "")


RANDOM = {
    "not found": ({}, Reason.RANDOM_UID),
    "locked down": ({"locked_down": True}, Reason.LOCKED_DOWN),
    "clock unset": ({"clock_set": False}, Reason.RANDOM_UID),
}


@pytest.mark.parametrize(("changes", "reason"), RANDOM.values(), ids=RANDOM)
def test_an_unknown_random_uid_is_told_apart_from_an_unknown_card(changes, reason):
    assert decide(PHONE, None, Circumstances(at=NOON, **changes)) == Verdict(reason)


def test_the_order_of_any_two_neighbouring_rules_is_that_of_some_row():
    """Swapped, they fail it: both hold there, and the first is given."""
    shown = {
        pair
        for card, changes, given in PRECEDENCES.values()
        if card is not None
        for pair in pairwise(
            reason
            for reason, denies in RULES
            if denies(card_of(**card), circumstances(changes))
        )
        if pair[0] is given
    }

    missing = set(pairwise(reason for reason, _ in RULES)) - shown
    assert not missing, "each of these pairs needs a row of PRECEDENCES"


def test_every_reason_is_the_answer_of_some_row():
    answers = {reason for _, _, reason in CASES.values()}

    elsewhere = {Reason.RANDOM_UID, Reason.STALE, *OF_AUTHORITIES, *OF_THE_CARD}
    assert answers | elsewhere == set(Reason)
    assert not answers & elsewhere


#: What a secure card answers to the door.
OF_THE_CARD = {Reason.WRONG_PROOF, Reason.CARD_MOVED, Reason.CARD_LOCKED}

#: What an authority, or the door before it asks one, gives as the reason of a denial.
OF_AUTHORITIES = {
    Reason.AUTHORITY_UNREACHABLE,
    Reason.TOKEN_EXPIRED,
    Reason.REVOKED,
    Reason.CARD_EXPIRED,
    Reason.OTHER_ORGANISATION,
    Reason.REPLAYED,
    Reason.AMBIGUOUS,
    Reason.UNREADABLE_CODE,
}


def test_passback_counts_real_seconds_through_a_doubled_hour():
    """02:59:50 in summer, then 02:00:10 in winter: 20 s, though the clock went back."""
    moved = utc("2026-10-25T00:59:50")
    at = utc("2026-10-25T01:00:10").astimezone(timezone(timedelta(hours=1)))

    when = Circumstances(at=at, last_moved=moved, passback_s=60)

    assert decide(KEN, card_of(), when).reason is Reason.PASSBACK


# -- schedules: weeks and hours.  16 November 2026 is a Monday.

MON, TUE, FRI, SAT, SUN, NEXT_MON = (
    f"2026-11-{day}" for day in (16, 17, 20, 21, 22, 23)
)
OFFICE = ("Mon-Fri 08:00-20:00",)
NIGHT = ("Sat 22:00-02:00",)
SUNDAY_NIGHT = ("Sun 22:00-02:00",)
ON_SAT, ON_SUN = (date(2026, 11, 21),), (date(2026, 11, 22),)

#: name: (spans, closed days, local wall time, open?)
WEEK = {
    "before it starts":                  (OFFICE, (), f"{MON}T07:59:59.999999", False),
    "when it starts":                    (OFFICE, (), f"{MON}T08:00:00", True),
    "just before it ends":               (OFFICE, (), f"{MON}T19:59:59.999999", True),
    "when it ends":                      (OFFICE, (), f"{MON}T20:00:00", False),
    "the last day of a range":           (OFFICE, (), f"{FRI}T12:00:00", True),
    "the day after a range":             (OFFICE, (), f"{SAT}T12:00:00", False),
    "a range over the week's end":       (("Sat-Mon 08:00-20:00",), (), f"{SUN}T12:00:00", True),
    "beyond that range":                 (("Sat-Mon 08:00-20:00",), (), f"{TUE}T12:00:00", False),
    "one of several days":               (("Mon,Wed,Sun 08:00-20:00",), (), f"{SUN}T08:00:00", True),
    "between several days":              (("Mon,Wed,Sun 08:00-20:00",), (), f"{TUE}T08:00:00", False),
    "the second of two spans":           (("Mon 08:00-12:00", "Mon 13:00-17:00"), (), f"{MON}T13:00:00", True),
    "between two spans":                 (("Mon 08:00-12:00", "Mon 13:00-17:00"), (), f"{MON}T12:59:59", False),

    "a whole day begins":                (("Mon 00:00-24:00",), (), f"{MON}T00:00:00", True),
    "a whole day ends":                  (("Mon 00:00-24:00",), (), f"{MON}T23:59:59.999999", True),
    "the day after a whole day":         (("Mon 00:00-24:00",), (), f"{TUE}T00:00:00", False),
    "the day before a whole day":        (("Mon 00:00-24:00",), (), "2026-11-15T23:59:59", False),
    "until 24:00":                       (("Mon 20:00-24:00",), (), f"{MON}T23:59:59", True),
    "until 00:00 is until midnight":     (("Mon 20:00-00:00",), (), f"{MON}T23:59:59", True),
    "and not beyond":                    (("Mon 20:00-00:00",), (), f"{TUE}T00:00:00", False),
    "until 23:59 leaves a minute out":   (("Mon 20:00-23:59",), (), f"{MON}T23:59:00", False),

    "a night, before":                   (NIGHT, (), f"{SAT}T21:59:59", False),
    "a night, its start":                (NIGHT, (), f"{SAT}T22:00:00", True),
    "a night, before midnight":          (NIGHT, (), f"{SAT}T23:59:59.999999", True),
    "a night, midnight":                 (NIGHT, (), f"{SUN}T00:00:00", True),
    "a night, its last instant":         (NIGHT, (), f"{SUN}T01:59:59.999999", True),
    "a night, its end":                  (NIGHT, (), f"{SUN}T02:00:00", False),
    "a night does not start early":      (NIGHT, (), f"{SAT}T01:00:00", False),
    "a night does not come twice":       (NIGHT, (), f"{SUN}T22:00:00", False),
    "Sunday night runs into Monday":     (SUNDAY_NIGHT, (), f"{NEXT_MON}T01:59:59", True),
    "and ends there":                    (SUNDAY_NIGHT, (), f"{NEXT_MON}T02:00:00", False),
    "but not the Monday before":         (SUNDAY_NIGHT, (), f"{SUN}T01:00:00", False),

    "a closed day, midnight":            (("Mon-Sun 00:00-24:00",), ON_SAT, f"{SAT}T00:00:00", False),
    "a closed day, its last instant":    (("Mon-Sun 00:00-24:00",), ON_SAT, f"{SAT}T23:59:59.999999", False),
    "before a closed day":               (("Mon-Sun 00:00-24:00",), ON_SAT, f"{FRI}T23:59:59.999999", True),
    "after a closed day":                (("Mon-Sun 00:00-24:00",), ON_SAT, f"{SUN}T00:00:00", True),
    "the same day a year later":         (("Mon-Sun 00:00-24:00",), ON_SAT, "2027-11-21T12:00:00", True),
    "a night into a closed day, before": (NIGHT, ON_SUN, f"{SAT}T23:59:59", True),
    "a night into a closed day, after":  (NIGHT, ON_SUN, f"{SUN}T00:00:00", False),
    "a closed day's night, before":      (NIGHT, ON_SAT, f"{SAT}T23:00:00", False),
    "a closed day's night, after":       (NIGHT, ON_SAT, f"{SUN}T01:00:00", False),
    "another span after a closed day":   ((*NIGHT, "Sun 00:00-01:30"), ON_SAT, f"{SUN}T01:00:00", True),

    "no spans at all":                   ((), (), f"{MON}T12:00:00", False),
}  # fmt: skip


@pytest.mark.parametrize(("spans", "closed", "wall", "opens"), WEEK.values(), ids=WEEK)
def test_a_schedule_is_open_by_the_wall_clock(spans, closed, wall, opens):
    at = datetime.fromisoformat(wall).replace(tzinfo=NOON.tzinfo)

    assert is_open(hours(*spans, closed=closed), at) is opens


SUMMER = (utc("2026-03-29T01:00:00"), utc("2026-10-25T01:00:00"))


def by_offset(instant: datetime) -> datetime:
    """The time in Berlin as the system's clock gives it: with a fixed offset."""
    offset = timedelta(hours=2 if SUMMER[0] <= instant < SUMMER[1] else 1)
    return instant.astimezone(timezone(offset))


def by_zone(instant: datetime) -> datetime:
    """The same with the real zone; a bare Debian has no zones."""
    try:
        return instant.astimezone(ZoneInfo("Europe/Berlin"))
    except ZoneInfoNotFoundError:
        return by_offset(instant)


AROUND, INSIDE = "Sun 01:30-03:30", "Sun 02:00-03:00"
PART, OVER_NIGHT = "Sun 02:30-02:45", "Sat 22:00-02:30"

#: name: (span, instant, wall time in Berlin, open?)
CLOCK_CHANGES = {
    "spring, before a span around":     (AROUND, "2026-03-29T00:29:59", "01:29:59", False),
    "spring, it starts":                (AROUND, "2026-03-29T00:30:00", "01:30:00", True),
    "spring, before the skip":          (AROUND, "2026-03-29T00:59:59", "01:59:59", True),
    "spring, after the skip":           (AROUND, "2026-03-29T01:00:00", "03:00:00", True),
    "spring, it ends":                  (AROUND, "2026-03-29T01:30:00", "03:30:00", False),
    "spring, a skipped span, before":   (INSIDE, "2026-03-29T00:59:59", "01:59:59", False),
    "spring, a skipped span, after":    (INSIDE, "2026-03-29T01:00:00", "03:00:00", False),
    "spring, a night before the skip":  (OVER_NIGHT, "2026-03-29T00:59:59", "01:59:59", True),
    "spring, a night ends in the skip": (OVER_NIGHT, "2026-03-29T01:00:00", "03:00:00", False),
    "autumn, before the hour":          (INSIDE, "2026-10-24T23:59:59", "01:59:59", False),
    "autumn, the hour begins":          (INSIDE, "2026-10-25T00:00:00", "02:00:00", True),
    "autumn, its first end":            (INSIDE, "2026-10-25T00:59:59", "02:59:59", True),
    "autumn, it begins again":          (INSIDE, "2026-10-25T01:00:00", "02:00:00", True),
    "autumn, its second end":           (INSIDE, "2026-10-25T01:59:59", "02:59:59", True),
    "autumn, after the hour":           (INSIDE, "2026-10-25T02:00:00", "03:00:00", False),
    "autumn, part of the first":        (PART, "2026-10-25T00:30:00", "02:30:00", True),
    "autumn, after the first part":     (PART, "2026-10-25T00:45:00", "02:45:00", False),
    "autumn, between the parts":        (PART, "2026-10-25T01:00:00", "02:00:00", False),
    "autumn, part of the second":       (PART, "2026-10-25T01:44:59", "02:44:59", True),
    "autumn, a night ends":             (OVER_NIGHT, "2026-10-25T00:30:00", "02:30:00", False),
    "autumn, and comes back":           (OVER_NIGHT, "2026-10-25T01:00:00", "02:00:00", True),
    "autumn, and ends for good":        (OVER_NIGHT, "2026-10-25T01:30:00", "02:30:00", False),
}  # fmt: skip


@pytest.mark.parametrize("local", [by_offset, by_zone])
@pytest.mark.parametrize(
    ("span", "instant", "wall", "opens"), CLOCK_CHANGES.values(), ids=CLOCK_CHANGES
)
def test_a_skipped_hour_admits_nobody_and_a_doubled_one_twice(
    span, instant, wall, opens, local
):
    at = local(utc(instant))

    assert f"{at:%H:%M:%S}" == wall
    assert is_open(hours(span), at) is opens


some_spans = st.lists(
    st.builds(
        Span,
        days=st.frozensets(st.integers(0, 6), min_size=1),
        start_min=st.integers(0, 1439),
        end_min=st.integers(0, 1440),
    ).filter(lambda span: span.start_min != span.end_min),
    max_size=3,
)
some_days = st.frozensets(st.dates(date(2026, 11, 16), date(2026, 11, 24)), max_size=3)


some_times = st.builds(
    datetime.combine, st.dates(date(2026, 11, 17), date(2026, 11, 24)), st.times()
)


@given(some_spans, some_days, some_times)
def test_a_schedule_is_open_when_a_span_began_on_an_open_day_and_has_not_ended(
    spans, closed, wall
):
    def covers(span, day):
        midnight = datetime.combine(day, datetime.min.time())
        start = midnight + timedelta(minutes=span.start_min)
        end = midnight + timedelta(minutes=span.end_min)
        end += DAY if end < start else timedelta(0)
        return day.weekday() in span.days and start <= wall < end

    days = {wall.date(), wall.date() - DAY} - closed
    expected = wall.date() not in closed and any(
        covers(span, day) for span in spans for day in days
    )

    schedule = Schedule(name="any", spans=tuple(spans), closed=closed)

    assert is_open(schedule, wall.replace(tzinfo=NOON.tzinfo)) is expected


# -- debounce: polls become presentations

A, B, C = Uid("04A1B2C3"), Uid("04FFEEDD"), Uid("04010203")
POLL_S = 0.1


def polls(
    *shown: Uid | None, every_s: float = POLL_S
) -> list[tuple[float, Uid | None]]:
    return [(1000 + i * every_s, uid) for i, uid in enumerate(shown)]


def presented(seen, debounce: Debounce | None = None) -> list[Uid]:
    """The cards that the door was given, in order."""
    debounce = debounce or Debounce(rearm_s=0.5)
    return [uid for at, uid in seen if debounce.is_new(uid, at)]


PRESENTATIONS = {
    "nothing":                        ([None] * 9, []),
    "one glance":                     ([A], [A]),
    "a card held for an hour":        ([A] * 36_000, [A]),
    "held, with single misses":       ([A, None, A, A, None, A] * 99, [A]),
    "held, with misses of 0.4 s":     ([A, None, None, None, None, A] * 99, [A]),
    "away for 0.6 s":                 ([A, *[None] * 6, A], [A, A]),
    "away and back ten times":        ([A, *[None] * 9] * 10, [A] * 10),
    "one after the other":            ([A, A, B, B, C, C], [A, B, C]),
    "back while another one is held": ([A, *[B] * 10, A], [A, B]),
    "back before a minute is over":   ([A, *[B] * 590, A], [A, B]),
    "back after a minute":            ([A, *[B] * 601, A], [A, B, A]),
    "back after a long while":        ([A, *[B] * 30, *[None] * 9, A], [A, B, A]),
    "two in turns":                   ([A, B] * 9999, [A, B]),
    "two in turns of 1 s":            ([*[A] * 10, *[B] * 10] * 999, [A, B]),
    "two in turns, with misses":      ([A, None, B, None, None] * 999, [A, B]),
    "two, one of them mostly hidden": ([*[A] * 17, B] * 999, [A, B]),
    "two hidden for 1 s and a miss":  ([*[A] * 10, None, *[B] * 10, None] * 99, [A, B]),
    "three in turns":                 ([A, B, C] * 9999, [A, B, C]),
    "a card taken from beside one":   ([A, B, A, *[B] * 601, A], [A, B, A]),
    "the first second shows nothing": ([*[None] * 10, A], [A]),
}  # fmt: skip


@pytest.mark.parametrize(("shown", "cards"), PRESENTATIONS.values(), ids=PRESENTATIONS)
def test_a_presentation_counts_once(shown, cards):
    assert presented(polls(*shown)) == cards


@pytest.mark.parametrize("seed", range(5))
def test_two_cards_in_a_wallet_at_random_are_two_presentations(seed):
    """20 minutes of a reader that shows either card, after one with misses."""
    dice = random.Random(seed)

    shown = dice.choices([A, B, None], weights=[3, 3, 1], k=600)
    shown += dice.choices([A, B], k=12_000)

    assert sorted(presented(polls(*shown))) == [A, B]


@pytest.mark.parametrize("share", [0.5, 0.2, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("seed", range(5))
def test_a_wallet_is_two_presentations_however_seldom_one_card_is_seen(share, seed):
    dice = random.Random(seed)

    shown = dice.choices([A, B], weights=[1 - share, share], k=400)  # 40 s

    assert sorted(presented(polls(*shown, B))) == [A, B]


#: What is seen from the start on, and which cards count.
STARTS = {
    "a card that stays":               ([A] * 36_000, []),
    "a card that is seldom seen":      ([A, None, None, A, None] * 999, []),
    "a wallet":                        ([A, B] * 999, []),
    "a wallet, one card mostly hidden": ([*[A] * 40, B] * 99, []),
    "a phone":                         ([Uid(f"08{i:06X}") for i in range(99)], []),
    "taken away and back":             ([A, A, *[None] * 6, A], [A]),
    "somebody beside a forgotten card": ([*[A] * 60, *[B] * 9, *[A] * 9], [B]),
    "a wallet, with misses":           ([A, None, B, None, None] * 999, []),
    "an empty field, then a tap":      ([*[None] * 6, A, A], [A]),
    "a card that the first look missed": ([None, A, A, None, A] * 999, []),
}  # fmt: skip


@pytest.mark.parametrize(("shown", "cards"), STARTS.values(), ids=STARTS)
def test_what_lies_on_the_reader_at_the_start_counts_once_it_was_away(shown, cards):
    debounce = Debounce(rearm_s=0.5)
    debounce.restart()

    assert presented(polls(*shown), debounce) == cards


def test_the_time_of_a_reader_that_cannot_be_had_at_the_start_does_not_count():
    debounce = Debounce(rearm_s=0.5)
    debounce.restart()

    before = presented([(0.0, A)], debounce)
    debounce.reader_failed()
    after = presented([(600.0, A), (600.1, B), (600.2, A)], debounce)

    assert (before, after) == ([], [])


def test_a_restart_forgets_what_was_seen_before():
    debounce = Debounce(rearm_s=0.5)
    presented([(0.0, A), (0.1, None)], debounce)

    debounce.restart()

    assert presented([(0.2, B), (0.3, None), (0.9, A), (1.0, B)], debounce) == [A, B]


@pytest.mark.parametrize("rearm_s", [0.1, 0.5, 3.0])
def test_a_card_counts_again_once_it_was_away_for_rearm_s(rearm_s):
    seen = [(0.0, A), (1.0, None), (1.0 + rearm_s - 0.01, A)]
    again = [*seen, (5.0, None), (5.0 + rearm_s + 0.01, A)]

    assert presented(again, Debounce(rearm_s)) == [A, A]


def test_a_reader_that_polls_slowly_needs_one_empty_look():
    """nfcpy's udp driver takes a second to find nothing."""
    assert presented(polls(A, None, A, A, None, A, every_s=1.1)) == [A, A, A]


def test_a_random_uid_is_one_presence_however_often_it_changes():
    phone = [Uid(f"08{i:06X}") for i in range(500)]

    assert presented(polls(*phone)) == phone[:1]
    assert presented(polls(*phone[:5], *[None] * 6, *phone[5:])) == [phone[0], phone[5]]


def test_a_phone_in_the_wallet_with_a_card_is_one_presentation_more():
    shown = [uid for i in range(500) for uid in (Uid(f"08{i:06X}"), A)]

    assert presented(polls(*shown)) == [Uid("08000000"), A]


def test_a_card_that_lay_there_while_the_reader_failed_is_not_presented_again():
    debounce = Debounce(rearm_s=0.5)
    before = presented([(0.0, A), (0.1, None)], debounce)
    debounce.reader_failed()
    debounce.reader_failed()

    after = presented([(60.0, A), (60.1, A)], debounce)

    assert (before, after) == ([A], [])


def test_a_failure_does_not_count_as_time_away():
    debounce = Debounce(rearm_s=0.5)
    before = presented([(0.0, A), (0.1, None), (0.4, None)], debounce)
    debounce.reader_failed()

    after = presented([(60.0, None), (60.4, A)], debounce)

    assert (before, after) == ([A], [])


def test_after_a_failure_a_card_counts_again_once_it_was_seen_gone():
    debounce = Debounce(rearm_s=0.5)
    presented([(0.0, A)], debounce)
    debounce.reader_failed()

    after = presented([(60.0, None), (60.6, A)], debounce)

    assert after == [A]


@pytest.mark.parametrize("busy_s", [0.5, 2.0, 5.0, 40.0])
@pytest.mark.parametrize("wallet", [[A], [A, B], [A, B, C], [A, PHONE]], ids="-".join)
def test_what_lies_there_while_the_door_is_busy_is_not_presented_again(wallet, busy_s):
    """After each presentation nobody looks until the lock has answered."""
    debounce, now, cards = Debounce(rearm_s=0.5), 1000.0, []

    for uid in islice(cycle(wallet), 500):
        if debounce.is_new(uid, now):
            cards.append(uid)
            now += busy_s
        now += POLL_S

    assert cards == wallet


def test_a_card_taken_away_while_the_door_was_busy_counts_again_soon_after():
    seen = [(0.0, A), (5.0, None), (5.3, None), (5.6, A)]

    assert presented(seen) == [A, A]


def test_the_wait_can_be_changed_while_a_card_is_there():
    debounce = Debounce(rearm_s=60.0)
    presented([(0.0, A), (0.1, None)], debounce)

    debounce.rearm_s = 0.5

    assert presented([(0.7, A)], debounce) == [A]


SHAPES = {"one after the other": [], "with gaps": [None], "with a card held": [A]}


@pytest.mark.slow
@pytest.mark.parametrize("between", SHAPES.values(), ids=SHAPES)
def test_memory_stays_small_through_10_000_cards(between):
    debounce, most = Debounce(rearm_s=0.5), 0

    for i in range(10_000):
        for j, uid in enumerate([Uid(f"{0x10000000 + i:08X}"), *between]):
            debounce.is_new(uid, i * 0.2 + j * 0.1)
        most = max(most, len(debounce._seen))

    assert most <= 480  # a minute of new cards, each of which counts for 0.5 s / 4


# -- waiting

ASKED = {
    "as told, then never":     ((0.5, 2.0), 0.0, 30.0, [0.5, 2.0]),
    "as told, then every 4 s": ((0.5, 2.0), 4.0, 11.0, [0.5, 2.0, 6.0, 10.0]),
    "up to the limit":         ((1.0,), 1.0, 4.0, [1.0, 2.0, 3.0, 4.0]),
    "a told time at the limit": ((0.5, 2.0), 0.0, 2.0, [0.5, 2.0]),
    "not beyond the limit":    ((1.0,), 1.0, 3.999, [1.0, 2.0, 3.0]),
    "the limit comes first":   ((0.5, 2.0), 1.0, 1.0, [0.5]),
    "nothing fits":            ((5.0,), 1.0, 4.0, [4.0]),
    "nothing told":            ((), 0.0, 30.0, []),
}  # fmt: skip


@pytest.mark.parametrize(
    ("at_s", "every_s", "limit_s", "asked"), ASKED.values(), ids=ASKED
)
def test_a_lock_is_asked_at_its_vendors_times(at_s, every_s, limit_s, asked):
    policy = LockPolicy(confirm_at_s=at_s, confirm_every_s=every_s)

    assert list(policy.confirm_times_s(limit_s)) == asked


def test_a_lock_with_a_period_and_no_first_time_is_asked_too():
    """A policy row that forgets the first time must not spin or ask never."""
    times = list(LockPolicy(confirm_every_s=1.0).confirm_times_s(3.0))

    assert times == [1.0, 2.0, 3.0]


@given(st.integers(0, 2_000), st.floats(0, 1, exclude_max=True))
def test_backing_off_stays_between_half_the_wait_and_the_wait(attempt, jitter):
    backoff = Backoff(0.2, 10.0, lambda: jitter)
    for _ in range(attempt):
        backoff.fail()

    wait_s = backoff.fail()

    full_s = min(10.0, 0.2 * 2.0 ** min(attempt, 30))
    assert full_s / 2 <= wait_s <= full_s


def test_backing_off_doubles_up_to_the_cap():
    backoff = Backoff(0.5, 8.0, lambda: 0.0)
    waits_s = [backoff.fail() for _ in range(7)]

    assert waits_s == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_backing_off_never_gets_shorter():
    backoff = Backoff(0.2, 10.0, lambda: 0.3)
    waits_s = [backoff.fail() for _ in range(99)]

    assert all(earlier <= later for earlier, later in pairwise(waits_s))
