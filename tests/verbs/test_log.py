"""`log`: who came, and what the door did, for people, spreadsheets and programs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    Command,
    Event,
    LogTail,
    Reason,
    Result,
    Sought,
    SqliteEvents,
    SqliteStore,
    StoreError,
    Uid,
    format_uid,
    main,
    parse_config,
    read_list,
    width,
)
from tests.helpers.processes import environment, wait_for
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER

TAP = Event(
    at=NOON,
    uid=KEN,
    holder="Ken Sato",
    reason=Reason.GRANTED,
    command=Command.UNLOCK,
    result=Result.UNLOCKED,
    latency_ms=412,
)
DENIED = replace(
    TAP, uid=STRANGER, holder="", reason=Reason.NOT_FOUND, command=None, result=None,
    latency_ms=None,
)  # fmt: skip
OPEN = replace(TAP, result=None, latency_ms=None)

CONFIG = """
[lock]
kind = "relay"
"""


@pytest.fixture
def said(folder, capsys):
    """What `log` with these arguments says, as it is."""

    def run(*args: str, code: int = 0, errors: str = "") -> str:
        assert main(["--config", str(folder / "doorpi.toml"), "log", *args]) == code
        out, err = capsys.readouterr()
        assert err == errors
        return out

    return run


def logged(store: SqliteStore, *events: Event) -> list[int]:
    """Put down as the door does: with an end where there is one."""
    ids = []
    for number, event in enumerate(events):
        event = replace(event, at=event.at + timedelta(minutes=number))
        ids.append(store.events.begin(event))
        if event.result or event.detail:
            store.events.finish(replace(event, id=ids[-1]))
    return ids


def local(event_at: datetime) -> str:
    return f"{event_at.astimezone():%Y-%m-%d %H:%M:%S}"


# -- the table

YAMADA = "山田　太郎"
LONG = "Maximilian Wolfeschlegelsteinhausen"

AGAIN = replace(TAP, uid=None, holder="", source="relock", command=Command.LOCK)

# fmt: off
LINES = [
    # event                                                   what stands after the time
    (TAP,                                                     "Ken Sato                     04:A9:3C:71:5E:D2:84  granted  unlock -> unlocked in 412 ms"),
    (replace(TAP, holder=YAMADA),                             "山田　太郎                   04:A9:3C:71:5E:D2:84  granted  unlock -> unlocked in 412 ms"),
    (replace(TAP, holder=LONG),                               "Maximilian Wolfeschlegel...  04:A9:3C:71:5E:D2:84  granted  unlock -> unlocked in 412 ms"),
    (replace(TAP, holder="田" * 20),                          "田田田田田田田田田田田田...  04:A9:3C:71:5E:D2:84  granted  unlock -> unlocked in 412 ms"),
    (replace(TAP, result=Result.UNSURE, detail="no answer"),  "Ken Sato                     04:A9:3C:71:5E:D2:84  granted  unlock -> unsure in 412 ms (no answer)"),
    (replace(TAP, command=None, result=Result.UNKNOWN_STATE), "Ken Sato                     04:A9:3C:71:5E:D2:84  failed   card accepted, door not opened after 412 ms: the lock's state is not known"),
    (replace(TAP, result=Result.REFUSED, detail="jammed"),    "Ken Sato                     04:A9:3C:71:5E:D2:84  failed   card accepted, door not opened after 412 ms: jammed"),
    (replace(TAP, command=None, result=Result.UNREACHABLE),   "Ken Sato                     04:A9:3C:71:5E:D2:84  failed   card accepted, door not opened after 412 ms: the lock could not be reached"),
    (replace(TAP, command=Command.LOCK, result=Result.REFUSED), "Ken Sato                     04:A9:3C:71:5E:D2:84  failed   card accepted, door not locked after 412 ms: the lock refused"),
    (OPEN,                                                    "Ken Sato                     04:A9:3C:71:5E:D2:84  granted  unlock -> under way"),
    (replace(OPEN, command=None, detail="enrolled"),          "Ken Sato                     04:A9:3C:71:5E:D2:84  granted  enrolled"),
    (replace(OPEN, command=None),                             "Ken Sato                     04:A9:3C:71:5E:D2:84  granted  under way"),
    (DENIED,                                                  "unknown card                 04:FF:EE:DD:CC:BB:AA  denied   not-found"),
    (replace(DENIED, point="exit"),                           "unknown card                 04:FF:EE:DD:CC:BB:AA  denied   exit: not-found"),
    (replace(DENIED, detail="14 more until 12:01"),           "unknown card                 04:FF:EE:DD:CC:BB:AA  denied   not-found (14 more until 12:01)"),
    (replace(TAP, uid=None, holder="root", source="command"), "root                         command               granted  unlock -> unlocked in 412 ms"),
    (replace(AGAIN, result=Result.LOCKED, latency_ms=6603),   "auto-relock                  -                     -        locked in 6.6 s"),
    (replace(AGAIN, result=Result.UNREACHABLE, detail="cut"), "auto-relock                  -                     -        door not locked after 412 ms: cut"),
    (replace(TAP, holder="Evil\x1b[2J\n\u202eKen"),           r"Evil\x1b[2J\n\u202eKen       04:A9:3C:71:5E:D2:84  granted  unlock -> unlocked in 412 ms"),
]
# fmt: on


@pytest.mark.parametrize(
    ("event", "line"), LINES, ids=[line.split("  ")[0] for _, line in LINES]
)
def test_log_line_has_time_holder_card_decision_and_result(store, said, event, line):
    logged(store, event)

    assert said() == f"{local(NOON)}  {line}\n"


def test_columns_stay_aligned_with_wide_letters_and_long_uids(store, said):
    triple = Uid("04A93C715ED284010203")
    logged(store, TAP, replace(TAP, holder=YAMADA), replace(TAP, uid=triple), DENIED)

    lines = said().splitlines()

    starts = {width(line.partition(word)[0]) for line in lines for word in (" granted ", " denied ") if word in line}  # fmt: skip
    assert len(starts) == 1


# fmt: off
WIDTHS = [
    # text             columns
    ("",               0),
    ("Ken Sato",       8),
    ("Zoë",            3),
    (unicodedata.normalize("NFD", "Zoë"), 3),
    ("山田　太郎",     10),
    ("ﾔﾏﾀﾞ",             4),
    (unicodedata.normalize("NFD", "ガ"), 2),
    ("\U0001f6aa",     2),
    ("\uff2b\uff45\uff4e", 6),
]
# fmt: on


@pytest.mark.parametrize(
    ("text", "columns"), WIDTHS, ids=[ascii(text) for text, _ in WIDTHS]
)
def test_a_text_is_as_wide_as_a_terminal_shows_it(text, columns):
    assert width(text) == columns


# -- filters


def found(said, *args: str) -> list[int]:
    return [json.loads(line)["id"] for line in said("--json", *args).splitlines()]


# fmt: off
FILTERS = [
    # arguments                              ids
    (["--uid", "04:a9:3c:71:5e:d2:84"],      [1, 3, 4, 6]),
    (["--uid", "01020304"],                  []),
    (["--denied"],                           [2, 4]),
    (["--holder", "ken"],                    [1, 4]),
    (["--holder", "SATO"],                   [1, 4]),
    (["--holder", "Ken  Sato "],             [1, 4]),
    (["--holder", "zoë"],                    [3]),
    (["--holder", "zoe"],                    [3]),
    (["--holder", "山田"],                   [5]),
    (["--holder", "%"],                      [6]),
    (["--holder", "_"],                      []),
    (["--holder", "' OR 1=1 --"],            []),
    (["--holder", "ken", "--denied"],        [4]),
    (["--denied", "--uid", "04FFEEDDCCBBAA"], [2]),
    (["--since", "{3}", "--denied"],         [4]),
    (["--since", "{2}", "--uid", "04A93C715ED284"], [3, 4, 6]),
]
# fmt: on


@pytest.mark.parametrize(
    ("args", "ids"), FILTERS, ids=[" ".join(a) for a, _ in FILTERS]
)
def test_filters_can_be_combined(store, said, args, ids):
    logged(
        store,
        TAP,
        DENIED,
        replace(TAP, holder="ZOË"),
        replace(TAP, reason=Reason.EXPIRED, command=None, result=None),
        replace(TAP, uid=Uid("01020305"), holder=YAMADA),
        replace(TAP, holder="100 %"),
    )
    times = [None, *((NOON + timedelta(minutes=n)).isoformat() for n in range(6))]

    assert found(said, *(arg.format(*times) for arg in args)) == ids


def test_log_without_matches_says_so(store, said):
    logged(store, TAP)

    assert said("--denied") == "no events found\n"
    assert said("--since", "2199-01-01") == "no events found\n"


# fmt: off
MOMENTS = [
    # --since      how long ago
    ("2h",         timedelta(hours=2)),
    ("90min",      timedelta(minutes=90)),
    ("3 days",     timedelta(days=3)),
    ("1 day",      timedelta(days=1)),
    ("2 weeks",    timedelta(weeks=2)),
]
# fmt: on


@pytest.mark.parametrize(("text", "ago"), MOMENTS, ids=[text for text, _ in MOMENTS])
def test_since_so_long_ago(text, ago):
    now = datetime.now().astimezone()

    assert timedelta(0) <= doorpi.time_since(text) - (now - ago) < timedelta(seconds=5)


def test_since_yesterday_begins_at_local_midnight():
    today = doorpi.time_since("today")

    yesterday = doorpi.time_since("yesterday")

    assert yesterday.date() == today.date() - timedelta(days=1)
    assert (yesterday.hour, yesterday.minute) == (0, 0)


# -- for spreadsheets and programs


@pytest.fixture
def csv_said(said):
    """What `log --csv` prints, without the BOM that tells Excel what it is."""

    def run() -> str:
        text = said("--csv")
        assert text[0] == "\ufeff"
        return text[1:]

    return run


def test_csv_has_the_names_and_values_of_the_json(store, said, csv_said):
    logged(store, TAP, DENIED, replace(TAP, holder='Jo "Jojo", Jr', detail="a,b"))

    text = csv_said()

    assert text.endswith("\r\n")
    assert text.count("\n") == text.count("\r\n") == 4
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    objects = [json.loads(line) for line in said("--json").splitlines()]
    assert [header] * 3 == [list(each) for each in objects]
    for each in objects:
        each["uid"] = format_uid(each["uid"])
    assert rows == [
        ["" if value is None else str(value) for value in each.values()]
        for each in objects
    ]


def test_uids_and_names_of_the_csv_can_be_imported(store, csv_said):
    names = {Uid("04771234"): "=1+1", Uid("12345678901234"): "\u4f50\u85e4 \u5065"}
    for uid, name in names.items():
        logged(store, replace(TAP, uid=uid, holder=name))

    _, *rows = csv.reader(io.StringIO(csv_said(), newline=""))
    text = "uid,holder\n" + "".join(f"{row[2]},{row[3]}\n" for row in rows)
    rows = read_list(text, parse_config(CONFIG)).rows

    assert {uid: row.holder for uid, row in rows.items()} == names


def test_csv_of_nothing_is_its_header(csv_said):
    assert csv_said() == (
        "id,at,uid,holder,decision,reason,command,result,latency_ms,source,detail,point,request\r\n"
    )


# fmt: off
CELLS = [
    # what somebody is called        what a spreadsheet gets
    ("=1+1",                         "'=1+1"),
    ("+49 30 1234",                  "'+49 30 1234"),
    ("-2+3",                         "'-2+3"),
    ("@SUM(A1)",                     "'@SUM(A1)"),
    ("\t=1+1",                       r"'\t=1+1"),
    ("\r=1+1",                       r"'\r=1+1"),
    ("\n=1+1",                       r"'\n=1+1"),
    (" =1+1",                        "' =1+1"),
    ("\uff1d1+1",                   "'\uff1d1+1"),
    ("Ken = Sato",                   "Ken = Sato"),
    ("Evil\x1b[2J\x00",              r"Evil\x1b[2J\x00"),
    ('"=1+1"',                       '"=1+1"'),
    ("x" * 500,                      "x" * 500),
]
# fmt: on


@pytest.mark.parametrize(
    ("holder", "cell"), CELLS, ids=[ascii(holder[:20]) for holder, _ in CELLS]
)
def test_no_cell_is_a_formula_and_controls_are_shown(store, csv_said, holder, cell):
    logged(store, replace(TAP, holder=holder, latency_ms=-5))

    _, row = csv.reader(io.StringIO(csv_said(), newline=""))

    assert (row[3], row[8]) == (cell, "-5")  # our own numbers stay numbers


# fmt: off
CLASHES = [
    (["--json", "--csv"],       "--json and --csv do not go together\n"),
    (["--verify", "--follow"],  "--verify and --follow do not go together\n"),
    (["--chart", "--follow"],   "--chart and --follow do not go together\n"),
]
# fmt: on


@pytest.mark.parametrize(
    ("args", "words"), CLASHES, ids=[" ".join(a) for a, _ in CLASHES]
)
def test_log_rejects_options_that_exclude_each_other(said, args, words):
    assert said(*args, code=2, errors=words) == ""


# -- a long log


def test_a_long_log_is_read_a_page_at_a_time_and_whole(store, monkeypatch):
    logged(store, *[DENIED] * 9)
    monkeypatch.setattr(SqliteEvents, "page", 4)

    assert [event.id for event in store.events.read()] == list(range(1, 10))
    assert [e.id for e in store.events.read(NOON + timedelta(minutes=3))] == list(
        range(4, 10)
    )


def test_slow_reader_does_not_make_the_wal_grow(store, monkeypatch):
    """As `log | less` does: a reader in the midst of a query would keep all of it."""
    logged(store, *[DENIED] * 9)
    monkeypatch.setattr(SqliteEvents, "page", 4)
    reading = store.events.read()
    next(reading)

    with contextlib.closing(SqliteStore(store.events.path)) as door:
        logged(door, DENIED)
        ((busy, pages, moved),) = door.events._query("PRAGMA wal_checkpoint(RESTART)")

    assert (busy, pages) == (0, moved)
    assert len(list(reading)) == 9


# fmt: off
PLANS = [
    # what is asked                                         how SQLite finds it
    (lambda s: list(s.events.read(NOON)),                        ["events_at (at>?)", "PRIMARY KEY (rowid>?)"]),
    (lambda s: list(s.events.read(NOON, Sought(uid=KEN))), ["events_at (at>?)", "events_uid (uid=? AND id>?)"]),
    (lambda s: s.events.latest(10),                                ["SCAN e"]),
    (lambda s: list(s.events.read(after_id=7)),                    ["PRIMARY KEY (rowid>?)"]),
    (lambda s: list(s.events.read(None, Sought(uid=KEN), 7)),      ["events_uid (uid=? AND id>?)"]),
    (lambda s: s.events.forget(NOON, NOON, 5),                     []),
]
# fmt: on


@pytest.mark.parametrize(("ask", "wanted"), PLANS, ids=["since", "since uid", "latest", "after", "after uid", "forget"])  # fmt: skip
def test_a_long_log_is_asked_by_its_indexes(store, ask, wanted):
    """None of them sorts, or looks at all of it."""
    logged(store, TAP)
    asked = []
    store.events._connection().set_trace_callback(asked.append)

    ask(store)

    selects = [sql for sql in asked if sql.strip().startswith("SELECT")]
    store.events._connection().create_function("without_accents", 1, str)
    plans = [row[3] for sql in selects for row in store.events._query("EXPLAIN QUERY PLAN " + sql)]  # fmt: skip
    assert not [step for step in plans if "TEMP B-TREE" in step]
    for step in wanted:
        assert any(step in plan for plan in plans), plans


# -- as it comes


@pytest.fixture
def tail(store, clock) -> LogTail:
    store.events.keep(doorpi.NO_NOTES)  # makes the database
    return LogTail(store.events, Sought(), clock, open_s=30.0)


@pytest.fixture
def door(store):
    """Another process's connection."""
    with contextlib.closing(SqliteStore(store.events.path)) as door:
        yield door


