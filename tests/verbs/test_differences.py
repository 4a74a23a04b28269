"""What an edit changes, in words; and what the door keeps of what it runs with."""

from __future__ import annotations

import contextlib
import logging
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    Config,
    Credential,
    LockAccess,
    LockConfig,
    Origin,
    Role,
    Schedule,
    Secret,
    Signal,
    Uid,
    access_changes,
    is_running,
    only_door,
    parse_pattern,
    parse_span,
    setting_changes,
)
from tests.helpers.office import verbs_on
from tests.helpers.values import replace
from tests.helpers.world import KEN, card_of, config_of

ANNA, JO, MIKA = Uid("01020304"), Uid("01020305"), Uid("01020306")


def differences(before: Config, after: Config, find=lambda uid: None) -> list[str]:
    people = access_changes(before, after, find, lambda uid, holder: None)
    return [*people, *setting_changes(before, after)]


def hours(name: str, *spans: str, closed: tuple[date, ...] = ()) -> Schedule:
    return Schedule(
        name=name,
        spans=tuple(map(parse_span, spans)),
        closed=frozenset(closed),
        words=spans,
    )


def with_schedules(config: Config, *schedules: Schedule) -> Config:
    return replace(config, schedules={each.name: each for each in schedules})


# -- people

KEN_CARD, ANNA_CARD = card_of(KEN, "Ken Sato"), card_of(ANNA, "Anna")
DAY, LATER = date(2026, 12, 1), date(2027, 3, 31)

#: name: (cards before, cards after, lines)
PEOPLE = {
    "nothing": ([KEN_CARD], [KEN_CARD], []),
    "two more": (
        [KEN_CARD],
        [KEN_CARD, card_of(JO, "Jo Guest"), card_of(MIKA, "Mika Abe")],
        ["Jo Guest, Mika Abe: added"],
    ),
    "one less": ([KEN_CARD, ANNA_CARD], [ANNA_CARD], ["Ken Sato: removed"]),
    "one of another name with two cards": (
        [], [card_of(JO, "Jo"), card_of(MIKA, "Jo")], ["Jo (01:02:03:05), Jo (01:02:03:06): added"],
    ),
    "a second card": (
        [KEN_CARD], [KEN_CARD, card_of(JO, "Ken Sato")],
        ["Ken Sato (01:02:03:05): added"],
    ),
    "another card": (
        [KEN_CARD], [card_of(JO, "Ken Sato")],
        ["Ken Sato (01:02:03:05): added", "Ken Sato (04:A9:3C:71:5E:D2:84): removed"],
    ),
    "renamed, with one card more": (
        [KEN_CARD], [card_of(KEN, "K. Sato"), card_of(JO, "K. Sato")],
        ["Ken Sato: now K. Sato", "K. Sato: added"],
    ),
    "given to somebody known": (
        [KEN_CARD, ANNA_CARD], [card_of(KEN, "Anna"), ANNA_CARD],
        ["Ken Sato: now Anna"],
    ),
    "one of two given to somebody else": (
        [KEN_CARD, card_of(JO, "Ken Sato")], [KEN_CARD, card_of(JO, "Jo")],
        ["Ken Sato (01:02:03:05): now Jo"],
    ),
    "switched off and on": (
        [KEN_CARD, card_of(ANNA, "Anna", enabled=False)],
        [card_of(KEN, "Ken Sato", enabled=False), ANNA_CARD],
        ["Ken Sato: always -> switched off", "Anna: switched off -> always"],
    ),
    "dates": (
        [KEN_CARD, ANNA_CARD],
        [card_of(KEN, "Ken Sato", valid_until=LATER), card_of(ANNA, "Anna", valid_from=DAY, valid_until=LATER)],
        ["Ken Sato: always -> always, until 2027-03-31", "Anna: always -> always, from 2026-12-01, until 2027-03-31"],
    ),
    "a date that goes": (
        [card_of(valid_until=DAY)], [card_of()], ["Ken Sato: always, until 2026-12-01 -> always"],
    ),
    "a role": (
        [KEN_CARD], [card_of(role=Role.MASTER)], ["Ken Sato: always -> always [master: enrols cards, does not open]"],
    ),
    "both of two cards": (
        [KEN_CARD, card_of(JO, "Ken Sato")],
        [card_of(uid, "Ken Sato", enabled=False) for uid in (KEN, JO)],
        ["Ken Sato (04:A9:3C:71:5E:D2:84), Ken Sato (01:02:03:05): always -> switched off"],
    ),
    "one of two cards": (
        [KEN_CARD, card_of(JO, "Ken Sato")], [KEN_CARD, card_of(JO, "Ken Sato", enabled=False)],
        ["Ken Sato (01:02:03:05): always -> switched off"],
    ),
    "a name that would move the cursor": ([], [card_of(holder="K\x1b[2J")], ["K\\x1b[2J: added"]),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "lines"), PEOPLE.values(), ids=PEOPLE)
