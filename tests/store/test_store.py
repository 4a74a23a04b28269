"""The databases as files: several processes, broken files, full disks, old schemas."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    Notes,
    Origin,
    Reason,
    Result,
    SqliteEvents,
    SqlitePeople,
    SqliteStore,
    StoreError,
)
from tests.helpers.disk import fill_up, tmpfs
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.stores import (
    INTENT,
    content,
    ids,
    record,
    run_sql,
    started,
)
from tests.helpers.world import KEN, NOON, STRANGER, card_of

# -- several at once

MAKE_EACH = """
for line in sys.stdin:
    store = doorpi.SqliteStore(doorpi.Path(line.strip()))
    try:
        print(store.events.recall("x"), store.people.locked_down(), flush=True)
    except Exception as error:
        print(repr(error), flush=True)
    store.close()
"""


def test_two_processes_may_make_the_database_at_the_same_moment(tmp_path):
    with started(MAKE_EACH) as one, started(MAKE_EACH) as other:
        for number in range(25):
            path = tmp_path / f"{number}" / "state" / "doorpi.db"
            for process in (one, other):
                process.stdin.write(f"{path}\n")
            for process in (one, other):
                process.stdin.flush()
            answers = [process.stdout.readline() for process in (one, other)]

            assert answers == ["None None\n", "None None\n"]
        one.stdin.close()
        other.stdin.close()


WRITE_FIFTY = """
from datetime import UTC, datetime
event = doorpi.Event(
    at=datetime(2026, 11, 18, 3, tzinfo=UTC), uid=None, holder=sys.argv[2],
    reason=doorpi.Reason.NOT_FOUND)
store = doorpi.SqliteStore(doorpi.Path(sys.argv[1]), busy_s=20)
sys.stdin.readline()
for _ in range(50):
    store.events.begin(event)
