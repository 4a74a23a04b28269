"""``import``: lists as DoorPi and its peers write them, what is refused, and that nothing is
changed without having been said."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import threading
import time
from datetime import date
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    Credential,
    ListError,
    Origin,
    Role,
    SqliteStore,
    Uid,
    format_uid,
    list_changes,
    list_report,
    main,
    parse_config,
    read_list,
)
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, card_of

CONFIG = """
[door]
name = "Front Door"

[lock]
kind = "relay"

[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]

[[schedule]]
name = "29"
times = ["Sat 10:00-12:00"]

[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
"""
OWNER = parse_config(CONFIG)
ANNA, JO = Uid("0123AB07"), Uid("25C2451B")


def cards(text: str) -> list[Credential]:
    return [row.card for row in read_list(text, OWNER).rows.values()]


def refused(text: str) -> list[tuple[int, str]]:
    return [(row.number, row.why) for row in read_list(text, OWNER).refused]


def why_not(text: str) -> str:
    with pytest.raises(ListError) as raised:
        read_list(text, OWNER)
    return str(raised.value)


# -- what the systems write

OWN_TOML = """\
[[card]]
uid = "01:23:AB:07"
holder = "Anna Ito"

[[card]]
uid = "25:C2:45:1B"
holder = "Jo Guest"
enabled = false
valid_from = 2026-12-01
valid_until = 2027-03-31
schedule = "office-hours"
role = "master"
"""

OWN_JSON = """\
{"holder": "Anna Ito", "identifiers": [{"uid": "0123AB07", "proof": null, "source": "db", "enabled": true, "last_seen": null}], "valid_from": null, "valid_until": null, "schedule": null, "role": "holder"}
{"uid": "25C2451B", "holder": "Jo Guest", "enabled": false, "valid_from": "2026-12-01", "valid_until": "2027-03-31", "schedule": "office-hours", "role": "master", "source": "toml"}
"""

CSV = """\
Valid Until;UID;Name;From;Schedule;Role;Enabled
;01-23-ab-07;Anna Ito;;;;yes
2027/3/31;25C2451B;Jo Guest;2026-12-01;office-hours;MASTER;0
"""

# As issue 381 of esprfid/esp-rfid shows it; dates and PINs as wsResponses.esp of 2.0.
ESP_RFID = """\
{
  "type": "esp-rfid-userbackup",
  "version": "v0.6",
  "list": [
    {
      "uid": "25c2451b",
      "username": "C001",
      "acctype": 1,
      "validuntil": 2145916800
    },
    {
      "uid": "43c8291c",
      "username": "C002",
      "acctype": 0,
      "acctype2": 1,
      "validsince": 1796083200,
      "validuntil": 1808438400,
      "pincode": "1234"
    },
    {
      "uid": "a4112233445566",
      "username": "undefined",
      "acctype": 99,
      "validsince": 0,
      "validuntil": 2145916800,
      "pincode": ""
    }
  ]
}
"""

# README-MQTT.md of the same: an object for each user, as mosquitto_sub prints them.
ESP_RFID_MQTT = """\
{"command":"userfile","uid":"25c2451b","user":"C001","acctype":1,"acctype2":null,"validuntil":2145916800}
{
    "command": "userfile",
    "uid": "43c8291c",
    "user": "C002",
    "acctype": "0",
    "validuntil": "1808438400"
}
"""

# acl/tsv_test.go of uhppoted/uhppoted-lib, with its PIN column and ours for the UID.
UHPPOTED = """\
Card Number\tPIN\tFrom\tTo\tUID\tWorkshop\tSide Door\tFront Door
65537\t7531\t2020-01-02\t2020-10-31\t25:C2:45:1B\tN\tN\tY
65538\t\t2020-02-03\t2020-11-30\t01:23:AB:07\tY\tN\tN
10058400\t\t2020-03-04\t2020-12-31\t43:C8:29:1C\tY\tY\t29
"""

# access/serializers.py of torehc/carontepass-v2.
CARONTE = """\
[{"id":3,"user":2,"kind":"nfc","code":"1.35.171.7"},
 {"id":4,"user":5,"kind":"nfc","code":"37.194.69.27","result":null},
 {"id":5,"user":5,"kind":"nfc","code":"67.200.41.28","result":true},
 {"id":6,"user":1,"kind":"tag","code":"12.34.56.78","result":null},
 {"id":7,"user":2,"kind":"mac","code":"aa:bb:cc:dd:ee:ff"},
 {"id":8,"user":null,"kind":"nfc","code":"12.34.56.79"},
 {"id":9,"user":6,"kind":"nfc","code":"136.4.161.178"}]
"""

CARONTE_CSV = """\
id,user,kind,code,name
3,2,nfc,1.35.171.7,Anna Ito
4,5,nfc,37.194.69.27,Jo Guest
"""

PLAIN = [card_of(ANNA, "Anna Ito"), card_of(JO, "Jo Guest")]
LIMITED = [
    PLAIN[0],
    card_of(
        JO,
        "Jo Guest",
        enabled=False,
        valid_from=date(2026, 12, 1),
        valid_until=date(2027, 3, 31),
        schedule="office-hours",
        role=Role.MASTER,
    ),
]
C002 = card_of(
    Uid("43C8291C"), "C002", enabled=False, valid_until=date(2027, 4, 22)
)  # 00:00 UTC of the day after ends it
FOREVER = date(2037, 12, 31)
SAMPLES = {
    "toml": (OWN_TOML, LIMITED),
    "people --json": (OWN_JSON, LIMITED),
    "csv": (CSV, LIMITED),
    "esp-rfid": (
        ESP_RFID,
        [
            card_of(JO, "C001", valid_until=FOREVER),
            replace(C002, valid_from=date(2026, 12, 1)),
            card_of(Uid("A4112233445566"), "esp-rfid a4112233445566", valid_until=FOREVER),
        ],
    ),
    "esp-rfid mqtt": (ESP_RFID_MQTT, [card_of(JO, "C001", valid_until=FOREVER), C002]),
    "uhppoted": (
        UHPPOTED,
        [
            card_of(
                JO, "Card 65537",
                valid_from=date(2020, 1, 2), valid_until=date(2020, 10, 31),
            ),
            card_of(
                ANNA, "Card 65538", enabled=False,
                valid_from=date(2020, 2, 3), valid_until=date(2020, 11, 30),
            ),
            card_of(
                Uid("43C8291C"), "Card 10058400", schedule="29",
                valid_from=date(2020, 3, 4), valid_until=date(2020, 12, 31),
            ),
        ],
    ),
    "carontepass": (
        CARONTE,
        [
            card_of(ANNA, "CarontePass user 2"),
            card_of(JO, "CarontePass user 5", enabled=False),
            card_of(Uid("43C8291C"), "CarontePass user 5"),
        ],
    ),
    "carontepass csv": (CARONTE_CSV, PLAIN),
    "toml in one line": (tomli_w.dumps({"card": [{"uid": ANNA, "holder": "Anna Ito"}]}), PLAIN[:1]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SAMPLES.values(), ids=SAMPLES)
def test_read_list_recognizes_each_format_by_its_content(text, expected):
    assert cards(text) == expected


SPREADSHEETS = {
    "comma": ",".join,
    "semicolon": ";".join,
    "tab": "\t".join,
    "Excel": lambda cells: '"' + '","'.join(cells) + '"',
}


@pytest.mark.parametrize("line", SPREADSHEETS.values(), ids=SPREADSHEETS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_read_list_reads_csv_as_spreadsheets_write_it(line, end):
    rows = (
        ["Holder", "uid"],
        ["Anna Ito", "0123AB07"],
        ["", ""],
        ["Jo Guest", "25C2451B"],
    )
    text = "\ufeff" + end.join(line(cells) for cells in rows) + end

    assert cards(text) == PLAIN


def test_read_list_notes_what_other_systems_have_and_doorpi_has_not():
    assert read_list(ESP_RFID, OWNER).notes == {
        "PINs are not imported: the card alone opens this door": 1
    }
    assert refused(CARONTE) == [
        (4, "kind = 'tag': not a member's card"),
        (5, "kind = 'mac': not a member's card"),
        (6, "no user: nobody's card"),
        (7, f"code = '136.4.161.178': {CASCADE}"),
    ]  # fmt: skip


def test_uhppoted_list_without_uids_has_no_cards():
    """uhppoted's own file, which has no UIDs; 10058400 looks like one of 4 bytes."""
    text = "Card Number\tFrom\tTo\tFront Door\n10058400\t2020-01-02\t2020-10-31\tY\n"

    listed = read_list(text, OWNER)

    assert listed.rows == {}
    assert refused(text) == [
        (2, "Card Number = '10058400': a Wiegand number; add a column UID")
    ]


PEOPLE = """
[[person]]
name = "Anna Ito"
cards = ["01:23:AB:07", { uid = "25:C2:45:1B" }, { uid = "43:C8:29:1C", proof = "ntag999" }]
valid_until = 2027-03-31

[[person]]
name = "Nobody"
"""


def test_read_list_reads_each_card_of_a_person():
    """One that must prove itself does not become one that need not."""
    until = date(2027, 3, 31)

    assert cards(PEOPLE) == [
        card_of(ANNA, "Anna Ito", valid_until=until),
        card_of(JO, "Anna Ito", valid_until=until),
    ]
    assert [number for number, _ in refused(PEOPLE)] == [3, 4]


def test_uhppoted_list_without_a_column_for_this_door_is_refused():
    text = (
        "Card Number\tFrom\tTo\tUID\tGarage\n1\t2020-01-02\t2020-10-31\t0123AB07\tY\n"
    )

    assert why_not(text) == "no column 'Front Door', as this door is called"


# -- rows that are refused


def csv_of(uid: str = "0123AB07", holder: str = "Anna", **columns: str) -> str:
    cells = {"uid": uid, "holder": holder, **columns}
    return ",".join(cells) + "\n" + ",".join(cells.values()) + "\n"


def esp_rfid_of(uid: object = "25c2451b", *others: object, **changes: object) -> str:
    user = {"uid": uid, "username": "C001", "acctype": 1, "validuntil": 2145916800}
    users = [user | changes, *(user | {"uid": uid} for uid in others)]
    return json.dumps({"type": "esp-rfid-userbackup", "list": users})


DATE = "expected 2026-12-31, or a local time: 2026-12-31 18:00"
SWITCH = "expected yes or no"
UNIX = "expected a time in Unix seconds"
RANDOM = doorpi.RANDOM_WORDS
LOST = "a PIN, or a UID without some of its 0s; tap the card here instead"
CASCADE = "only 3 bytes of a 7-byte card (a UID of 4 bytes never begins with 88, or 136 in decimal): tap the card here instead"
REFUSED = {
    "random": (csv_of("08A1B2C3"), 2, f"uid = '08A1B2C3': {RANDOM}"),
    "no uid": (csv_of(""), 2, "uid: missing (the card's UID)"),
    "no name": (csv_of(holder=" "), 2, "holder: missing (who carries it)"),
    "no hex": (csv_of("4E+12"), 2, "uid = '4E+12': not a UID: two hex digits per byte, such as 04:A1:B2:C3"),
    "invisible": (csv_of(holder="An\u202ena"), 2, r"holder = 'An\u202ena': contains an invisible character (who carries it)"),
    "two days": (csv_of(valid_until="3/4/2027"), 2, f"valid_until = '3/4/2027': {DATE}"),
    "no day": (csv_of(valid_until="2027-02-30"), 2, f"valid_until = '2027-02-30': {DATE}"),
    "perhaps": (csv_of(enabled="x"), 2, f"enabled = 'x': {SWITCH}"),
    "empty switch": ("enabled,uid,holder\n,0123AB07,Anna\n", 2, f"enabled = '': {SWITCH}"),
    "two ends": ('{"uid": "0123AB07", "holder": "Anna", "validUntil": "2027-01-01", "valid_until": null}', 1, "two of its keys mean the same"),
    "null switch": ('{"uid": "0123AB07", "holder": "Anna", "enabled": null}', 1, f"enabled = '': {SWITCH}"),
    "schedule": (csv_of(schedule="nights"), 2, "schedule = 'nights': no [[schedule]] has this name"),
    "schedule, nearly": (csv_of(schedule="office-hour"), 2, "schedule = 'office-hour': no [[schedule]] has this name; did you mean 'office-hours'?"),
    "role": (csv_of(role="admin"), 2, "role = 'admin': must be one of holder, master (a master enrols cards)"),
    "comma in the name": ("uid,holder\n0123AB07,Ito, Anna\n", 2, "3 cells, but 2 columns"),
    "toml number": (f"[[card]]\nuid = 0x{'f' * 9000}\nholder = 'Anna'\n", 1, "uid = '(a very long number)': not a UID: two hex digits per byte, such as 04:A1:B2:C3"),
    "cascade": (csv_of("8804A3C6"), 2, f"uid = '8804A3C6': {CASCADE}"),
    "cascade of esp-rfid": (esp_rfid_of("8804a3c6"), 1, f"uid = '8804a3c6': {CASCADE}"),
    "toml cascade": ('[[card]]\nuid = "136.4.161.178"\nholder = "Anna"\n', 1, f"uid = '136.4.161.178': {CASCADE}"),
    "no table": ("card = 5\n[lock]\n", 1, "5: expected a table, [[card]]"),
    "the example's": ('[[card]]\nuid = "replace-me"\nholder = "Anna"\n', 1, "still the example value"),
    "toml date": (OWN_TOML.replace("2027-03-31", '"soon"'), 2, f"valid_until = 'soon': {DATE}"),
    "unpadded": (esp_rfid_of("4a1b2c3d4e580"), 1, f"uid = '4a1b2c3d4e580': {LOST}"),
    "unpadded 4": (esp_rfid_of("123ab7"), 1, f"uid = '123ab7': {LOST}"),
    "acctype": (esp_rfid_of(acctype=5), 1, "acctype = '5': expected 0, 1 or 99"),
    "true": (esp_rfid_of(acctype=True), 1, "acctype = 'true': expected 0, 1 or 99"),
    "no end": (esp_rfid_of(validuntil=None), 1, f"validuntil = '': {UNIX}"),
    "endless": (esp_rfid_of(validuntil=10**20), 1, f"validuntil = '(a very long number)': {UNIX}"),
    "one bracket": ('[card]\nuid = "0123AB07"\n', 1, "'uid': expected a table, [[card]]"),
    "no object": ('[{"acctype": 1}, 7]', 2, "7: expected an object {...}"),
    "profile": (UHPPOTED.replace("\t29", "\t30"), 4, "schedule = '30': no [[schedule]] has this name"),
    "no such answer": (UHPPOTED.replace("N\tY\n", "N\tMaybe\n"), 2, "Front Door = 'MAYBE': expected Y, N or a profile"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "number", "why"), REFUSED.values(), ids=REFUSED)
def test_refused_row_has_its_place_its_value_and_the_reason(text, number, why):
    assert refused(text)[-1] == (number, why)
    assert all(uid in (ANNA, JO, "43C8291C") for uid in read_list(text, OWNER).rows)


def test_rows_with_one_uid_and_different_details_are_all_refused():
    text = "uid,holder\n01:23:ab:07,Anna\n25C2451B,Jo\n1.35.171.7,Ann\n0123AB07,Anna\n"
    words = "uid = '{}': line {} has the same card with other details"

    assert refused(text) == [
        (2, words.format("01:23:ab:07", 4)),
        (4, words.format("1.35.171.7", 2)),
        (5, words.format("0123AB07", 4)),
    ]
    assert cards(text) == [card_of(JO, "Jo")]


def test_row_is_refused_if_another_row_of_its_uid_is_invalid():
    bad = "0123AB07,Anna,2027-13-01\n"
    good = "0123AB07,Anna,\n"

    for rows in (bad + good, good + bad):
        assert cards(f"uid,holder,until\n{rows}") == []
        assert [number for number, _ in refused(f"uid,holder,until\n{rows}")] in (
            [2, 3],
            [3, 2],
        )


def test_equal_rows_are_one_card():
    text = "uid,holder\n01:23:ab:07,Anna Ito\n25C2451B,Jo Guest\n1.35.171.7,Anna Ito\n"

    assert (cards(text), refused(text)) == (PLAIN, [])


def test_uid_of_digits_only_is_accepted_beside_hex_uids():
    assert [card.uid for card in cards(esp_rfid_of("25c2451b", "10058400"))] == [
        JO, "10058400",
    ]  # fmt: skip


def test_uids_of_digits_only_are_refused_among_decimal_numbers():
    why = f"uid = '10058400': digits only: {doorpi.PRINTED_WORDS}, or write its UID with colons"
    alone = "uid,holder\n10058400,Anna\n"

    assert refused(alone) == [(2, why)]
    assert refused(f"{alone}8165538,Jo\n")[0] == (2, why)


# -- lists that are refused as a whole

KNOWN = (
    "unknown list format; known: DoorPi's [[card]] tables (TOML); esp-rfid's user"
    " backup (JSON); CarontePass's devices (JSON); DoorPi's people --json; uhppoted's access"
    " control list (TSV); CSV with a header (uid, holder, ...); CarontePass's codes (CSV)"
)
DOUBT = (
    "unknown columns could limit access: rename them ({1}), or import without them:"
    " --ignore {0}"
)
KEYS = (
    "uid, holder, enabled, valid_from, valid_until, schedule, role, proof, generation"
)
WHOLE = {
    "empty": ("", "empty"),
    "blank": ("\ufeff \n\n", "empty"),
    "prose": ("Dear Ken, please add Anna.\n", KNOWN),
    "other json": ('{"command": "configfile"}', KNOWN),
    "one long line": ("x" * 200_000, "line 1: field larger than field limit (131072): broken, or cut off"),
    "header only": ("uid,holder\n", "CSV with a header (uid, holder, ...), but not one card in it"),
    "no users": ('{"type": "esp-rfid-userbackup", "list": []}', KNOWN),
    "no cards": ('[door]\nname = "Back"\n', "DoorPi's [[card]] tables (TOML), but not one card in it"),
    "cut csv": ("uid,holder,until\n0123AB07,Anna,\n25C2451B,Jo", "line 3: the file was cut off before its last cell"),
    "cut before the date": ("uid,holder,until\n25C2451B,Jo,", "line 2: the file was cut off before its last cell"),
    "cut tsv": (UHPPOTED[:-8], "line 4: the file was cut off before its last cell"),
    "two names": ("uid,holder,Holder\n1,2,3\n", "two columns are called 'Holder'"),
    "a misspelt end": (csv_of(valid_til="2027-01-01"), DOUBT.format("'valid_til'", KEYS)),
    "a json end": ('{"uid": "0123AB07", "holder": "Anna", "expires": "2027"}', DOUBT.format("'expires'", KEYS)),
    "a toml key": (OWN_TOML.replace("role", "rule"), DOUBT.format("'rule'", KEYS)),
    "a code's end": ("code,name,until\n1.2.3.4,Anna,2027-01-01\n", DOUBT.format("'until'", "code, holder, result")),
}  # fmt: skip


@pytest.mark.parametrize(("text", "why"), WHOLE.values(), ids=WHOLE)
def test_list_that_cannot_be_read_is_refused_as_a_whole(text, why):
    assert why_not(text) == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('uid,holder\n0123AB07,"Anna', r"line 2: .+: broken, or cut off"),
        (ESP_RFID[:300], r"not valid JSON, or cut off: .+ line 16 .+"),
        (OWN_TOML[:134], r"not valid TOML, or cut off: .+ line 9, .+"),
        ('{"acctype": ' + "[" * 100_000, r"not valid JSON, or cut off: .+"),
        (OWN_JSON[:-9], r"not valid JSON, or cut off: .+ line 2 .+"),
    ],
    ids=["cut in quotes", "cut json", "cut toml", "too deep", "cut json lines"],
)
def test_list_that_is_cut_off_is_refused_with_pythons_words(text, why):
    assert re.fullmatch(why, why_not(text))


