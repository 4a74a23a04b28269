"""Why a card is let in or not: each reason one sentence, each turn at its minute."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    REASON_WORDS,
    Circumstances,
    Command,
    Credential,
    Event,
    Membership,
    Origin,
    Reason,
    Result,
    Role,
    Schedule,
    Span,
    Uid,
    answer_in_words,
    card_name,
    decide,
    format_uid,
    main,
    next_turn,
    parse_limit,
    parse_span,
    time_at,
)
from tests.core.test_rules import OF_AUTHORITIES, OF_THE_CARD, USED
from tests.helpers.values import replace
from tests.helpers.world import JST, KEN, NOON, STRANGER, card_of, utc

PHONE = Uid("08112233")
DAY = timedelta(days=1)
TODAY = NOON.date()  # Wednesday 2026-11-18


def hours(*spans: str, closed: tuple[date, ...] = ()) -> Schedule:
    return Schedule(
        name="hours", spans=tuple(map(parse_span, spans)), closed=frozenset(closed)
    )


# -- one sentence


def sentence_about(uid, who, when, *, is_now=True) -> str:
    name = card_name(who) if who else format_uid(uid)
    return f"{name} {answer_in_words(uid, who, when, is_now=is_now)}"


SCHEDULES = {
    "office": replace(
        hours("Mon-Fri 08:00-20:00", closed=(TODAY + DAY,)), name="office"
    ),
    "mornings": replace(hours("Mon-Fri 06:00-10:00"), name="mornings"),
    "nights": replace(hours("Sat 22:00-02:00"), name="nights"),
    "ever": replace(hours("Mon-Sun 00:00-24:00"), name="ever"),
    "festive": replace(
        hours("Mon-Sun 00:00-24:00", closed=(date(2030, 12, 25),)), name="festive"
    ),
    "all day": replace(hours("Wed 00:00-24:00"), name="all day"),
    "shut": replace(hours("Wed 08:00-20:00", closed=(TODAY,)), name="shut"),
    "never": Schedule(name="never", spans=()),
}
MASTER = {"role": Role.MASTER}
KEN_IS = "Ken Sato (04:A9:3C:71:5E:D2:84) would be"
DENIED = f"{KEN_IS} denied"
NOT_NOW = f"{DENIED}: not-permitted-at-this-time"
LATER = "; not in the next 400 days unless something is changed."
LOCKDOWN = "locked-down, nobody may enter; to lift that: doorpi lockdown off"

#: name: (changes of the card or None, circumstances, the sentence)
MEMBER = Membership("m1", "Fix Desk", trusted_until=NOON + 2 * DAY)
COBOT = {"source": Origin.COBOT}

SENTENCES = {
    "a member": (
        {"membership": MEMBER, **COBOT}, {},
        f"{KEN_IS} let in now: granted, until Fri 2026-11-20 at 12:00 (unless its list is read again by then).",
    ),
    "a member whose list is too old": (
        {"membership": MEMBER._replace(trusted_until=NOON), **COBOT}, {},
        f"{KEN_IS} denied: list-too-old, its entry, from cobot, was confirmed too long ago; see doorpi doctor.",
    ),
    "a plan for other doors": (
        {"membership": MEMBER._replace(refusal=Reason.PLAN_NOT_HERE), **COBOT}, {},
        f"{KEN_IS} denied: plan-not-here, the plan 'Fix Desk' does not include this door.",
    ),
    "no time pass": (
        {"membership": MEMBER._replace(refusal=Reason.NO_PASS), **COBOT}, {},
        f"{KEN_IS} denied: no-pass, there is no time pass that covers this time; not in the next 400 days unless something is changed.",
    ),
    "a booking later on": (
        {"membership": MEMBER._replace(refusal=Reason.NO_BOOKING, spans=((NOON + DAY, NOON + 2 * DAY),)), **COBOT}, {},
        f"{KEN_IS} denied: no-booking, the room is not booked for them at this time; next possible on Thu 2026-11-19 at 12:00.",
    ),
    "on the list": ({}, {}, f"{KEN_IS} let in now: granted, without limits."),
    "for some days": (
        {"valid_until": TODAY + DAY}, {},
        f"{KEN_IS} let in now: granted, until the end of Thu 2026-11-19 (its last day).",
    ),
    "in its hours": (
        {"schedule": "mornings"}, {"at": NOON.replace(hour=9)},
        f"{KEN_IS} let in now: granted, until Wed 2026-11-18 at 10:00 (the hours of mornings end).",
    ),
    "in its hours, before a closed day": (
        {"schedule": "all day"}, {},
        f"{KEN_IS} let in now: granted, until the end of Wed 2026-11-18 (the hours of all day end).",
    ),
    "hours that do not end": (
        {"schedule": "ever"}, {}, f"{KEN_IS} let in now: granted, for as long as the settings stay as they are.",
    ),
    "hours that end with its last day": (
        {"schedule": "ever", "valid_until": date(2031, 3, 31)}, {},
        f"{KEN_IS} let in now: granted, until the end of Mon 2031-03-31 (its last day).",
    ),
    "hours that do not end before a closed day years ahead": (
        {"schedule": "festive"}, {},
        f"{KEN_IS} let in now: granted, until the end of Tue 2030-12-24 (Wed 2030-12-25 is a closed day of festive).",
    ),
    "a last day there is no day after": (
        {"valid_until": date.max}, {}, f"{KEN_IS} let in now: granted, for as long as the settings stay as they are.",
    ),
    "outside its hours": (
        {"schedule": "mornings"}, {},
        f"{NOT_NOW}, outside the hours of mornings; next possible on Thu 2026-11-19 at 06:00.",
    ),
    "outside its hours, before a closed day": (
        {"schedule": "office"}, {"at": NOON.replace(hour=21)},
        f"{NOT_NOW}, outside the hours of office; next possible on Fri 2026-11-20 at 08:00.",
    ),
    "a closed day": (
        {"schedule": "shut"}, {},
        f"{NOT_NOW}, Wed 2026-11-18 is a closed day of shut; next possible on Wed 2026-11-25 at 08:00.",
    ),
    "until a closed day begins": (
        {"schedule": "night and day"},
        {"schedules": {"night and day": replace(hours("Mon-Sun 00:00-24:00", closed=(TODAY + DAY,)), name="night and day")}},
        f"{KEN_IS} let in now: granted, until the end of Wed 2026-11-18 (Thu 2026-11-19 is a closed day of night and day).",
    ),
    "a schedule that is gone": (
        {"schedule": "old"}, {}, f"{NOT_NOW}, there is no schedule called old{LATER}",
    ),
    "no hours before its last day": (
        {"schedule": "nights", "valid_until": TODAY + DAY}, {},
        f"{NOT_NOW}, outside the hours of nights{LATER}",
    ),
    "not yet": (
        {"valid_from": date(2026, 12, 1)}, {},
        f"{DENIED}: not-active, its first day is 2026-12-01; next possible on Tue 2026-12-01 at 00:00.",
    ),
    "not yet, and then in its hours": (
        {"valid_from": date(2029, 12, 3), "schedule": "nights"}, {},
        f"{DENIED}: not-active, its first day is 2029-12-03; next possible on Sat 2029-12-08 at 22:00.",
    ),
    "no more": (
        {"valid_until": date(2026, 10, 31)}, {},
        f"{DENIED}: expired, its last day was 2026-10-31; until you change that.",
    ),
    "switched off in the file": (
        {"enabled": False}, {},
        f"{DENIED}: not-enabled, it is switched off in doorpi.toml (enabled = false).",
    ),
    "switched off in the database": (
        {"enabled": False, "source": Origin.DB}, {},
        f"{DENIED}: not-enabled, it is switched off; to let it in: doorpi allow NAME --uid 04:A9:3C:71:5E:D2:84.",
    ),
    "the clock is not set": (
        {"schedule": "office"}, {"clock_set": False},
        f"{DENIED}: clock-not-set, its dates or hours need the right time, and the Pi's clock is not set yet; see doorpi doctor.",
    ),
    "long ago, by a clock that is not set": (
        {"valid_from": date(2026, 12, 1)}, {"clock_set": False, "at": datetime(1970, 1, 1, tzinfo=JST)},
        f"{DENIED}: clock-not-set, its dates or hours need the right time, and the Pi's clock is not set yet; see doorpi doctor.",
    ),
    "a plain card needs no clock": (
        {}, {"clock_set": False}, f"{KEN_IS} let in now: granted, without limits.",
    ),
    "passed back": (
        {}, {"last_moved": utc("2026-11-18T02:59:58.250"), "passback_s": 30.0},
        f"{DENIED}: passback, it moved the lock at 11:59:58 and must wait 30 s; next possible on Wed 2026-11-18 at 12:00:29.",
    ),
    "came in, and not out": (
        {}, {"last_moved": utc("2026-11-18T02:59:58.250"), "passback_s": 30.0, "is_inside": True},
        f"{DENIED}: passback, Ken Sato came in on Wed 2026-11-18 at 11:59:58 and has not gone out since, which is forgotten after 30 s; next possible on Wed 2026-11-18 at 12:00:29.",
    ),
    "out at night": (
        {"schedule": "office"}, {"is_exit": True, "ignores_hours": True, "at": NOON.replace(hour=23)},
        f"{KEN_IS} let out now: granted, for as long as the settings stay as they are.",
    ),
    "a pass that has ended": (
        {"ends": NOON - timedelta(minutes=1)}, {}, f"{DENIED}: expired, it ended on Wed 2026-11-18 at 11:59.",
    ),
    "a pass that has not begun": (
        {"starts": NOON + timedelta(minutes=1)}, {},
        f"{DENIED}: not-active, it begins on Wed 2026-11-18 at 12:01; next possible on Wed 2026-11-18 at 12:01.",
    ),
    "a time that comes": (
        {"valid_from": parse_limit("2026-11-18 12:01")}, {},
        f"{DENIED}: not-active, it begins on Wed 2026-11-18 at 12:01; next possible on Wed 2026-11-18 at 12:01.",
    ),
    "a time that ends": (
        {"valid_until": parse_limit("2026-11-18 12:01:30")}, {},
        f"{KEN_IS} let in now: granted, until Wed 2026-11-18 at 12:01:30 (its end).",
    ),
    "a time that ended": (
        {"valid_until": parse_limit("2026-11-18 11:59")}, {},
        f"{DENIED}: expired, it ended on Wed 2026-11-18 at 11:59; until you change that.",
    ),
    "a pass that ends": (
        {"ends": NOON + timedelta(minutes=1)}, {},
        f"{KEN_IS} let in now: granted, until Wed 2026-11-18 at 12:01 (its end).",
    ),
    "a pass for one visit that was used": (
        {"guest_pass": USED}, {}, "Ken Sato (04:A9:3C:71:5E:D2:84) would be denied: used-up, it opened once, on 2026-11-18 at 11:59, and never again.",
    ),
    "not on the list": (
        None, {},
        "04:A9:3C:71:5E:D2:84 would be denied: not-found, this card is not on the list; to let it in: doorpi allow NAME --uid 04:A9:3C:71:5E:D2:84.",
    ),
    "locked down": (
        {}, {"locked_down": True}, f"{DENIED}: {LOCKDOWN} (then: granted, without limits).",
    ),
    "locked down, and no more": (
        {"valid_until": date(2026, 10, 31)}, {"locked_down": True},
        f"{DENIED}: {LOCKDOWN} (then: expired, its last day was 2026-10-31; until you change that).",
    ),
    "locked down, with dates and a clock that is not set": (
        {"valid_until": TODAY}, {"locked_down": True, "clock_set": False},
        f"{DENIED}: {LOCKDOWN} (then: clock-not-set, its dates or hours need the right time, and the Pi's clock is not set yet; see doorpi doctor).",
    ),
    "locked down, not on the list": (
        None, {"locked_down": True},
        f"04:A9:3C:71:5E:D2:84 would be denied: {LOCKDOWN} (then: not-found, this card is not on the list; to let it in: doorpi allow NAME --uid 04:A9:3C:71:5E:D2:84).",
    ),
    "a master, also when locked down": (
        MASTER, {"locked_down": True},
        "Ken Sato (04:A9:3C:71:5E:D2:84) would start enrolment now (a master card never opens the door): granted, without limits.",
    ),
    "a secure card": (
        {"proof": "ntag424"}, {"proofs": ("ntag424",)},
        "Ken Sato (04:A9:3C:71:5E:D2:84) would be let in now once it has proven itself (ntag424): granted, without limits.",
    ),
    "a secure card at a door without its key": (
        {"proof": "ntag424"}, {},
        f"{DENIED}: proof-unavailable, it must prove itself, and the door lacks its door_key; see doorpi doctor.",
    ),
    "a UID alone, after the migration": (
        {}, {"proofs": ("ntag424",)},
        f"{DENIED}: no-proof, it only has a UID, and [proof] uid_only refuses such cards.",
    ),
    "a name that would move the cursor": (
        {"holder": "K\x1b[2J"}, {}, "K\\x1b[2J (04:A9:3C:71:5E:D2:84) would be let in now: granted, without limits.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "around", "sentence"), SENTENCES.values(), ids=SENTENCES
)
def test_one_sentence_says_which_rule_decides_and_until_when(changes, around, sentence):
    who = None if changes is None else card_of(**changes)
    when = Circumstances(**{"at": NOON, "schedules": SCHEDULES} | around)

    assert sentence_about(KEN, who, when) == sentence
    assert decide(KEN, who, when).reason in sentence


def test_why_says_that_a_phone_cannot_be_listed():
    assert sentence_about(PHONE, None, Circumstances(at=NOON)) == (
        "08:11:22:33 would be denied: random-uid, it shows a different, random UID at each tap, as"
        " phones do, so it cannot be put on a list."
    )


#: (changes of the card, the sentence)
THEN = [
    ({}, "Ken Sato (04:A9:3C:71:5E:D2:84) would be let in on Wed 2026-11-18 at 12:00: granted, without limits."),
    ({"enabled": False}, "Ken Sato (04:A9:3C:71:5E:D2:84) would be denied on Wed 2026-11-18 at 12:00: not-enabled, it is switched off in doorpi.toml (enabled = false)."),
    (MASTER, "Ken Sato (04:A9:3C:71:5E:D2:84) would start enrolment on Wed 2026-11-18 at 12:00 (a master card never opens the door): granted, without limits."),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), THEN, ids=["in", "denied", "master"])
def test_sentence_names_another_time(changes, sentence):
    when = Circumstances(at=NOON)

    assert sentence_about(KEN, card_of(**changes), when, is_now=False) == sentence


def test_every_reason_has_a_row_of_words_and_a_sentence_here():
    around = {"at": NOON, "schedules": SCHEDULES}
    decided = {
        decide(KEN, who, Circumstances(**around | when)).reason
        for changes, when, _ in SENTENCES.values()
        for who in [None if changes is None else card_of(**changes)]
    }

    assert set(REASON_WORDS) == set(Reason)
    elsewhere = {Reason.RANDOM_UID, Reason.STALE, *OF_AUTHORITIES, *OF_THE_CARD}
    assert decided | elsewhere == set(Reason)


# -- when the answer turns

MINUTE = timedelta(minutes=1)
WATCHED = timedelta(days=9)
near_days = st.integers(-3, 6).map(lambda days: TODAY + timedelta(days=days))
minutes = st.integers(0, 1439)
schedules = st.builds(
    Schedule,
    name=st.just("some"),
    spans=st.lists(
        st.builds(
            Span,
            days=st.frozensets(st.integers(0, 6), min_size=1),
            start_min=minutes,
            end_min=st.integers(1, 1440),
        ).filter(lambda span: span.start_min != span.end_min),
        min_size=1,
        max_size=3,
    ).map(tuple),
    closed=st.frozensets(near_days, max_size=3),
)
moments = st.integers(-90, 90).map(lambda some: NOON + some * MINUTE)
cards = st.builds(
    Credential,
    uid=st.just(KEN),
    holder=st.just("Ken Sato"),
    valid_from=st.none() | near_days,
    valid_until=st.none() | near_days,
    schedule=st.none() | st.just("some"),
    starts=st.none() | moments,
    ends=st.none() | moments,
    guest_pass=st.none(),
    membership=st.none(),
)
circumstances = st.builds(
    Circumstances,
    at=moments,
    local=st.none(),
    clock_set=st.just(True),
    locked_down=st.just(False),
    schedules=schedules.map(lambda schedule: {"some": schedule}),
    last_moved=st.none() | moments,
    passback_s=st.integers(0, 120).map(lambda some: some * 60.0),
)


@settings(max_examples=12)
@given(cards, circumstances)
def test_next_turn_is_the_first_minute_of_a_different_answer(who, when):
    granted = decide(KEN, who, when).granted
    watched = (when.at + i * MINUTE for i in range(1, WATCHED // MINUTE))
    turns = (
        at
        for at in watched
        if decide(KEN, who, replace(when, at=at)).granted is not granted
    )
    first = next(turns, None)

    turn = next_turn(KEN, who, when)

    if first is None:
        assert turn is None or turn[0].at >= when.at + WATCHED
    else:
        assert turn[0].at == first


# -- which time is asked about

#: (text, the next such time after Wednesday noon)
TIMES = {
    "22:10":        "2026-11-18 22:10",
    "8:05":         "2026-11-19 08:05",
    "12:00":        "2026-11-19 12:00",
    "Sat 22:10":    "2026-11-21 22:10",
    "saturday 0:00": "2026-11-21 00:00",
    "wed 12:01":    "2026-11-18 12:01",
    "WED 11:59":    "2026-11-25 11:59",
}  # fmt: skip


@pytest.mark.parametrize(("text", "at"), TIMES.items(), ids=TIMES)
def test_a_time_of_day_is_the_next_one(text, at):
    found = time_at(text, NOON.replace(tzinfo=None))

    assert found == datetime.fromisoformat(at)


# -- the verb

CONFIG = """
[door]
passback_s = 60
require_synced_clock = false