def test_differences_of_people(before, after, lines):
    assert differences(config_of(*before), config_of(*after)) == lines


def test_two_cards_of_a_long_name_are_shown_with_their_uids():
    cards = [card_of(uid, "Anna " * 20) for uid in (KEN, ANNA)]
    off = [cards[0], replace(cards[1], enabled=False)]

    (line,) = differences(config_of(*cards), config_of(*off))

    assert line.endswith("... (01:02:03:04): always -> switched off")


def test_a_long_list_stays_short():
    people = [card_of(Uid(f"{i:08X}"), f"P{i}") for i in range(0x10000000, 0x10002710)]
    some, first = config_of(*people[:2]), people[2].holder
    off = [
        replace(card, enabled=i > 8_000, valid_until=DAY + timedelta(days=i))
        for i, card in enumerate(people)
    ]

    assert differences(some, config_of(*people)) == [
        f"{first}, P268435459, P268435460 and 9,995 more: added"
    ]
    lines = differences(config_of(*people), config_of(*off))
    assert len(lines) == doorpi.MOST_CHANGES + 1
    who = f"P268435456, P268435457, {first} and 7,998 more"
    assert lines[0] == f"{who}: always -> switched off"
    assert lines[1] == "P268443457: always -> always, until 2048-10-27"
    assert lines[-1] == "and 1,980 more changes"


# -- hours

WEEK = "Mon-Sun 08:00-20:00"
#: (spans before, spans after, the hours of both in words, "" where they are the same)
HOURS = [
    ([WEEK], ["Mon-Fri 08:00-20:00"], f"{WEEK} -> Mon-Fri 08:00-20:00"),
    ([WEEK], ["Mon-Fri 08:00-20:00", "Sun 10:00-12:00"], f"{WEEK} -> Mon-Fri 08:00-20:00, Sun 10:00-12:00"),
    (["Mon 08:00-12:00"], ["Mon 10:00-14:00"], "Mon 08:00-12:00 -> Mon 10:00-14:00"),
    (["Sat 22:00-02:00"], ["Mon-Sun 00:00-24:00"], "Sat 22:00-02:00 -> Mon-Sun 00:00-24:00"),
    (["Mon 8:00-9:00", "Tue 8:00-9:00"], ["Tue 08:00-09:00", "mon 08:00-09:00"], ""),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), HOURS)
def test_differences_of_hours(before, after, words):
    config = config_of(card_of(ANNA, "Anna", schedule="hours"))

    lines = differences(
        with_schedules(config, hours("hours", *before)),
        with_schedules(config, hours("hours", *after)),
    )

    assert lines == ([f"schedule hours: {words} (Anna)"] if words else [])


def test_closed_days_are_reported():
    config = config_of(card_of(ANNA, "Anna", schedule="hours"))
    days = [date(2026, 12, day) for day in (30, 31)]

    lines = differences(
        with_schedules(config, hours("hours", WEEK, closed=(DAY,))),
        with_schedules(config, hours("hours", WEEK, closed=tuple(days))),
    )

    assert lines == [
        (
            f"schedule hours: {WEEK}, not on 2026-12-01 -> {WEEK},"
            " not on 2026-12-30, 2026-12-31 (Anna)"
        )
    ]


