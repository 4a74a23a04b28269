"""`forget`: nothing on the device names a person who has left."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta

import pytest

import doorpi
from doorpi import (
    FORGOTTEN,
    GuestPass,
    Inbox,
    Medium,
    Membership,
    Origin,
    PassCode,
    Result,
    SyncedPeople,
    SystemClock,
    Wants,
)
from tests.helpers.stores import DENIED, INTENT, content, record
from tests.helpers.values import replace
from tests.helpers.world import KEN, MIKA, NOON, STRANGER, card_of

KEN_S = doorpi.format_uid(KEN)
CONFIG = """
[lock]
kind = "relay"
"""
FILE = f"""
[[card]]
uid = "{KEN_S}"
holder = "Ken Sato"
enabled = false
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(SystemClock, "sleep", staticmethod(lambda seconds: None))


def named(folder) -> list[str]:
    """The files of the state that name him, in any way."""
    names = [b"ken sato", json.dumps("佐藤健")[1:-1].encode(), "佐藤健".encode()]
    files = content(folder / "state").items()
    return [name for name, text in files if any(n in text.lower() for n in names)]


def test_a_whole_life_is_forgotten(verb, folder, store):
    """Each way of a name into the files, by the verbs and by what runs."""
    members = folder / "list.csv"
    members.write_text(f"uid,name\n{KEN_S},Ken Sato\n{MIKA},Mika Mori\n")
    record(store, replace(DENIED, uid=KEN))
    verb("import", str(members))
    verb("allow", "Ken Sato", "--uid", "telegram:4711")
    verb("pass", "Ken Sato", "--until", "2099-01-01", "--text")
    record(store, result=Result.UNLOCKED, latency_ms=1)
    (guest,) = store.people.passes()
    verb("pass", "--revoke", guest.code.id)
    verb("revoke", "Ken Sato")
    secure = card_of(uid=STRANGER, holder="Ken Sato", proof="ntag424", enabled=False)
    store.people.add_card(secure, NOON)
    _online(folder)

    code, out, err = verb("forget", "ken  sato")

    assert (code, err) == (0, [])
    assert f"{KEN_S} stays blocked" in "\n".join(out)
    assert verb("forget", "佐藤健")[0] == 0  # only a notice names him
    assert named(folder) == []
    assert KEN not in "".join(verb("log", "--json")[1])
    code, out, _ = verb("log", "--verify")
    assert (code, len(out)) == (0, 3)
    assert store.people.find(STRANGER).proof == "ntag424"
    assert "denied" in verb("why", KEN_S)[1][0]
    assert verb("why", "Mika Mori")[0] == 0
    assert verb("forget", "Ken Sato")[0] == 1  # nobody is called that


def _online(folder) -> None:
    """What other programs have left in the folder of the state."""
    path = folder / "state" / "online.db"
    event = {"holder": "佐藤健", "uid": KEN}
    line = {"notice": "changed", "at": 0, "words": "Ken Sato: x", "event": event}
    with contextlib.closing(doorpi.OnlineStore(path)) as online:
        online.keep("notices telegram 1", json.dumps({"lines": [line]}))
        online.keep("told Ken Sato", "佐藤健")
    trusted = json.dumps({"04:A9": [1.0, "space user Ken Sato"]})
    words = folder / "state" / "authority space.words"
    words.write_text(json.dumps({"a" * 64: {"trusted": trusted}}))
    with contextlib.closing(Inbox(path.with_name("inbox.db"), SystemClock())) as inbox:
        inbox.begin()
        inbox.put(
            doorpi.AccessRequest(
                Medium.COMMAND,
                '["nobi", "Ken Sato"]',
                NOON,
                0.0,
                1.0,
                Wants.ISSUE,
                id="1",
            )
        )


def _member(store, folder):
    with contextlib.closing(SyncedPeople(folder / "state" / "synced.db")) as synced:
        card = card_of(source=Origin.COBOT, membership=Membership("m", "", NOON))
        synced.replace("cobot", [card], NOON, NOON + timedelta(days=1))


def _guest(store, folder):
    code = PassCode("ABCDEFGH", SystemClock().now() + timedelta(days=1), is_once=False)
    store.people.put_pass(GuestPass(code, "Ken Sato", NOON, "nobi"), NOON)


# fmt: off
LISTED = {
    # where                what the owner is told to do
    "database":           (lambda store, folder: store.people.add_card(card_of(), NOON), "doorpi revoke"),
    "settings":           (lambda store, folder: (folder / "doorpi.toml").write_text(CONFIG + FILE), "delete it from doorpi.toml"),
    "membership system":  (_member, "first have it removed there"),
    "guest pass":         (_guest, "doorpi pass --revoke ABCDEFGH"),
}
# fmt: on


@pytest.mark.parametrize(("listed", "told"), LISTED.values(), ids=LISTED)
def test_who_may_enter_is_not_forgotten(verb, folder, store, listed, told):
    record(store, result=Result.UNLOCKED)
    listed(store, folder)

    code, out, err = verb("forget", "ken sato")

    assert (code, out, len(err)) == (1, [], 1)
    assert told in err[0]
    assert [event.holder for event in store.events.read()] == ["Ken Sato"]


def test_nobody_of_that_name_changes_nothing(verb, store):
    record(store, result=Result.UNLOCKED)

    assert verb("forget", "Ken Sat")[0] == 1

    assert len(list(store.events.read())) == 1
    assert store.events.forgotten() == {}


def test_name_in_the_settings_is_reported(verb, path, store):
    record(store, result=Result.UNLOCKED)
    path.write_text(f"{CONFIG}# Ken Sato left in May\n")

    code, _, err = verb("forget", "Ken Sato")

    assert code == 1
    assert str(path) in err[0]
    assert [event.holder for event in store.events.read()] == [FORGOTTEN] * 2


def test_other_peoples_names_and_cards_stay(verb, store):
    """His card is Jo's now, and somebody's name contains his."""
    record(store, result=Result.UNLOCKED)
    store.people.add_card(card_of(holder="Jo Guest"), NOON)
    record(store, replace(INTENT, holder="Jo Guest"), result=Result.UNLOCKED)
    record(
        store, replace(INTENT, uid=MIKA, holder="Ken Sato Mori"), result=Result.LOCKED
    )

    _, out, _ = verb("forget", "Ken Sato")

    found = [(event.holder, event.uid) for event in store.events.read()]
    assert found == [
        (FORGOTTEN, None), ("Jo Guest", KEN), ("Ken Sato Mori", MIKA), (FORGOTTEN, None),
    ]  # fmt: skip
    assert "Ken Sato Mori" in out[1]
    assert store.people.find(KEN).holder == "Jo Guest"


def test_it_is_one_event_with_who_ran_it(verb, store):
    record(store, result=Result.UNLOCKED)
    verb("forget", "Ken Sato")

    row = json.loads(verb("log", "--json")[1][-1])

    assert row["detail"].startswith("by nobi: 1 row; ")
    known = {key: row[key] for key in ("decision", "reason", "holder", "uid", "result")}
    assert known == {
        "decision": "changed", "reason": "forget", "holder": FORGOTTEN, "uid": None,
        "result": None,
    }  # fmt: skip
    assert row["source"] == "command"