def told(events) -> list[tuple[int, str | None, str]]:
    return [(event.id, event.result, event.detail) for event in events]


def test_follow_starts_with_the_last_events(tail, door):
    logged(door, *[TAP] * 12)

    assert [event.id for event in tail.begin(None, 10)] == list(range(3, 13))
    assert tail.news() == []

    logged(door, TAP)
    assert told(tail.news()) == [(13, "unlocked", "")]
    assert tail.news() == []


def test_follow_starts_with_those_since(tail, door):
    logged(door, *[TAP] * 5)

    since = list(tail.begin(NOON + timedelta(minutes=3), 10))

    assert [event.id for event in since] == [4, 5]
    assert tail.news() == []


def test_follow_shows_an_event_during_its_start_once(
    tail, store, door, clock, monkeypatch
):
    latest = store.events.latest

    def late(*args):
        logged(door, DENIED)
        return latest(*args)

    monkeypatch.setattr(store.events, "latest", late)

    assert told(tail.begin(None, 10)) == [(1, None, "")]
    assert tail.news() == []
    clock.advance(60)
    assert tail.news() == []


def test_follow_shows_a_tap_when_it_has_ended(tail, door, clock):
    begun = door.events.begin(OPEN)
    clock.advance(29)
    assert tail.news() == []

    door.events.finish(replace(TAP, id=begun))

    assert told(tail.news()) == [(1, "unlocked", "")]
    clock.advance(60)
    assert tail.news() == []


