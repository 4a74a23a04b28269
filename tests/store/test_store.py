"""SqliteStore on real files: what is written stays written, whatever happens to it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    MOVED,
    Command,
    Event,
    Notes,
    Origin,
    Reason,
    Result,
    Role,
    SqliteEvents,
    SqlitePeople,
    SqliteStore,
    Stopped,
    StoreError,
    Uid,
)
from tests.helpers.disk import fill_up, tmpfs
from tests.helpers.processes import environment
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import JST, KEN, NOON, STRANGER, card_of, utc

INTENT = Event(
    at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.GRANTED, command=Command.UNLOCK
)
DENIED = Event(at=NOON, uid=STRANGER, holder="", reason=Reason.NOT_FOUND)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "doorpi.db"


@pytest.fixture
def cards(path):
    return path.with_name("cards.db")


@pytest.fixture
def store(path):
    with contextlib.closing(SqliteStore(path)) as store:
        yield store


@pytest.fixture
def door_store(path):
    """As the door has it: it mends what is broken."""
    with contextlib.closing(SqliteStore(path, repair=True)) as store:
        yield store


def record(store: SqliteStore, event: Event = INTENT, **outcome) -> Event:
    """``event`` from begin to finish, as the log then tells it."""
    event = replace(event, id=store.events.begin(event), **outcome)
    if event.result:
        store.events.finish(event)
    return event


def run_sql(path: Path, *statements: str) -> list:
    """What somebody with the sqlite3 shell could do."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        return [db.execute(statement).fetchall() for statement in statements]


