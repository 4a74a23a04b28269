"""doorpi present: who is in, as far as the readers of both sides can tell."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest

import doorpi
from doorpi import Event, Notes, Reason, presence_note, presence_text
from tests.helpers.world import KEN, MIKA

CONFIG = """
[[reader]]
name = "entrance"
direction = "in"
device = "tty:S0:pn532"

[[reader]]
name = "exit"
direction = "out"

[lock]
kind = "relay"
"""
NOW = datetime.now(UTC).replace(microsecond=0)


def come(path, holder: str, uid: str, at: datetime = NOW, text: str = "?") -> None:
    event = Event(at, doorpi.Uid(uid), holder, Reason.GRANTED, point="entrance")
    note = {presence_note(holder): presence_text(event) if text == "?" else text}
    with contextlib.closing(doorpi.make_store(doorpi.read_config(path, {}))) as store:
        store.events.keep(Notes(note))


def test_a_door_with_one_direction_says_that_it_cannot_tell(path, verb):
    path.write_text(CONFIG.replace('"out"', '""'))

    said = verb("present")

    assert (said.code, said.out) == (1, [])
    assert "does not know who is in" in said.err[0]


def test_nobody_is_in_and_no_database_is_made(path, verb):
    assert "nobody is in" in verb("present").out[0]
    assert verb("present", "--json").out == []
    assert [entry.name for entry in path.parent.iterdir()] == ["doorpi.toml"]


def test_who_is_in_since_when_those_who_came_first_first(path, verb):
    come(path, "Mika Mori", MIKA)
    come(path, "Ken Sato", KEN, NOW - timedelta(days=2))
    come(path, "Jo Guest", "0123AB07", text="")

    said = verb("present")

    ken, mika, note = said.out
    assert ken.startswith("Ken Sato   since ")
    assert "perhaps left without a tap" in ken
    assert mika == f"Mika Mori  since {NOW.astimezone():%H:%M}"
    assert "Only taps" in note
    one, two = map(json.loads, verb("present", "--json").out)
    assert one["holder"] == "Ken Sato"
    assert two == {
        "since": doorpi.utc_text(NOW), "holder": "Mika Mori", "uid": MIKA,
        "point": "entrance",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["[]", "5", '{"since": "never"}', '{"holder": 1}'])
def test_a_damaged_note_is_nobody(path, verb, text):
    come(path, "Ken Sato", KEN, text=text)

    assert "nobody is in" in verb("present").out[0]


def test_a_name_leaves_the_notes_with_the_log(path, verb):
    """The empty notes of people who have left, too."""
    come(path, "Ken Sato", KEN, NOW - timedelta(days=400))
    come(path, "Mika Mori", MIKA)
    come(path, "Jo Guest", "0123AB07", text="")

    with contextlib.closing(doorpi.make_store(doorpi.read_config(path, {}))) as store:
        store.events.forget(NOW - timedelta(days=365), NOW, 8)
        kept = store.events._query("SELECT name FROM states WHERE name LIKE 'present%'")

    assert [name for (name,) in kept] == [presence_note("Mika Mori")]