def test_truncated_list_never_gives_more_rights_than_the_whole():
    """A download that stopped anywhere: what is taken from it is what the whole says."""
    for text in (
        CSV,
        ESP_RFID,
        ESP_RFID_MQTT,
        OWN_JSON,
        CARONTE,
        CARONTE_CSV,
        UHPPOTED,
    ):
        whole = {uid: row.card for uid, row in read_list(text, OWNER).rows.items()}
        for end in range(len(text)):
            with contextlib.suppress(ListError):
                some = read_list(text[:end], OWNER).rows
                for uid, row in some.items():
                    assert replace(row.card, holder="") == replace(
                        whole[uid], holder=""
                    )


# -- what it would change


def report(text: str, stored: list[Credential], *, whole: bool = False) -> list[str]:
    listed = read_list(text, OWNER)
    known = {card.uid: replace(card, source=Origin.DB) for card in stored}
    changes = list_changes(listed, known, OWNER.cards, whole=whole)
    return list(list_report(listed, changes, NOON))


def test_list_report_shows_each_kind_of_change():
    text = "uid,holder,until\n0123AB07,Anna Ito,2027-03-31\n25C2451B,Jo Guest,\n08A1B2C3,Phone,\n43C8291C,New,\n"
    gone = card_of(Uid("11223344"), "Old\x1b[2J", schedule="29", enabled=False)

    assert report(text, [*PLAIN, gone], whole=True) == [
        "CSV with a header (uid, holder, ...)",
        "unchanged:",
        "  25:C2:45:1B  Jo Guest  always",
        "added:",
        "  43:C8:29:1C  New  always",
        "changed:",
        "  01:23:AB:07  Anna Ito: always -> always, until 2027-03-31",
        "removed:",
        r"  11:22:33:44  Old\x1b[2J  switched off",
        "refused:",
        f"  line 4 (\"Phone\"): uid = '08A1B2C3': {RANDOM}",
        "1 unchanged, 1 added, 1 changed, 1 removed, 1 refused",
    ]