def ids(store: SqliteStore) -> list[int]:
    return [event.id for event in store.events.read()]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def started(program: str, *args: object, **options) -> subprocess.Popen:
    """A process of its own on the same ``doorpi``, which reads and writes lines."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys, os, doorpi\n" + program, *map(str, args)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(), **options,
    )  # fmt: skip


# -- what goes in comes out


def test_a_card_comes_back_as_it_went_in(store):
    guest = card_of(
        enabled=False,
        valid_from=date(2026, 12, 1),
        valid_until=date(2040, 3, 31),
        schedule="office-hours",
        role=Role.MASTER,
        source=Origin.DB,
    )
    plain = card_of(STRANGER, "Jo", source=Origin.DB)

    store.people.add_card(guest, NOON)
    store.people.add_card(plain, NOON)

    assert store.people.find(KEN) == guest
    assert list(store.people.cards()) == [plain, guest]  # by holder
    assert store.people.find(Uid("01020304")) is None


def test_a_card_that_is_added_again_replaces_what_was_known(store):
    store.people.add_card(card_of(schedule="office-hours"), NOON)

    store.people.add_card(card_of(holder="Ken S."), NOON)

    assert list(store.people.cards()) == [card_of(holder="Ken S.", source=Origin.DB)]


def test_events_come_back_in_order_with_their_outcomes(store):
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


def test_an_event_keeps_its_moment_whatever_zone_it_was_told_in(store):
    record(store, replace(INTENT, at=NOON.astimezone(JST)))

    (event,) = store.events.read()

    assert event.at == NOON
    assert event.at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("result", Result, ids=str)
def test_only_what_moved_the_bolt_or_may_have_counts_as_moved(store, result):
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


def test_what_had_no_end_is_closed_as_interrupted_at_the_next_start(path, store):
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


def test_a_starting_service_leaves_a_verb_its_event(path, store, by_hand):
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


def test_a_verb_that_was_killed_has_its_event_closed_later(store, by_hand):
    ago = timedelta(seconds=doorpi.VERB_S + 60)
    store.events.begin(replace(by_hand, at=by_hand.at - ago))
    store.events.begin(
        replace(by_hand, at=by_hand.at + ago)
    )  # by a clock that was ahead
    store.events.begin(by_hand)

    assert store.events.close_interrupted() == 2


def test_an_event_that_was_taken_for_dead_loses_no_notes(store, caplog):
    """A process that stood still for long, or a clock that jumped meanwhile."""
    begun = replace(INTENT, id=store.events.begin(INTENT))
    assert store.events.close_interrupted() == 1

    unlocked = replace(begun, result=Result.UNLOCKED)
    store.events.finish(unlocked, doorpi.Notes({"relock": "x"}, {"calls": 3}))

    assert (store.events.recall("relock"), store.events.recall("calls")) == ("x", "3")
    assert [event.result for event in store.events.read()] == [Result.INTERRUPTED]
    assert caplog.messages == [
        "event 1 ended (unlocked) after it was logged as interrupted"
    ]
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


def test_kill_9_at_any_moment_loses_nothing_that_was_told_and_breaks_nothing(path):
    """15 kills, each after a few to a few hundred writes."""
    begun, ended = set(), set()
    for _ in range(15):
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
    assert len(begun) >= 15


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
def test_each_commit_is_synced_before_it_is_told(path, store, tmp_path):
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
        for _ in range(300):
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

    assert stops > 50
    assert store.events.verify() is None


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


def test_from_find_to_its_select_there_are_four_steps(store):
    store.people.add_card(card_of(), NOON)
    steps = []

    def asked(sql: str) -> None:
        frame, names = sys._getframe(1), []
        while frame and frame.f_code.co_name != "test_from_find_to_its_select_there_are_four_steps":  # fmt: skip
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        if "FROM cards" in sql:
            steps.append(names[::-1])

    store.people._connection().set_trace_callback(asked)

    assert store.people.find(KEN)
    assert steps == [["find", "_query", "_query"]]


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
def test_a_broken_database_is_set_aside_whole_and_a_new_one_begun(
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
def test_a_verb_leaves_a_broken_database_as_it_is(path, store, spoil, words):
    spoil(path)
    before = content(path.parent)

    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.events.begin(INTENT)

        assert str(caught.value) == f"{path}: {words}"
    after = content(path.parent)
    assert after.get("doorpi.db") == before.get("doorpi.db")
    assert not [name for name in after if "broken" in name]


def test_two_that_break_in_one_second_are_both_kept(path, door_store):
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

    with pytest.raises(StoreError, match="malformed"):
        door_store.events.last_moved(KEN)

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
def test_a_time_that_makes_no_sense_is_long_ago(path, door_store, value):
    record(door_store, result=Result.UNLOCKED)
    door_store.people.add_card(card_of(), NOON)
    run_sql(path, f"UPDATE events SET at = {value}")
    run_sql(path.with_name("cards.db"), f"UPDATE marks SET value = {value}")

    assert door_store.events.last_moved(KEN) == doorpi.EPOCH
    assert door_store.events.last_seen(KEN) == doorpi.EPOCH
    assert door_store.events.oldest_at() == doorpi.EPOCH
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


def test_an_entry_without_a_proper_uid_is_told_and_passed_over(
    path, door_store, caplog
):
    door_store.people.add_card(card_of(), NOON)
    door_store.people.add_card(card_of(STRANGER, "Jo"), NOON)
    cards = path.with_name("cards.db")
    run_sql(cards, f"UPDATE cards SET uid = x'00' WHERE uid = '{KEN}'")

    assert [card.uid for card in door_store.people.cards()] == [STRANGER]
    assert caplog.messages == [f"{cards}: entry skipped: its UID is b'\\x00'"]


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


def test_a_slip_of_ours_is_not_told_as_trouble_with_the_database(store):
    with pytest.raises(AttributeError):
        store.events.begin(None)
    with pytest.raises(TypeError):
        store.people.change_cards([card_of()], 5, NOON)

    assert store.events.begin(INTENT) == 1


def test_a_database_that_is_deleted_while_open_is_begun_anew(path, door_store):
    door_store.events.begin(INTENT)
    for file in path.parent.iterdir():
        file.unlink()

    assert door_store.events.begin(INTENT) == 1
    assert run_sql(path, "SELECT count(*) FROM events") == [[(1,)]]


def test_a_database_that_is_replaced_while_open_is_used(path, door_store, tmp_path):
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


def test_a_full_disk_is_told_and_used_again_when_there_is_space(tmp_path):
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


def test_who_is_on_the_list_gets_in_when_the_door_starts_on_a_full_disk(tmp_path):
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


def test_a_disk_that_is_full_and_has_nothing_kept_back_is_told(tmp_path):
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


def test_a_broken_database_that_cannot_be_set_aside_is_only_told(powerless, caplog):
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


def test_nobody_else_can_read_what_is_made_under_the_mask_of_main(tmp_path):
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


def test_a_start_looks_only_at_what_came_since_the_last_one(store):
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


# -- the list, in a file of its own

GUEST = Uid("0123AB07")


def spoil(file: Path) -> None:
    for leftover in file.parent.glob(f"{file.name}*"):
        leftover.write_bytes(b"<html>not a database</html>" * 400)


def test_the_list_changes_as_a_whole_or_not_at_all(store):
    guest = card_of(GUEST, holder="Jo Guest")
    store.people.add_card(card_of(), NOON)

    store.people.change_cards([guest], [KEN], NOON)
    assert [card.uid for card in store.people.cards()] == [GUEST]

    with pytest.raises(StoreError):
        store.people.change_cards(
            [card_of(), replace(guest, holder=None)], [GUEST], NOON
        )
    assert [card.uid for card in store.people.cards()] == [GUEST]


def test_when_the_list_changed_last_is_known(store):
    assert store.people.changed_at() is None

    store.people.add_card(card_of(), NOON)
    store.people.lock_down("owner")

    assert store.people.changed_at() == NOON


def test_a_lockdown_is_known_to_another_process_and_to_the_next_start(path, store):
    assert store.people.locked_down() is None
    store.people.lock_down("owner")
    with contextlib.closing(SqliteStore(path)) as other:
        assert other.people.locked_down() is True
        other.people.lock_down("")
    assert store.people.locked_down() is False


@pytest.mark.parametrize("restarted", [False, True])
def test_a_broken_list_is_set_aside_and_its_copy_lets_people_in(
    path, cards, door_store, restarted
):
    """At once: who comes first must get in as well."""
    door_store.people.add_card(card_of(), NOON)
    door_store.people.lock_down("owner")
    if restarted:
        door_store.close()
    spoil(cards)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    assert door_store.people.locked_down() is True
    assert list(path.parent.glob("cards.db.broken-*"))


@pytest.mark.parametrize("lost", ["removed", "emptied"])
def test_a_list_that_is_lost_is_put_back(cards, door_store, lost):
    """An empty file is what a power cut may leave, and looks to SQLite like a new one."""
    door_store.people.add_card(card_of(), NOON)
    door_store.people.lock_down("owner")
    door_store.close()
    cards.unlink()
    if lost == "emptied":
        cards.touch()

    assert list(door_store.people.cards()) == [card_of(source=Origin.DB)]
    assert door_store.people.locked_down() is True


def test_a_copy_that_is_broken_too_is_used_once(cards, door_store, caplog):
    door_store.people.change_cards([card_of()], [], NOON)
    spoil(cards)
    spoil(cards.with_name("cards.copy"))

    for _ in range(4):
        with contextlib.suppress(StoreError):
            assert door_store.people.find(KEN) is None

    assert door_store.people.find(KEN) is None
    assert len(list(cards.parent.glob("cards.db.broken-*"))) == 2


def test_who_was_revoked_is_not_in_the_copy(cards, door_store):
    door_store.people.add_card(card_of(), NOON)
    door_store.people.change_cards([], [KEN], NOON)
    spoil(cards)

    assert door_store.people.find(KEN) is None


@pytest.fixture
def killed(monkeypatch):
    """Whoever changes the list ends before there is a new copy."""

    def link(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(doorpi.os, "link", link)
        yield


def test_who_is_killed_while_revoking_leaves_no_old_copy(
    cards, store, door_store, request
):
    store.people.add_card(card_of(), NOON)
    store.people.lock_down("")
    request.getfixturevalue("killed")

    with pytest.raises(KeyboardInterrupt):
        store.people.change_cards([], [KEN], NOON)
    assert not cards.with_name("cards.copy").exists()
    with pytest.raises(KeyboardInterrupt):
        store.people.lock_down("owner")
    store.close()
    spoil(cards)

    assert door_store.people.find(KEN) is None
    with pytest.raises(StoreError, match="changes of the list are lost"):
        door_store.people.locked_down()


def test_a_list_is_lost_twice_and_still_there(cards, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    spoil(cards)
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)

    assert door_store.people.needs_tidying
    door_store.people.tidy()
    assert not door_store.people.needs_tidying
    spoil(cards)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)


def test_the_door_makes_the_copy_in_its_next_idle_moment(cards, door_store, clock):
    """Also with a clock that is not set, by which nothing is removed."""
    clock.set = False
    door_store.people.change_cards([card_of()], [], NOON)
    spoil(cards)
    door_store.people.find(KEN)
    assert not cards.with_name("cards.copy").exists()

    retention = doorpi.Retention(365, clock)
    retention.step(door_store.people, door_store.events)

    assert cards.with_name("cards.copy").exists()


def test_a_copy_that_is_missing_is_made_in_an_idle_moment(cards, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    copy = cards.with_name("cards.copy")
    copy.unlink()

    door_store.people.tidy()
    spoil(cards)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)


def test_looking_for_a_copy_makes_none(cards, door_store):
    """SQLite takes an address with immutable=1 alone for one that it may create."""
    assert door_store.people.find(KEN) is None

    assert [file.name for file in cards.parent.glob("*.copy")] == []


def test_a_start_without_a_list_makes_none(cards, door_store):
    door_store.events.close_interrupted()
    door_store.people.tidy()
    assert door_store.people.locked_down() is None

    assert [file.name for file in cards.parent.glob("cards.*")] == []


def test_the_list_may_change_while_it_is_copied_and_the_copy_is_of_after(
    store, path, monkeypatch
):
    """Who waits for a copy is told that the card cannot be put on the list; and a copy
    of before would let in who was revoked meanwhile."""
    to_disk, revoke = os.fsync, [[KEN]]

    def slow(file: int) -> None:
        to_disk(file)
        if revoke:
            with contextlib.closing(SqliteStore(path, busy_s=0)) as other:
                other.people.change_cards([], revoke.pop(), NOON)

    monkeypatch.setattr(doorpi.os, "fsync", slow)
    store.people.change_cards([card_of(), card_of(STRANGER, "Mika")], [], NOON)
    store.close()

    copy = path.with_name("cards.copy")
    with contextlib.closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT uid FROM cards").fetchall() == [(STRANGER,)]
    assert [file.name for file in path.parent.glob("cards.copy*")] == ["cards.copy"]


def test_a_card_is_put_on_the_list_by_the_door_without_a_copy(cards, door_store):
    """The copy of a long list takes seconds, which somebody at the reader waits for."""
    door_store.people.add_card(card_of(STRANGER), NOON)
    door_store.people.tidy()
    copy = cards.with_name("cards.copy")
    assert copy.exists()

    door_store.people.add_card(card_of(), NOON)
    assert not copy.exists()  # better none than one of before
    assert door_store.people.needs_tidying

    door_store.people.tidy()
    assert not door_store.people.needs_tidying
    spoil(cards)
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)


def test_a_copy_has_no_name_before_it_is_complete(cards, store, killed):
    """Half a copy is in nobody's way, and the system removes it with its process."""
    with pytest.raises(KeyboardInterrupt):
        store.people.change_cards([card_of()], [], NOON)
    store.close()

    assert {file.name for file in cards.parent.iterdir()} == {"cards.db"}