def test_follow_shows_a_long_tap_as_open_and_again_at_its_end(tail, door, clock):
    begun = door.events.begin(OPEN)
    assert tail.news() == []
    clock.advance(30)

    assert told(tail.news()) == [(1, None, "")]
    assert tail.news() == []

    door.events.finish(replace(TAP, id=begun, detail="found unfinished"))
    assert told(tail.news()) == [(1, "unlocked", "found unfinished")]


def test_follow_shows_a_denial_at_once_and_again_with_its_repeats(tail, door, clock):
    denied = door.events.begin(DENIED)
    assert tail.news() == []
    clock.advance(0.15)
    assert told(tail.news()) == [(1, None, "")]

    clock.advance(60)
    door.events.finish(replace(DENIED, id=denied, detail="14 more until 12:00:40"))
    assert told(tail.news()) == [(1, None, "14 more until 12:00:40")]


def test_follow_shows_an_event_of_two_rows_once(tail, door, clock):
    """The two rows are written one after the other; it may look in between."""
    begun = door.events.begin(replace(DENIED, detail="a new card is being enrolled"))
    assert tail.news() == []
    door.events.finish(replace(DENIED, id=begun, detail="a new card is being enrolled"))
    clock.advance(0.15)

    assert told(tail.news()) == [(1, None, "a new card is being enrolled")]
    assert tail.news() == []