[lock]
kind = "relay"

[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]

[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"

[[card]]
uid = "01:23:AB:07"
holder = "Jo Guest"
schedule = "office-hours"
"""
JO = Uid("0123AB07")
KEN_IN = "Ken Sato (04:A9:3C:71:5E:D2:84) would be let in now: granted, without limits."


@pytest.fixture
def why(verb):
    """What `why` answers on stdout, and complains of."""

    def run(*args: str, code: int = 0, errors: tuple[str, ...] = ()) -> list[str]:
        said = verb("why", *args)
        assert (said.code, said.err) == (code, list(errors))
        return said.out

    return run


@pytest.fixture
def central_europe(monkeypatch):
    """Where the clocks change; in words that need no table of zones."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "who", [["04a93c715ed284"], ["Ken Sato"], ["KEN", "sato"], ["Ken\u3000Sato"]]
)
def test_a_card_or_its_holder_can_be_asked_about(why, path, who):
    assert why(*who) == [KEN_IN]
    assert [entry.name for entry in path.parent.iterdir()] == ["doorpi.toml"]


def test_a_time_months_ahead_is_wall_time_on_both_sides_of_daylight_saving(
    why, central_europe
):
    lines = [*why("Jo Guest", "--at", "2026-07-01 07:59"), *why("Jo Guest", "--at", "2026-12-31 08:00")]  # fmt: skip

    assert lines == [
        (
            "Jo Guest (01:23:AB:07) would be denied on Wed 2026-07-01 at 07:59:"
            " not-permitted-at-this-time, outside the hours of office-hours; next possible on"
            " Wed 2026-07-01 at 08:00."
        ),
        (
            "Jo Guest (01:23:AB:07) would be let in on Thu 2026-12-31 at 08:00: granted, until"
            " Thu 2026-12-31 at 20:00 (the hours of office-hours end)."
        ),
    ]


