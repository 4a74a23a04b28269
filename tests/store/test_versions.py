"""Versions meet: a program that was put back goes on with what a newer one has written.

The newer program here is two versions ahead: it has added columns and tables, and writes
words that this one does not know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    Command,
    Event,
    LogTail,
    Origin,
    Reason,
    Result,
    Sought,
    SqliteEvents,
    SqlitePeople,
    SqliteStore,
    Stopped,
    StoreError,
)
from tests.helpers.office import verbs_on
from tests.helpers.stores import run_sql
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, World, card_of, config_of

TAP = Event(
    at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.GRANTED, command=Command.UNLOCK
)
#: As a newer program writes them: in words of its own.
MEMBER = replace(TAP, reason="no-membership", command=None, source="card")
CHAT = replace(TAP, uid=None, source="chat", command="hold-open")

ADDED_TO_LOG = """
ALTER TABLE events ADD COLUMN place TEXT NOT NULL DEFAULT '';
ALTER TABLE outcomes ADD COLUMN battery INTEGER;
ALTER TABLE states ADD COLUMN kept_at TEXT;
ALTER TABLE chains ADD COLUMN since TEXT;
CREATE TABLE requests (id TEXT PRIMARY KEY, event INTEGER);
PRAGMA user_version = 5;
"""
ADDED_TO_LIST = """
ALTER TABLE cards ADD COLUMN escort TEXT;
ALTER TABLE cards ADD COLUMN points INTEGER NOT NULL DEFAULT 0;
ALTER TABLE marks ADD COLUMN set_by TEXT;
CREATE TABLE keys (uid TEXT PRIMARY KEY, key BLOB);
PRAGMA user_version = 6;
"""


@pytest.fixture
def path(tmp_path) -> Path:
    """What the newer program has left: a card, a tap, and two events of its own."""
    path = tmp_path / "doorpi.db"
    with contextlib.closing(SqliteStore(path)) as store:
        store.people.add_card(card_of(), NOON)
        store.people.lock_down("")
        store.events.record(replace(TAP, result=Result.UNLOCKED, latency_ms=400))
        store.events.record(MEMBER)
        store.events.record(replace(CHAT, result="held", detail="until noon"))
    run_sql(path, ADDED_TO_LOG)
    run_sql(path.with_name("cards.db"), ADDED_TO_LIST)
    return path


@pytest.fixture
def store(path):
    with contextlib.closing(SqliteStore(path, repair=True)) as store:
        yield store


@pytest.fixture
def verb(path, capsys):
    """Run one verb of this program: what it says, and its exit code."""
    file = path.with_name("doorpi.toml")
    file.write_text(f'[door]\nstate_dir = "{path.parent}"\n[lock]\nkind = "relay"\n')
    return verbs_on(file, capsys)


# -- the files of a newer program


def test_the_door_works_with_them(path, store):
    event = store.events.begin(TAP, doorpi.Notes({"relock": "x"}, {"calls": 2}))
    store.events.finish(replace(TAP, id=event, result=Result.LOCKED))
    store.people.add_card(card_of(STRANGER, "Jo"), NOON)
    store.people.change_cards([], [STRANGER], NOON)
    store.people.lock_down("owner")
    store.events.begin(TAP)

    assert store.people.find(KEN) == card_of(source=Origin.DB)
    assert store.people.find(STRANGER) is None
    assert store.events.last_moved(KEN) == NOON
    assert (store.events.recall("relock"), store.events.recall("calls")) == ("x", "2")
    assert store.people.locked_down() is True
    assert store.events.close_interrupted() == 1
    assert store.events.verify() is None
    assert store.events.forget(NOON + timedelta(1), NOON + timedelta(2), 100) == 10
    assert store.events.verify() is None
    assert not list(path.parent.glob("*.broken-*"))
    newer = {path: 5, path.with_name("cards.db"): 6}
    for file, version in newer.items():  # it is still the newer one's
        with contextlib.closing(sqlite3.connect(file)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (version,)


def test_columns_of_a_newer_program_keep_their_values(path, store):
    cards = path.with_name("cards.db")
    run_sql(path, "INSERT INTO states VALUES ('relock', 'x', 'noon')")
    run_sql(cards, "UPDATE cards SET escort = 'Jo'; UPDATE marks SET set_by = 'me'")

    store.people.change_cards([card_of(holder="Ken S.")], [], NOON)
    store.people.lock_down("owner")
    store.events.keep(doorpi.Notes({"relock": "y"}))

    with contextlib.closing(sqlite3.connect(cards)) as db:
        (row,) = db.execute("SELECT holder, escort FROM cards")
        assert row == ("Ken S.", "Jo")
        assert ("me",) in db.execute("SELECT set_by FROM marks WHERE name = 'lockdown'")
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT value, kept_at FROM states WHERE name = 'relock'")
        assert list(rows) == [("y", "noon")]


def test_unusable_newer_database_is_a_store_error(path, store):
    run_sql(path, "ALTER TABLE events RENAME TO occasions")

    with pytest.raises(StoreError, match="no such table"):
        store.events.begin(TAP)

    assert store.people.find(KEN) == card_of(source=Origin.DB)


def test_words_of_a_newer_program_are_kept(store):
    tap, member, chat = store.events.read()

    assert (tap.reason, tap.result) == (Reason.GRANTED, Result.UNLOCKED)
    assert (member.reason, member.decision) == ("no-membership", "denied")
    assert (chat.command, chat.result, chat.source) == ("hold-open", "held", "chat")
    assert store.events.verify() is None


def test_log_prints_them_in_each_of_its_ways(verb, store, clock):
    code, lines, err = verb("log")
    assert (code, err) == (0, [])
    assert lines[1].endswith("denied   no-membership")
    assert lines[2].endswith("hold-open -> held (until noon)")

    _, lines, _ = verb("log", "--json")
    found = [json.loads(line) for line in lines]
    assert [row["reason"] for row in found] == ["granted", "no-membership", "granted"]
    assert [row["result"] for row in found] == ["unlocked", None, "held"]

    _, lines, _ = verb("log", "--csv")
    assert "no-membership" in lines[2]
    assert ",hold-open,held," in lines[3]

    assert verb("log", "--denied")[1][0].endswith("no-membership")
    assert verb("log", "--chart", "--since", "2026-11-01")[0] == 0
    assert verb("log", "--verify")[0] == 0
    tail = LogTail(store.events, Sought(), clock, open_s=30.0)
    assert [event.reason for event in tail.begin(None, 10)][1] == "no-membership"


def test_a_word_is_made_safe_to_show(store, verb):
    store.events.record(
        replace(CHAT, result="\x1b[2J", reason="granted", source="\u202eevil")
    )

    event = list(store.events.read())[-1]

    assert (event.result, event.source) == (r"\x1b[2J", r"\u202eevil")
    assert "\x1b" not in "".join(verb("log")[1])


# fmt: off
ENTRIES = [
    # what the newer program has set                 what of it this one names
    ("escort = 'Jo'",                                "escort"),
    ("points = 3",                                   "points"),
    ("points = 3, escort = x'00'",                   "escort, points"),
    ("role = 'escort'",                              "role escort"),
    ("proof = 'ntag999'",                            "proof ntag999"),
]
# fmt: on


@pytest.mark.parametrize(("sql", "named"), ENTRIES, ids=[sql for sql, _ in ENTRIES])
def test_entry_with_values_of_a_newer_program_is_refused(path, store, verb, sql, named):
    run_sql(path.with_name("cards.db"), f"UPDATE cards SET {sql}")
    words = f"its entry needs a newer version of DoorPi ({named})"

    who = store.people.find(KEN)
    when = doorpi.Circumstances(at=NOON)
    assert doorpi.decide(KEN, who, when).reason is Reason.NOT_ENABLED
    assert who.holder == "Ken Sato"

    code, lines, _ = verb("cards")
    assert code == 0
    assert words in lines[1]
    assert words in verb("why", "Ken Sato")[1][0]
    (known,) = json.loads(verb("people", "--json")[1][0])["identifiers"]
    assert known["refused"] == words
    assert verb("cards", "--toml")[1] == [
        f"# Ken Sato ({doorpi.format_uid(KEN)}): {words}"
    ]


def test_no_verb_simplifies_an_entry_of_a_newer_program(path, store, verb, tmp_path):
    run_sql(path.with_name("cards.db"), "UPDATE cards SET role = 'janitor'")
    again, listed = doorpi.format_uid(KEN), tmp_path / "list.csv"
    listed.write_text(f"uid,holder\n{again},Ken S.\n")

    code, _, err = verb("allow", "Ken", "--uid", KEN)
    assert (code, len(err)) == (1, 1)
    assert err[0].endswith(f"; to start again: doorpi revoke {again}, and then allow")
    code, out, _ = verb("import", str(listed))
    assert (code, "1 refused" in out[-2] + out[-1]) == (1, True)
    assert store.people.find(KEN).refused

    assert verb("revoke", again)[0] == 0
    assert verb("allow", "Ken", "--uid", KEN)[0] == 0
    assert store.people.find(KEN) == card_of(holder="Ken", source=Origin.DB)


# -- the rule for migrations


def shape(db: sqlite3.Connection) -> dict[tuple[str, str], tuple]:
    """Each column of each table: its type, whether it must be set, its default, and
    whether it is part of the key."""
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]  # fmt: skip
    return {
        (table, column): rest
        for table in tables
        for _, column, *rest in db.execute(f"PRAGMA table_info({table})")
    }


def slips(schema: tuple[str, ...]) -> list[str]:
    """What in the later scripts of ``schema`` an older program could not live with."""
    found = []
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema[0])
        for script in schema[1:]:
            before = shape(db)
            db.executescript(script)
            after = shape(db)
            for key, was in before.items():
                if after.get(key) != was:
                    found.append(f"{'.'.join(key)} was changed or taken away")
            old = {table for table, _ in before}
            for (table, column), (_, must, default, _) in after.items():
                if (table, column) in before or table not in old:
                    continue
                if default not in (None, "NULL", "''", "0") or (must and not default):
                    found.append(f"{table}.{column} is set to something")
    return found


@pytest.mark.parametrize("kind", [SqlitePeople, SqliteEvents])
def test_each_migration_only_adds(kind):
    assert slips(kind.schema) == []


# fmt: off
SLIPS = [
    ("ALTER TABLE marks RENAME TO notes",                       ["marks.name was changed or taken away", "marks.value was changed or taken away"]),
    ("ALTER TABLE cards RENAME COLUMN role TO kind",            ["cards.role was changed or taken away", "cards.kind is set to something"]),
    ("ALTER TABLE cards DROP COLUMN schedule",                  ["cards.schedule was changed or taken away"]),
    ("ALTER TABLE cards ADD COLUMN medium TEXT DEFAULT 'card'", ["cards.medium is set to something"]),
    ("ALTER TABLE cards ADD COLUMN escort TEXT",                []),
    ("ALTER TABLE cards ADD COLUMN n INTEGER NOT NULL DEFAULT 0; CREATE TABLE t (x NOT NULL)", []),
]
# fmt: on


@pytest.mark.parametrize(("sql", "found"), SLIPS, ids=[sql[:50] for sql, _ in SLIPS])
def test_a_migration_that_does_more_is_found(sql, found):
    assert slips((SqlitePeople.schema[0], sql)) == found


# -- a program that is put back


class FirstProgram:
    """Writes and checks a log as version 1 did: it names the columns that it knows."""

    columns = "id, at, uid, holder, reason, command, source, hash"

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)

    def make(self) -> None:
        self.db.executescript(SqliteEvents.schema[0] + "PRAGMA user_version = 1")

    def begin(self) -> None:
        ends = "SELECT id, hash FROM chains WHERE name = 'events'"
        ((last, previous),) = self.db.execute(ends)
        row = (
            last + 1, "2026-11-18T12:00:00.000Z", KEN, "Ken", "not-found", None, "card",
        )  # fmt: skip
        text = json.dumps([previous, *row], separators=(",", ":"))
        linked = hashlib.sha256(text.encode()).hexdigest()
        sql = f"INSERT INTO events ({self.columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self.db.execute(sql, (*row, linked))
        end = "UPDATE chains SET id = ?, hash = ? WHERE name = 'events'"
        self.db.execute(end, (last + 1, linked))


def test_chain_holds_when_an_older_program_writes_on(path):
    path.parent.mkdir(exist_ok=True)
    path.with_name("cards.db").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)):
        first = FirstProgram(path)
    first.make()
    first.begin()
    told = replace(TAP, point="exit", request="m-1")
    with contextlib.closing(SqliteStore(path)) as store:
        store.events.begin(told)
        first.begin()
        store.events.begin(TAP)

        found = [(event.point, event.request) for event in store.events.read()]
        assert found == [("", ""), ("exit", "m-1"), ("", ""), ("", "")]
        assert store.events.verify() is None
    first.db.close()


# -- an upgrade that fails


def versions(folder: Path) -> set[int]:
    found = set()
    for name in ("doorpi.db", "cards.db"):
        with contextlib.closing(sqlite3.connect(folder / name)) as db:
            found |= set(db.execute("PRAGMA user_version").fetchone())
    return found


def test_the_door_changes_no_database_before_it_is_ready(monkeypatch, tmp_path):
    """One that never gets ready leaves them as the program finds them that is put back."""
    path = tmp_path / "doorpi.db"
    with contextlib.closing(SqliteStore(path)) as older:
        older.people.add_card(card_of(STRANGER, "Jo"), NOON)
        older.events.begin(TAP)
    before = versions(tmp_path)
    for kind, sql in ((SqliteEvents, "events"), (SqlitePeople, "cards")):
        newer = (*kind.schema, f"ALTER TABLE {sql} ADD COLUMN place TEXT")
        monkeypatch.setattr(kind, "schema", newer)
    world, seen = World(), []
    world.store = SqliteStore(path, repair=True)
    world.supervisor.report = lambda state: seen.append(versions(tmp_path))
    world.reader.shows = [*[None] * 30, STRANGER]
    world.clock.stop_at = world.clock.t + 30

    with pytest.raises(Stopped):
        world.door(config_of()).run()

    assert seen[0] == before
    assert versions(tmp_path) == {version + 1 for version in before}
    assert world.lock.sent
    world.store.close()