CHANGES = {
    "name": ({"holder": "Anne"}, "now Anne"),
    "switch": ({"enabled": False}, "always -> switched off"),
    "first day": ({"valid_from": date(2027, 1, 1)}, "always -> always, from 2027-01-01"),
    "schedule": ({"schedule": "29"}, "always -> Sat 10:00-12:00"),
    "role": ({"role": Role.MASTER}, "always -> always [master: enrols cards, does not open]"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), CHANGES.values(), ids=CHANGES)
def test_list_report_describes_a_changed_card(changes, words):
    before = card_of(ANNA, "Anna")
    after = replace(before, **changes)
    text = doorpi_toml([after])

    assert report(text, [before])[2] == f"  {format_uid(ANNA)}  {after.holder}: {words}"


def test_list_report_has_changes_that_do_not_show_in_words():
    before = card_of(ANNA, "Anna", enabled=False)
    text = doorpi_toml([replace(before, valid_until=date(2027, 1, 1))])

    assert report(text, [before])[1:3] == [
        "changed:",
        "  01:23:AB:07  Anna: other limits",
    ]


SILENT = {
    "CSV": csv_of("01:23:AB:07", "Anna Abe"),
    "esp-rfid": esp_rfid_of("0123ab07", username="Anna Abe", validuntil=4102444800),
    "CarontePass": '[{"code": "1.35.171.7", "kind": "nfc", "name": "Anna Abe"}]',
    "JSON": '{"uid": "0123AB07", "holder": "Anna Abe"}',
}