def test_cards_of_a_holder_that_agree_share_a_sentence(why, store):
    third = Uid("01020304")
    for uid, holder, enabled in (
        (STRANGER, "ken sato", False),
        (third, "Ken Sato", True),
    ):
        card = card_of(uid, holder, enabled=enabled, source=Origin.DB)
        store.people.add_card(card, NOON)

    lines = why("Ken Sato")

    assert lines == [
        KEN_IN.replace(")", ", 01:02:03:04)"),
        (
            "ken sato (04:FF:EE:DD:CC:BB:AA) would be denied: not-enabled, it is switched"
            " off; to let it in: doorpi allow NAME --uid 04:FF:EE:DD:CC:BB:AA."
        ),
    ]
    assert len(why("Ken Sato", "--json")) == 3


def test_a_reader_may_be_named(why, path):
    two = '[[reader]]\nname = "{}"\ndirection = "{}"\ndevice = "{}"\n'
    text = two.format("out", "out", "usb") + two.format("in", "in", "tty:S0:pn532")
    path.write_text(text + CONFIG)

    denied = "would be denied on Sat 2026-12-05 at 12:00: not-permitted-at-this-time"
    assert denied in why("Jo Guest", "--at", "2026-12-05 12:00")[0]
    (line,) = why("Jo Guest", "--at", "2026-12-05 12:00", "--reader", "out")
    assert "would be let out on" in line


