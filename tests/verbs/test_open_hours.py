"""What `check`, `why` and `doctor` say of open hours."""

from __future__ import annotations

import pytest

import doorpi
from doorpi import Circumstances, Forgiving, Schedule, open_sentence, parse_span
from tests.helpers.values import replace
from tests.helpers.world import NOON, FakeStore, config_of

CONFIG = """
[door]
on_tap = "unlock"
require_synced_clock = false
[lock]
kind = "tedee"
device_id = "12345"
api_key = "k"
relock_after_s = 30.0
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
[[open]]
times = ["Mon-Sun 00:00-24:00"]
closed = [2199-12-31]
needs_first = true
"""
WORDS = "Mon-Sun 00:00-24:00, not on 2199-12-31, after the first member has come"


def test_check_says_the_hours_in_words(verb):
    assert f"The door stays unlocked {WORDS}." in verb("check")[1]


def test_check_warns_of_taps_that_end_the_hours(verb, path):
    path.write_text(CONFIG.replace('"unlock"', '"toggle"'))

    assert any("a tap in these hours locks" in line for line in verb("check")[1])


def test_why_and_doctor_know_them(verb):
    (line,) = verb("why", "Ken Sato")[1]
    assert line.endswith(
        f"These are open hours ({WORDS}), but the door stays locked: no member has"
        " come, or somebody has locked it."
    )

    (line,) = verb("why", "Ken Sato", "--at", "2199-12-30 12:00")[1]
    assert line.endswith(f" These are open hours: {WORDS}.")

    (line,) = verb("why", "Ken Sato", "--at", "2199-12-31 12:00")[1]
    assert "open hours" not in line


def test_an_edit_of_the_hours_is_reported():
    office = Schedule("", (), words=("Mon-Fri 09:00-18:00",))
    before = config_of()
    after = replace(before, open_hours=(office,))

    changes = [*doorpi.setting_changes(before, after)]

    assert changes == ["open hours: none -> Mon-Fri 09:00-18:00"]


OFFICE = "Wed 09:00-18:00"  # NOON is one
LOCKED = f"These are open hours ({OFFICE}), but the door stays locked: "
#: name: (the note, what is different, the sentence)
SENTENCES = {
    "unlocked itself": ("", {}, f"The door stays unlocked now, in its open hours: {OFFICE}."),
    "locked": ("lock 2026-11-18T02:00:00.000Z", {}, LOCKED + "no member has come, or somebody has locked it."),
    "locked before": ("lock 2026-11-17T02:00:00.000Z", {}, f"The door stays unlocked now, in its open hours: {OFFICE}."),
    "locked down": ("", {"locked_down": True}, LOCKED + "lockdown."),
    "clock unset": ("", {"clock_set": False}, LOCKED + "the clock is not set."),
    "at night": ("", {"at": NOON.replace(hour=20)}, ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("note", "around", "sentence"), SENTENCES.values(), ids=SENTENCES
)
def test_the_sentence(note, around, sentence):
    store = FakeStore()
    store.kept["open"] = note
    office = Schedule("", (parse_span(OFFICE),), words=(OFFICE,))
    when = Circumstances(**{"at": NOON} | around)

    events = Forgiving(store, lambda why, is_write: None)
    assert open_sentence([office], events, when, is_now=True) == sentence