@pytest.mark.parametrize("text", SILENT.values(), ids=SILENT)
def test_list_changes_keep_what_the_list_does_not_mention(text):
    """A column that is not there takes nobody's limits away, and nobody's rights."""
    limited = card_of(
        ANNA, "Anna", schedule="nights", role=Role.MASTER, source=Origin.DB,
        valid_until=date(2099, 12, 31),
    )  # fmt: skip

    listed = read_list(text, OWNER)
    changes = list_changes(listed, {ANNA: limited}, {}, whole=False)

    (card,) = changes.changed
    assert replace(card, source=Origin.DB) == replace(limited, holder="Anna Abe")
    assert listed.rows[ANNA].why == "now Anna Abe"


NAMELESS = {
    "esp-rfid": (esp_rfid_of("0123ab07", username="undefined", validuntil=4102444800), "esp-rfid 0123ab07"),
    "CarontePass": ('[{"code": "1.35.171.7", "kind": "nfc", "user": 2}]', "CarontePass user 2"),
    "uhppoted": ("Card Number\tFrom\tTo\tUID\tFront Door\n7\t2026-01-01\t2099-12-31\t0123AB07\tY\n", "Card 7"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "made_up"), NAMELESS.values(), ids=NAMELESS)
def test_made_up_name_is_used_for_new_cards_only(text, made_up):
    (new,) = cards(text)

    lines = report(text, [replace(new, holder="Anna")])

    assert new.holder == made_up
    assert lines[-1] == "1 unchanged, 0 added, 0 changed, 0 removed, 0 refused"


