"""`keep_days`: what is old leaves the log, in small steps, and the chain stays whole."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    CHAINED,
    Command,
    Event,
    LogConfig,
    Reason,
    Result,
    Retention,
    Signal,
    SqliteStore,
    main,
)
from tests.helpers.stores import ids, run_sql
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, FakeClock, World, config_of

DAY = timedelta(days=1)
TAP = Event(
    at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.GRANTED, command=Command.UNLOCK
)


def log_of(store: SqliteStore, *days: int) -> None:
    """A tap that many days before NOON each, with what came of it."""
    for day in days:
        store.events.record(replace(TAP, at=NOON - day * DAY, result=Result.UNLOCKED))


def forget(store: SqliteStore, days: int = 10, limit: int = 100) -> int:
    return store.events.forget(NOON - days * DAY, NOON, limit)


def rows(path: Path, sql: str) -> list[tuple]:
    return run_sql(path, sql)[0]


# -- what goes

# fmt: off
LOGS = [
    # of how many days ago    what is left   why
    ([12, 11, 10, 9],         [3, 4],        "just what is older goes"),
    ([12, 11],                [],            "all of it may be old"),
    ([9, 12, 11],             [1, 2, 3],     "only the front goes: the rest is a clock that was behind"),
    ([12, -400, 11, 5],       [4],           "what is from the future goes with the old that came after"),
    ([-400, -300, 11, 5],     [4],           "also at the very front"),
    ([-400, 5, 11],           [1, 2, 3],     "but not with what is kept"),
    ([12, -400],              [2],           "nor without anything after it"),
    ([],                      [],            "nothing is nothing"),
]
# fmt: on


@pytest.mark.parametrize(("days", "left", "why"), LOGS, ids=[row[2] for row in LOGS])
def test_forget_removes_old_rows_from_the_front(store, days, left, why):
    log_of(store, *days)

    removed = forget(store)

    assert ids(store) == left
    assert removed == 2 * (len(days) - len(left))
    assert store.events.verify() is None


def test_a_step_removes_no_more_than_it_may(path, store):
    log_of(store, *[20] * 7, 5)

    assert [forget(store, limit=3) for _ in range(4)] == [6, 6, 2, 0]

    assert ids(store) == [8]
    assert rows(path, "SELECT id, event FROM outcomes") == [(8, 8)]


def test_forget_removes_an_outcome_when_all_before_it_may_go(path, store):
    """They are in the order in which the events ended."""
    first, second = (
        store.events.begin(replace(TAP, at=NOON - d * DAY)) for d in (12, 5)
    )
    for event in (second, first):
        store.events.finish(replace(TAP, id=event, result=Result.UNLOCKED))

    assert forget(store) == 1
    assert rows(path, "SELECT event FROM outcomes ORDER BY id") == [(2,), (1,)]
    assert store.events.verify() is None

    assert forget(store, days=4) == 3
    assert rows(path, "SELECT event FROM outcomes") == []
    assert store.events.verify() is None


def test_event_that_ends_after_its_removal_harms_nothing(store):
    """A clock that jumps in the midst of a tap."""
    begun = store.events.begin(replace(TAP, at=NOON - 20 * DAY))
    forget(store)

    store.events.finish(replace(TAP, id=begun, result=Result.UNLOCKED))

    assert ids(store) == []
    assert store.events.verify() is None
    assert forget(store) == 1
    assert store.events.verify() is None


# fmt: off
BROKEN = [
    "UPDATE events SET at = x'00' WHERE id = 2",
    "UPDATE events SET at = 'noon' WHERE id = 2",
    "UPDATE outcomes SET event = 'unlock' WHERE id = 2",
    "UPDATE chains SET id = 'x' WHERE name = 'events-start'",
]
# fmt: on


@pytest.mark.parametrize("sql", BROKEN)
def test_forget_removes_broken_rows_with_the_old_ones(path, store, sql):
    """It must not keep the log from being cut, nor take what is kept with it."""
    log_of(store, 30, 20, 20, 20, 5)
    forget(store, days=25)
    rows(path, sql)

    forget(store)

    assert ids(store) == [5]
    assert rows(path, "SELECT event FROM outcomes") == [(5,)]


def test_log_continues_with_the_next_id_after_forget(store):
    log_of(store, 20, 20)
    forget(store)

    log_of(store, 0)

    assert ids(store) == [3]
    assert store.events.verify() is None


def test_forget_writes_nothing_if_nothing_is_old(path, store):
    log_of(store, 5)
    store.close()
    before = path.read_bytes()

    assert forget(store) == 0

    assert Path(f"{path}-wal").stat().st_size == 0
    assert path.read_bytes() == before


def test_the_file_does_not_grow_without_bound(path, store):
    """The pages of what is removed are used again."""

    def size_after(first: int, last: int) -> int:
        for day in range(first, last):
            log_of(store, *[-day] * 20)
            while store.events.forget(NOON + (day - 5) * DAY, NOON + day * DAY, 64):
                store.people.tidy()
        return path.stat().st_size + Path(f"{path}-wal").stat().st_size

    filled = size_after(0, 10)

    assert size_after(10, 30) <= filled * 1.2
    assert len(ids(store)) == 20 * 6


# -- the chain


def cards_of(path: Path) -> Path:
    """A configuration for the verb, whose database is at ``path``."""
    file = path.with_name("doorpi.toml")
    file.write_text(
        f'[door]\nstate_dir = "{path.parent}"\n[lock]\nkind = "relay"\n', "utf-8"
    )
    return file


def test_log_verify_reports_the_rows_that_keep_days_removed(path, store, capsys):
    log_of(store, 20, 12, 5)
    forget(store)
    at = (NOON - 5 * DAY).astimezone()

    assert main(["--config", str(cards_of(path)), "log", "--verify"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "every row is as it was written",
        f"rows 1 to 2, from before {at:%Y-%m-%d %H:%M:%S}, were removed by log.keep_days",
    ]


def test_log_verify_of_a_log_of_which_nothing_is_left(path, store, capsys):
    log_of(store, 20, 12)
    forget(store)

    assert main(["--config", str(cards_of(path)), "log", "--verify"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "every row is as it was written",
        "rows 1 to 2 were removed by log.keep_days",
    ]


def test_log_verify_reports_a_log_that_was_started_again(path, store, capsys):
    """Deleted, or broken and set aside: the list knows of more than there is."""

    def verify() -> tuple[int, list[str]]:
        code = main(["--config", str(cards_of(path)), "log", "--verify"])
        return code, capsys.readouterr().out.splitlines()

    log_of(store, 3, 2, 1)
    store.people.lock_down("")
    first = f"{(NOON - 3 * DAY).astimezone():%Y-%m-%d %H:%M:%S}"
    whole = f"every row is as it was written; the first is of {first}"
    assert verify() == (0, [whole])
    store.close()
    path.unlink()

    gone = "rows 1 to 3 of an earlier log are missing: a new one was begun"
    assert verify() == (1, ["every row is as it was written; there is none yet", gone])
    assert not path.exists()  # who asks makes no file
    log_of(store, 1)
    (path.parent / "doorpi.db.broken-20261118T030000Z").touch()
    code, lines = verify()
    assert code == 1
    assert lines[1:] == [
        gone,
        f"not verified, as it was broken and set aside: {path}.broken-20261118T030000Z",
    ]
    store.people.lock_down("")  # from now on the list knows of this log
    assert verify()[0] == 0


# fmt: off
TAMPERINGS = [
    # what was done, when 2 of 5 rows were removed            what verify says
    ("DELETE FROM events WHERE id = 3",                       "events: row 3 is missing"),
    ("DELETE FROM events",                                    "events: rows after 2 are missing"),
    ("DELETE FROM outcomes WHERE id <= 4",                    "outcomes: row 3 is missing"),
    ("UPDATE events SET holder = 'x' WHERE id = 3",           "events: row 3 was changed"),
    ("UPDATE outcomes SET result = 'locked' WHERE id = 5",    "outcomes: row 5 was changed"),
    ("UPDATE events SET id = 2 WHERE id = 3",                 "events: row 2 was put in"),
    ("INSERT INTO events SELECT 1, at, uid, holder, reason, command, source, hash, '', '', '' FROM events WHERE id = 3", "events: row 1 was put in"),
    ("DELETE FROM chains WHERE name = 'events-start'",        "events: row 1 is missing"),
    ("DELETE FROM chains WHERE name = 'outcomes-start'",      "outcomes: row 1 is missing"),
    ("UPDATE chains SET id = 3 WHERE name = 'events-start'",  "events: row 3 was put in"),
    ("UPDATE chains SET id = 1 WHERE name = 'events-start'",  "events: row 2 is missing"),
    ("UPDATE chains SET hash = '' WHERE name = 'events-start'", "events: row 3 was changed"),
]
# fmt: on


@pytest.mark.parametrize(
    ("sql", "words"), TAMPERINGS, ids=[sql[:60] for sql, _ in TAMPERINGS]
)
def test_verify_finds_tampering_after_forget(path, store, sql, words):
    log_of(store, 20, 12, 5, 4, 3)
    forget(store)
    assert store.events.verify() is None

    rows(path, sql)

    assert store.events.verify() == words


@st.composite
def tamperings(draw, path: Path) -> str:
    """One change of one thing in one of the tables."""
    table = draw(st.sampled_from([*CHAINED, "chains"]))
    found = rows(path, f"SELECT rowid, * FROM {table} ORDER BY rowid")
    if not found:
        table, found = "chains", rows(path, "SELECT rowid, * FROM chains")
    row = draw(st.sampled_from(found))
    if draw(st.booleans()):
        return f"DELETE FROM {table} WHERE rowid = {row[0]}"
    names = CHAINED.get(table, ("id",))
    column = draw(st.sampled_from([*names, "hash"]))
    value = 10_000 if column in ("id", "event", "latency_ms") else "'tampered'"
    return f"UPDATE {table} SET {column} = {value} WHERE rowid = {row[0]}"


#: Some taps of so many days ago, or that everything older than so many is forgotten.
DOINGS = st.lists(
    st.tuples(st.sampled_from(["tap", "open", "deny", "forget"]), st.integers(-3, 30)),
    min_size=1,
    max_size=15,
)


@given(doings=DOINGS, data=st.data())
@settings(max_examples=60)
def test_verify_holds_for_any_log_and_finds_any_tampering(doings, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doorpi.db"
        with contextlib.closing(SqliteStore(path)) as store:
            store.events.keep(doorpi.NO_NOTES)  # makes the database
            store.events._connection().execute("PRAGMA synchronous = OFF")
            for what, days in doings:
                tap = replace(TAP, at=NOON - days * DAY)
                if what == "tap":
                    store.events.record(
                        replace(tap, result=Result.LOCKED, latency_ms=5)
                    )
                elif what == "forget":
                    forget(store, days=abs(days), limit=3)
                else:
                    reason = Reason.GRANTED if what == "open" else Reason.NOT_FOUND
                    store.events.begin(replace(tap, reason=reason))

            assert store.events.verify() is None
            if not rows(path, "SELECT 1 FROM events UNION SELECT 1 FROM outcomes"):
                return
            sql = data.draw(tamperings(path))
            rows(path, sql)
            assert store.events.verify() is not None, sql


def test_verify_ignores_rows_written_meanwhile(path, store):
    """It reads for minutes; what is written meanwhile is not part of it."""
    log_of(store, 20, 5, 4)
    moments = []
    with contextlib.closing(SqliteStore(path)) as door:

        def meanwhile(sql: str) -> None:
            """After the rows, before it asks how far they should go."""
            if "FROM chains WHERE name = 'events'" in sql:
                moments.append(sql)
                log_of(door, 0)
                forget(door)

        store.events._connection().set_trace_callback(meanwhile)

        assert store.events.verify() is None

    assert len(moments) == 1
    assert ids(store) == [2, 3, 4]


# -- when the door does it


class Shelf:
    """A store with ``old`` rows to forget."""

    def __init__(self, clock: FakeClock, old: int) -> None:
        self.clock, self.old = clock, old
        self.steps: list[tuple[float, int]] = []
        self.tidied: list[float] = []
        self.kept = {"retention": doorpi.utc_text(clock.now())}  # it was here before
        self.noted: list[float] = []

    def recall(self, name: str) -> str | None:
        return self.kept.get(name)

    def keep(self, notes: doorpi.Notes) -> None:
        self.noted.append(self.clock.monotonic())
        self.kept.update(notes.words)

    def forget(self, before, now, limit) -> int:
        self.asked = before, now
        self.steps.append((self.clock.monotonic(), limit))
        count = min(limit, self.old)
        self.old -= count
        return count

    def oldest_at(self) -> None:
        return None

    def tidy(self) -> None:
        self.tidied.append(self.clock.monotonic())


#: A list of people that nothing is to be done for.
TIDY = SimpleNamespace(needs_tidying=False, tidy=lambda: None)


def let_pass(
    retention: Retention, shelf: Shelf, seconds: float, pace_s: float = 0.125
) -> None:
    until = shelf.clock.monotonic() + seconds
    while shelf.clock.monotonic() < until:
        retention.step(TIDY, shelf)
        shelf.clock.advance(pace_s)


def test_retention_looks_a_minute_after_the_start_and_then_hourly(clock):
    shelf, retention = Shelf(clock, old=0), Retention(30, clock)
    started_at, at = clock.monotonic(), clock.now()

    let_pass(retention, shelf, 7500)

    looks = [round(at - started_at) for at, _ in shelf.steps]
    assert looks == [60, 3660, 7260]
    assert [round(at - started_at) for at in shelf.tidied] == [60, 3660, 7260]
    before, now = shelf.asked
    assert now - before == 30 * DAY
    assert timedelta(0) < now - at < timedelta(seconds=7500)


def test_retention_removes_a_backlog_a_few_rows_at_a_time(clock):
    shelf, retention = Shelf(clock, old=20), Retention(30, clock)

    let_pass(retention, shelf, 100)

    first = shelf.steps[0][0]
    steps = [(round(at - first), limit) for at, limit in shelf.steps]
    assert steps == [(0, 8), (2, 8), (4, 8), (6, 8)]
    assert [round(at - first) for at in shelf.tidied] == [6]
    assert shelf.old == 0


def test_retention_waits_for_a_set_clock(clock):
    shelf, retention = Shelf(clock, old=5), Retention(30, clock)
    clock.set = False

    let_pass(retention, shelf, 4000)
    assert shelf.steps == []

    clock.set = True
    let_pass(retention, shelf, 70)
    assert shelf.old == 0


# -- a clock that is set wrong

HOUR_S, DAY_S = 3600.0, 86_400.0


def set_clock(clock: FakeClock, days: float) -> None:
    clock.at += days * DAY


@pytest.fixture
def keeper(store, clock):
    """The retention of a year's log, one event each 6 hours, at work for days."""
    shelf, retention = Shelf(clock, old=0), Retention(30, clock)
    oldest = clock.now() - 30 * DAY
    store.events.keep(doorpi.NO_NOTES)  # makes the database
    store.events._connection().execute("PRAGMA synchronous = OFF")
    for number in range(120):
        store.events.record(replace(TAP, at=oldest + number * DAY / 4))
    shelf.forget, shelf.tidy = store.events.forget, store.events.tidy
    shelf.oldest_at = store.events.oldest_at

    def work(seconds: float) -> int:
        """Returns the number of events that are left."""
        let_pass(retention, shelf, seconds, pace_s=30.0)
        return len(ids(store))

    work.shelf = shelf
    work(2 * DAY_S)
    return work


