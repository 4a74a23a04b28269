"""Who changed who may enter is in the log: what verbs do, and edits of the file."""

from __future__ import annotations

import contextlib
import csv
import io
import json

import pytest

from doorpi import (
    Change,
    Chart,
    Event,
    LogTail,
    Sought,
    SqliteStore,
    describe,
)
from tests.helpers.processes import DoorProcess, write_config
from tests.helpers.values import replace
from tests.helpers.world import KEN, MIKA, NOON, STRANGER, card_of, config_of

KEN_WRITTEN = "04:A9:3C:71:5E:D2:84"
CONFIG = f"""
[lock]
kind = "relay"
[[card]]
uid = "{KEN_WRITTEN}"
holder = "Ken Sato"
"""


ALLOWED = Event(
    at=NOON, uid=MIKA, holder="Mika", reason=Change.ALLOW, source="command",
    detail="by nobi: always",
)  # fmt: skip


def told(verb) -> list[tuple[object, ...]]:
    keys = ("decision", "reason", "holder", "uid", "source", "detail", "result")
    events = [json.loads(line) for line in verb("log", "--json")[1]]
    return [tuple(event[key] for key in keys) for event in events]


# -- verbs


def test_allow_and_revoke_are_events_with_who_ran_them(verb, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "yui")
    verb("allow", "Mika", "--uid", MIKA, "--until", "2199-12-31")
    monkeypatch.delenv("SUDO_USER")
    verb("allow", "Mika Mori", "--uid", MIKA)
    verb("revoke", MIKA)
    verb("allow", "Mika Mori", "--uid", MIKA)

    until = "always, until 2199-12-31"
    assert told(verb) == [
        ("changed", "allow", "Mika", MIKA, "command", f"by yui: {until}", None),
        ("changed", "allow", "Mika Mori", MIKA, "command",
         f"by nobi: {until} (until now: Mika)", None),
        ("changed", "revoke", "Mika Mori", MIKA, "command",
         "by nobi: blocked D3:C2:B1:A0", None),
        ("changed", "allow", "Mika Mori", MIKA, "command",
         "by nobi: always; no longer blocked", None),
    ]  # fmt: skip


def test_revoke_of_a_holder_is_one_event(verb, store):
    store.people.add_card(card_of(MIKA), NOON)

    for _ in range(2):
        verb("revoke", "Ken Sato")

    assert told(verb) == [
        ("changed", "revoke", "Ken Sato", None, "command",
         f"by nobi: blocked {KEN_WRITTEN}, D3:C2:B1:A0", None),
    ]  # fmt: skip


def test_an_import_is_one_event_with_counts_and_names(verb, tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("uid,holder\n01:02:03:04,Jo\n01:02:03:05,Mika\n", "utf-8")
    verb("import", str(file))
    verb("import", str(file))
    file.write_text("uid,holder\n01:02:03:04,Jo\n", "utf-8")
    verb("import", "--dry-run", "--replace", str(file))
    verb("import", "--replace", str(file))

    assert [event[2:6] for event in told(verb)] == [
        ("", None, "command", "by nobi: 2 added, 0 changed, 0 removed: Jo, Mika"),
        ("Mika", "01020305", "command", "by nobi: 0 added, 0 changed, 1 removed: Mika"),
    ]


FAILING = {
    "allow": ("allow", "Jo", "--uid", "08112233"),
    "revoke": ("revoke", "Nobody"),
    "import": ("import", "not-there"),
}


@pytest.mark.parametrize("args", FAILING.values(), ids=FAILING)
def test_a_verb_that_fails_leaves_no_event(verb, args):
    assert verb(*args)[0] == 1

    assert verb("log")[1] == ["no events found"]


def test_a_log_that_cannot_be_written_stops_no_verb(verb, tmp_path, store, caplog):
    (tmp_path / "state" / "doorpi.db").mkdir(parents=True)

    assert verb("revoke", "Ken Sato")[0] == 0

    assert (
        f"not logged: {store.events.path}: unable to open database file"
        in caplog.messages
    )
    assert store.people.block_on(KEN, "")


# -- how they are shown


def test_the_log_shows_a_change_and_who_was_denied_is_something_else(verb, store):
    store.events.record(ALLOWED)
    store.events.record(
        replace(ALLOWED, uid=None, holder="", reason=Change.LOCKDOWN_ON)
    )
    store.events.record(replace(ALLOWED, uid=None, holder="", reason=Change.IMPORT))

    lines = [line[21:].split("  ") for line in verb("log")[1]]
    (row,) = csv.reader(io.StringIO(verb("log", "--csv")[1][1]))

    assert [[*filter(None, map(str.strip, line))] for line in lines] == [
        ["Mika", "D3:C2:B1:A0", "changed", "allow (by nobi: always)"],
        ["everybody", "command", "changed", "lockdown-on (by nobi: always)"],
        ["several people", "command", "changed", "import (by nobi: always)"],
    ]
    assert row[3:6] == ["Mika", "changed", "allow"]
    assert verb("log", "--denied")[1] == ["no events found"]
    assert store.events.verify() is None


def test_a_change_is_a_line_of_the_journal_and_no_tap():
    chart = Chart(NOON.date(), NOON.date())
    chart.add(ALLOWED)

    assert describe(ALLOWED) == "changed: Mika (D3:C2:B1:A0): allow (by nobi: always)"
    assert not any(map(any, chart.hours))


def test_who_follows_the_log_sees_a_change_at_once(store, clock):
    store.events.record(ALLOWED)
    tail = LogTail(store.events, Sought(), clock, open_s=60.0)
    assert [event.reason for event in tail.begin(None, 10)] == [Change.ALLOW]

    store.events.record(replace(ALLOWED, reason=Change.REVOKE))

    assert [event.reason for event in tail.news()] == [Change.REVOKE]


# -- edits


def test_an_edit_of_people_is_an_event_and_another_is_none(world):
    door = world.door(config_of(card_of()))
    for config in (
        config_of(card_of(), card_of(STRANGER, "Jo")),
        config_of(card_of(), card_of(STRANGER, "Jo"), name="Back door"),
        config_of(),
    ):
        world.settings.renewed, world.settings.reload = config, True
        door.step()

    events = world.store.events.values()
    assert [(e.decision, e.reason, e.source, e.uid, e.holder, e.detail) for e in events] == [
        ("changed", Change.EDIT, "file", STRANGER, "Jo", "Jo: added"),
        ("changed", Change.EDIT, "file", None, "", "Ken Sato, Jo: removed"),
    ]  # fmt: skip


def test_an_edit_while_the_door_stood_still_is_an_event_of_its_start(
    tmp_path, cloud, radio
):
    config = write_config(tmp_path, cloud, radio.device)
    with DoorProcess(config) as door:
        door.until_ready()
        door.until((tmp_path / "state/last-good.json").exists, "it is kept")
    text = config.read_text("utf-8")
    config.write_text(text.replace("Ken Sato", "Ken S."), "utf-8")
    with DoorProcess(config) as door:
        door.until_ready()
        door.until(lambda: "changed: Ken Sato: now Ken S." in door.journal, "told")

    with contextlib.closing(SqliteStore(tmp_path / "state/doorpi.db")) as store:
        (event,) = store.events.read()
    assert (event.reason, event.source, event.holder) == (Change.EDIT, "file", "Ken S.")
    assert event.detail == "Ken Sato: now Ken S."
