"""The event log on disk: what is begun, ended, kept and chained."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    MOVED,
    Origin,
    Reason,
    Result,
    SqliteStore,
    Stopped,
    StoreError,
)
from tests.helpers.processes import environment
from tests.helpers.stores import (
    DENIED,
    INTENT,
    ids,
    record,
    run_sql,
    started,
)
from tests.helpers.values import replace
from tests.helpers.world import JST, KEN, NOON, STRANGER, card_of, utc

# -- what goes in


def test_events_are_read_in_order_with_their_outcomes(store):
    unlocked = record(store, result=Result.UNLOCKED, latency_ms=412)
    denied = record(store, DENIED)
    by_hand = replace(INTENT, uid=None, holder="root", source="command")
    refused = record(store, by_hand, result=Result.REFUSED, latency_ms=9, detail="no")
    unfinished = record(store)

    assert list(store.events.read()) == [unlocked, denied, refused, unfinished]
    assert [event.id for event in (unlocked, denied, refused, unfinished)] == [
        1,
        2,
        3,
        4,
    ]
    assert store.events.verify() is None


def test_events_can_be_asked_for_by_time_and_by_id(store):
    early, late = replace(INTENT, at=NOON - timedelta(milliseconds=1)), INTENT
    for event in (early, late, late):
        record(store, event)

    assert [event.id for event in store.events.read(since=NOON)] == [2, 3]
    assert [event.id for event in store.events.read(since=NOON, after_id=2)] == [3]
    assert [event.id for event in store.events.read(after_id=1)] == [2, 3]


# fmt: off
TIMES = [
    # at                                      text
    (NOON,                                    "2026-11-18T03:00:00.000Z"),
    (NOON.replace(microsecond=123_999),       "2026-11-18T03:00:00.123Z"),
    (utc("2026-11-18T23:59:59.999999"),       "2026-11-18T23:59:59.999Z"),
    (utc("2040-01-01T00:00:00"),              "2040-01-01T00:00:00.000Z"),
]
# fmt: on


@pytest.mark.parametrize(("at", "text"), TIMES, ids=[text for _, text in TIMES])
def test_times_are_kept_in_utc_to_the_millisecond(at, text):
    assert doorpi.utc_text(at) == text
    assert at - doorpi.datetime.fromisoformat(text) < timedelta(milliseconds=1)


def test_event_time_does_not_depend_on_its_zone(store):
    record(store, replace(INTENT, at=NOON.astimezone(JST)))

    (event,) = store.events.read()

    assert event.at == NOON
    assert event.at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("result", Result, ids=str)
def test_last_moved_counts_results_that_may_have_moved_the_bolt(store, result):
    record(store, result=result)

    assert store.events.last_moved(KEN) == (NOON if result in MOVED else None)


def test_last_moved_is_the_newest_of_this_card_that_has_an_end(store):
    assert store.events.last_moved(KEN) is None
    for minutes in (0, 5):
        at = NOON + timedelta(minutes=minutes)
        record(store, replace(INTENT, at=at), result=Result.UNLOCKED)
    later = NOON + timedelta(hours=1)
    record(store, replace(INTENT, at=later, uid=STRANGER), result=Result.LOCKED)
    record(store, replace(INTENT, at=later))  # no end yet
    record(store, replace(INTENT, at=later, reason=Reason.PASSBACK))

    assert store.events.last_moved(KEN) == NOON + timedelta(minutes=5)


NASTY = "Robert'); DROP TABLE events;-- \x1b[31m\n\r\t\x00\u202e\U0001f6aa"


def test_quotes_and_control_characters_are_only_text(store):
    event = record(store, replace(INTENT, holder=NASTY), result=Result.REFUSED)
    store.people.add_card(card_of(holder=NASTY), NOON)

    assert [event.holder for event in store.events.read()] == [NASTY]
    assert store.people.find(KEN) == card_of(holder=NASTY, source=Origin.DB)
    assert store.events.verify() is None
    assert event.id == 1


def test_a_detail_is_made_printable_on_its_way_in(store):
    record(store, result=Result.REFUSED, detail="no\n\x1b[2Jway" + "!" * 300)

    (event,) = store.events.read()

    assert event.detail == (r"no\n\x1b[2Jway" + "!" * 300)[:197] + "..."
    assert store.events.verify() is None


def test_a_name_that_is_no_text_is_trouble_in_words_and_no_crash(store):
    with pytest.raises(StoreError, match="surrogates not allowed"):
        store.events.begin(replace(INTENT, holder="\udcff"))

    assert record(store).id == 1


@pytest.mark.parametrize("name", ["a b", "50%25?mode=memory#1", "caf\u00e9", "\udcff"])
def test_any_name_of_a_folder_will_do(tmp_path, name):
    with contextlib.closing(SqliteStore(tmp_path / name / "doorpi.db")) as store:
        assert store.events.begin(INTENT) == 1
        assert store.events.path.exists()


# -- an event on its way


def test_unfinished_events_are_closed_as_interrupted_at_the_next_start(path, store):
    ended = record(store, result=Result.UNLOCKED, latency_ms=412)
    denied = record(store, DENIED)
    cut_off = record(store)
    store.close()
    told = replace(cut_off, result=Result.INTERRUPTED, detail="found unfinished")

    with contextlib.closing(SqliteStore(path)) as again:
        assert again.events.close_interrupted() == 1
        assert list(again.events.read()) == [ended, denied, told]
        assert again.events.close_interrupted() == 0
        assert again.events.verify() is None


@pytest.fixture
def by_hand():
    """The event of a verb that moves the lock just now."""
    now = doorpi.datetime.now(doorpi.UTC)
    return replace(INTENT, at=now, uid=None, holder="nobi", source="command")


def test_start_leaves_a_running_verb_its_event(path, store, by_hand):
    dead = store.events.begin(INTENT)
    living = replace(by_hand, id=store.events.begin(by_hand))
    card = store.events.begin(replace(INTENT, at=by_hand.at))

    with contextlib.closing(SqliteStore(path)) as service:
        assert service.events.close_interrupted() == 2
        assert service.events.close_interrupted() == 0
        unlocked = replace(living, result=Result.UNLOCKED)
        store.events.finish(unlocked, doorpi.Notes({"relock": "x"}, {"calls": 3}))
        results = {event.id: event.result for event in service.events.read()}

        assert results == {
            dead: "interrupted", living.id: "unlocked", card: "interrupted",
        }  # fmt: skip
        assert (service.events.recall("relock"), service.events.recall("calls")) == (
            "x",
            "3",
        )
        assert service.events.close_interrupted() == 0
        assert service.events.verify() is None


def test_event_of_a_killed_verb_is_closed_later(store, by_hand):
    ago = timedelta(seconds=doorpi.VERB_S + 60)
    store.events.begin(replace(by_hand, at=by_hand.at - ago))
    store.events.begin(
        replace(by_hand, at=by_hand.at + ago)
    )  # by a clock that was ahead
    store.events.begin(by_hand)

    assert store.events.close_interrupted() == 2


def test_no_reader_sees_an_event_that_moved_nothing_without_its_end(store):
    """Whoever follows the log would take it for one that ended without a result."""
    seen, reader = set(), doorpi.SqliteEvents(store.events.path)
    store.events.begin(INTENT)

    def look(statement: str) -> None:
        seen.update((event.id, event.result) for event in reader.read(after_id=1))

    store.events._connection().set_trace_callback(look)
    store.events.record(replace(INTENT, command=None, result=Result.UNKNOWN_STATE))
    look("")
    reader.close()

    assert seen == {(2, Result.UNKNOWN_STATE)}


def test_event_that_ends_after_it_was_closed_keeps_its_notes(store):
    """A process that stood still for long, or a clock that jumped meanwhile."""
    begun = replace(INTENT, id=store.events.begin(INTENT))
    assert store.events.close_interrupted() == 1

    unlocked = replace(begun, result=Result.UNLOCKED)
    store.events.finish(unlocked, doorpi.Notes({"relock": "x"}, {"calls": 3}))

    assert (store.events.recall("relock"), store.events.recall("calls")) == ("x", "3")
    assert [event.result for event in store.events.read()] == [Result.INTERRUPTED]
    assert store.events.begin(INTENT) == 2
    assert store.events.verify() is None


BEGIN_AND_DIE = """
import signal
from datetime import UTC, datetime
store = doorpi.SqliteStore(doorpi.Path(sys.argv[1]))
event = doorpi.Event(
    at=datetime(2026, 11, 18, 3, tzinfo=UTC), uid=doorpi.Uid("04A93C715ED284"),
    holder="Ken Sato", reason=doorpi.Reason.GRANTED, command=doorpi.Command.UNLOCK)