def test_list_changes_without_replace_remove_nobody():
    assert report(csv_of(), [card_of(JO)])[-1] == (
        "0 unchanged, 1 added, 0 changed, 0 removed, 0 refused"
    )


def test_list_changes_leave_cards_of_the_settings_alone():
    same, other = csv_of(KEN, "Ken Sato"), csv_of(KEN, "Kenji")

    assert report(same, [])[-1].startswith("1 unchanged, ")
    assert report(other, [])[1:3] == [
        "refused:",
        '  line 2 ("Kenji"): doorpi.toml has this card, and decides: now Kenji',
    ]
    assert report(csv_of(), [card_of(KEN)], whole=True)[-1] == (
        "0 unchanged, 1 added, 0 changed, 0 removed, 0 refused"
    )


NEW = "43C8291C,New\n"
# fmt: off
DOUBTS = {
    "its uid": (csv_of("0123AB07", "") + NEW, ANNA, "Anna"),
    "its name": (csv_of("01:23:A", "Anna") + NEW, ANNA, "Anna"),
}
# fmt: on


@pytest.mark.parametrize(("text", "uid", "holder"), DOUBTS.values(), ids=DOUBTS)
def test_replace_keeps_a_card_that_a_refused_row_may_mean(text, uid, holder):
    lines = report(text, [card_of(uid, holder), card_of(JO, "Jo")], whole=True)

    kept = lines.index("kept, though not on the list: a refused row may be about them:")
    assert lines[kept + 1] == f"  {format_uid(uid)}  {holder}  always"
    assert lines[-1] == "0 unchanged, 1 added, 0 changed, 1 removed, 1 refused"