def test_a_copy_that_fails_sets_nothing_aside(cards, door_store, monkeypatch, caplog):
    def broken(_: int) -> None:
        raise doorpi.Spoilt("no copy of this")

    monkeypatch.setattr(doorpi.os, "fsync", broken)
    door_store.people.add_card(card_of(), NOON)
    door_store.people.tidy()

    assert caplog.messages == [
        f"the list was not copied to {cards.parent}/cards.copy: no copy of this"
    ]
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    assert list(cards.parent.glob("*.broken-*")) == []


def test_where_no_copy_can_be_kept_there_is_no_old_one(
    cards, store, monkeypatch, caplog
):
    store.people.add_card(card_of(), NOON)
    monkeypatch.setattr(doorpi.SqlitePeople, "copied_up_to", 0)

    store.people.change_cards([], [KEN], NOON)

    assert not cards.with_name("cards.copy").exists()


def test_a_broken_log_takes_nobody_off_the_list(path, door_store):
    door_store.people.add_card(card_of(), NOON)
    door_store.events.begin(INTENT)
    spoil(path)

    with pytest.raises(StoreError):
        door_store.events.begin(INTENT)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    assert door_store.events.begin(INTENT) == 1


def test_a_long_import_keeps_no_tap_from_the_log(store, path):
    """The door waits a quarter of a second for a file; an import may take long."""
    with contextlib.closing(SqliteStore(path, busy_s=0)) as door:
        door.people.add_card(card_of(), NOON)
        begun = []

        def rows():
            for number in range(50):
                yield card_of(f"{number:08X}", holder=f"Member {number}")
                begun.append((door.events.begin(INTENT), door.people.find(KEN)))

        store.people.change_cards(rows(), [], NOON)

    assert begun == [(i + 1, card_of(source=Origin.DB)) for i in range(50)]