def test_lockdown_and_passback_are_asked_of_the_store(why, store):
    event = Event(
        at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.GRANTED, command=Command.UNLOCK
    )  # fmt: skip
    event = replace(event, id=store.events.begin(event), result=Result.UNLOCKED)
    store.events.finish(event)
    at = f"{NOON.astimezone():%Y-%m-%d %H:%M}"
    passed_back = why("Ken Sato", "--at", at)
    store.people.lock_down("somebody said so")

    locked_down = why("Ken Sato", "--at", at)

    assert "passback, it moved the lock at" in passed_back[0]
    assert "denied on" in locked_down[0]
    assert "locked-down, " in locked_down[0]
    assert "(then: passback, it moved" in locked_down[0]


def test_a_name_that_reads_as_a_uid_is_found_by_its_name(why, store):
    store.people.add_card(card_of(STRANGER, "Dada Bebe", source=Origin.DB), NOON)

    assert why("Dada Bebe") == [
        "Dada Bebe (04:FF:EE:DD:CC:BB:AA) would be let in now: granted, without limits."
    ]
    assert why("DA:DA:BE:BF")[0].startswith("DA:DA:BE:BF would be denied: not-found, ")


def test_a_random_uid_is_not_looked_for_on_the_list(why, store):
    store.people.add_card(card_of(PHONE, "Phone", source=Origin.DB), NOON)

    assert why("08112233")[0].startswith("08:11:22:33 would be denied: random-uid, ")


