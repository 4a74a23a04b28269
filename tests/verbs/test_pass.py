"""`doorpi pass`: guests' QR codes, made, listed and revoked."""

from __future__ import annotations

import json

import pytest

import doorpi
from doorpi import Change, Event, Medium, Reason, Result, pass_in
from tests.helpers.world import KEN, NOON, STRANGER

CONFIG = f"""
[door]
state_dir = "state"
require_synced_clock = false
[lock]
kind = "relay"
[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]
[[card]]
uid = "{KEN}"
holder = "Ken Sato"
"""
AUTHORITY = """
[[authority]]
name = "space"
base_url = "http://127.0.0.1:9"
plain_http = true
user = "door"
password = "p"
"""


def made(verb, folder, *more: str) -> doorpi.PassCode | None:
    said = verb("pass", "Jo Guest", "--until", "2099-12-01 18:00", "--text", *more)
    assert said.code == 0, said
    (text,) = said.out
    assert len(text) <= 140
    return pass_in(folder / "state" / "pass.key", text)


def test_pass_prints_the_code_alone_with_text(verb, folder, store):
    code = made(verb, folder, "--once", "--schedule", "office-hours")

    assert code is not None
    assert code.is_once
    found = store.people.find_pass(code.id)
    assert (found.holder, found.schedule) == ("Jo Guest", "office-hours")
    (event,) = store.events.read()
    assert (event.reason, event.holder, event.uid) == (Change.ALLOW, "Jo Guest", None)


def test_pass_key_is_for_the_service_alone(verb, folder):
    made(verb, folder)

    assert (folder / "state" / "pass.key").stat().st_mode & 0o777 == 0o600


def test_pass_draws_a_picture(verb, folder):
    for form, begins in (("--png", b"\x89PNG"), ("--svg", b"<?xml")):
        file = folder / "code"
        said = verb("pass", "Jo", "--until", "2099-12-01", form, str(file))
        assert said.code == 0
        assert file.read_bytes().startswith(begins)


def test_pass_of_a_day_lasts_to_its_end(verb, store):
    verb("pass", "Jo", "--until", "2099-12-01", "--text")

    (found,) = store.people.passes()
    ends = found.code.ends.astimezone()
    assert f"{ends:%Y-%m-%d %H:%M}" == "2099-12-01 23:59"


WRONG = {
    "nothing": ([], 2, "one of: a name, --list, --revoke"),
    "no end": (["Jo"], 2, "a pass needs an end"),
    "two at once": (["--list", "--revoke", "X"], 2, "one of"),
    "two forms": (["Jo", "--until", "2099-12-01", "--text", "--svg"], 2, "one of"),
    "a list as a picture": (["--list", "--text"], 2, "one of"),
    "the past": (["Jo", "--until", "2020-01-01"], 1, "is in the past"),
    "the year 1": (["Jo", "--until", "0001-01-01"], 1, "no such time"),
    "too late": (["Jo", "--until", "2199-01-01"], 1, "2105 or before"),
    "before it begins": (
        ["Jo", "--until", "2099-01-01", "--from", "2099-02-01"],
        1,
        "is before --from",
    ),
    "no such schedule": (
        ["Jo", "--until", "2099-01-01", "--schedule", "office-hour"],
        1,
        "did you mean 'office-hours'?",
    ),
    "no such pass": (["--revoke", "AAAAAAAA"], 1, "there is no pass"),
}


@pytest.mark.parametrize(("args", "code", "words"), WRONG.values(), ids=WRONG)
def test_pass_refuses(verb, folder, store, args, code, words):
    said = verb("pass", *args)

    assert said.code == code
    assert words in "\n".join(said.err)
    assert not store.people.exists() or store.people.passes() == []


def test_pass_without_segno_stores_nothing(verb, store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "segno", None)

    said = verb("pass", "Jo", "--until", "2099-12-01")

    assert said.code == 1
    assert "--text" in said.err[0]
    assert not store.people.exists() or store.people.passes() == []


def test_pass_list_and_revoke(verb, folder):
    code = made(verb, folder)

    assert verb("pass", "--list").out == [
        f"{code.id}  Jo Guest  until 2099-12-01 18:00"
    ]
    assert verb("pass", "--revoke", code.id.lower()).code == 0
    assert "revoked 20" in verb("pass", "--list").out[0]
    assert "was revoked before" in verb("pass", "--revoke", code.id).out[0]


def test_revoke_of_a_guest_blocks_their_passes_and_a_new_one_lifts_it(
    verb, folder, store
):
    made(verb, folder)

    assert verb("revoke", "jo guest").code == 0
    why = verb("why", "Jo Guest").out
    assert "not-enabled, blocked since" in why[0]
    assert "doorpi pass NAME" in why[0]
    again = verb("pass", "Jo Guest", "--until", "2099-12-01", "--text")
    assert any(line.startswith("no longer blocked") for line in again.err)
    assert store.people.blocks() == []


def test_revoke_of_somebody_whom_only_an_authority_knows(verb, path, store):
    path.write_text(CONFIG + AUTHORITY)
    event = Event(
        NOON, STRANGER, "space user 12", Reason.GRANTED, note="asked space",
        result=Result.UNLOCKED, source=Medium.CARD,
    )  # fmt: skip
    store.events.record(event)

    assert verb("revoke", doorpi.format_uid(STRANGER)).code == 0
    assert store.people.block_on(STRANGER, "").holder == "space user 12"
    assert verb("revoke", "space user 12").code == 0
    assert store.people.block_on(KEN, "Space User 12") is not None
    assert verb("revoke", "nobody of theirs").code == 1


def test_why_json_has_the_keys_of_the_design(verb):
    (line,) = verb("why", "Ken Sato", "--json").out

    assert json.loads(line) == {
        "uid": KEN, "holder": "Ken Sato", "decision": "granted", "reason": "granted",
        "until": None,
    }  # fmt: skip


def test_why_does_not_name_an_authority_for_a_phone(verb, path):
    path.write_text(CONFIG + AUTHORITY)

    assert len(verb("why", "08:11:22:33").out) == 1
    assert verb("why", "01:23:AB:07").out[1] == "space would be asked"


KEY_FILES = {
    "well": (lambda key: None, "ok", "can be verified"),
    "missing": (lambda key: key.unlink(), "FAIL", "is missing"),
    "damaged": (lambda key: key.write_text("no key\n"), "FAIL", "is damaged"),
}


@pytest.mark.parametrize(
    ("happens", "health", "words"), KEY_FILES.values(), ids=KEY_FILES
)
def test_doctor_looks_at_the_key_of_passes_that_have_not_ended(
    verb, folder, store, happens, health, words
):
    key = folder / "state" / "pass.key"
    assert list(doorpi.diagnose_passes(store, key, NOON)) == []

    made(verb, folder)
    happens(key)

    (found,) = doorpi.diagnose_passes(store, key, NOON)
    assert found.health == health.lower()
    assert words in found.words


def test_check_names_the_systems_that_take_part(verb, path):
    path.write_text(
        CONFIG + AUTHORITY + '[telegram]\ntoken = "1:a"\n[[telegram.user]]\nid = 4711\n'
        'holder = "Ken Sato"\n'
    )

    said = verb("check")

    assert said.out[2:4] == [
        "About a card that is not on the list, space is asked.",
        "`doorpi online` handles telegram.",
    ]