os.write(1, b"%d\\n" % store.events.begin(event))
os._exit(0) if sys.argv[2] == "exits" else os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["exits", "is killed"])
def test_an_intent_is_on_disk_when_begin_returns_though_the_process(path, store, how):
    with started(BEGIN_AND_DIE, path, how) as process:
        printed = int(process.stdout.read())

    assert list(store.events.read()) == [replace(INTENT, id=printed)]


WRITE_FOR_EVER = """
from datetime import UTC, datetime
from tests.helpers.values import replace
store = doorpi.SqliteStore(doorpi.Path(sys.argv[1]), busy_s=5)
event = doorpi.Event(
    at=datetime(2026, 11, 18, 3, tzinfo=UTC), uid=None, holder="Ken",
    reason=doorpi.Reason.GRANTED)
while True:
    begun = store.events.begin(event)
    os.write(1, b"begun %d\\n" % begun)
    store.events.finish(replace(event, id=begun, result=doorpi.Result.UNLOCKED))
    os.write(1, b"ended %d\\n" % begun)
"""


def test_kill_9_at_any_moment_loses_no_commit(path):
    """4 kills, each after a few to a few hundred writes."""
    begun, ended = set(), set()
    for _ in range(4):
        with started(WRITE_FOR_EVER, path) as process:
            first = process.stdout.readline()
            time.sleep(random.uniform(0, 0.06))  # the moment is what is at stake
            process.kill()
            lines = [first, *process.stdout.read().splitlines()]
        for word, number in map(str.split, lines):
            (begun if word == "begun" else ended).add(int(number))

        with contextlib.closing(SqliteStore(path)) as store:
            events = {event.id: event for event in store.events.read()}
            assert store.events.verify() is None
            assert begun <= events.keys()
            assert ended <= {event.id for event in events.values() if event.result}
            unfinished = [event for event in events.values() if event.result is None]
            assert store.events.close_interrupted() == len(unfinished) <= 1
        assert run_sql(path, "PRAGMA integrity_check") == [[("ok",)]]
    assert len(begun) >= 4