#: (who, exit code, what is complained of)
UNKNOWN = {
    "a first name":        ("ken", 1, 'nobody is called "ken"; did you mean "Ken Sato"?'),
    "a typing error":      ("Jo Gest", 1, 'nobody is called "Jo Gest"; did you mean "Jo Guest"?'),
    "nobody":              ("Ines", 1, 'nobody is called "Ines"'),
    "one that is not shown": ("\x1b[2J", 1, 'nobody is called "\\x1b[2J"'),
    "an O for a 0":        ("04:A9:3C:71:5E:D2:8O", 2, '"04:A9:3C:71:5E:D2:8O": not a UID: two hex digits per byte, such as 04:A1:B2:C3; and nobody is called that'),
    "a byte too few":      ("04:A1:B2", 2, '"04:A1:B2": a UID has 4, 7, 8 or 10 bytes, not 3; and nobody is called that'),
    "3 bytes of a UID":    ("8804A3C6", 2, '"8804A3C6": only 3 bytes of a 7-byte card (a UID of 4 bytes never begins with 88, or 136 in decimal): tap the card here instead; and nobody is called that'),
    "a number too great":  ("1.35.171.700", 2, '"1.35.171.700": a number of a dotted UID is more than 255; and nobody is called that'),
}  # fmt: skip