def test_a_changed_schedule_that_nobody_in_the_file_has_is_reported():
    before = with_schedules(config_of(), hours("hours", WEEK))
    after = with_schedules(config_of(), hours("hours", "Mon-Fri 08:00-20:00"))

    assert differences(before, after) == [
        f"schedule hours: {WEEK} -> Mon-Fri 08:00-20:00"
    ]


def test_people_with_another_schedule_are_reported_with_its_hours():
    schedules = hours("office", "Mon-Fri 08:00-20:00"), hours("week", WEEK)
    same = hours("crew", WEEK)

    def people(*names: str | None) -> Config:
        cards = [
            card_of(Uid(f"010203{i:02}"), f"P{i}", schedule=name)
            for i, name in enumerate(names)
        ]
        return with_schedules(config_of(*cards), *schedules, same)

    lines = differences(
        people("week", "week", "office", "office", "office", None, "week", "week"),
        people("office", "office", None, None, "week", "office", "crew", "week"),
    )

    assert lines == [
        f"P0, P1: {WEEK} -> Mon-Fri 08:00-20:00",
        "P2, P3: Mon-Fri 08:00-20:00 -> always",
        f"P4: Mon-Fri 08:00-20:00 -> {WEEK}",
        "P5: always -> Mon-Fri 08:00-20:00",
    ]


def test_new_and_removed_schedules_are_reported():
    before = with_schedules(config_of(), hours("old", WEEK))
    after = with_schedules(config_of(), hours("new", "Sat 22:00-02:00"))

    assert differences(before, after) == [
        "schedule old: removed",
        "schedule new: new (Sat 22:00-02:00)",
    ]


# -- settings

SECRETS = ("the-first-key", "0f" * 16, "the-second-key", "f0" * 16)
LOCK = LockConfig(
    device_id="d00f", api_key=Secret(SECRETS[0]), secret_key=Secret(SECRETS[1])
)
WITH_LOCK = replace(config_of(), lock=LOCK)


def lock(**changes) -> Config:
    return replace(WITH_LOCK, lock=replace(LOCK, **changes))


#: name: (after WITH_LOCK, lines)
SETTINGS = {
    "a number": (lock(relock_after_s=60.0), ["lock.relock_after_s: 0.0 -> 60.0"]),
    "a key": (lock(api_key=Secret(SECRETS[2])), ["lock.api_key: changed"]),
    "a key in a file": (
        lock(api_key=Secret(SECRETS[0], "the.key")),
        ["lock.api_key: changed"],
    ),
    "no key": (lock(api_key=Secret()), ["lock.api_key: removed"]),
    "a text": (lock(device_id="b\x07"), ["lock.device_id: 'd00f' -> 'b\\x07'"]),
    "a fallback": (
        replace(WITH_LOCK, fallback=LockAccess(kind="relay")),
        ["fallback: added (relay)"],
    ),
    "a signal": (
        replace(
            WITH_LOCK,
            patterns=WITH_LOCK.patterns | {Signal.LOCKED: parse_pattern("2x GGGG..")},
        ),
        ["signals.locked: redrawn"],
    ),
}


@pytest.mark.parametrize(("after", "lines"), SETTINGS.values(), ids=SETTINGS)
def test_differences_of_settings_show_no_secret(after, lines):
    assert differences(WITH_LOCK, after) == lines
    assert not any(secret in str(lines) for secret in SECRETS)


def test_a_new_key_and_a_removed_fallback_are_reported():
    before = replace(lock(api_key=Secret()), fallback=LockAccess(kind="relay"))

    assert differences(before, WITH_LOCK) == [
        "fallback: removed",
        "lock.api_key: added",
    ]


names = st.text(min_size=1, max_size=5).filter(
    lambda name: doorpi.is_visible(name) and name == name.strip()
)
some_cards = st.lists(
    st.builds(
        Credential,
        uid=st.sampled_from([KEN, ANNA, JO, MIKA]),
        holder=st.sampled_from(["Anna", "Ken", "Jo"]) | names,
        enabled=st.booleans(),
        valid_from=st.none() | st.dates(),
        valid_until=st.none() | st.dates(),
        schedule=st.none() | st.sampled_from(["x", "gone"]),
        role=st.sampled_from(Role),
    ),
    max_size=5,
)
weeks = st.sampled_from([hours("x", WEEK), hours("x", "Sat 22:00-02:00")])
configs = st.builds(
    lambda cards, week: with_schedules(config_of(*cards), week), some_cards, weeks
)