store.close()
"""


def test_two_processes_may_write_at_the_same_time(path, store):
    processes = [started(WRITE_FIFTY, path, name) for name in ("one", "other")]
    for process in processes:
        process.communicate("go\n")

    assert [process.returncode for process in processes] == [0, 0]
    assert ids(store) == list(range(1, 101))
    assert store.events.verify() is None


def test_two_connections_see_each_other_at_once(path, store):
    with contextlib.closing(SqliteStore(path)) as verb:
        store.events.begin(INTENT)
        verb.people.add_card(card_of(), NOON)

        assert verb.events.begin(INTENT) == 2
        assert store.people.find(KEN) == card_of(source=Origin.DB)
        assert ids(store) == ids(verb) == [1, 2]


def test_words_may_be_kept_from_another_thread_while_a_tap_is_written(store):
    """A driver does so from the thread of its lock: a token, how long a move takes."""
    is_over = threading.Event()

    def keeps_words(name: str) -> int:
        turns = 0
        while not is_over.is_set():
            store.events.keep(Notes({name: str(turns)}, {"turns": 1}))
            assert store.events.recall(name) == str(turns)
            turns += 1
        return turns

    with ThreadPoolExecutor(2) as pool:
        turns = [pool.submit(keeps_words, name) for name in ("lock", "fallback")]
        try:
            for _ in range(60):
                record(store, result=Result.UNLOCKED)
                store.people.change_cards([card_of()], [], NOON)
                assert store.people.find(KEN)
        finally:
            is_over.set()

    assert store.events.recall("turns") == str(sum(each.result() for each in turns))
    assert ids(store) == list(range(1, 61))
    assert store.events.verify() is None


def test_from_find_to_its_select_there_are_three_steps(store):
    store.people.add_card(card_of(), NOON)
    steps = []

    def asked(sql: str) -> None:
        frame, names = sys._getframe(1), []
        while frame and frame.f_code.co_name != "test_from_find_to_its_select_there_are_three_steps":  # fmt: skip
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        if "FROM cards" in sql:
            steps.append(names[::-1])

    store.people._connection().set_trace_callback(asked)

    assert store.people.find(KEN)
    assert steps == [["find", "listed", "_query"]]


#: What is asked of a list and a log, and the answer where nothing was ever stored.
QUESTIONS = {
    "find": (lambda s: s.people.find(KEN), None),
    "cards": (lambda s: list(s.people.cards()), []),
    "block_on": (lambda s: s.people.block_on(KEN, "Ken Sato"), None),
    "blocks": (lambda s: s.people.blocks(), []),
    "has_dated_cards": (lambda s: s.people.has_dated_cards(), False),
    "locked_down": (lambda s: s.people.locked_down(), None),
    "changed_at": (lambda s: s.people.changed_at(), None),
    "lost": (lambda s: s.people.lost(), 0),
    "recall": (lambda s: s.events.recall("relock"), None),
    "last_moved": (lambda s: s.events.last_moved(KEN), None),
    "last_seen": (lambda s: s.events.last_seen(KEN), None),
    "newest_at": (lambda s: s.events.newest_at(), None),
    "oldest_at": (lambda s: s.events.oldest_at(), None),
    "read": (lambda s: list(s.events.read(NOON)), []),
    "latest": (lambda s: s.events.latest(3), []),
    "last_id": (lambda s: s.events.last_id(), 0),
    "verify": (lambda s: s.events.verify(), None),
}


@pytest.mark.parametrize(("ask", "answer"), QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_makes_no_file(tmp_path, ask, answer):
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        assert ask(store) == answer

    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_held_for_long_is_waited_for_briefly_and_not_remembered(
    path, door_store
):
    door_store.events.begin(INTENT)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        watch = Stopwatch()
        with pytest.raises(StoreError) as caught:
            door_store.events.begin(INTENT)

        assert watch.own_s < 0.5
        assert watch.wall_s > 0.2
        assert str(caught.value) == f"{path}: database is locked"
        assert door_store.people.find(KEN) is None  # reading goes on meanwhile
        other.execute("ROLLBACK")

    assert door_store.events.begin(INTENT) == 2


def test_a_lock_on_a_database_not_made_yet_is_waited_for_no_longer(path, door_store):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        watch = Stopwatch()
        with pytest.raises(StoreError, match="database is locked"):
            door_store.events.begin(INTENT)

        assert watch.own_s < 0.6
        assert watch.wall_s > 0.2
        other.execute("ROLLBACK")

    assert door_store.events.begin(INTENT) == 1


# -- broken files


def filled(path: Path, events: int = 300) -> None:
    """A database of some size, closed."""
    with contextlib.closing(SqliteStore(path)) as store:
        for _ in range(events):
            store.events.begin(INTENT)


def spoil_with_garbage(path: Path) -> None:
    path.write_bytes(b"<html>not a database</html>" * 400)
    Path(f"{path}-wal").write_bytes(b"nor a wal" * 400)


def spoil_the_middle(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    Path(f"{path}-wal").write_bytes(b"a stray wal" * 400)


def spoil_the_end(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)


def spoil_all_but_the_wal(path: Path) -> None:
    """As after a file system check that found nothing to save."""
    with contextlib.closing(SqliteStore(path)) as store:
        store.events.begin(INTENT)
        wal = Path(f"{path}-wal").read_bytes()
    path.write_bytes(b"")
    Path(f"{path}-wal").write_bytes(wal)


def spoil_by_deleting_all_but_the_wal(path: Path) -> None:
    spoil_all_but_the_wal(path)
    path.unlink()


SPOILS = [
    (spoil_with_garbage, "file is not a database"),
    (spoil_the_middle, "database disk image is malformed"),
    (spoil_the_end, "database disk image is malformed"),
    (spoil_all_but_the_wal, "the file is empty or missing, but its -wal is not"),
    (
        spoil_by_deleting_all_but_the_wal,
        "the file is empty or missing, but its -wal is not",
    ),
]
broken = pytest.mark.parametrize(
    ("spoil", "words"), SPOILS, ids=[spoil.__name__ for spoil, _ in SPOILS]
)


@broken
def test_broken_database_is_set_aside_intact_and_replaced(
    path, door_store, spoil, words, caplog
):
    spoil(path)
    before = content(path.parent)

    with pytest.raises(StoreError) as caught:
        door_store.events.begin(INTENT)

    assert str(caught.value) == f"{path}: {words}"
    after = content(path.parent)
    (ending,) = {name.rpartition(".")[2] for name in after}
    assert doorpi.re.fullmatch(r"broken-\d{8}T\d{6}Z", ending)
    kept = {name.removesuffix(f".{ending}"): data for name, data in after.items()}
    kept.pop("doorpi.db-shm", None)  # an index of the -wal, made anew at each opening
    assert kept.pop("doorpi.db-wal", b"") == before.pop("doorpi.db-wal", b"")
    assert kept == before
    assert caplog.messages == [f"{path} was broken: set aside as .{ending}"]
    assert door_store.events.begin(INTENT) == 1
    assert door_store.events.verify() is None
    assert after.items() <= content(path.parent).items()


@broken
def test_broken_database_is_left_alone_by_a_verb(path, store, spoil, words):
    spoil(path)
    before = content(path.parent)

    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.events.begin(INTENT)

        assert str(caught.value) == f"{path}: {words}"
    after = content(path.parent)
    assert after.get("doorpi.db") == before.get("doorpi.db")
    assert not [name for name in after if "broken" in name]


def test_databases_that_break_within_a_second_are_all_kept(path, door_store):
    contents = {f"broken {number}".encode() * 1000 for number in range(5)}
    for data in contents:
        path.write_bytes(data)
        with pytest.raises(StoreError):
            door_store.events.begin(INTENT)

    kept = {file.read_bytes() for file in path.parent.glob("doorpi.db.broken-*")}
    assert kept == contents


def test_a_database_that_breaks_while_it_is_open_is_set_aside(path, door_store):
    filled(path)
    assert door_store.events.begin(INTENT) == 301
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))

    assert door_store.events.last_moved(KEN) is None

    (aside,) = path.parent.glob("doorpi.db.broken-*Z")
    assert aside.read_bytes()[4096:] == b"\xa5" * (aside.stat().st_size - 4096)
    assert list(path.parent.glob("doorpi.db-wal.broken-*Z"))
    assert door_store.events.begin(INTENT) == 1


# fmt: off
EDITS = [
    # what somebody did with the sqlite3 shell            what the store is asked
    ("UPDATE chains SET id = 'x'",                        lambda s: s.events.begin(INTENT)),
    ("UPDATE chains SET id = 9223372036854775807",        lambda s: s.events.begin(INTENT)),
    ("DELETE FROM chains",                                lambda s: s.events.begin(INTENT)),
    ("DROP TABLE states",                                 lambda s: s.events.recall("x")),
]
# fmt: on


@pytest.mark.parametrize(("sql", "ask"), EDITS, ids=[sql for sql, _ in EDITS])
def test_a_log_that_cannot_go_on_is_trouble_and_not_set_aside(
    path, door_store, sql, ask
):
    record(door_store, result=Result.UNLOCKED)
    run_sql(path, sql)

    with pytest.raises(StoreError, match=doorpi.re.escape(f"{path}: ")):
        ask(door_store)

    assert not list(path.parent.glob("*.broken-*"))  # SQLite finds it intact


@pytest.mark.parametrize(
    "value", ["'noon'", "'2026-11-18T12:00:00'", "x'00'", "'9999-12-31T23:59:59.999Z'"]
)
def test_time_that_makes_no_sense_is_none(path, door_store, value):
    record(door_store, result=Result.UNLOCKED)
    door_store.people.add_card(card_of(), NOON)
    run_sql(path, f"UPDATE events SET at = {value}")
    run_sql(path.with_name("cards.db"), f"UPDATE marks SET value = {value}")

    assert door_store.events.last_moved(KEN) is None
    assert door_store.events.last_seen(KEN) is None
    assert door_store.events.oldest_at() is None  # retention begins today, not in 1970
    assert door_store.people.changed_at() is None
    assert [event.at for event in door_store.events.read()] == [doorpi.EPOCH]
    assert door_store.events.verify() == "events: row 1 was changed"


BROKEN_ENTRIES = [
    # what rotted                            what is said of it
    ("holder = CAST(holder AS BLOB)",        "holder is b'Ken Sato'"),
    ("enabled = 31",                         "enabled is 31"),
    ("enabled = x'01'",                      "enabled is b'\\x01'"),
    ("valid_from = 'tomorrow'",              "valid_from is 'tomorrow'"),
    ("valid_until = x'323032'",              "valid_until is b'202'"),
    ("schedule = x'00'",                     "schedule is b'\\x00'"),
    ("role = x'00'",                         "role is b'\\x00'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "words"), BROKEN_ENTRIES, ids=[sql for sql, _ in BROKEN_ENTRIES]
)
def test_a_broken_entry_is_refused_and_harms_no_other(path, door_store, sql, words):
    """Nothing but this row is in doubt: SQLite finds the file intact."""
    door_store.people.change_cards([card_of(), card_of(STRANGER, "Jo")], [], NOON)
    run_sql(path.with_name("cards.db"), f"UPDATE cards SET {sql} WHERE uid = '{KEN}'")

    who = door_store.people.find(KEN)
    decision = doorpi.decide(KEN, who, doorpi.Circumstances(at=NOON))

    assert decision.reason is Reason.NOT_ENABLED
    assert who.refused == f"its entry in the database is broken: {words}"
    assert door_store.people.find(STRANGER) == card_of(STRANGER, "Jo", source=Origin.DB)
    assert {card.uid for card in door_store.people.cards()} == {KEN, STRANGER}
    assert not list(path.parent.glob("*.broken-*"))
    door_store.people.change_cards([], [KEN], NOON)
    assert door_store.people.find(KEN) is None


def test_entry_without_a_proper_uid_is_skipped(path, door_store):
    door_store.people.add_card(card_of(), NOON)
    door_store.people.add_card(card_of(STRANGER, "Jo"), NOON)
    wrong = f"UPDATE cards SET uid = x'00' WHERE uid = '{KEN}'"
    run_sql(path.with_name("cards.db"), wrong)

    assert [card.uid for card in door_store.people.cards()] == [STRANGER]


def test_a_letter_that_rotted_hides_neither_its_row_nor_others(path, door_store):
    door_store.people.add_card(card_of(), NOON)
    record(door_store, result=Result.UNLOCKED)
    rotten = "holder = CAST(x'4b65ff' AS TEXT)"
    run_sql(path, f"UPDATE events SET {rotten}")
    run_sql(path.with_name("cards.db"), f"UPDATE cards SET {rotten}")

    assert door_store.people.find(KEN).holder == "Ke\ufffd"
    assert [event.holder for event in door_store.events.read()] == ["Ke\ufffd"]
    assert door_store.events.verify() == "events: row 1 was changed"


def test_a_broken_row_of_the_log_hides_no_other(path, store, monkeypatch):
    monkeypatch.setattr(SqliteEvents, "page", 2)
    for _ in range(5):
        record(store, result=Result.UNLOCKED)
    run_sql(
        path,
        "UPDATE events SET at = 'noon' WHERE id = 2",
        "UPDATE events SET holder = x'00', reason = x'01' WHERE id = 3",
        "UPDATE outcomes SET latency_ms = 'x', detail = x'00' WHERE event = 4",
    )

    assert ids(store) == [1, 2, 3, 4, 5]
    assert [event.id for event in store.events.latest(4)] == [2, 3, 4, 5]


def test_programming_error_is_no_store_error(store):
    with pytest.raises(AttributeError):
        store.events.begin(None)
    with pytest.raises(TypeError):
        store.people.change_cards([card_of()], 5, NOON)

    assert store.events.begin(INTENT) == 1


def test_database_deleted_while_open_is_made_again(path, door_store):
    door_store.events.begin(INTENT)
    for file in path.parent.iterdir():
        file.unlink()

    assert door_store.events.begin(INTENT) == 1
    assert run_sql(path, "SELECT count(*) FROM events") == [[(1,)]]


def test_database_replaced_while_open_is_used(path, door_store, tmp_path):
    """A backup is put back, by mv as everybody would."""
    (tmp_path / "backup").mkdir()
    backup = tmp_path / "backup" / path.name
    filled(backup, events=7)
    door_store.events.begin(INTENT)
    for leftover in tmp_path.glob("doorpi.db-*"):
        leftover.unlink()
    backup.rename(path)

    assert door_store.events.begin(INTENT) == 8
    assert door_store.events.verify() is None


# -- places that cannot be written


@contextlib.contextmanager
def read_only(folder: Path, view: Path):
    """The same files at ``view``, where they cannot be written."""
    view.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(view)], check=True)
    try:
        ro = ["mount", "-o", "remount,ro,bind", str(view)]
        subprocess.run(ro, check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(view)], check=True)


def write_until_it_fails(store: SqliteStore) -> tuple[int, str]:
    """How many events were written, and what was said then."""
    for count in range(1000):
        try:
            store.events.begin(INTENT)
        except StoreError as error:
            return count, str(error)
    raise AssertionError("the disk is never full")


def test_full_disk_is_an_error_until_there_is_space(tmp_path):
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        store = SqliteStore(disk / "doorpi.db", repair=True)
        store.people.change_cards([card_of()], [], NOON)
        filler = fill_up(disk)

        counts = []
        for _ in range(3):
            count, words = write_until_it_fails(store)
            counts.append(count)
            assert words in (
                f"{disk}/doorpi.db: database or disk is full",
                f"{disk}/doorpi.db: disk I/O error",
            )
            assert store.people.find(KEN) == card_of(
                source=Origin.DB
            )  # it opens the door
        filler.unlink()

        assert store.events.begin(INTENT) == sum(counts) + 1
        assert ids(store) == list(range(1, sum(counts) + 2))
        assert store.events.verify() is None
        store.close()
        assert content(disk).keys() == {"doorpi.db", "cards.db", "cards.copy"}


def test_a_disk_that_is_full_from_the_start_is_used_when_there_is_space(tmp_path):
    with tmpfs(tmp_path / "disk", "size=256k") as disk:
        filler = fill_up(disk)
        store = SqliteStore(disk / "doorpi.db", repair=True)
        for _ in range(2):
            with pytest.raises(StoreError):
                store.events.begin(INTENT)
        filler.unlink()

        assert store.events.begin(INTENT) == 1
        assert not list(disk.glob("*.broken-*"))
        store.close()


def test_list_is_read_when_the_door_starts_on_a_full_disk(tmp_path):
    """And nobody who was taken off it as soon as there was space again."""
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        owner = SqliteStore(disk / "doorpi.db")
        owner.people.add_card(card_of(), NOON)
        owner.close()
        filler = fill_up(disk)
        store = SqliteStore(disk / "doorpi.db", repair=True)

        for _ in range(2):
            assert store.people.find(KEN) == card_of(source=Origin.DB)
        filler.unlink()
        owner.people.change_cards([], [KEN], NOON)

        assert store.people.find(KEN) is None
        owner.close()
        store.close()


NEEDS = {
    "a block": lambda store: store.people.change_cards([], [], NOON, block=[BLOCK]),
    "a lockdown": lambda store: store.people.lock_down("owner"),
}
BLOCK = doorpi.Block(uid=KEN, holder="Ken", since=NOON.astimezone(), by="nobi")
BLOCK_ROW = "Ken", doorpi.utc_text(NOON), "nobi"


@pytest.mark.parametrize("runs", [True, False], ids=["door runs", "door stands still"])
@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS)
def test_on_a_full_disk_room_is_kept_back_for_a_block_and_a_lockdown(
    tmp_path, need, runs
):
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        door = SqliteStore(disk / "doorpi.db", repair=True)
        door.people.add_card(card_of(), NOON)
        door.events.begin(INTENT)
        door.people.tidy()
        if not runs:
            door.close()
        door.people.copy.unlink()  # its room would do
        filler = fill_up(disk)
        owner = SqliteStore(disk / "doorpi.db")
        with pytest.raises(StoreError):
            owner.people.add_card(card_of(STRANGER, "Jo"), NOON)
        assert owner.people.reserve.exists()

        need(owner)
        owner.events.record(INTENT)  # what is done is logged, too
        owner.close()

        told = door.people.locked_down(), door.people.block_on(KEN, "")
        assert told in ((None, BLOCK), (True, None))
        noted = door.events.recall("list"), door.events.recall(f"block uid {KEN}")
        assert noted in (("2 owner", None), ("2 ", "\n".join(BLOCK_ROW)))
        assert not door.people.reserve.exists()
        door.people.tidy()
        assert not door.people.reserve.exists()
        filler.unlink()
        door.people.tidy()
        assert door.people.reserve.stat().st_blocks * 512 == door.people.reserve_bytes
        door.close()


def test_full_disk_without_a_reserve_is_an_error(tmp_path):
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        owner = SqliteStore(disk / "doorpi.db")
        owner.people.add_card(card_of(), NOON)
        owner.people.tidy()
        assert not owner.people.reserve.exists()  # too small a disk
        owner.people.copy.unlink()
        fill_up(disk)

        with pytest.raises(StoreError, match=r"full|I/O"):
            owner.people.lock_down("owner")
        owner.close()


def test_half_a_copy_is_not_left_on_a_full_disk(tmp_path, caplog):
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        store = SqliteStore(disk / "doorpi.db")
        members = [card_of(f"{number:08X}", "A member") for number in range(2000)]
        store.people.change_cards([card_of(), *members], [], NOON)
        (disk / "cards.copy").unlink()
        filler = fill_up(disk)
        os.truncate(
            filler, filler.stat().st_size - 40_960
        )  # for the -wal, not for more

        store.people.change_cards([], [KEN], NOON)

        full = "[Errno 28] No space left on device"
        assert caplog.messages == [
            f"the list was not copied to {disk}/cards.copy: {full}"
        ]
        assert store.people.find(KEN) is None
        assert not list(disk.glob("cards.copy*"))
        store.close()


def test_a_disk_that_is_read_only_can_still_be_read(tmp_path):
    """What a worn out SD card does."""
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        view = tmp_path / "view"
        writable = SqliteStore(disk / "doorpi.db")
        writable.people.add_card(card_of(), NOON)
        writable.events.begin(INTENT)
        with read_only(disk, view):
            store = SqliteStore(view / "doorpi.db", repair=True)
            for close in (lambda: None, writable.close):  # with a -wal, and without
                close()
                for _ in range(2):
                    assert store.people.find(KEN) == card_of(source=Origin.DB)
                    with pytest.raises(StoreError) as caught:
                        store.events.begin(INTENT)
                    assert str(caught.value) == (
                        f"{view}/doorpi.db: attempt to write a readonly database"
                    )
            store.close()


def test_a_list_of_an_older_program_lets_people_in_from_a_read_only_disk(tmp_path):
    """It is brought up to date once that can be."""
    card = f"'{KEN}', 'Ken Sato', 1, NULL, NULL, NULL, 'holder', '2026-11-18T12:00:00Z'"
    with tmpfs(tmp_path / "disk", "size=4m") as disk:
        with contextlib.closing(sqlite3.connect(disk / "cards.db")) as db:
            db.executescript(f"{SqlitePeople.schema[0]}; PRAGMA user_version = 1;")
            db.executescript(f"INSERT INTO cards VALUES ({card})")
        with read_only(disk, tmp_path / "view"):
            store = SqliteStore(tmp_path / "view" / "doorpi.db", repair=True)
            assert store.people.find(KEN) == card_of(source=Origin.DB)
            store.close()
        with contextlib.closing(SqliteStore(disk / "doorpi.db")) as store:
            assert store.people.blocks() == []
            assert version_of(store.people.path) == len(SqlitePeople.schema)


def test_a_folder_in_the_file_s_place_is_trouble_in_words(path, door_store):
    path.mkdir()

    with pytest.raises(StoreError) as caught:
        door_store.events.begin(INTENT)

    assert str(caught.value) == f"{path}: unable to open database file"
    path.rmdir()
    assert door_store.events.begin(INTENT) == 1


def test_a_file_in_the_folder_s_place_is_trouble_in_words(tmp_path):
    (tmp_path / "state").write_text("a file")
    store = SqliteStore(tmp_path / "state" / "doorpi.db", repair=True)

    with pytest.raises(StoreError) as caught:
        store.events.begin(INTENT)

    assert str(caught.value) == f"{store.events.path}: unable to open database file"


def test_a_folder_that_cannot_be_written_is_trouble_in_words(powerless):
    powerless.chmod(0o500)
    store = SqliteStore(powerless / "doorpi.db", repair=True)

    with pytest.raises(StoreError) as caught:
        store.events.begin(INTENT)

    assert str(caught.value) == f"{store.events.path}: unable to open database file"
    powerless.chmod(0o700)
    assert store.events.begin(INTENT) == 1
    store.close()


def test_a_folder_that_cannot_be_entered_is_trouble_in_words(powerless):
    store = SqliteStore(powerless / "state" / "doorpi.db")
    powerless.chmod(0o000)

    for ask in (
        store.events.exists,
        lambda: store.events.begin(INTENT),
        lambda: store.people.find(KEN),
        lambda: list(store.people.cards()),
        store.people.locked_down,
        store.people.tidy,
        lambda: store.people.lock_down("owner"),
    ):
        with pytest.raises(StoreError, match="Permission denied"):
            ask()


def test_a_file_that_cannot_be_written_can_still_be_read(powerless):
    store = SqliteStore(powerless / "doorpi.db", repair=True)
    store.people.add_card(card_of(), NOON)
    store.events.begin(INTENT)
    store.close()
    for file in powerless.iterdir():
        file.chmod(0o400)

    with pytest.raises(StoreError) as caught:
        store.events.begin(INTENT)

    assert (
        str(caught.value)
        == f"{store.events.path}: attempt to write a readonly database"
    )
    assert store.people.find(KEN) == card_of(source=Origin.DB)
    assert store.events.last_moved(KEN) is None
    for file in powerless.iterdir():  # SQLite gives the others the mode of the first
        file.chmod(0o600)
    with pytest.raises(StoreError):  # the connection that can only read is dropped
        store.events.begin(INTENT)
    assert store.events.begin(INTENT) == 2
    store.close()


def test_broken_database_that_cannot_be_set_aside_is_logged(powerless, caplog):
    store = SqliteStore(powerless / "doorpi.db", repair=True)
    store.events.path.write_bytes(b"<html>not a database</html>" * 400)
    powerless.chmod(0o500)

    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.events.begin(INTENT)
        assert str(caught.value) == f"{store.events.path}: file is not a database"

    assert content(powerless).keys() == {"doorpi.db"}
    assert "is broken and cannot be set aside: [Errno 13]" in caplog.messages[0]


# -- who may read it


def test_files_are_private_under_the_mask_of_main(tmp_path):
    before = os.umask(0o077)
    try:
        store = SqliteStore(tmp_path / "state" / "doorpi.db")
        store.events.begin(INTENT)
    finally:
        os.umask(before)

    made = [tmp_path / "state", *(tmp_path / "state").iterdir()]
    modes = {file.name: file.stat().st_mode & 0o777 for file in made}
    assert modes == {
        "state": 0o700,
        "doorpi.db": 0o600,
        "doorpi.db-wal": 0o600,
        "doorpi.db-shm": 0o600,
    }
    store.close()


LINKS = [f"{name}{end}" for name in ("doorpi.db", "cards.db") for end in doorpi.ENDINGS]
ASKS = {
    "doorpi.db": [
        lambda store: store.events.begin(INTENT),
        lambda store: list(store.events.read()),
    ],
    "cards.db": [
        lambda store: store.people.find(KEN),
        lambda store: list(store.people.cards()),
        lambda store: store.people.lock_down("owner"),
    ],
}


@pytest.mark.parametrize("kind", ["a database", "nothing"])
@pytest.mark.parametrize("name", LINKS)
def test_no_link_in_the_place_of_a_file_is_followed(path, door_store, name, kind):
    door_store.people.add_card(card_of(), NOON)
    door_store.events.begin(INTENT)
    door_store.close()
    path.with_name(name).unlink(missing_ok=True)
    other = path.parent / "elsewhere" / "other"
    other.parent.mkdir()
    if kind == "a database":
        run_sql(other, "CREATE TABLE x (y)")
    path.with_name(name).symlink_to(other)
    before = content(other.parent)

    for ask in ASKS[name.partition("-")[0]]:
        with pytest.raises(
            StoreError, match=f"{name} is a symbolic link, which is not"
        ):
            ask(door_store)

    assert content(other.parent) == before
    assert path.with_name(name).is_symlink()


def test_a_link_in_the_copys_place_does_not_take_the_lists(cards, door_store, tmp_path):
    other = tmp_path / "other"
    run_sql(other, "CREATE TABLE x (y)")
    cards.with_name("cards.copy").symlink_to(other)
    before = other.read_bytes()

    with pytest.raises(StoreError, match=r"cards\.copy is a symbolic link"):
        door_store.people.find(KEN)
    assert other.read_bytes() == before
    assert not cards.exists()


def test_a_copy_is_not_written_through_a_link(cards, store, tmp_path):
    store.people.add_card(card_of(), NOON)
    other = tmp_path / "other"
    other.touch()
    cards.with_name("cards.copy").symlink_to(other)

    store.people.change_cards([card_of(STRANGER, "Jo")], [], NOON)

    assert other.read_bytes() == b""
    assert not cards.with_name("cards.copy").is_symlink()


# -- a file of an older program


@pytest.fixture
def newer_program(monkeypatch):
    """The program after two changes of the schema; what the first one does."""

    def changed(first: str) -> None:
        second = "ALTER TABLE states ADD COLUMN note TEXT"
        newer = (*SqliteEvents.schema, first, second)
        monkeypatch.setattr(SqliteEvents, "schema", newer)

    return changed


def columns(path: Path, table: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def version_of(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_a_file_of_an_older_program_is_brought_up_to_date(path, newer_program):
    with contextlib.closing(SqliteStore(path)) as store:
        store.events.begin(INTENT)
    newer_program("CREATE TABLE more (x); ALTER TABLE states ADD COLUMN seen TEXT")

    with contextlib.closing(SqliteStore(path)) as store:
        assert len(list(store.events.read())) == 1
        assert store.events.verify() is None

    assert columns(path, "states")[-2:] == ["seen", "note"]
    assert version_of(path) == len(SqliteEvents.schema)
    assert [file.name for file in path.parent.glob("doorpi.db*")] == ["doorpi.db"]


def test_a_change_that_fails_half_way_changes_nothing(path, newer_program):
    with contextlib.closing(SqliteStore(path)) as store:
        store.events.begin(INTENT)
    newer_program(
        "ALTER TABLE states ADD COLUMN seen TEXT; ALTER TABLE missing RENAME TO x"
    )

    with (
        contextlib.closing(SqliteStore(path)) as store,
        pytest.raises(StoreError, match="no such table: missing"),
    ):
        store.events.keep(doorpi.NO_NOTES)  # makes the database

    assert version_of(path) == len(SqliteEvents.schema) - 2
    assert "seen" not in columns(path, "states")


def test_two_programs_that_bring_it_up_to_date_at_once_do_it_once(path, newer_program):
    with contextlib.closing(SqliteStore(path)) as store:
        store.events.begin(INTENT)
    newer_program("ALTER TABLE states ADD COLUMN seen TEXT")
    stores = [SqliteStore(path, busy_s=5) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda store: store.events.recall("x"), stores))

    assert found == [None] * 4
    assert columns(path, "states")[-2:] == ["seen", "note"]
    for store in stores:
        store.close()