@pytest.mark.parametrize(("who", "code", "error"), UNKNOWN.values(), ids=UNKNOWN)
def test_why_explains_that_somebody_is_unknown(why, who, code, error):
    assert why(who, code=code, errors=(error,)) == []


def test_why_answers_from_the_file_if_the_database_is_broken(why, path):
    (path.parent / "state").mkdir()
    for name in ("doorpi.db", "cards.db"):
        (path.parent / "state" / name).write_bytes(b"no database" * 1000)
    log_file, list_file = (path.parent / "state" / n for n in ("doorpi.db", "cards.db"))

    lines = why(
        "04A93C715ED284",
        errors=(
            f"database: {list_file}: file is not a database; its contents are not considered here",
            f"database: {log_file}: file is not a database; its contents are not considered here",
        ),
    )

    assert lines == [KEN_IN]


def test_of_another_time_it_says_when_the_clock_must_be_set_first(
    why, path, monkeypatch
):
    monkeypatch.setattr(doorpi.SystemClock, "is_set", lambda self: False)
    path.write_text(CONFIG.replace("require_synced_clock = false", ""))

    lines = [*why("0123AB07", "--at", "2026-12-31 08:00"), *why("Ken Sato", "--at", "2026-12-31")]  # fmt: skip

    assert lines == [
        (
            "Jo Guest (01:23:AB:07) would be let in on Thu 2026-12-31 at 08:00: granted, until"
            " Thu 2026-12-31 at 20:00 (the hours of office-hours end). This assumes that the"
            " clock is set by then; it is not now."
        ),
        (
            "Ken Sato (04:A9:3C:71:5E:D2:84) would be let in on Thu 2026-12-31 at 00:00:"
            " granted, without limits."
        ),
    ]