def test_follow_shows_only_matching_events(store, door, clock):
    store.events.keep(doorpi.NO_NOTES)  # makes the database
    tail = LogTail(store.events, Sought(uid=KEN), clock, open_s=30.0)

    logged(door, DENIED, TAP, DENIED)
    clock.advance(1)

    assert told(tail.news()) == [(2, "unlocked", "")]


def test_follow_waits_for_a_log(store, clock):
    tail = LogTail(store.events, Sought(), clock, open_s=30.0)
    assert list(tail.begin(None, 10)) == []
    assert tail.news() == []
    assert not store.events.path.parent.exists()  # asking makes nothing

    with contextlib.closing(SqliteStore(store.events.path)) as door:
        logged(door, TAP)

    assert told(tail.news()) == [(1, "unlocked", "")]


def test_follow_continues_in_the_new_log(tail, store, clock):
    with contextlib.closing(SqliteStore(store.events.path)) as door:
        logged(door, replace(TAP, at=clock.now()), replace(OPEN, at=clock.now()))
        assert told(tail.news()) == [(1, "unlocked", "")]
        door.events._set_aside()
    assert tail.news() == []

    with contextlib.closing(SqliteStore(store.events.path)) as door:
        logged(door, replace(TAP, at=clock.now(), detail="new"))

    assert told(tail.news()) == [(1, "unlocked", "new")]