def test_a_clock_a_year_ahead_for_an_hour_takes_hardly_anything(keeper, clock, store):
    left = len(ids(store))

    set_clock(clock, 365)
    assert keeper(HOUR_S) >= left - 1
    set_clock(clock, -365)

    # And then it goes on: 4 a day, and of 3 hours perhaps one more.
    assert left - 13 <= keeper(3 * DAY_S) <= left - 12
    assert store.events.verify() is None


def test_a_program_that_starts_with_a_clock_a_year_ahead_takes_little(
    keeper, clock, store
):
    """It cannot see the jump, but how far it went is on disk."""
    left = len(ids(store))
    set_clock(clock, 365)
    again = Retention(30, clock)

    let_pass(again, keeper.shelf, 12 * HOUR_S, pace_s=30.0)

    # Of 12 hours in which it ran, and one day in which it may not have noted how far.
    assert left - 10 <= len(ids(store)) < left


def test_a_clock_that_is_a_year_ahead_from_the_first_look_on_takes_little(
    keeper, clock, store
):
    """Also after a restart, which finds a note of that future."""
    left = len(ids(store))
    keeper.shelf.kept.clear()
    set_clock(clock, 365)

    for _ in range(2):
        let_pass(Retention(30, clock), keeper.shelf, 1000, pace_s=30.0)

    assert left - len(ids(store)) <= 1