@pytest.mark.parametrize(
    "at",
    [
        "soon",
        "Sut 22:10",
        "24:00",
        "22:60",
        "2026-13-01",
        "0001-01-01",
        "9999-12-31",
        "",
    ],
)
def test_at_rejects_what_is_not_a_time(path, capsys, at):
    with pytest.raises(SystemExit) as exit_:
        main(["--config", str(path), "why", "Ken Sato", "--at", at])

    assert exit_.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"doorpi.py why: error: argument --at: {at!r} is not a time: 22:10, 'Sat 22:10',"
        " 2026-12-24 or '2026-12-24 22:10'"
    )


# -- where the clock is put forward or back

NIGHT = """
[[schedule]]
name = "slot"
times = ["Sun 02:15-02:45"]

[[card]]
uid = "01020304"
holder = "Bo"
schedule = "slot"
"""
BO = "Bo (01:02:03:04) would be"


@pytest.mark.usefixtures("central_europe")
def test_why_promises_no_hours_that_are_skipped(why, path):
    path.write_text(CONFIG + NIGHT)

    (line,) = why("Bo", "--at", "2027-03-28 01:30")

    assert line.endswith("; next possible on Sun 2027-04-04 at 02:15.")


@pytest.mark.usefixtures("central_europe")
@pytest.mark.parametrize("at", ["02:00", "02:59:59"])
def test_at_rejects_an_hour_that_is_skipped(why, at):
    """Not answered for another one, as Python has it."""
    words = "there is no such time; the clock is put forward then"

    why(
        "Ken Sato", "--at", f"2027-03-28 {at}",
        code=1, errors=(f"Sun 2027-03-28 at {at}: {words}",),
    )  # fmt: skip


@pytest.mark.usefixtures("central_europe")
def test_at_means_the_first_of_an_hour_that_is_repeated(why, path):
    path.write_text(CONFIG + NIGHT)

    (first,) = why("Bo", "--at", "2027-10-31 02:30")
    (second,) = why("Bo", "--at", "2027-10-31T02:50+02:00")

    day = "on Sun 2027-10-31 at"
    assert first == (
        f"{BO} let in {day} 02:30: granted, until Sun 2027-10-31 at 02:45 (the hours of"
        " slot end)."
    )
    assert second.endswith(f"; next possible {day} 02:15.")  # the second 02:15


def test_last_day_ends_if_its_midnight_is_skipped():
    """In Havana the clock is put from midnight to 1 o'clock."""
    havana = ZoneInfo("America/Havana")
    when = Circumstances(at=datetime(2024, 3, 9, 12, tzinfo=havana))  # that stays so
    card = card_of(valid_until=date(2024, 3, 9))

    then, reason = next_turn(KEN, card, when)

    assert then.at == datetime(2024, 3, 10, 1, tzinfo=havana)
    assert reason is Reason.EXPIRED
    assert sentence_about(KEN, card, when) == (
        f"{KEN_IS} let in now: granted, until the end of Sat 2024-03-09 (its last day)."
    )


def test_passback_names_the_hour_that_the_clock_showed():
    """Moved at 01:58, asked at 03:01: three minutes, and an hour that was not."""
    berlin = ZoneInfo("Europe/Berlin")
    moved = datetime(2027, 3, 28, 0, 58, tzinfo=UTC)
    at = datetime(2027, 3, 28, 1, 1, tzinfo=UTC).astimezone(berlin)
    when = Circumstances(at=at, last_moved=moved, passback_s=600.0)

    assert sentence_about(KEN, card_of(), when) == (
        f"{KEN_IS} denied: passback, it moved the lock at 01:58:00 and must wait 600 s;"
        " next possible on Sun 2027-03-28 at 03:08."
    )
