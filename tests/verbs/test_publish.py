"""`list-key`, and what `publish` reads and shows before it publishes."""

from __future__ import annotations

import base64

import pytest

import doorpi
from doorpi import ConfigError, Edition, packed, read_fleet, unpacked
from tests.helpers.fleet import KEY as LIST_KEY
from tests.helpers.fleet import NOW, OTHER_KEY, public

CONFIG = """
[mqtt]
host = "127.0.0.1"
tls = false
"""
FLEET = """
[[door]]
id = "front"
[[door]]
id = "lab"
name = "The laboratory"

[[schedule]]
name = "office"
times = ["Mon-Fri 08:00-18:00"]
closed = [2026-12-25]

[[card]]
uid = "04:A1:B2:C3:D4:E5:80"
holder = "Ken Sato"
doors = ["front", "lab"]

[[person]]
name = "Anna Abe"
cards = ["01:02:03:04", { uid = "04:31:52:A2:66:71:80", proof = "ntag424" }]
schedule = "office"
valid_until = 2027-01-31
doors = ["lab"]
"""
BARE = """
[[card]]
uid = "04:A1:B2:C3:D4:E5:80"
holder = "Ken"
doors = [{}]
"""


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "FLEET.toml"
    path.write_text(FLEET, encoding="utf-8")
    return path


def test_each_door_gets_the_people_who_may_enter_there():
    doors = read_fleet(FLEET)

    holders = {
        door: [c.holder for c in each.cards.values()] for door, each in doors.items()
    }
    assert holders == {
        "front": ["Ken Sato"],
        "lab": ["Ken Sato", "Anna Abe", "Anna Abe"],
    }
    assert [*doors["front"].schedules] == []
    assert [*doors["lab"].schedules] == ["office"]


def test_a_door_reads_what_the_file_says():
    lab = read_fleet(FLEET)["lab"]

    found = unpacked(packed(lab))

    assert found.schedules == lab.schedules
    assert {u: c._replace(source="") for u, c in found.cards.items()} == {
        u: c._replace(source="") for u, c in lab.cards.items()
    }


def test_a_card_may_have_other_limits_at_another_door():
    ken = BARE.format('"front"'), BARE.format('"lab"')
    doors = read_fleet(
        f'{FLEET.partition("[[card]]")[0]}{ken[0]}schedule = "office"\n{ken[1]}'
    )

    schedules = [
        card.schedule for door in doors.values() for card in door.cards.values()
    ]
    assert schedules == ["office", None]


MISTAKES = {
    "a bracket too few": ("[[door]", "line 24: write [[door]], alone on its line"),
    "an id without quotes": ("[[door]]\nid = front", 'write text in quotes: "..."\n    id = front\n         ^'),
    "a key twice": ("[[door]]\nid = 'a'\nid = 'b'", "not valid TOML: "),
    "no door": ("", "door: "),
    "a door in single brackets": ('[door]\nid = "front"', "door: "),
    "a door without an id": ("[[door]]\n", "door 3.id"),
    "an id that is no topic": ('[[door]]\nid = "Front/1"', "door 3.id"),
    "a door twice": ('[[door]]\nid = "lab"', "door 3.id"),
    "another table": ("[lock]\n", "lock: unknown key"),
    "an unknown door": (BARE.format('"frnt"'), "did you mean front?"),
    "no doors": (BARE.format(""), 'card 2 ("Ken").doors'),
    "a door that is a number": (BARE.format("7"), 'card 2 ("Ken").doors'),
    "doors in no brackets": (BARE.format("").replace("[]", '"lab"'), "brackets"),
    "a card twice at a door": (BARE.format('"lab"'), "another entry has it at the door lab"),
    "an unknown schedule": ('[[card]]\nschedule = "night"\n', ".schedule"),
    "a master card": ('[[card]]\nuid = "0A0B0C0D"\nholder = "A"\ndoors = ["lab"]\nrole = "master"', ".role"),
    "a random UID": ('[[card]]\nuid = "08112233"\nholder = "A"\ndoors = ["lab"]', "random"),
    "the example": ('[[card]]\nuid = "replace-me"\nholder = "A"\ndoors = ["lab"]', "example"),
}  # fmt: skip


def test_every_mistake_in_the_file_is_reported():
    for name, (more, words) in MISTAKES.items():
        text = (
            more if name in ("no door", "a door in single brackets") else FLEET + more
        )
        with pytest.raises(ConfigError) as found:
            read_fleet(text)
        assert words.replace("front?", "'front'?") in str(found.value), name


def test_nothing_is_published_from_a_file_with_mistakes(verb, fleet):
    fleet.write_text(FLEET + BARE.format('"lab"'))

    code, out, err = verb("publish", str(fleet))

    assert (code, out) == (1, [])
    assert len(err) == 2