def test_a_clock_set_back_takes_nothing_and_is_caught_up_with(keeper, clock, store):
    left = len(ids(store))
    set_clock(clock, -200)
    assert keeper(HOUR_S) == left

    set_clock(clock, 200)
    assert left - 13 <= keeper(3 * DAY_S) <= left - 12


def test_how_far_it_went_is_noted_once_a_day(clock):
    shelf, retention = Shelf(clock, old=0), Retention(30, clock)

    let_pass(retention, shelf, 4 * DAY_S, pace_s=30.0)

    assert len(shelf.noted) == 4
    assert shelf.kept["retention"] <= doorpi.utc_text(clock.now())


@pytest.mark.parametrize("kept", [None, "", "noon", "9999-12-31T23:59:59-12:00"])
def test_where_nothing_is_noted_yet_no_row_is_old(keeper, clock, store, kept):
    left, shelf = len(ids(store)), keeper.shelf
    shelf.kept = {} if kept is None else {"retention": kept}
    again = Retention(30, clock)

    let_pass(again, shelf, 1000, pace_s=30.0)
    assert left - len(ids(store)) <= 1

    let_pass(again, shelf, 2 * DAY_S, pace_s=30.0)
    assert left - 9 <= len(ids(store)) <= left - 7


def test_a_note_of_long_ago_is_no_trouble(clock):
    shelf, retention = Shelf(clock, old=5), Retention(36_500, clock)
    shelf.kept = {"retention": "0001-01-01T00:00:00Z"}

    let_pass(retention, shelf, 200)

    assert shelf.old == 0