@pytest.mark.parametrize(("uid", "is_warned"), [("08A1B2C3", False), ("01:23:A", True)])
def test_list_report_warns_of_a_removal_beside_a_row_without_a_uid(uid, is_warned):
    lines = report(csv_of(uid) + NEW, [card_of(JO, "Jo")], whole=True)

    warning = "note: a refused row without a UID may be about a card that is removed"
    assert (warning in lines) is is_warned


def test_list_report_shows_twenty_rows_of_each_kind():
    text = "uid,holder\n" + "".join(f"A4{i:06X},P{i}\n" for i in range(1000))

    lines = report(text, [])

    assert lines[20:] == [
        "  A4:00:00:12  P18  always",
        "  A4:00:00:13  P19  always",
        "  and 980 more",
        "0 unchanged, 1,000 added, 0 changed, 0 removed, 0 refused",
    ]


def test_list_report_escapes_control_characters():
    hostile = "\x1b[2J\u202e"
    lists = (
        csv_of(holder=hostile),
        csv_of(uid=hostile),
        csv_of(valid_until=hostile),
        f"Card Number\tFrom\tTo\tUID\tFront Door\n1\t2020-01-02\t2020-10-31\t0123AB07\t{hostile}\n",
        esp_rfid_of(hostile, username=hostile),
        json.dumps([{"code": hostile, "kind": hostile, "user": hostile}]),
        OWN_TOML.replace("master", "\\u001b[2J"),
    )  # fmt: skip

    for text in lists:
        assert all(doorpi.is_visible(line) for line in report(text, PLAIN, whole=True))


# -- properties

UIDS = st.sampled_from([4, 7, 10]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
).filter(lambda uid: not (len(uid) == 4 and uid[0] in (0x08, 0x88))).map(
    lambda uid: Uid(uid.hex().upper())
)  # fmt: skip
HOLDERS = st.text(
    st.characters(categories=["L", "N", "P", "S"]) | st.sampled_from(" \u3000'\"\\#,;"),
    min_size=1,
    max_size=20,
).map(lambda text: f"{text}.".strip()) | st.just(
    "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"
)
DAYS = st.dates(date(2020, 1, 1), date(2040, 12, 31))
CREDENTIALS = st.builds(
    Credential,
    uid=UIDS,
    holder=HOLDERS,
    enabled=st.booleans(),
    valid_from=st.none() | st.dates(date(2019, 1, 1), date(2020, 1, 1)),
    valid_until=st.none() | DAYS,
    schedule=st.sampled_from([None, "office-hours", "29"]),
    role=st.sampled_from(Role),
    source=st.just(Origin.DB),
    refused=st.just(""),
    block=st.none(),
    starts=st.none(),
    ends=st.none(),
    guest_pass=st.none(),
    membership=st.none(),
    hours=st.none(),
    proof=st.sampled_from(["", *doorpi.PROOFS]),
    generation=st.just(1),
)
LISTS = st.lists(CREDENTIALS, min_size=1, max_size=8, unique_by=lambda card: card.uid)


def doorpi_toml(some: list[Credential]) -> str:
    """As ``cards --toml`` prints them."""
    people = doorpi.people_of(some, "enabled")
    return "\n".join(map(doorpi.person_toml, people)) + "\n"


def doorpi_json(some: list[Credential]) -> str:
    """As ``cards --json`` prints them."""
    people = (
        doorpi.person_json(p, lambda uid, holder: NOON) for p in doorpi.people_of(some)
    )
    return "".join(f"{json.dumps(person)}\n" for person in people)


@settings(max_examples=25)
@given(LISTS)
def test_output_of_cards_is_unchanged_when_imported_again(some):
    known = {card.uid: card for card in some}

    for text in (doorpi_toml(some), doorpi_json(some)):
        changes = list_changes(read_list(text, OWNER), known, {}, whole=True)

        assert {card.uid for card in changes.unchanged} == known.keys()
        assert changes.to_write == changes.removed == []
        assert changes.refused == []