@settings(max_examples=25)
@given(configs, configs)
def test_any_two_lists_can_be_compared(before, after):
    lines = differences(before, after)

    assert differences(after, after) == []
    assert all(doorpi.is_visible(line) for line in lines)


STAYS = "Anna (01:02:03:04) is still on the database's list and may enter; to end that:"
STAYS_UNTIL = (
    "Card of yesterday (01:02:03:04) is still on the database's list and may enter"
    f" until {LATER}; to end that:"
)
ROW = card_of(ANNA, "Anna", source=Origin.DB)
GHOSTS = {
    "a row as it was": (ROW, [f"{STAYS} doorpi revoke 01:02:03:04"]),
    "with fewer limits": (
        replace(ROW, holder="Card of yesterday", valid_until=LATER),
        [
            f"{STAYS_UNTIL} doorpi revoke 01:02:03:04",
            f"Anna: always -> always, until {LATER}",
            "Anna: now Card of yesterday",
        ],
    ),
    "switched off": (replace(ROW, enabled=False), ["Anna: always -> switched off"]),
    "none": (None, ["Anna: removed"]),
}


@pytest.mark.parametrize(("row", "lines"), GHOSTS.values(), ids=GHOSTS)
def test_people_who_leave_the_file_may_still_be_in_the_database(row, lines):
    before, after = config_of(KEN_CARD, ANNA_CARD), config_of(KEN_CARD)

    assert differences(before, after, {ANNA: row}.get) == lines


def test_people_who_move_into_the_file_are_no_change():
    before, after = config_of(), config_of(ANNA_CARD)

    assert differences(before, after, {ANNA: ROW}.get) == []


def test_only_the_first_cards_of_a_long_list_are_looked_up():
    cards = [card_of(Uid(f"{n:08X}"), f"H {n}") for n in range(2_000)]
    sought = []

    lines = differences(config_of(*cards), config_of(), sought.append)

    assert len(sought) == doorpi.MOST_SOUGHT
    assert lines == ["H 0, H 1, H 2 and 1,997 more: removed"]


# -- the door


def test_door_saves_its_settings(world):
    run_for_a_moment(world, WITH_LOCK)

    assert world.settings.remembered == 1


def run_for_a_moment(world, config: Config) -> None:
    world.clock.stop_at = world.clock.monotonic() + 1.0
    with contextlib.suppress(doorpi.Stopped):
        world.door(config).run()


def test_failing_store_does_not_stop_the_door(world):
    world.store.broken = "disk is full"

    run_for_a_moment(world, WITH_LOCK)

    assert "status: database: disk is full" in world.supervisor.said
    assert world.reader.senses > 1


def test_journal_lists_what_an_edit_changed(world, caplog):
    caplog.set_level(logging.INFO, "doorpi")
    after = replace(config_of(card_of(), ANNA_CARD), lock=lock(hold_s=9.0).lock)
    door = world.door(WITH_LOCK)
    world.settings.reload = True
    world.settings.renewed = after

    door.step()

    assert caplog.messages == [
        "settings reloaded",
        "changed: Ken Sato, Anna: added",
        "changed: lock.hold_s: 3.0 -> 9.0",
    ]
    assert world.settings.remembered == 1


def test_journal_names_people_who_are_still_in_the_database(world, caplog):
    caplog.set_level(logging.INFO, "doorpi")
    world.store.cards[ANNA] = ROW
    door = world.door(config_of(ANNA_CARD))
    world.settings.reload = True
    world.settings.renewed = config_of()

    door.step()

    assert caplog.messages[1:] == [f"changed: {STAYS} doorpi revoke 01:02:03:04"]
    assert world.tap(ANNA, config=config_of()).reason is doorpi.Reason.GRANTED