def keeping(days: int):
    return replace(
        config_of(doorpi.Credential(uid=KEN, holder="Ken")),
        log=LogConfig(keep_days=days),
    )


def test_the_door_forgets_when_nobody_is_there(world: World):
    door = world.door(keeping(30))
    world.store.kept["retention"] = doorpi.utc_text(world.clock.now())
    old = replace(TAP, at=world.clock.now() - 40 * DAY)
    for event in (old, old, replace(old, at=world.clock.now())):
        world.store.begin(event)

    def idle(seconds: float) -> list[int]:
        until = world.clock.monotonic() + seconds
        while world.clock.monotonic() < until:
            door.step()
        return list(world.store.events)

    world.reader.shows = [None] * 550 + [STRANGER]  # at 55 s: its light, and 10 s more
    assert idle(63) == [1, 2, 3, 4]
    assert idle(10) == [3, 4]


def test_retention_trouble_is_logged_and_keeps_nobody_out(world: World, caplog):
    door = world.door(keeping(30))
    world.store.broken = "disk full"
    world.clock.advance(100)
    door.step()

    world.store.broken = ""
    world.reader.shows = [KEN]
    door.step()

    assert "database: disk full" in caplog.text
    assert world.lights.signals[-1] is Signal.UNLOCKED


def test_a_step_that_works_shows_that_the_disk_can_be_written_again(world: World):
    door = world.door(keeping(30))
    world.store.kept["retention"] = doorpi.utc_text(world.clock.now())
    world.store.begin(replace(TAP, at=world.clock.now() - 40 * DAY))
    world.store.broken = "busy"
    world.reader.shows = [STRANGER]
    door.step()
    world.store.broken = ""

    world.clock.advance(100)
    door.step()
    door.step()

    assert world.lights.standing is Signal.READY