def test_follow_does_not_show_old_events_of_a_backup(tail, store, clock, tmp_path):
    with contextlib.closing(SqliteStore(tmp_path / "backup" / "doorpi.db")) as backup:
        logged(backup, *[replace(TAP, at=clock.now() - timedelta(days=2))] * 3)
    tail.news()
    store.close()
    for file in store.events.path.parent.glob("doorpi.db*"):
        file.unlink()
    (tmp_path / "backup" / "doorpi.db").rename(store.events.path)

    assert tail.news() == []

    with contextlib.closing(SqliteStore(store.events.path)) as door:
        logged(door, replace(TAP, at=clock.now()))
    assert told(tail.news()) == [(4, "unlocked", "")]


def test_follow_continues_after_a_broken_log(tail, store, clock):
    content = store.events.path.read_bytes()
    store.close()
    store.events.path.write_bytes(b"\xa5" * len(content))
    with pytest.raises(StoreError):
        tail.news()

    store.events.path.write_bytes(content)
    with contextlib.closing(SqliteStore(store.events.path)) as door:
        logged(door, TAP)

    assert told(tail.news()) == [(1, "unlocked", "")]


# -- as a process


@contextlib.contextmanager
def following(folder: Path, output, *args: str, **env):
    command = [sys.executable, "-m", "doorpi", "--config", str(folder / "doorpi.toml")]
    process = subprocess.Popen(
        [*command, "log", *args], stdout=output, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env=environment(PYTHONUNBUFFERED=None, **env), cwd="/",
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_follow_writes_each_event_at_once_until_ctrl_c(folder, store):
    logged(store, TAP)
    with following(folder, subprocess.PIPE, "--follow", "--json") as process:
        assert json.loads(process.stdout.readline())["id"] == 1

        watch = Stopwatch()
        logged(store, DENIED)
        assert json.loads(process.stdout.readline())["id"] == 2
        assert watch.own_s < 0.5

        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b""
        assert (process.wait(5), process.stderr.read()) == (0, b"")


def test_follow_ends_when_its_reader_has_left(folder, store):
    """`log --follow | head -n 1`, though no event comes any more."""
    logged(store, TAP)
    with following(folder, subprocess.PIPE, "--follow") as process:
        assert process.stdout.readline().startswith(b"2026-")

        process.stdout.close()

        assert (process.wait(5), process.stderr.read()) == (0, b"")


def on_a_terminal(folder: Path, lines: int, *args: str, **env: str) -> list[str]:
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals here: {error}")
    with following(folder, theirs, *args, **env) as process:
        os.close(theirs)
        text = b""

        def is_whole() -> bool:
            nonlocal text
            with contextlib.suppress(OSError):
                text += os.read(ours, 65536)
            return text.count(b"\n") >= lines

        wait_for(is_whole, "lines")
        process.wait(5)
    os.close(ours)
    return text.decode().splitlines()


def test_log_colours_denials_and_failures_on_a_terminal(folder, store):
    logged(store, TAP, DENIED, replace(TAP, result=Result.REFUSED))
    plain = on_a_terminal(folder, 3, NO_COLOR="1")

    coloured = on_a_terminal(folder, 3)

    granted, denied, refused = plain
    assert "\x1b" not in "".join(plain)
    assert coloured == [
        granted,
        f"\x1b[91m{denied}\x1b[0m",
        f"\x1b[93m{refused}\x1b[0m",
    ]
