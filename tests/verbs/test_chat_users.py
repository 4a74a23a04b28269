"""Users of the chat on the list: the verbs take ``telegram:4711`` like a card."""

from __future__ import annotations

import json

import pytest

import doorpi
from doorpi import Event, Origin, Reason, Uid, parse_config
from tests.helpers.world import NOON, card_of

CONFIG = """
[lock]
kind = "relay"
[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
[telegram]
token = "12345:a-token-of-the-tests"
[[telegram.user]]
id = 4712
holder = "Aya Abe"
role = "master"
"""
USER, AYA = "telegram:4711", "telegram:4712"


def test_allow_puts_a_user_of_the_chat_on_the_list(verb, store):
    said = verb("allow", "Ken Sato", "--uid", USER, "--schedule", "office-hours")

    assert said.out == [f"Ken Sato may enter with {USER}: Mon-Fri 08:00-20:00"]
    assert store.people.find(Uid(USER)) == card_of(
        Uid(USER), source=Origin.DB, schedule="office-hours"
    )


def test_cards_shows_them_beside_the_cards(verb):
    verb("allow", "Ken Sato", "--uid", USER)

    rows = [line.split()[:4] for line in verb("people").out]
    entries = {
        known["uid"]: person | known
        for person in map(json.loads, verb("people", "--json").out)
        for known in person["identifiers"]
    }

    assert ["Ken", "Sato", "04:A9:3C:71:5E:D2:84,", USER] in rows
    assert ["Aya", "Abe", AYA, "always"] in rows
    assert entries[USER]["holder"] == "Ken Sato"
    assert (entries[AYA]["role"], entries[AYA]["source"]) == ("master", "toml")


@pytest.mark.parametrize("form", ["--toml", "--json"])
def test_an_export_brings_them_back(verb, store, folder, form):
    verb("allow", "Ken Sato", "--uid", USER, "--until", "2199-12-31")
    before, exported = store.people.find(Uid(USER)), verb("cards", form).out
    (folder / "list").write_text("\n".join(exported))
    store.people.change_cards([], [Uid(USER)], doorpi.SystemClock().now())

    verb("import", str(folder / "list"))

    assert store.people.find(Uid(USER)) == before


def test_an_export_can_be_pasted_into_the_settings(verb):
    verb("allow", "Mika Mori", "--uid", USER)

    text = CONFIG + "\n".join(verb("cards", "--toml").out)

    assert parse_config(text).cards[Uid(USER)].holder == "Mika Mori"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (USER, f"Ken Sato ({USER}) would be let in now: granted, without limits."),
        (AYA, f"Aya Abe ({AYA}) would be let in now: granted, without limits."),
        ("telegram:99", "telegram:99 would be denied: not-found,"),
    ],
)
def test_why_knows_them(verb, text, sentence):
    verb("allow", "Ken Sato", "--uid", USER)

    (line,) = verb("why", text).out

    assert line.startswith(sentence)


def test_why_tells_of_a_person_by_each_identifier(verb):
    verb("allow", "Ken Sato", "--uid", USER)

    (line,) = verb("why", "ken sato").out

    assert line.startswith(f"Ken Sato (04:A9:3C:71:5E:D2:84, {USER}) would be let in")


@pytest.mark.parametrize("whom", [USER, "Ken Sato"])
def test_revoke_blocks_the_user_and_takes_it_off_the_list(verb, store, whom):
    verb("allow", "Ken Sato", "--uid", USER)

    verb("revoke", whom)

    assert store.people.find(Uid(USER)) is None
    assert store.people.block_on(Uid(USER), "Ken Sato")


@pytest.mark.parametrize(
    ("holder", "stays"), [("Mika Mori", True), ("Jo Guest", False)]
)
def test_a_list_of_cards_that_replaces_all_keeps_users_of_its_people(
    verb, store, folder, holder, stays
):
    verb("allow", holder, "--uid", USER)
    (folder / "list.csv").write_text("uid,holder\nD3C2B1A0,mika mori\n")

    verb("import", str(folder / "list.csv"), "--replace")

    assert (store.people.find(Uid(USER)) is not None) is stays


@pytest.mark.parametrize(
    "text",
    ["telegram:", "telegram:0", "telegram:-5", "telegram:4711x", "Telegram:4711"],
)
def test_what_is_no_user_is_refused(verb, text):
    with pytest.raises(SystemExit):
        verb("allow", "Ken Sato", "--uid", text)


def test_people_shows_when_a_user_of_the_chat_was_last_there(verb, store):
    verb("allow", "Mika Mori", "--uid", USER)
    chat = Event(NOON, None, "Mika Mori", Reason.GRANTED, source="chat")
    store.events.record(chat)
    store.events.record(chat._replace(holder="Ken Sato", source="card"))

    found = {
        known["uid"]: known["last_seen"]
        for person in map(json.loads, verb("people", "--json").out)
        for known in person["identifiers"]
    }

    assert found[USER] == doorpi.utc_text(NOON)
    assert found[AYA] is None
