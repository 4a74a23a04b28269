"""``import``: what the columns of a list show only as a whole: who is let in, which of
two days a date is, and whether a UID is a number that is printed on the card."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorpi import (
    NUMBER_WORDS,
    PRINTED_WORDS,
    CardList,
    Credential,
    ListError,
    format_uid,
    is_visible,
    parse_config,
    parse_limit,
    read_list,
)

OWNER = parse_config('[door]\nname = "Front Door"\n[lock]\nkind = "relay"\n')
UIDS = ["04310A0B0C0D80", "04310A0B0C0E80", "04310A0B0C0F80", "04310A0B0C1080"]


def table(header: str, *rows: str) -> str:
    """A CSV with a UID in front of each row."""
    lines = [f"{uid},{row}" for uid, row in zip(UIDS, rows, strict=False)]
    return "".join(f"{line}\n" for line in (f"uid,{header}", *lines))


def listed(text: str, *ignored: str) -> CardList:
    return read_list(text, OWNER, ignored)


def cards(text: str) -> list[Credential]:
    return [row.card for row in listed(text).rows.values()]


def why_not(text: str, *ignored: str) -> str:
    with pytest.raises(ListError) as raised:
        listed(text, *ignored)
    return str(raised.value)


def refused(text: str) -> list[str]:
    return [row.why for row in listed(text).refused]


# -- unknown columns

EXPORTS = {
    "a club": (
        table("Name,Archived,Member No,Renewal due", "Ada,no,1001,2027-03-31", "Bo,yes,1002,2020-03-31"),
        ["Archived", "Member No", "Renewal due"],
    ),
    "an alarm system": (table("Name,Is Barred", "Ada,FALSE", "Bo,TRUE"), ["Is Barred"]),
    "another language": (table("Name,gesperrt", "Ada,ja"), ["gesperrt"]),
    "JSON": ('{"uid": "04310A0B0C0D80", "holder": "Ada", "barred": true}', ["barred"]),
    "esp-rfid": ('{"acctype": 1, "uid": "25c2451b", "validuntil": 2145916800, "barred": 1}', ["barred"]),
    "CarontePass": ('[{"kind": "nfc", "code": "1.35.171.7", "user": "ada", "barred": "x"}]', ["barred"]),
    "a column without a name": (table("name,", "Ada,blocked"), ["column 3"]),
    "a harmless one": (table("name,E-mail", "Ada,ada@b.org"), ["E-mail"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "columns"), EXPORTS.values(), ids=EXPORTS)
def test_unknown_columns_stop_a_list_until_each_is_ignored(text, columns):
    words = why_not(text)
    ignore = " ".join(f"--ignore {name!r}" for name in columns)

    assert words.startswith("unknown columns could limit access: ")
    assert words.endswith(f", or import without them: {ignore}")
    assert why_not(text, *columns[1:]).endswith(f" --ignore {columns[0]!r}")
    assert listed(text, *columns).rows


def test_unknown_column_without_cells_is_accepted():
    assert listed(table("name,disabled", "Ada,")).rows


def test_ignore_takes_only_unknown_columns():
    text = table("name,valid_until,Phone", "Ada,2027-01-01,1234")

    for name in ("valid_until", "Telephone"):
        assert why_not(text, name) == f"--ignore {name!r}: no such unknown column"


def test_two_columns_for_one_key_are_refused():
    text = table("name,Valid until,until", "Ada,2027-01-01,2026-01-01")

    assert why_not(text) == "two columns for valid_until: 'Valid until', 'until'"


# -- dates

#: A cell of valid_from and of valid_until, and the days that they are.
DAYS = {
    "midnight to the last second": ("2026-01-01 00:00:00", "2026-12-31 23:59:59"),
    "UTC": ("2026-01-01T00:00:00Z", "2026-12-31T23:59:59.999Z"),
    "Excel": ("2026/1/1 0:00", "2026/12/31 0:00"),
    "dots": ("01.01.2026", "31.12.2026"),
    "the year first": ("2026.1.1", "2026-12-31"),
    "Japanese": ("2026\u5e741\u67081\u65e5", "2026\u5e7412\u670831\u65e5"),
}  # fmt: skip


@pytest.mark.parametrize(("first", "last"), DAYS.values(), ids=DAYS)
def test_dates_of_spreadsheets_are_read(first, last):
    text = table("name,valid_from,valid_until", f"Ada,{first},{last}")
    (card,) = cards(text)

    assert (card.valid_from, card.valid_until) == (date(2026, 1, 1), date(2026, 12, 31))


A_DATE = "expected 2026-12-31, or a local time: 2026-12-31 18:00"
NO_DAYS = {
    "a zone": ("2026-12-31 08:00Z", A_DATE),
    "no time": ("2026-12-31 24:01", A_DATE),
    "a day of Excel": ("46387", A_DATE),
    "two days": ("03/04/2027", A_DATE),
    "no day": ("31.02.2027", A_DATE),
    "two digits": ("31.12.26", A_DATE),
    "another era": ("\u4ee4\u548c8\u5e7412\u670831\u65e5", A_DATE),
}  # fmt: skip


@pytest.mark.parametrize(("cell", "why"), NO_DAYS.values(), ids=NO_DAYS)
def test_ambiguous_or_invalid_dates_are_refused(cell, why):
    text = table("name,Valid Until", f"Ada,{cell}")

    assert refused(text) == [f"Valid Until = {cell!r}: {why}"]


def test_times_of_day_are_read():
    text = table("name,from,until", "Ada,2026-12-31 8:00,2026-12-31T18:00:30.5")
    (card,) = cards(text)

    assert card.valid_from == parse_limit("2026-12-31 08:00")
    assert card.valid_until == parse_limit("2026-12-31 18:00:30")


# -- numbers that are printed on cards


def of_uids(*uids: str) -> str:
    return "uid,name\n" + "".join(f"{uid},P{i}\n" for i, uid in enumerate(uids))


DIGITS = f"digits only: {PRINTED_WORDS}, or write its UID with colons"


def test_digits_only_in_most_uids_are_refused():
    numbers = ["07730211", "07730212", "07730218"]

    assert refused(of_uids(*numbers)) == [f"uid = {n!r}: {DIGITS}" for n in numbers]


def test_digits_only_in_repeated_rows_count_once():
    text = "uid,name\n" + "07730211,Ada\n" * 3 + "0773021A,Bo\n"

    assert len(listed(text).rows) == 2


def test_digits_only_in_few_uids_or_with_colons_are_accepted():
    few = listed(of_uids("07730211", "0773021A"))
    rare = listed(of_uids("07730211", *(f"A773{i:04}" for i in range(20))))
    sure = listed(of_uids("07:73:02:11", "07:73:02:12", "07:73:02:18"))

    assert (len(few.rows), few.notes) == (2, {NUMBER_WORDS: 1})
    assert (len(rare.rows), rare.notes) == (21, {})
    assert (len(sure.rows), sure.notes) == (3, {})


def test_digits_only_beside_a_number_shortened_by_excel_are_refused():
    assert refused(of_uids("12345678901234", "1.23457E+12")) == [
        f"uid = '12345678901234': {DIGITS}",
        "uid = '1.23457E+12': not a UID: two hex digits per byte, such as 04:A1:B2:C3",
    ]


# -- what stands above a table

HEADS = {
    "sep": "sep=;\nuid;name\n04310A0B0C0D80;Ada\n",
    "sep, quoted": '"sep=|"\r\nuid|name\r\n04310A0B0C0D80|Ada\r\n',
    "a comment": "# exported 2026-11-01\nuid,name\n04310A0B0C0D80,Ada\n",
    "comments with commas": "\n#a,b,c\n# d\n\nuid,name\n04310A0B0C0D80,Ada\n",
    "a header that is one": "#uid,name\n04310A0B0C0D80,Ada\n",
}


@pytest.mark.parametrize("text", HEADS.values(), ids=HEADS)
def test_csv_lines_above_the_header_are_skipped(text):
    assert [card.holder for card in cards(text)] == ["Ada"]


def test_csv_lines_are_counted_from_the_top_of_the_file():
    text = "sep=;\n# two\n\nuid;name\n04310A0B0C0D80;Ada\n8804A3C6;Bo\n"

    assert [row.number for row in listed(text).refused] == [6]


# -- esp-rfid and uhppoted


def test_esp_rfid_pin_is_refused():
    text = '{"acctype": 1, "uid": "1234", "user": "PIN", "validuntil": 2145916800, "%s": "1234"}'

    for key in ("pincode", "pin"):
        assert refused(text % key) == [
            "uid = '1234': a PIN, or a UID without some of its 0s; tap the card here instead"
        ]


def test_esp_rfid_mqtt_events_are_refused():
    user = '{"acctype": 1, "uid": "25c2451b", "validuntil": 2145916800}'
    came = '{"type": "access", "isKnown": "true", "uid": "43c8291c", "username": "C"}'
    text = f"{user}\n{came}"

    assert why_not(text).endswith(" --ignore 'type' --ignore 'isKnown'")
    assert [row.why for row in listed(text, "type", "isKnown").refused] == [
        "acctype = '': expected 0, 1 or 99"
    ]


def test_esp_rfid_limits_may_be_milliseconds():
    text = '{"acctype": 1, "uid": "25c2451b", "validsince": 1767225600000, "validuntil": 1798761600000}'
    (card,) = cards(text)

    assert (card.valid_from, card.valid_until) == (date(2026, 1, 1), date(2026, 12, 31))


def test_uhppoted_card_without_dates_is_refused():
    head, card = (
        "Card Number\tFrom\tTo\tFront Door\tUID\n",
        "1\t\t2026-12-31\tY\t04310A0B0C0D80\n",
    )

    assert refused(head + card) == [
        "no From or no To: uhppoted has no card without dates; fill them in"
    ]


# -- names and formulas


def test_names_in_all_scripts_are_accepted():
    names = [
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "Ada\u00a0Berg",
        "\u200f\u05d3\u05d5\u05d3",
        "'=1+1",
    ]
    found = cards(table("name", *names))

    assert [card.holder for card in found] == [
        names[0], "Ada Berg", "\u05d3\u05d5\u05d3", "=1+1",
    ]  # fmt: skip
    assert all(is_visible(f"{format_uid(card.uid)} {card.holder}") for card in found)


# -- what our own verbs print


def test_card_that_this_version_refuses_is_refused_in_a_list():
    text = '{"uid": "0431F2A6", "holder": "Ada", "source": "db", "refused": "needs a newer version"}'

    assert refused(text) == ["needs a newer version"]


def test_digits_only_from_cards_json_are_accepted():
    entry = '{{"uid": "{}", "holder": "Ada", "source": "db"}}'
    text = "\n".join(map(entry.format, ["07730211", "07730212", "07730218"]))

    assert len(listed(text).rows) == 3
    assert len(refused(text.replace(', "source": "db"', ""))) == 3


# -- whatever is in a list

KEYS = (
    "uid",
    "holder",
    "enabled",
    "valid_until",
    "role",
    "source",
    "code",
    "kind",
    "user",
)
KEYS += ("acctype", "validuntil", "pincode", "Card Number", "From", "To", "Front Door")
CELLS = st.sampled_from(
    [None, True, [], {}, [1], 0, 1e999, 10**30, "", "x", "04310A0B0C0D80", "8804A3C6", "1234567",
     "31.12.2026", "2026-12-31 08:00", "46023", "1E+10", "'=1", "\u200c", "\ud800", "toml", "N"]
)  # fmt: skip


def reasons(text: str) -> list[str]:
    """Why the list is refused, or some of its rows."""
    try:
        return refused(text)
    except ListError as error:
        return [str(error)]


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), CELLS), max_size=4))
def test_read_list_of_any_json_has_cards_or_a_reason(entries):
    for head in ({"uid": "", "holder": ""}, {"code": "", "kind": ""}, {"acctype": 1}):
        assert all(reasons(json.dumps([head, *entries])))


@given(
    st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=8),
    st.lists(st.lists(CELLS.map(str), min_size=8, max_size=8), max_size=4),
)
def test_read_list_of_any_table_has_cards_or_a_reason(names, rows):
    lines = [names, *(row[: len(names)] for row in rows)]

    assert all(reasons("".join("\t".join(line) + "\n" for line in lines)))