def spellings(uid: Uid) -> dict[str, str]:
    """One UID as all the systems write it, and as they garble it."""
    raw = bytes.fromhex(uid)
    return {
        "hex": uid,
        "lower": uid.lower(),
        "colons": format_uid(uid),
        "dashes": format_uid(uid).replace(":", "-"),
        "spaces": format_uid(uid).replace(":", " "),
        "dotted": ".".join(map(str, raw)),
        "dotted first four": ".".join(map(str, raw[:4])),
        "unpadded": "".join(f"{byte:x}" for byte in raw),
        "decimal": str(int.from_bytes(raw[:4], "big")),
        "decimal, last byte first": str(int.from_bytes(raw[:4], "little")),
        "Wiegand 26": str(raw[0] * 100_000 + int.from_bytes(raw[1:3], "big")),
    }


#: A number or a code of which nothing tells that it is not a whole UID.
CLAIMS = ("decimal", "decimal, last byte first", "Wiegand 26", "dotted first four")


@given(UIDS)
def test_no_spelling_of_a_uid_is_read_as_another_uid(uid):
    for name, spelled in spellings(uid).items():
        for text in (csv_of(spelled), esp_rfid_of(spelled)):
            if name in CLAIMS and text.startswith("uid"):
                continue  # what a column called uid says is believed: see the next
            # Between 8 and 20 digits: 7 bytes with 6 zeros lost are as good as 4.
            if (
                name == "unpadded"
                and len(spelled) in (8, 14, 20)
                and spelled != uid.lower()
            ):
                continue
            with contextlib.suppress(ListError):
                for card in cards(text):
                    assert card.uid == uid, name


@given(st.lists(UIDS, min_size=2, max_size=6), st.sampled_from(CLAIMS[:3]))
def test_list_with_decimal_numbers_gives_no_card_of_digits(uids, form):
    spelled = ["8165538", *(spellings(uid)[form] for uid in uids)]
    text = "uid,holder\n" + "".join(f"{number},P\n" for number in spelled)

    assert [card.uid for card in cards(text) if len(card.uid) == 8] == []


@given(st.text(max_size=300))
def test_read_list_of_any_text_has_cards_or_a_reason(text):
    for content in (
        text,
        f"uid,holder\n{text}\n",
        f"[[card]]\n{text}",
        f'[{{"acctype":1}},{text}',
    ):
        try:
            listed = read_list(content, OWNER)
        except ListError as error:
            has_reason = bool(str(error))
        else:
            has_reason = bool(listed.rows or listed.refused)
        assert has_reason, content


# -- the verb


@pytest.fixture
def folder(folder) -> Path:
    (folder / "list").write_text(CSV, encoding="utf-8")
    return folder


@pytest.fixture
def run_import(folder, verb):
    """Run ``import``: its lines on stdout."""

    def run(*args: str, code: int = 0, errors: tuple[str, ...] = ()) -> list[str]:
        given = args if "-" in args else (*args, str(folder / "list"))
        said = verb("import", *given)
        assert said.code == code
        assert [line.replace(f"{folder}/", "") for line in said.err] == list(errors)
        return said.out

    return run


def stored(store: SqliteStore) -> list[Credential]:
    return [replace(card, source=Origin.TOML) for card in store.people.cards()]


def test_import_of_the_same_list_again_changes_nothing(run_import, store):
    first = run_import()
    again = run_import()

    assert stored(store) == LIMITED
    assert first[-2:] == [
        "0 unchanged, 2 added, 0 changed, 0 removed, 0 refused",
        "imported; valid from the next tap",
    ]
    assert again[-2:] == [
        "2 unchanged, 0 added, 0 changed, 0 removed, 0 refused",
        "nothing to change",
    ]


def test_import_dry_run_prints_the_same_and_writes_nothing(folder, run_import):
    dry = run_import("--dry-run")
    is_written = (folder / "state").exists()
    real = run_import()

    assert not is_written
    assert dry[-1] == "dry run: nothing was written"
    assert dry[:-1] == real[:-1]


def test_import_replace_leaves_only_the_list_in_the_database(run_import, store):
    store.people.add_card(card_of(STRANGER, "Gone"), NOON)

    run_import()
    both = stored(store)
    run_import("--replace")

    assert both == [LIMITED[0], card_of(STRANGER, "Gone"), LIMITED[1]]
    assert stored(store) == LIMITED


def test_import_is_seen_on_an_open_connection(run_import, store):
    """On the connection that it has open."""
    before = store.people.find(ANNA)

    run_import()

    assert (before, store.people.find(ANNA)) == (
        None,
        replace(LIMITED[0], source=Origin.DB),
    )


def test_import_takes_valid_rows_and_fails_because_of_a_refused_one(
    folder, run_import, store
):
    (folder / "list").write_text("uid,holder\n0123AB07,Anna Ito\n08A1B2C3,Phone\n")

    for dry in (["--dry-run"], []):
        run_import(*dry, code=1, errors=("1 row refused: not imported",))

    assert stored(store) == PLAIN[:1]


