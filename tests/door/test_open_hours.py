"""Open hours: the door unlocks itself at their start, stays unlocked, and is locked at
their end."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

import doorpi
from doorpi import (
    AccessRequest,
    Command,
    GuestPass,
    LockConfig,
    LockState,
    LockStatus,
    Medium,
    NotSent,
    OpenHours,
    Outcome,
    PassCode,
    Reason,
    Result,
    Schedule,
    Signal,
    Wants,
    parse_span,
)
from tests.helpers.values import replace
from tests.helpers.world import (
    KEN,
    MIKA,
    NOON,
    FakeLock,
    FakeStore,
    World,
    card_of,
    config_of,
)

DAY = NOON.date() + timedelta(days=1)  # Thursday 2026-11-19
UNKNOWN = LockStatus(LockState.UNKNOWN, why="asleep")


def hours(*spans: str, needs_first: bool = False, closed: tuple = ()) -> Schedule:
    parsed = tuple(map(parse_span, spans))
    return Schedule("", parsed, frozenset(closed), spans, needs_first)


OFFICE = hours("Mon-Fri 09:00-18:00")
FIRST = hours("Mon-Fri 09:00-18:00", needs_first=True)
TWO = hours("Mon-Fri 09:00-12:00", "Mon-Fri 13:00-18:00")
TWO_FIRST = hours("Mon-Fri 09:00-12:00", "Mon-Fri 13:00-18:00", needs_first=True)
LUNCH = hours("Mon-Fri 12:00-13:00")
OVERNIGHT = hours("Thu 22:00-02:00")


class Office(World):
    """A door with open hours, whose day is told in short words."""

    def open(self, *spans: Schedule, on_tap: str = "toggle", after_s: float = 0.0):
        master = card_of(MIKA, "Mika", role=doorpi.Role.MASTER)
        config = config_of(card_of(), master, on_tap=on_tap)
        lock = LockConfig(relock_after_s=after_s)
        self.config = replace(config, lock=lock, open_hours=spans)
        self.start()

    def start(self) -> None:
        self.a_door = self.door(self.config)

    def idle(self, seconds: float) -> None:
        ends_at = self.clock.t + seconds
        while self.clock.t < ends_at or not self.a_door.is_idle:
            self.a_door.step()

    def at(self, time: str, *deeds: str) -> None:
        """Let the time come, and the door look for some seconds; or after ``deeds``."""
        hour, minute = map(int, time.split(":"))
        then = NOON.replace(day=DAY.day, hour=0) + timedelta(hours=hour, minutes=minute)
        self.clock.advance((then - self.clock.at).total_seconds())
        for deed in deeds:
            getattr(self, deed)()
        self.idle(3.0)

    def tap(self) -> None:
        self.idle(2.0)  # the field is empty
        self.reader.shows = [KEN]
        self.idle(0.5)

    def guest(self) -> None:
        code = PassCode("ABCDEFG2", NOON + timedelta(days=9))
        self.store.find_pass = lambda _: GuestPass(code, "Jo", NOON, "ken")
        self.equipment.read_pass = self.a_door._keeper.list._read_pass = lambda _: code
        self.ask(Medium.QR)

    def command(self) -> None:
        self.ask(Medium.COMMAND)

    def lock_command(self) -> None:
        self.ask(Medium.COMMAND, Wants.LOCK)

    def ask(self, medium: Medium, wants: Wants = Wants.UNLOCK) -> None:
        now = self.clock.monotonic()
        request = AccessRequest(medium, "nobi", self.clock.now(), now, now + 10, wants)
        keeper = self.a_door._keeper
        self.a_door._runner.start(keeper.serve(request, self.equipment.sources[0]))

    def lockdown(self) -> None:
        self.store.lockdown = True

    def lift(self) -> None:
        self.store.lockdown = False

    def power_cut(self) -> None:
        self.clock.boot_id += "1"
        self.start()

    def clock_unset(self) -> None:
        self.clock.set = False

    def clock_set(self) -> None:
        self.clock.set = True

    def asleep(self) -> None:
        self.lock.statuses = [UNKNOWN, UNKNOWN]

    def no_hours(self) -> None:
        self.config = replace(self.config, open_hours=())
        self.settings.renewed, self.settings.reload = self.config, True

    @property
    def moves(self) -> str:
        """What was sent, by whom, and when: ``09:00 door unlock``."""
        sent = [command for _, command in self.lock.sent]
        moved = [e for e in self.store.events.values() if e.result in doorpi.MOVED]
        assert [e.command for e in moved] == sent
        return ", ".join(f"{e.at:%H:%M} {e.source} {e.command}" for e in moved)


@pytest.fixture
def office() -> Office:
    return Office()


OPENS, SHUTS = "09:00 door unlock", "18:00 relock lock"
#: name: (the hours, what happens when, what the door does)
STORIES = {
    "a day": (OFFICE, "08:59 09:00 12:00 17:59 18:00 23:00", f"{OPENS}, {SHUTS}"),
    "a closed day": (hours("Mon-Fri 09:00-18:00", closed=(DAY,)), "09:00 12:00", ""),
    "over midnight": (OVERNIGHT, "21:59 22:00 25:59 26:00", "22:00 door unlock, 02:00 relock lock"),
    "two spans": (TWO, "09:00 12:00 13:00 18:00", f"{OPENS}, 12:00 relock lock, 13:00 door unlock, {SHUTS}"),
    "after the first member": (FIRST, "09:00 09:30+tap 12:00 18:00", f"09:30 card unlock, {SHUTS}"),
    "nobody comes": (FIRST, "09:00 12:00 18:00", ""),
    "a member who came too early": (FIRST, "08:50+tap 09:00 18:00", "08:50 card unlock"),
    "a guest is no member": (FIRST, "09:30+guest 12:00", "09:30 qr unlock"),
    "nor is a command": (FIRST, "09:30+command 12:00", "09:30 command unlock"),
    "what a guest opens is locked in the end": (FIRST, "09:30+guest 18:00", f"09:30 qr unlock, {SHUTS}"),
    "each span needs its own first": (TWO_FIRST, "09:30+tap 12:00 13:00 18:00", "09:30 card unlock, 12:00 relock lock"),
    "an hour in others that need a first": ((LUNCH, FIRST), "12:00 13:00 14:00 15:00+tap", "12:00 door unlock, 13:00 relock lock, 15:00 card unlock"),
    "the first stays for the others": ((LUNCH, FIRST), "10:00+tap 12:00 13:00 18:00", f"10:00 card unlock, {SHUTS}"),
    "a tap that locks": (OFFICE, "09:00 15:00+tap 17:00 18:00", f"{OPENS}, 15:00 card lock"),
    "a member comes again": (OFFICE, "09:00 15:00+tap 16:00+tap 17:00 18:00", f"{OPENS}, 15:00 card lock, 16:00 card unlock, {SHUTS}"),
    "the owner locks": (OFFICE, "09:00 15:00+lock_command 17:00", f"{OPENS}, 15:00 command lock"),
    "the next span after a lock": (TWO, "09:00 11:00+tap 12:00 13:00", f"{OPENS}, 11:00 card lock, 13:00 door unlock"),
    "a lockdown locks": (OFFICE, "09:00 10:00+lockdown 11:00+lift 12:00 18:00", f"{OPENS}, 10:00 relock lock"),
    "a lockdown at the start": (OFFICE, "08:00+lockdown 09:00 10:00+lift 12:00", ""),
    "a member after a lockdown": (OFFICE, "09:00 10:00+lockdown 11:00+lift 12:00+tap 18:00", f"{OPENS}, 10:00 relock lock, 12:00 card unlock, {SHUTS}"),
    "a lockdown of the night": (OFFICE, "01:00+lockdown 02:00+lift 09:00", OPENS),
    "a restart in the hours": (OFFICE, "09:00 10:00+start 18:00", f"{OPENS}, {SHUTS}"),
    "a restart, with its first": (FIRST, "09:30+tap 10:00+start 18:00", f"09:30 card unlock, {SHUTS}"),
    "a restart after a lock": (OFFICE, "09:00 10:00+tap 11:00+start 18:00", f"{OPENS}, 10:00 card lock"),
    "a restart in a lockdown": (OFFICE, "09:00 10:00+lockdown 11:00+start 12:00+lift", f"{OPENS}, 10:00 relock lock"),
    "a power cut in the hours": (OFFICE, "09:00 10:00+power_cut 18:00", f"{OPENS}, {SHUTS}"),
    "power returns after the end": (OFFICE, "09:00 22:00+power_cut", f"{OPENS}, 22:00 relock lock"),
    "power returns after the start": (OFFICE, "11:00+power_cut 18:00", f"11:00 door unlock, {SHUTS}"),
    "power returns on another day": (OFFICE, "09:00 34:00+power_cut 42:00", f"{OPENS}, 10:00 door unlock, {SHUTS}"),
    "power returns, the clock comes later": (OFFICE, "09:00 10:00+clock_unset+power_cut 10:01+clock_set 18:00", f"{OPENS}, {SHUTS}"),
    "power returns, the clock comes late": (OFFICE, "09:00 10:00+clock_unset+power_cut 10:03 10:05+clock_set 18:00", f"{OPENS}, 10:03 relock lock, 10:05 door unlock, {SHUTS}"),
    "the clock is not set": (OFFICE, "08:00+clock_unset 09:00 12:00", ""),
    "the clock is set too late": (OFFICE, "08:00+clock_unset 12:00+clock_set", "12:00 door unlock"),
    "the hours are removed": (OFFICE, "09:00 10:00+no_hours 12:00", f"{OPENS}, 10:00 relock lock"),
    "its state is not known": (OFFICE, "08:59+asleep 09:00 09:01 09:02", "09:02 door unlock"),
}  # fmt: skip


def play(office: Office, story: str) -> None:
    for part in story.split():
        office.at(*part.split("+"))


@pytest.mark.parametrize(("spans", "story", "moves"), STORIES.values(), ids=STORIES)
def test_what_the_door_does_in_its_hours(office, spans, story, moves):
    office.open(*(spans if isinstance(spans[0], Schedule) else [spans]))

    play(office, story)

    assert office.moves == moves


def test_taps_in_the_hours_are_relocked_at_their_end(office):
    office.open(OFFICE, on_tap="unlock", after_s=5.0)

    play(office, "08:00+tap 08:01 09:00 10:00+tap 10:01 18:00 19:00+tap 19:01")

    assert office.moves == (
        "08:00 card unlock, 08:01 relock lock, 09:00 door unlock, 10:00 card unlock,"
        " 18:00 relock lock, 19:00 card unlock, 19:01 relock lock"
    )


def test_a_guest_before_the_first_member_is_locked_out_again(office):
    office.open(FIRST, on_tap="unlock", after_s=5.0)

    play(office, "09:30+guest 09:31 10:00+tap 10:01")

    moves = "09:30 qr unlock, 09:31 relock lock, 10:00 card unlock"
    assert office.moves == moves


def test_what_the_door_does_by_itself_is_in_the_log(office):
    office.open(OFFICE)

    play(office, "09:00 18:00")

    events = list(office.store.events.values())
    unlock, lock = events
    assert (unlock.source, unlock.reason) == ("door", Reason.GRANTED)
    assert (unlock.uid, unlock.holder, unlock.details) == (None, "", "open hours")
    assert unlock.result is Result.UNLOCKED
    assert (
        doorpi.describe(unlock) == "the door: unlock -> unlocked in 0 ms (open hours)"
    )
    assert (lock.source, lock.result) == ("relock", Result.LOCKED)
    assert "open hours now" in next(s for s in office.supervisor.said if "open" in s)
    assert office.supervisor.said[-1] == "status: ready"


def test_an_unlock_that_fails_is_tried_like_a_relock_and_then_left_to_a_card(office):
    office.open(OFFICE)
    office.at("08:59")
    office.lock.statuses = [NotSent("no route")] * 100

    office.at("09:00")
    office.idle(600)

    tried = [e.at - NOON for e in office.store.events.values()]
    waits_s = [(b - a).total_seconds() for a, b in pairwise(tried)]
    assert [round(wait_s) for wait_s in waits_s] == [18, 33, 63, 123]  # 3 s for each
    assert "open hours: the door could not be unlocked" in office.supervisor.said[-1]

    office.lock.statuses = []
    office.at("11:00", "tap")
    assert office.moves == "11:00 card unlock"
    assert "could not" not in office.supervisor.said[-1]
    office.at("18:00")
    assert office.moves == "11:00 card unlock, 18:00 relock lock"


def test_an_unlock_that_is_not_confirmed_is_sent_again_and_locked_in_the_end(office):
    office.open(OFFICE)
    office.lock.policy = doorpi.LockPolicy(confirm_at_s=(0.0,))
    office.start()
    office.lock.progress = [doorpi.Progress.PENDING]

    office.at("09:00")
    office.idle(60)
    office.at("18:00")

    events = [(e.source, e.result) for e in office.store.events.values()]
    unsure, unlocked = ("door", Result.UNSURE), ("door", Result.UNLOCKED)
    assert events == [unsure, unlocked, ("relock", Result.LOCKED)]


@pytest.mark.parametrize(("time", "is_sent"), [("17:59:49", True), ("17:59:51", False)])
def test_no_unlock_is_begun_that_could_be_sent_after_the_end(office, time, is_sent):
    office.open(OFFICE)
    end = NOON.replace(day=DAY.day, hour=18)
    at = datetime.combine(DAY, datetime.fromisoformat(f"2026-11-19 {time}").time())

    office.clock.advance(
        (at.replace(tzinfo=end.tzinfo) - office.clock.at).total_seconds()
    )
    office.a_door.step()

    assert bool(office.lock.sent) is is_sent


def test_a_lockdown_that_begins_while_the_door_unlocks_itself_withholds_it(office):
    office.open(OFFICE)
    office.at("08:59")
    look = office.lock.status

    def status(by: float) -> LockStatus:
        office.lockdown()
        return look(by)

    office.lock.status = status
    office.at("09:00")

    assert office.lock.sent == []
    (event,) = office.store.events.values()
    assert (event.source, event.reason) == ("door", Reason.LOCKED_DOWN)


def test_a_strike_does_not_open_in_place_of_a_lock_that_is_to_stay_open(office):
    office.fallback = FakeLock(office.clock)
    office.fallback.policy = doorpi.LockPolicy(locks_itself=True)
    office.open(OFFICE)
    office.config = replace(office.config, fallback=doorpi.LockAccess(kind="relay"))
    office.start()
    office.lock.statuses = [NotSent("no route")] * 20

    office.at("09:00")
    assert (office.lock.sent, office.fallback.sent) == ([], [])
    office.tap()  # a person still gets in
    assert [command for _, command in office.fallback.sent] == [Command.UNLOCK]


def test_the_hours_hold_while_the_disk_fails(office):
    office.open(OFFICE)
    office.at("08:59")
    office.store.broken = "disk I/O error"

    play(office, "09:00 12:00 15:00+tap 16:00 18:00")

    assert [command for _, command in office.lock.sent] == [
        Command.UNLOCK, Command.LOCK,
    ]  # fmt: skip
    assert office.lights.standing is Signal.STORAGE_BAD


def test_a_door_that_comes_from_another_zone_follows_the_wall(office):
    office.open(OFFICE)
    office.at("09:00")

    office.clock.at = office.clock.at.astimezone(UTC)  # 00:00
    office.idle(3)
    office.clock.advance(9 * 3600)  # 09:00
    office.idle(3)

    made = [f"{e.source} {e.command}" for e in office.store.events.values()]
    assert made == ["door unlock", "relock lock", "door unlock"]


def test_a_note_of_a_clock_that_was_wrong_does_not_count(office):
    office.store.kept["open"] = "unlock 2031-01-01T00:00:00.000Z"
    office.open(OFFICE)

    play(office, "09:00")

    assert office.moves == OPENS


@pytest.mark.parametrize(
    "note",
    ["", "unlock", "unlock soon", "noon", "x" * 999, "door 2026-11-19T00:01:00.000Z"],
)
def test_a_broken_note_is_none(office, note):
    office.store.kept["open"] = note
    office.open(FIRST)

    play(office, "09:00 12:00")

    assert office.moves == ""


def test_status_says_that_the_door_stays_unlocked(office):
    office.open(OFFICE)
    office.at("09:00")

    lines = doorpi.drive(office.a_door._keeper.status(), office.clock).lines

    assert "open hours now: Mon-Fri 09:00-18:00" in lines
    assert "to be locked when the open hours end" in lines


# -- a year, compared with what a person with a calendar would say


class Calendar:
    """Follows each span by itself: it waits for its first member, or stands open, or
    was locked."""

    def __init__(self, tables: list[Schedule]) -> None:
        self.tables = tables
        self.known: dict[tuple[int, date, int], bool] = {}

    def lasting(self, wall: datetime) -> list[tuple[int, date, int]]:
        found = []
        for n, table in enumerate(self.tables):
            for back in (0, 1):
                day = wall.date() - timedelta(days=back)
                closed = {wall.date(), day} & table.closed
                for i, span in enumerate(table.spans):
                    minute = wall.hour * 60 + wall.minute
                    minute += 1440 * back
                    end = span.end_min + 1440 * (span.end_min < span.start_min)
                    is_on = day.weekday() in span.days and not closed
                    if is_on and span.start_min <= minute < end:
                        found.append((n, day, i))
        return found

    def moved(self, wall: datetime, is_open: bool) -> None:
        self.known.update(dict.fromkeys(self.lasting(wall), is_open))

    def is_open(self, wall: datetime) -> bool:
        return any(
            self.known.get(key, not self.tables[key[0]].needs_first)
            for key in self.lasting(wall)
        )


def some_hours(chance: random.Random) -> Schedule:
    spans = []
    for _ in range(chance.randint(1, 2)):
        start, length = chance.choice([0, 8, 9, 12, 20, 23]), chance.choice([1, 3, 9])
        first = chance.choice(["Mon-Fri", "Mon-Sun", "Sat", "Tue,Thu"])
        end = (start + length) % 24 or 24
        spans.append(f"{first} {start:02}:00-{end:02}:00")
    closed = tuple(date(2026, chance.randint(1, 12), 7) for _ in range(3))
    return hours(*spans, needs_first=chance.random() < 0.5, closed=closed)


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe"])
def test_a_year_is_as_the_calendar_says(zone):
    chance, local = random.Random(zone), ZoneInfo(zone)
    tables = [some_hours(chance) for _ in range(2)]
    clock = SimpleNamespace(
        at=datetime(2026, 1, 1, tzinfo=UTC), monotonic=lambda: 0.0,
        local=lambda at: at.astimezone(local),
    )  # fmt: skip
    clock.now = lambda: clock.local(clock.at)
    store, calendar = FakeStore(), Calendar(tables)

    def door() -> OpenHours:
        events = doorpi.Forgiving(store, lambda why, is_write: None)
        door = OpenHours(clock, events, lambda: None, lambda: None)
        door.use(config_of()._replace(open_hours=tuple(tables)), (15.0,))
        return door

    it, opened, moves = door(), 0, 0
    while clock.at.year < 2027:
        clock.at += timedelta(minutes=30)
        at, wall = clock.now(), clock.now().replace(tzinfo=None)
        it.look()
        assert it.is_on is calendar.is_open(wall), f"{wall}: {tables}"
        opened += it.is_on
        around = {
            clock.local(clock.at + timedelta(days=d)).utcoffset() for d in (-1, 1)
        }
        if chance.random() < 0.02 and len(around) == 1:  # not on nights that differ
            wants = chance.choice([Command.LOCK, Command.UNLOCK])
            request = AccessRequest(Medium.CARD, KEN, at, 0.0, 0.0)
            outcome = Outcome(wants, Result(wants.target.value))
            store.keep(it.follow(request, outcome, card_of()))
            calendar.moved(wall, wants is Command.UNLOCK)
            moves += 1
        if chance.random() < 0.01:
            it = door()  # a restart

    assert 500 < opened < 12_000
    assert moves > 150
