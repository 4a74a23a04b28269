"""A name is taken out of the log: what remains verifies, and nothing can hide behind it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    FORGOTTEN,
    PERSONAL,
    Change,
    Event,
    Redaction,
    Result,
    SqliteStore,
)
from tests.helpers.stores import DENIED, INTENT, content, record, run_sql
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER

FORGET = Event(NOON, None, FORGOTTEN, Change.FORGET, source="command", note="by nobi")
KEN_S = Redaction({"Ken Sato"}, {"Ken Sato Jr."}, {KEN, doorpi.format_uid(KEN)})


def fill(store: SqliteStore) -> None:
    """Rows 1 to 7; Ken Sato's are 1, 2, 3 and 5, and row 4 names him."""
    record(store, replace(DENIED, uid=KEN))  # before he was let in
    record(store, result=Result.UNLOCKED, latency_ms=412)
    record(store, note="asked space", result=Result.REFUSED, detail="no, Ken Sato")
    both = replace(INTENT, uid=None, holder="", reason=Change.IMPORT, command=None)
    store.events.record(replace(both, detail="2 added: Ken Sato, Jo Guest"))
    record(store, replace(INTENT, holder="ken  sato"), result=Result.LOCKED)
    record(store, replace(INTENT, uid=STRANGER, holder="Ken Sato Jr."))
    record(store, replace(INTENT, holder="Jo Guest"))  # his card is hers now


def forget(store: SqliteStore, redaction: Redaction = KEN_S, pause=lambda: None) -> int:
    return store.events.forget_person(redaction, FORGET, pause)


@pytest.fixture
def forgotten(store, path) -> Path:
    fill(store)
    forget(store)
    return path


def test_the_rows_lose_name_and_number_and_nothing_else(store):
    fill(store)
    before = list(store.events.read())

    rows = forget(store)

    *after, event = store.events.read()
    own, others = (0, 1, 2, 4), (5, 6)
    for row in own:
        expected = replace(before[row], holder=FORGOTTEN, uid=None)
        assert after[row]._replace(detail="") == expected._replace(detail="")
    assert after[2].detail == f"no, {FORGOTTEN}"
    assert after[3] == replace(before[3], detail=f"2 added: {FORGOTTEN}, Jo Guest")
    assert [after[row] for row in others] == [before[row] for row in others]
    assert rows == 6  # of events and of outcomes
    assert event.note.startswith("by nobi: 6 rows; ")
    assert store.events.forgotten() == {8: 6}
    assert store.events.verify() is None


def test_the_name_is_in_no_byte_of_the_files(store, path):
    fill(store)
    forget(store)
    assert store.events.redact(KEN_S, doorpi.CHAINED) == 0  # it empties the -wal

    for name, text in content(path.parent).items():
        assert b"ken sato" not in text.lower().replace(b"ken sato jr.", b""), name
        assert b"ken  sato" not in text, name


def test_two_people_are_forgotten_in_a_row_about_both(store):
    fill(store)
    forget(store)

    forget(store, Redaction({"Jo Guest"}, (), ()))

    details = [event.detail for event in store.events.read()]
    assert details[3] == f"2 added: {FORGOTTEN}, {FORGOTTEN}"
    assert store.events.verify() is None


HOLDER = "UPDATE events SET holder = 'Jo Guest' WHERE id = {}"
# fmt: off
TAMPERED = [
    # what somebody does to the file                          what is found
    (HOLDER.format(2),                                        "events: row 2 was changed"),
    (HOLDER.format(6),                                        "events: row 6 was changed"),
    ("UPDATE events SET reason = 'expired' WHERE id = 2",     "events: row 2 was changed"),
    ("UPDATE events SET at = '2026-01-01' WHERE id = 2",      "events: row 2 was changed"),
    (f"UPDATE events SET uid = '{STRANGER}' WHERE id = 1",    "events: row 1 was changed"),
    ("UPDATE events SET hash = '' WHERE id = 2",              "events: row 2 was changed"),
    ("UPDATE outcomes SET result = 'locked' WHERE event = 2", "outcomes: row 1 was changed"),
    ("UPDATE outcomes SET detail = '(forgotten)' WHERE event = 3", "outcomes: row 2 was changed"),
    ("DELETE FROM events WHERE id = 2",                       "events: row 2 is missing"),
    ("DELETE FROM outcomes WHERE event = 3",                  "outcomes: row 2 is missing"),
    ("DELETE FROM events WHERE id = 8",                       "events: row 1 was changed"),
    ("DELETE FROM forgotten",                                 "forgotten: the digests of row 8 were changed"),
    ("UPDATE forgotten SET rows = x''",                       "forgotten: the digests of row 8 were changed"),
    ("UPDATE forgotten SET rows = rows || zeroblob(16)",      "forgotten: the digests of row 8 were changed"),
    ("UPDATE events SET note = note || ' ' WHERE id = 8",     "forgotten: the digests of row 8 were changed"),
    ("UPDATE events SET at = '2026-01-01' WHERE id = 8",      "events: row 8 was changed"),
]
# fmt: on


@pytest.mark.parametrize(("sql", "found"), TAMPERED, ids=[sql for sql, _ in TAMPERED])
def test_a_change_is_found_afterwards(store, forgotten, sql, found):
    run_sql(forgotten, sql)

    assert store.events.verify() == found