def test_import_ignore_skips_a_column(folder, run_import, store):
    (folder / "list").write_text("uid,holder,Gesperrt\n0123AB07,Anna Ito,nein\n")

    run_import("--ignore", "Gesperrt")

    assert stored(store) == PLAIN[:1]


def test_import_of_refused_rows_only_changes_nothing(folder, run_import, store):
    store.people.add_card(card_of(STRANGER), NOON)
    (folder / "list").write_text("uid,holder\n08A1B2C3,Phone\n")

    lines = run_import(
        "--replace", code=1, errors=("every row was refused; nothing was changed",)
    )

    assert lines[-1] == "0 unchanged, 0 added, 0 changed, 0 removed, 1 refused"
    assert stored(store) == [card_of(STRANGER)]


UNTIL = r"'until\x1b[2J'"
UNREADABLE = {
    "nothing": (b"", "list: empty; nothing was changed"),
    "Shift JIS": (
        "uid,holder\n0123AB07,\u4f50\u85e4\n".encode("cp932"),
        "list: not UTF-8 text (Excel: save as CSV UTF-8); nothing was changed",
    ),
    "UTF-16": (
        CSV.encode("utf-16"),
        "list: not UTF-8 text (Excel: save as CSV UTF-8); nothing was changed",
    ),
    "escapes": (
        b"uid,holder,until\x1b[2J\n0123AB07,Anna,1\n",
        f"list: {DOUBT.format(UNTIL, KEYS)}; nothing was changed",
    ),
}


@pytest.mark.parametrize(("content", "error"), UNREADABLE.values(), ids=UNREADABLE)
def test_import_of_an_unreadable_file_changes_nothing(
    folder, run_import, content, error
):
    (folder / "list").write_bytes(content)

    assert run_import("--replace", code=1, errors=(error,)) == []
    assert not (folder / "state").exists()


def test_import_of_a_missing_file_fails(folder, run_import):
    (folder / "list").unlink()

    run_import(
        code=1,
        errors=(
            "list: cannot be read: no such file or directory; nothing was changed",
        ),
    )


def test_import_of_an_endless_file_fails(folder, run_import, monkeypatch):
    monkeypatch.setattr(doorpi, "LIST_BYTES", 10_000)
    (folder / "list").unlink()
    (folder / "list").symlink_to("/dev/zero")

    run_import(
        code=1, errors=("list: longer than 0 MB: not a list; nothing was changed",)
    )


def test_import_reads_standard_input(folder, run_import, store):
    saved, file = os.dup(0), os.open(folder / "list", os.O_RDONLY)
    os.dup2(file, 0)
    try:
        run_import("-")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(file)

    assert stored(store) == LIMITED


def test_import_is_rolled_back_after_an_error(folder, run_import, store):
    store.people.add_card(card_of(STRANGER, "Gone"), NOON)
    with contextlib.closing(sqlite3.connect(store.people.path)) as db, db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON cards WHEN NEW.holder = 'Jo Guest'"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )

    lines = run_import(
        "--replace", code=1, errors=("database: state/cards.db: disk full",)
    )

    assert lines[-1] == "0 unchanged, 2 added, 0 changed, 1 removed, 0 refused"
    assert stored(store) == [card_of(STRANGER, "Gone")]


def test_import_with_a_closed_output_changes_nothing(
    folder, store, capsys, monkeypatch
):
    """As in ``import FILE | head``."""

    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            """Nothing is left."""

    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", Gone())
        code = main(
            ["--config", str(folder / "doorpi.toml"), "import", str(folder / "list")]
        )

    assert (code, stored(store)) == (1, [])
    assert (
        capsys.readouterr().err
        == "the output was closed before the report was read; nothing was changed\n"
    )


@pytest.mark.realtime
def test_import_of_a_long_list_delays_no_tap(folder, run_import, store):
    count = 5_000
    rows = "".join(f"04{i:012X},Person {i},2099-12-31\n" for i in range(count))
    (folder / "list").write_text(f"uid,holder,until\n{rows}")
    store.people.add_card(card_of(STRANGER), NOON)
    done, waits_s = threading.Event(), []

    def tap() -> None:
        while not done.is_set():
            watch = Stopwatch()
            assert store.people.find(STRANGER)
            waits_s.append(watch.own_s)
            done.wait(0.02)

    tapping = threading.Thread(target=tap)
    tapping.start()
    began_s = time.thread_time()  # there are two of us
    lines = run_import()
    took_s = time.thread_time() - began_s
    done.set()
    tapping.join()

    assert lines[-2] == "0 unchanged, 5,000 added, 0 changed, 0 removed, 0 refused"
    assert took_s < 20 * count / 100_000 * 4  # 100,000 in 20 s, on a busy computer
    assert max(waits_s) < 0.5


def test_blank_lines_above_a_list_are_read_in_linear_time():
    """Before, each of them was tried as the beginning of all that follow: minutes."""
    listed = read_list("\n" * 100_000 + "uid,holder\n04A93C715ED284,Ken Sato\n", OWNER)

    assert [*listed.rows] == ["04A93C715ED284"]