def test_the_key_is_made_once_and_nobody_else_may_read_it(verb, tmp_path):
    code, out, _ = verb("list-key")
    again = verb("list-key")[1]

    key = tmp_path / "state" / "list.key"
    assert code == 0
    assert out[-1] == again[-1]
    assert len(base64.b64decode(out[-1])) == 32
    assert key.stat().st_mode & 0o077 == 0


def test_a_dry_run_needs_neither_the_key_nor_the_broker(verb, fleet, tmp_path):
    code, out, _ = verb("publish", "--dry-run", str(fleet))

    assert code == 0
    assert [line for line in out if not line.startswith(" ")] == [
        "front, 1 card:", "lab, 3 cards:", "dry run: nothing was published",
    ]  # fmt: skip
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [(CONFIG, "list-key"), ("[door]", "[mqtt]")],
    ids=["no key", "no broker"],
)
def test_publish_says_what_is_missing(verb, fleet, path, settings, words):
    path.write_text(settings)

    code, _, err = verb("publish", str(fleet))

    assert code == 1
    assert words in err[0]


def edition(tmp_path, *uids: str) -> Edition:
    people = {u: doorpi.Credential(doorpi.Uid(u), f"Holder {u}") for u in uids}
    return Edition("front", doorpi.Config(cards=people), tmp_path / "front")


def published(made: Edition, at: float = NOW, key=LIST_KEY) -> list[bytes]:
    messages = made.messages("main", at, key, shrink=False)
    for _ in messages:
        made.answered("", 0.0)
    return messages


MANY = [f"0A{number:06X}" for number in range(100)]


def test_the_changes_are_those_since_the_last_list(tmp_path):
    published(edition(tmp_path, "01020304", "0A0B0C0D"))

    lines = [*doorpi._edition_lines(edition(tmp_path, "01020304", "0A0B0C0E"))]

    removed, added = "  Holder 0A0B0C0D: removed", "  Holder 0A0B0C0E: added"
    assert lines[0] == "front, 2 cards:"
    assert {*lines[1:]} == {removed, added}


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "soon"])
def test_the_time_to_wait_has_an_end(wait):
    with pytest.raises(SystemExit):
        doorpi.make_parser().parse_args(["publish", "x", "--wait", wait])


def test_versions_only_grow(tmp_path):
    for at, version in (
        (NOW, NOW),
        (NOW, NOW + 1),
        (NOW - 999, NOW + 2),
        (NOW + 9, NOW + 9),
    ):
        made = edition(tmp_path, "01020304")
        (message,) = published(made, at)
        assert doorpi.read_part(message, public(LIST_KEY))[0].version == version


def test_parts_of_a_longer_list_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("doorpi.CHUNK_BYTES", 100)
    long = published(edition(tmp_path, *MANY))
    short = published(edition(tmp_path, "01020304"))

    assert len(short) == len(long)
    assert set(short[2:]) == {b""}


@pytest.mark.parametrize(
    ("said", "key", "count"),
    [({"version": NOW}, LIST_KEY, 0), ({"version": NOW - 1}, LIST_KEY, 1),
     ({}, LIST_KEY, 1), ({"version": NOW}, OTHER_KEY, 1)],
    ids=["in force", "another in force", "nothing known", "another key"],
)  # fmt: skip
def test_a_list_that_is_in_force_is_not_sent_again(tmp_path, said, key, count):
    published(edition(tmp_path, "01020304"))
    made = edition(tmp_path, "01020304")
    made.said = said

    assert len(made.messages("main", NOW + 5, key, shrink=False)) == count


def test_a_list_is_not_published_before_the_broker_has_taken_all_of_it(
    tmp_path, monkeypatch
):
    """The link must not end before: what is on its way would be lost."""
    monkeypatch.setattr("doorpi.CHUNK_BYTES", 100)
    made = edition(tmp_path, *MANY)
    made.is_away = True

    states = []
    for _ in made.messages("main", NOW, LIST_KEY, shrink=False):
        states.append(made.state(100.0)[0])
        made.answered("", 0.0)

    assert set(states) == {None}
    assert made.state(100.0)[0] is True
    made.is_away, made.said = False, {"error": "it is old"}
    assert made.state(100.0) == (None, "no new answer; it said before: it is old")


def test_a_list_that_lost_many_people_is_not_published(verb, fleet, tmp_path):
    verb("list-key")
    folder = tmp_path / "state" / "published" / "main"
    folder.mkdir(parents=True)
    published(edition(folder, *MANY))

    code, _, err = verb("publish", str(fleet))

    assert code == 1
    assert err[0].startswith("nothing was published; the new list of front: ")
    assert err[0].endswith("--yes-shrink")


def test_a_backup_has_the_key(verb, tmp_path, path):
    path.write_text(CONFIG + '[lock]\nkind = "relay"\n')
    key = verb("list-key")[1][-1]
    backup = str(tmp_path / "backup.json")
    verb("backup", "--with-secrets", backup)
    (tmp_path / "state" / "list.key").unlink()

    assert verb("restore", "--replace", backup)[0] == 0
    assert verb("list-key")[1][-1] == key
