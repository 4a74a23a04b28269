"""The verbs: what they print, what they leave behind, and how they exit."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    Command,
    Event,
    Reason,
    Result,
    Role,
    SqliteStore,
    find_config,
    main,
    parse_config,
)
from tests.helpers.processes import PROGRAM, ROOT, doorpi_says, environment
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, card_of

SECRET = "s3cret-of-the-door"

CONFIG = f"""
[door]
name = "Office 4F"

[lock]
kind = "sesame-mini"
device_id = "11200000-0000-4000-8000-000000000000"
api_key = "{SECRET}"

[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00", "Sat 22:00-02:00"]
closed = [2020-12-31, 2199-12-31]

[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
"""


@pytest.fixture
def verb(verb):
    """Runs one verb: its lines on stdout, when it ended as it must."""

    def run(*args: str, code: int = 0, errors: list[str] | None = None) -> list[str]:
        said = verb(*args)
        assert (said.code, said.err) == (code, errors or [])
        assert SECRET not in "".join(said.out)
        return said.out

    return run


def rewrite(folder: Path, old: str, new: str) -> None:
    path = folder / "doorpi.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# -- check


def test_check_says_who_may_enter_and_when(folder, verb):
    rewrite(
        folder,
        "[[card]]",
        """
[[card]]
uid = "01.35.171.7"
holder = "Jo Guest"
valid_from = 2199-01-01
valid_until = 2199-03-31
schedule = "office-hours"

[[card]]
uid = "01:02:03:04"
holder = "Over"
valid_until = 2020-01-01

[[card]]
uid = "01:02:03:05"
holder = "Off"
enabled = false

[[card]]
uid = "01:02:03:06"
holder = "Mika"
role = "master"

[[card]]""",
    )

    lines = verb("check")

    assert lines == [
        f"{folder}/doorpi.toml: no problems",
        'Door "Office 4F": a card on the list toggles the lock (sesame-mini).',
        "",
        "This file lets in:",
        (
            "  Jo Guest  01:23:AB:07           Mon-Fri 08:00-20:00, Sat 22:00-02:00, not on"
            " 2199-12-31, from 2199-01-01, until 2199-03-31"
        ),
        "  Mika      01:02:03:06           always [master: enrols cards, does not open]",
        "  Ken Sato  04:A9:3C:71:5E:D2:84  always",
        "Who may not:",
        "  Over      01:02:03:04           always, until 2020-01-01 (expired)",
        "  Off       01:02:03:05           switched off",
    ]


def test_check_of_a_door_without_cards(folder, verb):
    (folder / "doorpi.toml").write_text(
        CONFIG.partition("[[schedule]]")[0].replace(
            "[lock]", 'on_tap = "unlock"\n[lock]'
        )
    )

    *lines, note = verb("check")

    assert lines == [
        f"{folder}/doorpi.toml: no problems",
        'Door "Office 4F": a card on the list unlocks (sesame-mini).',
        "",
        "This file lets nobody in.",
        "",
        "Please note:",
    ]
    assert note.startswith("  door.on_tap = 'unlock' without ")


def test_check_of_a_relay_says_that_it_opens_and_does_not_toggle(folder, verb):
    (folder / "doorpi.toml").write_text('[lock]\nkind = "relay"\nhold_s = 2.5\n')

    assert (
        verb("check")[1] == 'Door "Door": a card on the list opens for 2.5 s (relay).'
    )


def test_main_refuses_other_systems_than_linux(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert main(["legend"]) == 1
    assert capsys.readouterr() == ("", "DoorPi runs on Linux only\n")


def test_check_says_when_the_fallback_opens(folder, verb):
    with (folder / "doorpi.toml").open("a") as file:
        file.write('\n[fallback]\nkind = "relay"\n')

    assert verb("check")[2] == (
        "If that lock cannot be reached, the fallback opens the door (relay)."
    )


def test_check_warns_once_of_each_file_with_secrets_that_everybody_can_read(
    folder, verb
):
    path, key = folder / "doorpi.toml", folder / "the.key"
    rewrite(folder, f'"{SECRET}"', f'"{SECRET}"\nsecret_key = {{ file = "the.key" }}')
    key.write_text("00112233445566778899aabbccddeeff")
    notes = []
    for path_mode, key_mode in ((0o644, 0o644), (0o640, 0o604), (0o660, 0o600)):
        path.chmod(path_mode)
        key.chmod(key_mode)
        lines = verb("check")
        notes.append(lines[lines.index("Please note:") + 1 :] if len(lines) > 5 else [])

    of_file = f"  lock.api_key: {path} can be read by everybody; chmod o-r {path}"
    of_key = f"  lock.secret_key: {key} can be read by everybody; chmod o-r {key}"
    assert notes == [[of_file, of_key], [of_key], []]


def test_check_names_the_examples_values(folder, verb):
    shutil.copy(ROOT / "doorpi.toml", folder)
    (folder / "doorpi.toml").chmod(0o640)

    lines = verb("check")

    assert "This file lets nobody in." in lines
    assert lines[lines.index("Please note:") + 1 :] == [
        '  card 1 ("Ken Sato").uid: still the example value; put in your own',
        '  card 2 ("Jo Guest").uid: still the example value; put in your own',
        '  person 1 ("Mika Mori"), cards 1.uid: still the example value; put in your own',
        "  lock.device_id: still the example value; put in your own",
        "  lock.api_key: still the example value; put in your own",
        "  lock.secret_key: still the example value; put in your own",
    ]


PERSON = """
[[person]]
name = "Mika Mori"
cards = ["01:23:AB:08", { uid = "01:23:AB:09", proof = "ntag999" }]
"""
UNPROVEN = "it must prove itself ('ntag999'), and this program cannot ask it to"


def test_check_cards_and_why_know_a_person_with_several_cards(folder, verb):
    with (folder / "doorpi.toml").open("a", encoding="utf-8") as file:
        file.write(PERSON)

    check, cards = ("\n".join(verb(name)) for name in ("check", "cards"))
    plain = verb("why", "01:23:AB:08")
    proven = verb("why", "01:23:AB:09")

    for lines in (check, cards):
        assert re.search(r"Mika Mori +01:23:AB:08 +(- +)?always", lines)
        assert re.search(
            f"Mika Mori +01:23:AB:09 +(ntag999 +)?{re.escape(UNPROVEN)}", lines
        )
    assert check.index("Who may not:") < check.index("01:23:AB:09")
    assert UNPROVEN in "\n".join(proven)
    assert UNPROVEN not in "\n".join(plain)


# -- a file that cannot be used


def test_check_lists_every_problem_and_exits_78(folder, verb):
    rewrite(folder, '"Office 4F"', "4")
    rewrite(folder, "api_key", "api_kye")
    rewrite(folder, '"04:A9:3C:71:5E:D2:84"', '"08A1B2C3"')

    lines = verb(
        "check",
        code=78,
        errors=[
            f"{folder}/doorpi.toml: 3 problems",
            "  door.name = 4: expected text in quotes (what messages call the door)",
            "  lock.api_kye: unknown key; did you mean 'api_key'?",
            f"  card 1 (\"Ken Sato\").uid = '08A1B2C3': {doorpi.RANDOM_WORDS}",
        ],
    )

    assert lines == []


def test_check_shows_the_line_of_a_toml_mistake_with_a_caret(folder, verb):
    rewrite(folder, 'name = "Office 4F"', "name = Office 4F")

    verb(
        "check",
        code=78,
        errors=[
            f"{folder}/doorpi.toml: 1 problem",
            '  line 3: write text in quotes: "..."',
            "      name = Office 4F",
            "             ^",
        ],
    )


VERBS_WITH_A_FILE = [
    ["run"], ["check"], ["cards"], ["log"], ["status"], ["lock"], ["unlock"],
    ["tap", "01020304"], ["legend"],
]  # fmt: skip


@pytest.mark.parametrize("args", VERBS_WITH_A_FILE[1:], ids=lambda args: args[0])
def test_every_verb_exits_78_without_a_file(folder, verb, args):
    (folder / "doorpi.toml").unlink()

    lines = verb(
        *args,
        code=78,
        errors=[
            f"{folder}/doorpi.toml: 1 problem",
            f"  {folder}/doorpi.toml: no such file",
        ],
    )

    assert lines == []
    assert list(folder.iterdir()) == []


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_text("")


# fmt: off
UNREADABLE = [
    (a_folder,  "{path}: cannot be read: is a directory"),
    (empty,     "{path}: the file is empty"),
]
# fmt: on


@pytest.mark.parametrize(
    ("spoil", "words"), UNREADABLE, ids=[spoil.__name__ for spoil, _ in UNREADABLE]
)
def test_check_says_why_a_file_cannot_be_read(folder, capsys, spoil, words):
    path = folder / "doorpi.toml"
    spoil(path)

    assert main(["--config", str(path), "check"]) == 78

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1] == "  " + words.format(path=path)


def test_check_suggests_sudo_for_a_protected_file(powerless, capsys):
    path = powerless / "doorpi.toml"
    path.write_text(CONFIG)
    path.chmod(0o000)

    assert main(["--config", str(path), "check"]) == 78

    assert capsys.readouterr().err.splitlines() == [
        f"{path}: 1 problem",
        f"  {path}: cannot be read: permission denied; use sudo",
    ]


def test_check_suggests_sudo_for_a_protected_secret(powerless, capsys):
    path, secrets = powerless / "doorpi.toml", powerless / "secrets"
    path.write_text(CONFIG.replace(f'"{SECRET}"', f'{{ file = "{secrets}/key" }}'))
    secrets.mkdir(mode=0o000)

    assert main(["--config", str(path), "check"]) == 78

    assert capsys.readouterr().err.splitlines() == [
        f"{path}: 1 problem",
        (f"  lock.api_key: {secrets}/key cannot be read: permission denied; use sudo"),
    ]


@pytest.mark.parametrize(
    ("verb", "file"), [("log", "doorpi.db"), ("cards", "cards.db")]
)
def test_verbs_suggest_sudo_for_a_protected_state_folder(powerless, capsys, verb, file):
    path, state = powerless / "doorpi.toml", powerless / "state"
    path.write_text(CONFIG)
    state.mkdir(mode=0o000)

    assert main(["--config", str(path), verb]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"database: {state}/{file}: Permission denied; use sudo"
    ]


# -- which file


def test_find_config_tries_option_environment_etc_and_beside(monkeypatch, tmp_path):
    etc = tmp_path / "etc.toml"
    monkeypatch.setattr(doorpi, "IN_ETC", etc)
    beside = ROOT / "doorpi.toml"
    environ = {"DOORPI_CONFIG": "/from/env.toml"}

    assert find_config("given.toml", environ) == Path("given.toml")
    assert find_config(None, environ) == Path("/from/env.toml")
    assert find_config(None, {}) == beside
    assert find_config("", {"DOORPI_CONFIG": ""}) == beside
    etc.touch()
    assert find_config(None, {}) == etc


def test_find_config_does_not_pass_over_a_protected_etc(monkeypatch, powerless):
    etc = powerless / "doorpi" / "doorpi.toml"
    monkeypatch.setattr(doorpi, "IN_ETC", etc)
    powerless.chmod(0o000)

    assert find_config(None, {}) == etc


# -- usage

CASCADE = "only 3 bytes of a 7-byte card (a UID of 4 bytes never begins with 88, or 136 in decimal): tap the card here instead"
# fmt: off
USAGE = [
    # arguments                            the end of what is said
    (["tap", "0102"],                      "argument UID: '0102': a UID has 4, 7, 8 or 10 bytes, not 2"),
    (["log", "--since", "lately"],         "argument --since: 'lately' is not a date: today, yesterday, 2h, 3 days, 2026-11-21 or '2026-11-21 08:00'"),
    (["log", "--since", "2026-02-30"],     "argument --since: '2026-02-30' is not a date: today, yesterday, 2h, 3 days, 2026-11-21 or '2026-11-21 08:00'"),
    (["log", "--since", "0001-01-01T00:00+14:00"], "argument --since: '0001-01-01T00:00+14:00' is not a date: today, yesterday, 2h, 3 days, 2026-11-21 or '2026-11-21 08:00'"),
    (["log", "--since", "99999999999 d"],  "argument --since: '99999999999 d' is not a date: today, yesterday, 2h, 3 days, 2026-11-21 or '2026-11-21 08:00'"),
    (["allow", "Jo", "--uid", "8804A3C6"], f"argument --uid: '8804A3C6': {CASCADE}"),
    (["log", "--uid", "88:04:a3:c6"],      f"argument --uid: '88:04:a3:c6': {CASCADE}"),
    (["tap", "136.4.163.198"],             f"argument UID: '136.4.163.198': {CASCADE}"),
]
# fmt: on


@pytest.mark.parametrize(("args", "words"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_wrong_usage_exits_2_and_says_why(capsys, args, words):
    with pytest.raises(SystemExit) as caught:
        main(args)

    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert err.splitlines()[-1].partition("error: ")[2] == words


@pytest.mark.parametrize(
    ("args", "named"),
    [([], "VERB"), (["--config"], "--config"), (["check", "--loud"], "--loud"), (["tap"], "UID")],
)  # fmt: skip
def test_wrong_usage_names_the_argument(capsys, args, named):
    with pytest.raises(SystemExit) as caught:
        main(args)

    assert caught.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1].partition("error: ")[2]


def test_unknown_verb_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["opne"])

    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in doorpi.VERBS)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"DoorPi {doorpi.__version__}\n"


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    lines = capsys.readouterr().out.splitlines()
    listed = [
        line.split()[0] for line in lines if line.startswith("    ") and line[4] != " "
    ]
    assert caught.value.code == 0
    assert listed == [*doorpi.VERBS]


@pytest.mark.parametrize("name", doorpi.VERBS)
def test_help_of_each_verb(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])

    assert caught.value.code == 0
    assert doorpi.VERBS[name][1] in capsys.readouterr().out


# -- secrets


def test_a_misplaced_secret_is_never_printed(folder, verb):
    """Each of these is a slip that puts the key where something else belongs."""
    rewrite(folder, "api_key =", f'secret_key = ["{SECRET}"]\napikey =')
    rewrite(folder, "[[card]]", f"[{SECRET}]\n[[card]]")  # a table nobody knows
    path = folder / "doorpi.toml"

    said = doorpi_says("--config", str(path), "check")

    assert said.returncode == 78
    assert SECRET not in said.stdout
    assert said.stderr.count(SECRET) == 1  # the unknown table's own name, nothing else


# -- cards


@pytest.fixture
def people(folder, store):
    """Ken is in both; Jo and Mika only in the database."""
    store.people.add_card(card_of(holder="Ken of the database", enabled=False), NOON)
    store.people.add_card(
        card_of(
            STRANGER, "Jo \"J\" O'Guest\\",
            valid_from=date(2199, 12, 1), valid_until=date(2199, 12, 31),
            schedule="office-hours",
        ),
        NOON,
    )  # fmt: skip
    mika = card_of(doorpi.Uid("D3C2B1A0"), "Mika", enabled=False, role=Role.MASTER)
    store.people.add_card(mika, NOON)
    store.close()


@pytest.mark.usefixtures("people")
def test_cards_lists_the_sources_of_each_card(verb):
    rows = [re.split(r" {2,}", line) for line in verb("cards")]

    hours = "Mon-Fri 08:00-20:00, Sat 22:00-02:00, not on 2199-12-31"
    assert rows == [
        ["HOLDER", "UID", "VALID", "SCHEDULE", "FROM", "LAST SEEN"],
        [
            'Jo "J" O\'Guest\\',
            "04:FF:EE:DD:CC:BB:AA",
            f"{hours}, from 2199-12-01, until 2199-12-31",
            "office-hours",
            "db",
            "-",
        ],
        ["Ken Sato", "04:A9:3C:71:5E:D2:84", "always", "-", "toml, db", "-"],
        [
            "Mika",
            "D3:C2:B1:A0",
            "switched off [master: enrols cards, does not open]",
            "-",
            "db",
            "-",
        ],
    ]


@pytest.mark.usefixtures("people")
def test_cards_as_json(verb):
    def person(holder: str, uid: str, source: str, *, enabled=True, **limits):
        known = {"uid": uid, "proof": None, "source": source, "enabled": enabled}
        usual = {"valid_from": None, "valid_until": None, "schedule": None}
        identifiers = [known | {"last_seen": None}]
        return (
            {"holder": holder, "identifiers": identifiers, "role": "holder"}
            | usual
            | limits
        )

    assert [json.loads(line) for line in verb("people", "--json")] == [
        person(
            "Jo \"J\" O'Guest\\", "04FFEEDDCCBBAA", "db", schedule="office-hours",
            valid_from="2199-12-01", valid_until="2199-12-31",
        ),
        person("Ken Sato", "04A93C715ED284", "toml"),
        person("Mika", "D3C2B1A0", "db", enabled=False, role="master"),
    ]  # fmt: skip


def test_people_have_one_row_and_one_object_with_all_of_their_cards(
    folder, verb, store
):
    with (folder / "doorpi.toml").open("a", encoding="utf-8") as file:
        file.write(
            '[[person]]\nname = "Mika Mori"\ncards = ["01:23:AB:08", "01:23:AB:09"]\n'
        )
    late = card_of(STRANGER, "Mika Mori", valid_until=date(2199, 12, 31))
    store.people.add_card(late, NOON)

    rows = [re.split(r" {2,}", line) for line in verb("people")]
    mika, other = [
        each
        for each in map(json.loads, verb("people", "--json"))
        if each["holder"] == "Mika Mori"
    ]

    assert rows[-2] == [
        "Mika Mori",
        "01:23:AB:08, 01:23:AB:09",
        "always",
        "-",
        "toml",
        "-",
    ]
    assert rows[-1][2] == "always, until 2199-12-31"  # its limits are its own
    assert [each["uid"] for each in mika["identifiers"]] == ["0123AB08", "0123AB09"]
    assert other["valid_until"] == "2199-12-31"


@pytest.mark.usefixtures("people")
def test_cards_as_toml_can_be_pasted_into_the_file(folder, verb, store):
    expected = {card.uid: card for card in store.people.cards()}
    del expected[KEN]  # in the file already

    pasted = CONFIG + "\n".join(verb("cards", "--toml"))

    parsed = parse_config(pasted).cards
    assert parsed.keys() == {KEN, *expected}
    for uid, card in expected.items():
        assert parsed[uid] == replace(card, source=doorpi.Origin.TOML)


def test_cards_as_toml_is_nothing_when_there_is_nothing_to_paste(verb):
    assert verb("cards", "--toml") == []


def test_cards_that_only_the_file_has_need_no_database(folder, verb):
    assert verb("cards") == [
        "HOLDER    UID                   VALID   SCHEDULE  FROM  LAST SEEN",
        "Ken Sato  04:A9:3C:71:5E:D2:84  always  -         toml  -",
    ]
    assert not (folder / "state").exists()


# -- log


@pytest.fixture
def events(store) -> list[Event]:
    """An event of each kind, an hour apart."""
    tap = Event(
        at=NOON,
        uid=KEN,
        holder="Ken Sato",
        reason=Reason.GRANTED,
        command=Command.UNLOCK,
    )
    hour = timedelta(hours=1)
    taps = [
        replace(tap, result=Result.UNLOCKED, latency_ms=412),
        replace(tap, at=NOON + hour, uid=STRANGER, holder="", reason=Reason.NOT_FOUND,
                command=None),
        replace(tap, at=NOON + 2 * hour, command=None, result=Result.UNKNOWN_STATE,
                latency_ms=5001, detail="state unknown: the lock did not say"),
        replace(tap, at=NOON + 3 * hour, uid=None, holder="root", source="command",
                command=Command.LOCK, result=Result.REFUSED, latency_ms=9, detail="no"),
        replace(tap, at=NOON + 4 * hour, holder="Evil\x1b[2J\nKen Sato"),
    ]  # fmt: skip
    for number, event in enumerate(taps, 1):
        store.events.begin(event)
        if event.result:
            store.events.finish(replace(event, id=number))
    store.close()
    return taps


@pytest.mark.usefixtures("events")
def test_log_as_json_is_what_the_design_says_to_the_byte(verb):
    assert verb("log", "--json") == [
        (
            '{"id": 1, "at": "2026-11-18T03:00:00.000Z", "uid": "04A93C715ED284",'
            ' "holder": "Ken Sato", "decision": "granted", "reason": "granted",'
            ' "command": "unlock", "result": "unlocked", "latency_ms": 412,'
            ' "source": "card", "detail": "",'
            ' "point": "", "request": ""}'
        ),
        (
            '{"id": 2, "at": "2026-11-18T04:00:00.000Z", "uid": "04FFEEDDCCBBAA",'
            ' "holder": "", "decision": "denied", "reason": "not-found", "command": null,'
            ' "result": null, "latency_ms": null, "source": "card", "detail": "",'
            ' "point": "", "request": ""}'
        ),
        (
            '{"id": 3, "at": "2026-11-18T05:00:00.000Z", "uid": "04A93C715ED284",'
            ' "holder": "Ken Sato", "decision": "granted", "reason": "granted",'
            ' "command": null, "result": "unknown-state", "latency_ms": 5001,'
            ' "source": "card", "detail": "state unknown: the lock did not say",'
            ' "point": "", "request": ""}'
        ),
        (
            '{"id": 4, "at": "2026-11-18T06:00:00.000Z", "uid": null, "holder": "root",'
            ' "decision": "granted", "reason": "granted", "command": "lock",'
            ' "result": "refused", "latency_ms": 9, "source": "command", "detail": "no",'
            ' "point": "", "request": ""}'
        ),
        (
            '{"id": 5, "at": "2026-11-18T07:00:00.000Z", "uid": "04A93C715ED284",'
            ' "holder": "Evil\\u001b[2J\\nKen Sato", "decision": "granted",'
            ' "reason": "granted", "command": "unlock", "result": null, "latency_ms": null,'
            ' "source": "card", "detail": "",'
            ' "point": "", "request": ""}'
        ),
    ]


@pytest.mark.usefixtures("events")
def test_log_prints_local_times_and_escapes_controls(verb):
    lines = verb("log")

    local = [(NOON + timedelta(hours=n)).astimezone() for n in range(5)]
    assert [line[:19] for line in lines] == [f"{at:%Y-%m-%d %H:%M:%S}" for at in local]
    assert [line[19:] for line in lines] == [
        "  Ken Sato                     04:A9:3C:71:5E:D2:84  granted  unlock -> unlocked in 412 ms",
        "  unknown card                 04:FF:EE:DD:CC:BB:AA  denied   not-found",
        "  Ken Sato                     04:A9:3C:71:5E:D2:84  failed   card accepted, door not opened after 5.0 s: state unknown: the lock did not say",
        "  root                         command               failed   door not locked after 9 ms: no",
        r"  Evil\x1b[2J\nKen Sato        04:A9:3C:71:5E:D2:84  granted  unlock -> under way",
    ]  # fmt: skip


@pytest.mark.usefixtures("events")
def test_log_since_a_moment(verb):
    def since(text: str) -> list[int]:
        lines = verb("log", "--json", "--since", text)
        return [json.loads(line)["id"] for line in lines]

    local_day = NOON.astimezone().date()

    assert since("2026-11-18T05:00:00+00:00") == [3, 4, 5]
    assert since("2026-11-18T05:00:00.001Z") == [4, 5]
    assert since(f"{(NOON + timedelta(hours=3)).astimezone():%Y-%m-%d %H:%M}") == [4, 5]
    assert since(str(local_day - timedelta(days=1))) == [1, 2, 3, 4, 5]
    assert since(str(local_day + timedelta(days=2))) == []


def test_log_since_today_begins_at_local_midnight(store, verb):
    now = datetime.now().astimezone()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    tap = Event(at=now, uid=KEN, holder="Ken", reason=Reason.EXPIRED)
    for at in (midnight - timedelta(milliseconds=1), midnight, now):
        store.events.begin(replace(tap, at=at))

    lines = verb("log", "--json", "--since", "today")

    assert [json.loads(line)["id"] for line in lines] == [2, 3]


def test_log_of_an_unused_door(folder, store, verb):
    assert verb("log") == ["no events found"]
    assert verb("log", "--verify") == ["no events found"]
    assert verb("log", "--json") == []
    assert not (folder / "state").exists()  # asking makes nothing

    store.events.keep(doorpi.NO_NOTES)  # makes the database
    assert verb("log") == ["no events found"]
    assert verb("log", "--json") == []
    assert verb("log", "--verify") == [
        "every row is as it was written; there is none yet"
    ]
    assert verb("log", "--since", "today") == ["no events found"]


@pytest.mark.usefixtures("events")
def test_log_verify_finds_a_changed_row(store, verb):
    (line,) = verb("log", "--verify")
    at = NOON.astimezone()
    assert line == (
        f"every row is as it was written; the first is of {at:%Y-%m-%d %H:%M:%S}"
    )

    with contextlib.closing(
        sqlite3.connect(store.events.path, isolation_level=None)
    ) as db:
        db.execute("UPDATE events SET holder = 'Somebody' WHERE id = 3")

    assert verb("log", "--verify", code=1) == ["events: row 3 was changed"]


@pytest.mark.usefixtures("events")
def test_log_reports_a_database_that_makes_no_sense(store, verb):
    with contextlib.closing(
        sqlite3.connect(store.events.path, isolation_level=None)
    ) as db:
        db.execute("ALTER TABLE outcomes RENAME TO results")

    words = f"database: {store.events.path}: no such table: outcomes"
    assert verb("log", code=1, errors=[words]) == []


def through(folder: Path, reader: str, *args: str) -> subprocess.CompletedProcess[str]:
    """``doorpi.py ARGS | READER`` in a shell, as exit code of the first."""
    command = [sys.executable, PROGRAM, "--config", str(folder / "doorpi.toml"), *args]
    return subprocess.run(
        ["bash", "-c", f'"$@" | {reader}; exit ${{PIPESTATUS[0]}}', "bash", *command],
        env=environment(PYTHONUNBUFFERED=None), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("count", "reader", "lines"), [(3000, "head -n 1", 1), (3, "true", 0)]
)
def test_log_into_a_closed_pipe_is_success(folder, store, count, reader, lines):
    tap = Event(at=NOON, uid=KEN, holder="Ken", reason=Reason.EXPIRED)
    store.events.begin(tap)
    with contextlib.closing(sqlite3.connect(store.events.path)) as db:
        (first,) = db.execute("SELECT * FROM events").fetchall()
        more = [(number, *first[1:]) for number in range(2, count + 1)]
        marks = ", ".join("?" * len(first))
        db.executemany(f"INSERT INTO events VALUES ({marks})", more)
        db.commit()

    done = through(folder, reader, "log")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == lines


# -- status, lock, unlock


@pytest.fixture
def on_cloud(folder, cloud):
    """The file now names the simulated cloud; a short wait for its word."""
    rewrite(
        folder,
        '"11200000-0000-4000-8000-000000000000"',
        f'"{cloud.device_id}"\nbase_url = "{cloud.base_url}"',
    )
    rewrite(folder, f'"{SECRET}"', f'"{cloud.key}"')
    rewrite(folder, "[[schedule]]", "confirm_s = 1\n[[schedule]]")
    return cloud


@pytest.fixture
def hasty(folder, on_cloud):
    """No time for many tries of what fails at each."""
    rewrite(folder, "confirm_s = 1\n", "unlock_window_s = 1\nconfirm_s = 1\n")


@pytest.mark.parametrize(("locked", "word"), [(True, "locked"), (False, "unlocked")])
def test_status_in_words(on_cloud, verb, locked, word):
    on_cloud.locked = locked

    assert verb("status") == [f"{word}, it answers, battery 80 %"]
    assert on_cloud.commands == []


@pytest.mark.parametrize("fault", ["401", "offline"])
def test_status_fails_in_words(on_cloud, hasty, verb, fault):
    on_cloud.fail_always(fault)

    (line,) = verb("status", code=1)

    assert line.startswith("not known")
    assert on_cloud.key not in line


def logged(folder: Path) -> list[Event]:
    with contextlib.closing(SqliteStore(folder / "state" / "doorpi.db")) as store:
        assert store.events.verify() is None
        return list(store.events.read())


@pytest.mark.parametrize("command", Command, ids=str)
@pytest.mark.parametrize("locked", [True, False], ids=["from locked", "from unlocked"])
def test_lock_and_unlock_report_and_log_the_confirmation(
    folder, on_cloud, verb, command, locked
):
    on_cloud.locked = locked

    assert verb(command) == [f"{command}ed"]

    assert [sent for _, sent in on_cloud.commands] == [command]
    (event,) = logged(folder)
    assert abs(event.at - datetime.now().astimezone()) < timedelta(seconds=20)
    assert 0 <= event.latency_ms < 5000
    assert event == Event(
        at=event.at, uid=None, holder="nobi", reason=Reason.GRANTED, command=command,
        result=Result(f"{command}ed"), latency_ms=event.latency_ms, source="command",
        detail="", id=1,
    )  # fmt: skip


def test_unlock_logs_the_user_behind_sudo(folder, on_cloud, verb, monkeypatch):
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("SUDO_USER", "mika\x1b[2J\udcff")

    verb("unlock")

    assert [event.holder for event in logged(folder)] == [r"mika\x1b[2J\udcff"]


# fmt: off
FAILURES = [
    # fault            at         result                 a command took effect
    ("401",            "any",     Result.REFUSED,        False),
    ("cut-after",      "command", None,                  True),
    ("hang-before",    "confirm", Result.UNSURE,         True),
]
# fmt: on


@pytest.mark.parametrize(
    ("fault", "stage", "result", "acted"),
    FAILURES,
    ids=[f"{f} at {s}" for f, s, *_ in FAILURES],
)
def test_unlock_succeeds_only_if_confirmed(
    folder, on_cloud, verb, fault, stage, result, acted
):
    on_cloud.fail_always(fault, stage)

    (line,) = verb("unlock", code=0 if result is None else 1)

    (event,) = logged(folder)
    assert event.result is (result or Result.UNLOCKED)
    assert line == event.result + (f": {event.detail}" if event.detail else "")
    assert bool(on_cloud.commands) is acted
    assert len(on_cloud.commands) <= 1


def test_unlock_reports_and_logs_an_unreachable_lock(folder, on_cloud, hasty, verb):
    on_cloud.go_offline()

    (line,) = verb("unlock", code=1)

    (event,) = logged(folder)
    assert (event.command, event.result) == (Command.UNLOCK, Result.UNREACHABLE)
    assert line == f"unreachable: {event.detail}"


def test_unlock_works_without_a_log(folder, on_cloud, capsys):
    (folder / "state").write_text("a file in the folder's place")

    assert main(["--config", str(folder / "doorpi.toml"), "unlock"]) == 0

    assert capsys.readouterr().out == "unlocked\n"
    assert [command for _, command in on_cloud.commands] == [Command.UNLOCK]


def test_verbs_create_private_files(folder, on_cloud, verb):
    verb("unlock")

    state = folder / "state"
    modes = {
        file.name: file.stat().st_mode & 0o777 for file in (state, *state.iterdir())
    }
    assert modes == {"state": 0o700, "doorpi.db": 0o600}


# -- tap, legend


def test_tap_is_for_virtual_readers_only(verb):
    words = "reader.device = 'usb': only a udp: reader can be tapped this way"
    assert verb("tap", "01020304", code=1, errors=[words]) == []


def test_tap_names_the_reader(folder, verb):
    two = '[[reader]]\nname = "in"\n[[reader]]\nname = "out"\ndevice = "tty:S0:pn532"\n'
    rewrite(folder, "[[schedule]]", f"{two}[[schedule]]")
    words = "reader.device = 'tty:S0:pn532': only a udp: reader can be tapped this way"

    verb("tap", "01020304", "--reader", "out", code=1, errors=[words])
    words = "no [[reader]] is called 'side'; there are: in, out"
    verb("tap", "01020304", "--reader", "side", code=1, errors=[words])


def test_legend_draws_every_signal_from_its_pattern(verb):
    lines = verb("legend")

    patterns = doorpi.Parser({}).patterns()
    assert lines[0] == "4 seconds of each signal: G green, R red, A both, . dark"
    assert [line.split()[0] for line in lines[2::4]] == [str(sign) for sign in patterns]
    locked = next(i for i, line in enumerate(lines) if line.startswith("locked "))
    assert lines[locked : locked + 3] == [
        "locked            GGG..GGG..GGG..GGG..GGG..GGG............  the lock confirmed: locked",
        "                                                            施錠しました",
        "                  6 times: green 0.25 s, dark 0.25 s",
    ]


def test_legend_shows_what_the_settings_redraw(folder, verb):
    rewrite(folder, "[[schedule]]", '[signals]\ndenied = "1x RR..RR"\n\n[[schedule]]')

    lines = verb("legend")

    (denied,) = (line for line in lines if line.startswith("denied "))
    assert denied.split()[1] == "R.R" + 37 * "."


DRAWN = doorpi.looks(doorpi.Parser({}).patterns()[doorpi.Signal.UNLOCKED])


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ('[signals]\nunlocked = "1x G"\n', "green 0.05 s"),
        ('[signals]\nunlocked = "green"\n', DRAWN),
    ],
    ids=["redrawn", "not valid"],
)
def test_legend_looks_at_the_settings_of_the_door(
    folder, monkeypatch, capsys, text, begins
):
    (folder / "doorpi.toml").write_text(CONFIG + text, encoding="utf-8")
    monkeypatch.setattr(doorpi, "IN_ETC", folder / "doorpi.toml")

    assert main(["legend"]) == 0

    lines = capsys.readouterr().out.splitlines()
    (first,) = (n for n, line in enumerate(lines) if line.startswith("unlocked "))
    assert lines[first + 2].strip() == begins


def test_legend_needs_no_settings(capsys):
    """Whoever has not edited the file yet may look at the lights."""
    assert main(["legend"]) == 0

    assert len(capsys.readouterr().out.splitlines()) == 1 + 4 * len(doorpi.Signal)


# -- as people and systemd start it


def test_python_m_doorpi_check_uses_the_file_beside_the_program():
    """As the service starts it: the compiled module is reused."""
    if doorpi.IN_ETC.exists():
        pytest.skip("this computer has a door of its own")

    done = subprocess.run(
        [sys.executable, "-m", "doorpi", "check"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{ROOT}/doorpi.toml: no problems"