# -- what rot takes back


def test_a_change_of_the_list_does_not_stay_in_its_wal(cards, door_store, store):
    """One bad byte there, and SQLite takes back what was written after it."""
    door_store.people.find(KEN)  # the door has it open
    for change in (
        lambda: store.people.change_cards([card_of()], [], NOON),
        lambda: store.people.change_cards([], [KEN], NOON),
        lambda: store.people.lock_down("owner"),
    ):
        change()
        assert Path(f"{cards}-wal").stat().st_size == 0


def test_where_a_reader_prevents_that_it_is_done_later(cards, store, door_store):
    door_store.people.add_card(card_of(), NOON)
    with contextlib.closing(sqlite3.connect(cards)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM cards").fetchall()
        store.people.change_cards([], [KEN], NOON)
        assert Path(f"{cards}-wal").stat().st_size > 0

    door_store.people.tidy()

    assert Path(f"{cards}-wal").stat().st_size == 0


@pytest.fixture
def older(cards, door_store, tmp_path):
    """Bring an older state of a file back, as rot in a -wal does."""

    def bring_back(name: str) -> None:
        for leftover in cards.parent.glob(f"{name}*"):
            leftover.unlink()
        shutil.copy(tmp_path / "older" / name, cards.parent / name)

    door_store.people.add_card(card_of(), NOON)
    door_store.people.add_card(card_of(STRANGER, "Jo"), NOON)
    door_store.people.lock_down("")
    door_store.close()
    shutil.copytree(cards.parent, tmp_path / "older")
    return bring_back


def test_of_list_and_copy_the_one_with_later_changes_counts(
    cards, door_store, older, caplog
):
    door_store.people.change_cards([], [KEN], NOON)
    door_store.people.lock_down("owner")
    door_store.close()
    older("cards.db")

    assert door_store.people.find(KEN) is None
    assert door_store.people.find(STRANGER) == card_of(STRANGER, "Jo", source=Origin.DB)
    assert door_store.people.locked_down() is True
    assert list(cards.parent.glob("cards.db.broken-*"))
    assert f"{cards} was lost: its last copy has taken its place" in caplog.messages


def test_a_verb_that_finds_an_older_list_says_so_and_leaves_it(cards, store, older):
    store.people.change_cards([], [KEN], NOON)
    store.close()
    older("cards.db")
    before = cards.read_bytes()

    for ask in (
        lambda: store.people.find(KEN),
        lambda: list(store.people.cards()),
        lambda: store.people.change_cards([], [STRANGER], NOON),
    ):
        with pytest.raises(StoreError, match="changes are lost: it has 3, its copy 4"):
            ask()
    assert cards.read_bytes() == before


def test_a_copy_that_is_not_whole_is_no_later_one(cards, door_store, older):
    door_store.people.change_cards([], [KEN], NOON)
    door_store.close()
    older("cards.db")
    copy = bytearray(cards.with_name("cards.copy").read_bytes())
    copy[-4096:] = b"\xa5" * 4096
    cards.with_name("cards.copy").write_bytes(copy)

    assert door_store.people.find(STRANGER) == card_of(STRANGER, "Jo", source=Origin.DB)
    with pytest.raises(StoreError, match="it has 3, the log knows of 4"):
        door_store.people.locked_down()


def test_rot_in_the_list_and_its_copy_ends_no_lockdown(cards, door_store):
    door_store.people.lock_down("owner")
    for file in (cards, cards.with_name("cards.copy")):
        spoil(file)
    for _ in range(4):
        assert door_store.people.locked_down() is True

    door_store.people.lock_down("")
    assert door_store.people.locked_down() is False


@pytest.mark.parametrize("lost", ["lockdown", "changes"])
def test_rot_in_a_mark_ends_no_lockdown(cards, door_store, lost):
    door_store.people.lock_down("owner")
    run_sql(cards, f"UPDATE marks SET name = 'x' WHERE name = '{lost}'")

    assert door_store.people.locked_down() is True


def test_rot_in_the_log_ends_no_lockdown(path, door_store):
    door_store.people.lock_down("owner")
    spoil(path)

    assert door_store.people.locked_down() is True


def test_a_lockdown_that_was_lifted_stays_lifted(path, door_store, older):
    door_store.people.lock_down("owner")
    door_store.people.lock_down("")
    door_store.close()
    assert door_store.people.locked_down() is False

    older("doorpi.db")  # the log has its word of before
    assert door_store.people.locked_down() is False
    door_store.people.tidy()
    assert door_store.events.recall("list") == "5 "


def test_where_changes_are_lost_it_is_told_until_the_owner_changes_the_list(
    cards, door_store, older
):
    door_store.people.change_cards([], [KEN], NOON)
    door_store.close()
    older("cards.db")
    cards.with_name("cards.copy").unlink()

    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            door_store.people.locked_down()
        assert str(caught.value) == (
            f"{cards}: changes of the list are lost: it has 3, the log knows of 4;"
            " check who is on it with doorpi cards, and then: doorpi lockdown off"
        )
    door_store.people.lock_down("")
    assert door_store.people.locked_down() is False
    assert door_store.events.recall("list") == "5 "


def test_a_list_of_an_older_program_counts_from_its_next_change_on(cards, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    run_sql(cards, "DELETE FROM marks WHERE name = 'changes'")
    run_sql(door_store.events.path, "DELETE FROM states WHERE name = 'list'")
    cards.with_name("cards.copy").unlink()

    assert door_store.people.locked_down() is None
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    door_store.people.change_cards([], [KEN], NOON)
    assert door_store.events.recall("list") == "1 "