def _digest_of_row(path: Path, number: int) -> bytes:
    columns = (*doorpi.CHAINED["events"], *doorpi.CHAINED_LATER["events"], "hash")
    sql = f"SELECT {', '.join(columns)} FROM events WHERE id = {number}"
    return doorpi._remains("events", run_sql(path, sql)[0][0])


def test_digests_that_no_event_has_prove_nothing(store, forgotten):
    for holder in ("Jo Guest", FORGOTTEN):
        run_sql(forgotten, f"UPDATE events SET holder = '{holder}' WHERE id = 6")
        made_up = _digest_of_row(forgotten, 6).hex()
        run_sql(forgotten, f"REPLACE INTO forgotten VALUES (6, x'{made_up}')")

        assert store.events.verify() == "events: row 6 was changed"


def test_an_event_of_forgetting_covers_no_other_change(store, forgotten):
    """Whoever can write to the file can log that: so it shows, and it only hides what is
    shown as forgotten."""
    run_sql(forgotten, HOLDER.format(6))
    proof = _digest_of_row(forgotten, 6)
    note = f"by eve: 1 row; {doorpi._digest(proof).hex()}"
    event = store.events.begin(replace(FORGET, note=note))
    run_sql(forgotten, f"INSERT INTO forgotten VALUES ({event}, x'{proof.hex()}')")

    assert store.events.verify() == "events: row 6 was changed"


def test_retention_ends_it_all_without_a_moment_of_doubt(store, forgotten):
    record(store, replace(INTENT, at=NOON + timedelta(days=9)), result=Result.LOCKED)
    late = NOON + timedelta(days=1), NOON + timedelta(days=9)

    while store.events.forget(*late, limit=1):
        assert store.events.verify() is None

    assert [event.id for event in store.events.read()] == [9]
    assert store.events.forgotten() == {}


def test_the_door_may_write_after_each_few_rows(store, path, monkeypatch):
    monkeypatch.setattr(doorpi.SqliteEvents, "batch", 2)
    fill(store)
    with contextlib.closing(SqliteStore(path, repair=True)) as door:
        rows = forget(store, pause=lambda: record(door, result=Result.UNLOCKED))

        taps = [event for event in store.events.read() if event.id > 8]
    assert (rows, len(taps)) == (6, 3)
    assert {tap.holder for tap in taps} == {"Ken Sato"}  # later ones are not its own
    assert store.events.verify() is None


def test_kill_at_any_statement_leaves_rows_as_they_were_or_forgotten(path):
    with contextlib.closing(SqliteStore(path)) as store:
        fill(store)
    whole, number, kinds = path.with_name("whole"), 0, set()
    shutil.copytree(path.parent, whole, ignore=shutil.ignore_patterns("whole"))
    while True:
        number += 1
        for file in path.parent.glob("doorpi.db*"):
            file.unlink()
        shutil.copytree(whole, path.parent, dirs_exist_ok=True)
        was_killed = _forget_until(path, number)
        with contextlib.closing(SqliteStore(path)) as store:
            assert store.events.verify() is None
            events = list(store.events.read())[:7]
            own = [
                event.holder == FORGOTTEN for event in events if event.id in (2, 3, 5)
            ]
            assert len(set(own)) == 1  # these few rows are changed at once
            kinds.update(own)
            forget(store)
            assert not [*store.events.named(KEN_S, dict.fromkeys(PERSONAL, 99))]
            assert store.events.verify() is None
        if not was_killed:
            break
    assert number > 15
    assert kinds == {False, True}


def _forget_until(path: Path, statement: int) -> bool:
    """Forget in a process that is killed before that SQL statement; False if there are
    not so many."""
    child = os.fork()
    if not child:
        try:
            store = SqliteStore(path)
            left = [statement]

            def count(_: str) -> None:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

            store.events.last_id()
            store.events._db.set_trace_callback(count)
            forget(store)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


# -- texts

JSON = json.dumps({"words": "佐藤健: unlocked", "who": "Ken Sato"})
# fmt: off
TEXTS = [
    # before                                 after
    ("Ken Sato",                             "(forgotten)"),
    ("KEN \u3000sato: unlocked",             "(forgotten): unlocked"),
    ("2 added: Jo, Ken Sato, Yui and 2 more", "2 added: Jo, (forgotten), Yui and 2 more"),
    ("Ken Satoh, McKen Sato",                "Ken Satoh, McKen Sato"),
    ("Ken Sato Jr. came, Ken Sato did not",  "Ken Sato Jr. came, (forgotten) did not"),
    ("2 added: Ken Sa...",                   "2 added: (forgotten)"),
    ("2 added: Jo...",                       "2 added: Jo..."),
    ("佐藤健: unlocked",                      "(forgotten): unlocked"),
    ("佐藤健太: unlocked",                    "佐藤健太: unlocked"),
    (JSON,                                   '{"words": "(forgotten): unlocked", "who": "(forgotten)"}'),
    (json.dumps([JSON]),                     json.dumps(['{"words": "(forgotten): unlocked", "who": "(forgotten)"}'])),
    ("blocked 04:A9:3C:71:5E:D2:84",         "blocked (forgotten)"),
]
# fmt: on


@pytest.mark.parametrize(("before", "after"), TEXTS, ids=[row[0] for row in TEXTS])
def test_a_name_is_taken_out_of_texts(before, after):
    also = {KEN, doorpi.format_uid(KEN)}

    assert Redaction({"Ken Sato", "佐藤健"}, {"Ken Sato Jr."}, also)(before) == after