def test_a_wal_that_was_cut_anywhere_loses_only_its_tail(path, store, tmp_path):
    """A power cut may leave any beginning of what was not synced yet."""
    for _ in range(12):
        record(store, result=Result.UNLOCKED)
    wal = Path(f"{path}-wal")
    rng = random.Random(2)
    counts = []
    for size in sorted(rng.randrange(32, wal.stat().st_size) for _ in range(12)):
        torn = tmp_path / f"cut-{size}"
        torn.mkdir()
        shutil.copy(path, torn)
        (torn / wal.name).write_bytes(wal.read_bytes()[:size])

        with contextlib.closing(SqliteStore(torn / path.name, repair=True)) as cut:
            counts.append(len(ids(cut)))
            assert cut.events.verify() is None
            assert cut.events.begin(INTENT) == counts[-1] + 1
        assert not list(torn.glob("*.broken-*"))

    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_commit_is_synced_before_begin_returns(path, store, tmp_path):
    trace, watched = tmp_path / "trace", "trace=fdatasync,fsync,pwrite64,write"
    store.events.keep(doorpi.NO_NOTES)  # makes the database
    calls = ["strace", "-f", "-o", str(trace), "-e", watched]
    program = [sys.executable, "-c", "import sys, os, doorpi\n" + BEGIN_AND_DIE]

    subprocess.run(
        [*calls, *program, str(path), "exits"],
        env=environment(), check=True, capture_output=True,
    )  # fmt: skip

    lines = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    told = next(i for i, line in enumerate(lines) if line.startswith('write(1, "1\\n"'))
    assert lines[told - 1].startswith(("fdatasync(", "fsync("))


