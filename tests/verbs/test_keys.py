"""`doorpi keys`: made, checked, written down and restored; and what it never says."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

import doorpi
from doorpi import Secret, SqliteStore, from_paper, main, on_paper
from tests.helpers.world import KEN, NOON, card_of

CONFIG = """
[door]
state_dir = "state"
require_synced_clock = false
[lock]
kind = "relay"
[proof]
door_key = { file = "door.key" }
issuer_key = { file = "issuer.key" }
[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
"""
ZEROS, SECOND = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"


@pytest.fixture
def types(monkeypatch):
    """Types lines on the keyboard."""

    def typed(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{x}\n" for x in lines)))

    typed()
    return typed


def keys_in(folder: Path) -> list[str]:
    return [(folder / name).read_text().strip() for name in ("door.key", "issuer.key")]


def test_new_keys_are_random_and_for_the_service_alone(verb, folder):
    said = verb("keys", "new")

    assert said.code == 0, said
    door, issuer = keys_in(folder)
    assert door != issuer
    for name in ("door.key", "issuer.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert re.fullmatch(r"[0-9a-f]{32}\n", (folder / name).read_text())
    assert not {door, issuer} & {*" ".join([*said.out, *said.err]).split()}


def test_new_replaces_no_key(verb, folder):
    verb("keys", "new")
    before = keys_in(folder)
    (folder / "issuer.key").unlink()

    said = verb("keys", "new")

    assert said.code == 1
    assert "exists" in said.err[0]
    assert not (folder / "issuer.key").exists()
    assert (folder / "door.key").read_text().strip() == before[0]


def test_new_says_what_to_put_into_the_settings(verb, folder, path):
    path.write_text(re.sub(r"\[proof\]\n.*\n.*\n", "", CONFIG))

    said = verb("keys", "new")

    assert said.code == 0
    lines = said.out[said.out.index("[proof]") :]
    path.write_text(path.read_text() + "\n".join(lines))
    assert verb("keys", "check").code == 0


def test_check_tells_the_right_file_from_another(verb, folder):
    verb("keys", "new")
    assert verb("keys", "check").code == 0

    (folder / "door.key").write_text(f"{SECOND}\n")
    said = verb("keys", "check")

    assert said.code == 1
    assert "door_key: not the key of this list" in "\n".join(said.out)
    assert SECOND not in "\n".join(said.out)


def test_check_without_the_issuer_key_is_well(verb, folder):
    verb("keys", "new")
    (folder / "issuer.key").unlink()

    said = verb("keys", "check")

    assert said.code == 0
    assert "issuer_key: not here" in "\n".join(said.out)


def test_backup_prints_both_keys_and_is_confirmed(verb, folder, types):
    verb("keys", "new")
    door, issuer = keys_in(folder)
    assert "not written down" in "\n".join(verb("keys", "check").out)
    types(on_paper(issuer)[-4:].lower())

    said = verb("keys", "backup")

    assert said.code == 0
    assert on_paper(door) in said.out[0]
    assert on_paper(issuer) in said.out[1]
    assert "not written down" not in "\n".join(verb("keys", "check").out)
    doctor = [line for line in verb("doctor").out if "written down" in line]
    assert doctor == []


@pytest.mark.parametrize("typed", ["", "0000", "zzzz"])
def test_backup_that_nobody_confirms_does_not_count(verb, folder, types, typed):
    verb("keys", "new")
    types(typed)

    said = verb("keys", "backup")

    assert said.code == 1
    assert "not confirmed" in said.err[-1]
    assert "not written down" in "\n".join(verb("keys", "check").out)


def test_doctor_warns_until_the_keys_are_written_down(verb, folder):
    verb("keys", "new")

    lines = verb("doctor").out
    at = next(n for n, line in enumerate(lines) if "not written down" in line)
    assert lines[at].startswith("warn  keys")
    assert "doorpi keys backup" in lines[at + 1]


def test_keys_come_back_from_paper(verb, folder, types):
    verb("keys", "new")
    door, issuer = keys_in(folder)
    for name in ("door.key", "issuer.key"):
        (folder / name).unlink()
    types(on_paper(door), on_paper(issuer).lower().replace(" ", "  "))

    said = verb("keys", "restore")

    assert said.code == 0, said
    assert keys_in(folder) == [door, issuer]
    assert (folder / "door.key").stat().st_mode & 0o777 == 0o600


def test_restore_of_the_door_key_alone(verb, folder, types):
    types(on_paper(SECOND), "")

    assert verb("keys", "restore").code == 0
    assert (folder / "door.key").read_text() == f"{SECOND}\n"
    assert not (folder / "issuer.key").exists()


def test_restore_of_another_lists_key_is_told(verb, folder, types):
    verb("keys", "new")
    (folder / "door.key").unlink()
    types(on_paper(SECOND), "")

    said = verb("keys", "restore")

    assert said.code == 1
    assert "not the key of this list" in "\n".join(said.out)


GOOD = on_paper(ZEROS)
PAPER = {
    "a digit is wrong": GOOD.replace("2233", "2234"),
    "two digits are swapped": GOOD.replace("2233", "2323"),
    "the checksum is wrong": GOOD[:-1] + ("0" if GOOD[-1] != "0" else "1"),
    "a group is missing": GOOD[5:],
    "without the checksum": GOOD[:-5],
    "the letter O": GOOD.replace("0", "O"),
    "wide digits": GOOD.replace("0", "\uff10"),
}


@pytest.mark.parametrize("name", PAPER)
def test_what_was_not_printed_is_no_key(verb, folder, types, name):
    types(PAPER[name], "")

    said = verb("keys", "restore")

    assert said.code == 1
    assert "nine groups of four" in said.err[-1]
    assert not (folder / "door.key").exists()


def test_every_wrong_digit_but_one_in_many_is_noticed():
    wrong = 0
    for place in range(32):
        for digit in "0123456789abcdef":
            other = ZEROS[:place] + digit + ZEROS[place + 1 :]
            if other != ZEROS:
                wrong += on_paper(other)[-4:] == GOOD[-4:]
    assert wrong == 0


def test_a_key_on_paper_is_read_as_it_was_written():
    for _ in range(20):
        key = os.urandom(16).hex()
        assert from_paper(on_paper(key)) == key


# -- issue and wipe, as far as the verb goes


def wish(verb, monkeypatch, *args: str) -> tuple[object, object]:
    """What the verb says, and the order that it gives."""
    orders: list[doorpi.AccessRequest] = []

    def ask(folder, clock, order, show):
        orders.append(order)
        show("hold the card to the reader")
        return doorpi.Answer(True, ["done"])

    monkeypatch.setattr(doorpi, "ask_door", ask)
    said = verb(*args)
    return said, orders[0] if orders else None


def test_issue_gives_the_order_and_shows_the_steps(verb, folder, monkeypatch):
    verb("keys", "new")

    said, order = wish(
        verb, monkeypatch, "issue", "Jo Guest", "--until", "2099-01-01",
        "--schedule", "office-hours",
    )  # fmt: skip

    assert (said.code, said.out) == (0, ["hold the card to the reader", "done"])
    by, card = doorpi.read_order(order)
    assert by == "nobi"
    assert (card.holder, str(card.valid_until)) == ("Jo Guest", "2099-01-01")
    assert (card.schedule, card.uid) == ("office-hours", "")
    assert order.good_until - order.arrived == 60.0


def test_issue_takes_over_the_card_that_it_replaces(
    verb, folder, monkeypatch, store, path
):
    """Also after the migration, when the old one opens no more."""
    path.write_text(CONFIG.replace("[proof]", '[proof]\nuid_only = "refuse"'))
    verb("keys", "new")
    until = NOON.date().replace(year=2099)
    old = card_of("0A0B0C0D", "Mika Mori", valid_until=until, schedule="office-hours")
    store.people.add_card(old, NOON)

    _, order = wish(verb, monkeypatch, "issue", "--replace", "0A:0B:0C:0D")
    _, card = doorpi.read_order(order)
    assert (card.holder, card.valid_until, card.schedule, card.uid) == (
        "Mika Mori", until, "office-hours", "0A0B0C0D",
    )  # fmt: skip

    _, order = wish(verb, monkeypatch, "issue", "Jo Guest")
    assert doorpi.read_order(order)[1].holder == "Jo Guest"

    _, order = wish(verb, monkeypatch, "issue", "Mika M.", "--replace", "0A:0B:0C:0D")
    assert doorpi.read_order(order)[1].holder == "Mika M."

    _, order = wish(verb, monkeypatch, "issue", "--replace", doorpi.format_uid(KEN))
    assert doorpi.read_order(order)[1].holder == "Ken Sato"


@pytest.fixture
def store(folder):
    store = doorpi.SqliteStore(folder / "state" / "doorpi.db")
    yield store
    store.close()


REFUSED = {
    "no name": (["issue"], "whose card"),
    "no such schedule": (["issue", "Jo", "--schedule", "x"], "no [[schedule]]"),
    "the past": (["issue", "Jo", "--until", "2020-01-01"], "has passed"),
    "nobody to replace": (["issue", "--replace", "0A0B0C0D"], "nothing to replace"),
    "a secure card": (["issue", "--replace", "0C0B0C0D"], "cannot be replaced"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_issue_refuses_in_words(verb, folder, monkeypatch, store, name):
    verb("keys", "new")
    store.people.add_card(card_of("0C0B0C0D", "Mika", proof="ntag424"), NOON)
    args, words = REFUSED[name]

    said, order = wish(verb, monkeypatch, *args)

    assert said.code == 1
    assert words in said.err[0]
    assert order is None


@pytest.mark.parametrize("args", [["issue", "Jo"], ["wipe"]], ids=str)
def test_no_card_is_tried_without_the_right_keys(verb, folder, monkeypatch, args):
    verb("keys", "new")
    (folder / "door.key").write_text(f"{SECOND}\n")
    said, order = wish(verb, monkeypatch, *args)
    assert (said.code, order) == (1, None)
    assert "not the key of this list" in said.err[0]

    (folder / "issuer.key").unlink()
    said, order = wish(verb, monkeypatch, *args)
    assert (said.code, order) == (1, None)
    assert "issuer_key" in said.err[0]


def test_no_door_that_runs(verb, folder):
    verb("keys", "new")

    said = verb("issue", "Jo Guest")

    assert said.code == 1
    assert "not running" in said.err[0]


def test_no_key_is_shown_but_by_backup(verb, folder, types, path):
    verb("keys", "new")
    keys = keys_in(folder)
    for args in (
        ["keys", "check"], ["keys", "new"], ["check"], ["doctor"], ["people"],
        ["cards", "--json"], ["issue", "Jo"], ["wipe"], ["log", "--json"],
        ["keys", "restore"],
    ):  # fmt: skip
        if args[0] in {*doorpi.VERBS}:
            said = verb(*args)
            text = "\n".join([*said.out, *said.err]).lower().replace(" ", "")
            assert not [key for key in keys if key in text], args
    assert keys[0] not in repr(Secret(keys[0], "door.key"))
    for file in (folder / "state").glob("*"):
        content = file.read_bytes()
        assert not [
            k for k in keys if k.encode() in content or bytes.fromhex(k) in content
        ]


def test_help_names_the_actions(capsys):
    with pytest.raises(SystemExit):
        main(["keys", "burn"])
    assert "backup" in capsys.readouterr().err


def test_new_keys_replace_stolen_ones_once_no_secure_card_is_listed(verb, folder):
    """With a list that was restored, which knows the old ones."""
    assert verb("keys", "new").code == 0
    with contextlib.closing(SqliteStore(folder / "state" / "doorpi.db")) as store:
        store.people.add_card(card_of("04958CAA5C5E80", "Anna", proof="ntag424"), NOON)
    old = keys_in(folder)

    for code in (1, 0):
        for name in ("door.key", "issuer.key"):
            (folder / name).unlink()
        assert verb("keys", "new").code == code
        assert verb("revoke", "Anna").code == 0
    assert verb("keys", "check").code == 0
    assert not {*old} & {*keys_in(folder)}