def test_journal_is_not_flooded_by_one_edit(world, caplog):
    caplog.set_level(logging.INFO, "doorpi")
    people = [card_of(Uid(f"010203{i:02}"), f"P{i}") for i in range(40)]
    dated = [
        replace(card, valid_from=DAY + timedelta(days=i), schedule=f"s{i}")
        for i, card in enumerate(people)
    ]
    each = [hours(f"s{i}", f"Mon 08:00-09:{i:02}") for i in range(40)]
    door = world.door(config_of(*people))
    world.settings.reload = True
    world.settings.renewed = with_schedules(config_of(*dated), *each)

    door.step()

    assert len(caplog.messages) <= 3 * (doorpi.MOST_CHANGES + 2)
    assert "more changes" in caplog.text


# -- check

CONFIG = """
[lock]
kind = "sesame-mini"
device_id = "11200000-0000-4000-8000-000000000000"
api_key = "the-first-key"
ca_file = "ca.pem"

[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
"""
MORE = '\n[[card]]\nuid = "01:02:03:04"\nholder = "Anna"\n'


@pytest.fixture
def folder(folder):
    (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    return folder


@pytest.fixture
def check(path, capsys):
    """What `check` says below the list of who may enter."""

    def run(given: Path = path) -> list[str]:
        code, lines, _ = verbs_on(given, capsys)("check")
        assert code == 0
        return lines[lines.index("This file lets in:") :][2:]

    return run


def has_run(path: Path) -> None:
    """The door has run with the file as it is."""
    (path.parent / "state").mkdir(exist_ok=True)
    settings = doorpi.make_settings(path, {}, Asks(), doorpi.SystemClock())
    settings.load()
    settings.remember()


class Asks:
    def reload_asked(self) -> bool:
        return False


def test_check_lists_changes_for_the_running_door(path, check):
    has_run(path)
    path.write_text(CONFIG.replace("the-first-key", "another-key") + MORE)

    with only_door(path.parent / "state"):
        lines = check()

    assert lines[1:] == [
        "",
        "What changes, compared with the running door:",
        "  Anna: added",
        "  lock.api_key: changed",
    ]


def test_check_says_that_nothing_changes_also_of_a_relative_path(
    path, check, monkeypatch
):
    has_run(path)
    monkeypatch.chdir(path.parent)

    with only_door(path.parent / "state"):
        assert check(Path("doorpi.toml")) == [
            "", "Nothing changes, compared with the running door.",
        ]  # fmt: skip
    assert check()[1].startswith("Nothing changes, compared with the last run")


def test_check_says_when_the_door_does_not_run(path, check):
    has_run(path)
    path.write_text(CONFIG + MORE)

    assert check()[1:] == [
        "",
        "What changes, compared with the last run of the door (it does not run now):",
        "  Anna: added",
    ]


def test_check_lists_no_changes_before_the_first_run(path, check):
    assert check() == []
    assert not (path.parent / "state").exists()


def test_check_names_people_who_are_still_in_the_database(path, check, verb):
    """People who were moved into the file, as README has it, are in the database, too."""
    verb("allow", "Anna", "--uid", "01020304")
    path.write_text(CONFIG + MORE)
    has_run(path)
    assert ["toml, db" in line for line in verb("cards").out] == [False, True, False]

    path.write_text(CONFIG)
    lines = check()
    end = verb("revoke", "01:02:03:04").out

    assert lines[2:] == [f"  {STAYS} doorpi revoke 01:02:03:04"]
    assert end == [
        "Anna (01:02:03:04) is blocked, and removed from the database's list"
    ]
    assert check()[2:] == ["  Anna: removed"]


def test_check_goes_on_without_a_database(path, check):
    has_run(path)
    broken = path.parent / "state" / "cards.db"
    broken.write_bytes(b"no database" * 1000)
    path.write_text(CONFIG + MORE)

    lines = check()

    assert "  Anna: added" in lines
    assert lines[-1].endswith("; its contents are not considered here")


def test_is_running_sees_a_running_door_and_blocks_none(tmp_path):
    assert is_running(tmp_path / "nowhere") is False
    with only_door(tmp_path):
        assert is_running(tmp_path) is True
    assert is_running(tmp_path) is False
    with only_door(tmp_path):
        pass