def test_a_stop_at_any_moment_leaves_a_store_that_can_be_used_at_once(store):
    """The first thing after Stopped is to write down how the event ended."""
    main, over = threading.get_ident(), threading.Event()
    armed = False

    def stop(number, frame):
        nonlocal armed
        if armed:
            armed = False
            raise Stopped(number)

    def send_signals():
        while not over.wait(random.uniform(0, 0.001)):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    sender = threading.Thread(target=send_signals)
    sender.start()
    stops = 0
    try:
        for _ in range(120):
            try:
                armed = True
                record(store, result=Result.UNLOCKED)
                armed = False
            except Stopped:  # its traceback is alive here, as in the door
                stops += 1
                record(store, result=Result.INTERRUPTED)
    finally:
        armed = False
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)

    assert stops > 20
    assert store.events.verify() is None


# -- the chain of hashes


def logged(path: Path) -> None:
    with contextlib.closing(SqliteStore(path)) as store:
        for number in (1, 2, 3):
            event = replace(INTENT, holder=f"Holder {number}")
            if number == 2:
                event = replace(event, point="front", request="m-1")
            record(store, event, result=Result.UNLOCKED, latency_ms=number, detail="ok")


SWAP = """
CREATE TABLE one AS SELECT * FROM {0} WHERE id = 2;
CREATE TABLE two AS SELECT * FROM {0} WHERE id = 3;
DELETE FROM {0} WHERE id > 1;
UPDATE one SET id = 3; UPDATE two SET id = 2;
INSERT INTO {0} SELECT * FROM one; INSERT INTO {0} SELECT * FROM two;
"""

# fmt: off
TAMPERINGS = [
    # what was done                                                 what verify says
    ("DELETE FROM events WHERE id = 1",                             "events: row 1 is missing"),
    ("DELETE FROM events WHERE id = 2",                             "events: row 2 is missing"),
    ("DELETE FROM events WHERE id = 3",                             "events: rows after 2 are missing"),
    ("DELETE FROM events",                                          "events: rows after 0 are missing"),
    (SWAP.format("events"),                                         "events: row 2 was changed"),
    ("UPDATE events SET id = 9 WHERE id = 2",                       "events: row 2 is missing"),
    ("UPDATE events SET at = '2026-11-18T03:00:00.001Z' WHERE id = 2", "events: row 2 was changed"),
    ("UPDATE events SET uid = '04FFEEDDCCBBAA' WHERE id = 2",       "events: row 2 was changed"),
    ("UPDATE events SET uid = NULL WHERE id = 2",                   "events: row 2 was changed"),
    ("UPDATE events SET holder = 'Somebody' WHERE id = 2",          "events: row 2 was changed"),
    ("UPDATE events SET holder = x'ff00' WHERE id = 2",             "events: row 2 was changed"),
    ("UPDATE events SET reason = 'not-found' WHERE id = 2",         "events: row 2 was changed"),
    ("UPDATE events SET note = 'asked space' WHERE id = 2",         "events: row 2 was changed"),
    ("UPDATE events SET command = 'lock' WHERE id = 2",             "events: row 2 was changed"),
    ("UPDATE events SET source = 'command' WHERE id = 2",           "events: row 2 was changed"),
    ("UPDATE events SET point = '' WHERE id = 2",                   "events: row 2 was changed"),
    ("UPDATE events SET request = '' WHERE id = 2",                 "events: row 2 was changed"),
    ("UPDATE events SET point = '', request = '' WHERE id = 2",     "events: row 2 was changed"),
    ("UPDATE events SET point = request, request = point WHERE id = 2", "events: row 2 was changed"),
    ("UPDATE events SET point = 0, request = x'' WHERE id = 2",     "events: row 2 was changed"),
    ("UPDATE events SET point = 'front' WHERE id = 3",              "events: row 3 was changed"),
    ("UPDATE events SET request = 'm-1' WHERE id = 1",              "events: row 1 was changed"),
    ("UPDATE events SET hash = '' WHERE id = 2",                    "events: row 2 was changed"),
    ("UPDATE events SET hash = upper(hash) WHERE id = 3",           "events: row 3 was changed"),
    ("DELETE FROM outcomes WHERE id = 1",                           "outcomes: row 1 is missing"),
    ("DELETE FROM outcomes WHERE id = 2",                           "outcomes: row 2 is missing"),
    ("DELETE FROM outcomes WHERE id = 3",                           "outcomes: rows after 2 are missing"),
    (SWAP.format("outcomes"),                                       "outcomes: row 2 was changed"),
    ("UPDATE outcomes SET id = 9 WHERE id = 2",                     "outcomes: row 2 is missing"),
    ("UPDATE outcomes SET event = 9 WHERE id = 2",                  "outcomes: row 2 was changed"),
    ("UPDATE outcomes SET result = 'locked' WHERE id = 2",          "outcomes: row 2 was changed"),
    ("UPDATE outcomes SET latency_ms = 1 WHERE id = 2",             "outcomes: row 2 was changed"),
    ("UPDATE outcomes SET latency_ms = NULL WHERE id = 2",          "outcomes: row 2 was changed"),
    ("UPDATE outcomes SET detail = '' WHERE id = 2",                "outcomes: row 2 was changed"),
    ("UPDATE outcomes SET hash = '' WHERE id = 2",                  "outcomes: row 2 was changed"),
    ("DELETE FROM chains",                                          "events: rows after 3 are missing"),
    ("UPDATE chains SET id = 2 WHERE name = 'outcomes'",            "outcomes: rows after 3 are missing"),
]
# fmt: on


def tampering_id(sql: str) -> str:
    return " ".join(sql.split())[:60]


@pytest.mark.parametrize(
    ("sql", "words"), TAMPERINGS, ids=[tampering_id(sql) for sql, _ in TAMPERINGS]
)
def test_the_first_row_that_was_tampered_with_is_named(path, store, sql, words):
    logged(path)
    run_sql(path, *sql.split(";"))

    assert store.events.verify() == words


def chained_columns(table: str) -> tuple[str, ...]:
    return (*doorpi.CHAINED[table], "hash", *doorpi.CHAINED_LATER[table])


def test_every_column_of_the_log_has_a_row_in_the_table_above():
    changed = {(t, c) for t in doorpi.CHAINED for c in chained_columns(t)}

    assert changed == {
        (table, column)
        for table, column in changed
        if any(f"UPDATE {table} SET {column} =" in sql for sql, _ in TAMPERINGS)
    }


@pytest.mark.parametrize("table", doorpi.CHAINED)
def test_every_column_that_is_stored_is_in_the_chain(path, table):
    logged(path)

    (rows,) = run_sql(path, f"PRAGMA table_info({table})")
    assert tuple(name for _, name, *_ in rows) == chained_columns(table)


def test_start_reads_only_events_since_the_last_start(store):
    """A log of years must not slow the start: what was settled is not read again."""
    for _ in range(3):
        store.events.begin(INTENT)
    assert store.events.close_interrupted() == 3

    asked = []
    store.events._connection().set_trace_callback(asked.append)
    assert store.events.close_interrupted() == 0
    store.events._connection().set_trace_callback(None)
    (sql,) = [sql for sql in asked if "LEFT JOIN outcomes" in sql]
    plan = run_sql(store.events.path, "EXPLAIN QUERY PLAN " + sql)[0]
    assert any("rowid>?" in row[3] for row in plan), plan

    store.events.begin(INTENT)
    assert store.events.close_interrupted() == 1
    assert store.events.close_interrupted() == 0
    assert store.events.verify() is None
