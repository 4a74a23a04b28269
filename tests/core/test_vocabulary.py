"""The nouns: UIDs as people write them, and text from outside made safe to show."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import doorpi
from doorpi import (
    Command,
    Event,
    LockState,
    Reason,
    Uid,
    Verdict,
    fitting,
    folded,
    format_uid,
    is_random,
    is_visible,
    parse_uid,
    printable,
    tidied,
)
from tests.helpers.world import JST, KEN, NOON, card_of

uids = st.sampled_from([4, 7, 10]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)


def is_whole(uid: bytes) -> bool:
    """False for the cascade tag and 3 bytes of a longer UID."""
    return not (len(uid) == 4 and uid[0] == 0x88)


separators = st.sampled_from(["", ":", "-", " "])
anything = st.text(st.characters(exclude_categories=[]))  # lone surrogates as well

SEVEN, FOUR, TEN = "040F2C82DC7280", "0123AB07", "0102030405060708090A"

WRITTEN = {
    "canonical":              ("040F2C82DC7280", SEVEN),
    "lower case":             ("040f2c82dc7280", SEVEN),
    "mixed case":             ("040f2C82dC7280", SEVEN),
    "colons":                 ("04:0F:2C:82:DC:72:80", SEVEN),
    "hyphens":                ("04-0f-2c-82-dc-72-80", SEVEN),
    "spaces":                 ("04 0F 2C 82 DC 72 80", SEVEN),
    "mixed separators":       ("040F 2C82-DC72:80", SEVEN),
    "blanks around":          ("  04:0F:2C:82:DC:72:80\n", SEVEN),
    "4 bytes":                ("01:23:AB:07", FOUR),
    "4 bytes of digits only": ("01234567", "01234567"),
    "10 bytes":               ("01:02:03:04:05:06:07:08:09:0a", TEN),
    "dotted decimal":         ("1.35.171.7", FOUR),
    "dotted decimal, padded": ("001.035.171.007", FOUR),
    "dotted decimal, ends":   ("0.0.255.255", "0000FFFF"),
    "8 bytes, FeliCa's IDm":  ("01:14:b2:c3:d4:e5:80:01", "0114B2C3D4E58001"),
    "7 bytes, first 88":      ("88:04:A1:B2:C3:D4:E5", "8804A1B2C3D4E5"),
    "a random one is a UID":  ("08:23:AB:07", "0823AB07"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "uid"), WRITTEN.values(), ids=WRITTEN)
def test_a_uid_is_read_in_every_format_people_write(text, uid):
    assert parse_uid(text) == uid


PRINTED = "; a number printed on a card is not its UID: tap the card here instead"
CASCADE = "only 3 bytes of a 7-byte card (a UID of 4 bytes never begins with 88, or 136 in decimal): tap the card here instead"
NOT_HEX = "not a UID: two hex digits per byte, such as 04:A1:B2:C3"

REFUSED = {
    "nothing":                   ("", NOT_HEX),
    "blanks":                    ("   ", NOT_HEX),
    "a name":                    ("Ken Sato", NOT_HEX),
    "a letter beyond F":         ("04:A1:B2:G3", NOT_HEX),
    "half a byte at the end":    ("04:A1:B2:C", NOT_HEX),
    "unpadded hex":              ("1:23:ab:7", NOT_HEX),
    "unpadded hex in one":       ("123ab07", NOT_HEX),
    "two separators":            ("04::A1:B2:C3", NOT_HEX),
    "a separator in a byte":     ("0:4A:1B:2C:3", NOT_HEX),
    "separators outside":        (":04:A1:B2:C3:", NOT_HEX),
    "another separator":         ("04_A1_B2_C3", NOT_HEX),
    "a line end inside":         ("04:A1\n:B2:C3", NOT_HEX),
    "0x":                        ("0x04A1B2C3", NOT_HEX),
    "digits of another script":  ("\u0660\u0661:\u0662\u0663:04:05", NOT_HEX),
    "wide letters":              ("\uff10\uff14\uff21\uff11B2C3", NOT_HEX),
    "dotted, too few":           ("1.35.171", NOT_HEX),
    "dotted, 7 bytes":           ("4.15.44.130.220.114.128", NOT_HEX),
    "dotted, four digits":       ("1.35.171.0007", NOT_HEX),
    "dotted, 256":               ("1.35.171.256", "a number of a dotted UID is more than 255"),
    "1 byte":                    ("04", "a UID has 4, 7, 8 or 10 bytes, not 1"),
    "5 bytes":                   ("04:A1:B2:C3:D4", "a UID has 4, 7, 8 or 10 bytes, not 5"),
    "decimal, little endian":    ("2183925508", "a UID has 4, 7, 8 or 10 bytes, not 5" + PRINTED),
    "decimal, 7 digits":         (" 8165538 ", NOT_HEX + PRINTED),
    "the cascade tag":           ("8804a1b2", CASCADE),
    "the cascade tag, colons":   ("88:04:A1:B2", CASCADE),
    "the cascade tag, decimal":  ("136.4.161.178", CASCADE),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_uid_is_refused_with_the_reason(text, words):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 -- the words are below
        parse_uid(text)

    assert str(refused.value) == words


@given(uids.filter(is_whole), separators, st.booleans())
def test_every_uid_survives_being_written_and_read(raw, separator, lower):
    written = raw.hex(separator) if separator else raw.hex()

    uid = parse_uid(written if lower else written.upper())

    assert uid == raw.hex().upper()
    assert parse_uid(format_uid(uid)) == uid


@given(st.binary(min_size=4, max_size=4).filter(is_whole))
def test_every_short_uid_is_read_from_dotted_decimal(raw):
    assert parse_uid(".".join(map(str, raw))) == raw.hex().upper()


@given(anything)
def test_any_text_is_a_good_uid_or_a_value_error(text):
    try:
        uid = parse_uid(text)
    except ValueError:
        return

    assert len(bytes.fromhex(uid)) in (4, 7, 10)
    assert uid == uid.upper()


def test_a_uid_is_shown_with_colons():
    assert format_uid(KEN) == "04:A9:3C:71:5E:D2:84"


RANDOM = {
    "4 bytes, first 08": ("08112233", True),
    "the last of them": ("08FFFFFF", True),
    "4 bytes, 08 later": ("01080808", False),
    "4 bytes, first 80": ("80112233", False),
    "7 bytes, first 08": ("08112233445566", False),
    "10 bytes, first 08": ("08112233445566778899", False),
}


@pytest.mark.parametrize(("uid", "random"), RANDOM.values(), ids=RANDOM)
def test_only_a_short_uid_with_08_first_is_random(uid, random):
    assert is_random(Uid(uid)) is random


SHOWN = {
    "plain": ("Ken Sato", "Ken Sato"),
    "Japanese, with the wide space": ("佐藤\u3000健", "佐藤\u3000健"),
    "accents and a picture": ("Zoë Müller 🚪", "Zoë Müller 🚪"),
    "a new line": ("Ken\ngranted", "Ken\\ngranted"),
    "a return and a tab": ("a\rb\tc", "a\\rb\\tc"),
    "an escape sequence": ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
    "a control of 8 bits": ("\x9b31m", "\\x9b31m"),
    "nothing at all": ("\x00", "\\x00"),
    "right to left": ("Ken \u202egnp.exe", "Ken \\u202egnp.exe"),
    "isolates": ("\u2066a\u2069", "\\u2066a\\u2069"),
    "a line separator": ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
    "zero width": ("K\u200ben\ufeff", "K\\u200ben\\ufeff"),
    "a joiner of Latin letters": ("K\u200den", "K\\u200den"),
    "joiners at the ends": ("\u200c\u0639\u200d", "\\u200c\u0639\\u200d"),
    "two joiners": ("\u0639\u200c\u200c\u0639", "\u0639\\u200c\\u200c\u0639"),
    "a joiner and an override": ("\u0639\u200c\u202e", "\u0639\\u200c\\u202e"),
    "a lone surrogate": ("\udcff", "\\udcff"),
    "a tag beyond 16 bits": ("\U000e0041", "\\U000e0041"),
    "a backslash stays": ("C:\\new", "C:\\new"),
    "quotes stay": ('"it\'s"', '"it\'s"'),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.values(), ids=SHOWN)
def test_controls_are_shown_not_obeyed(text, shown):
    assert printable(text) == shown


@given(anything, st.integers(4, 300))
def test_nothing_invisible_and_nothing_long_comes_through(text, limit):
    shown = printable(text, limit)

    assert len(shown) <= limit
    assert is_visible(shown)
    shown.encode("utf-8")  # no lone surrogate is left: a terminal can take it


PERSIAN, SINHALA, WORKSHOP = (
    "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
    "\u0dc1\u0dca\u200d\u0dbb\u0dd3\u0db8\u0dad\u0dd3",
    "\U0001f469\u200d\U0001f527 Workshop",
)
NAMES = {
    "a half-space": (PERSIAN, PERSIAN),
    "a joined letter": (SINHALA, SINHALA),
    "a joined picture": (WORKSHOP, WORKSHOP),
    "the space of Japanese keyboards": ("\u4f50\u85e4\u3000\u5065 ", "\u4f50\u85e4\u3000\u5065"),
    "NBSP": ("Ada\u00a0Berg\u00a0", "Ada Berg"),
    "a mark of direction": ("\u200f\u05d3\u05d5\u05d3 \u200e", "\u05d3\u05d5\u05d3"),
    "BOM and blanks": ("\ufeff Ada\u200b", "Ada"),
    "a joiner at the end": (f"{PERSIAN}\u200c", PERSIAN),
}  # fmt: skip


@pytest.mark.parametrize(("text", "name"), NAMES.values(), ids=NAMES)
def test_names_of_all_scripts_can_be_seen_once_they_are_tidied(text, name):
    assert tidied(text) == name
    assert is_visible(name)
    assert printable(name) == name


@pytest.mark.parametrize(
    "text", ["Ken\u202e", "Ken\n", "\x1bKen", "K\u00aden", "K\u200en"]
)
def test_controls_and_marks_inside_stay_and_are_refused(text):
    assert not is_visible(tidied(text))


def test_a_name_is_found_however_it_is_encoded():
    assert folded("Jose\u0301  \uff23") == folded("jos\u00e9 c")
    assert folded(PERSIAN) == folded(PERSIAN.replace("\u200c", ""))


@pytest.mark.parametrize("limit", range(4, 12))
def test_a_name_is_cut_where_it_can_still_be_seen(limit):
    name = f"{WORKSHOP[:3]}{PERSIAN}{SINHALA}"

    assert is_visible(printable(name, limit))
    assert is_visible(fitting(name, limit))


@given(anything)
def test_what_can_be_seen_is_shown_as_it_is(text):
    assert (printable(text, len(text) * 10 + 3) == text) is is_visible(text)


LONG = {
    "as long as may be": ("x" * 200, "x" * 200),
    "one more": ("x" * 201, "x" * 197 + "..."),
    "long once escaped": ("\n" * 101, "\\n" * 98 + "\\..."),
}


@pytest.mark.parametrize(("text", "shown"), LONG.values(), ids=LONG)
def test_long_text_is_cut(text, shown):
    assert printable(text) == shown


CLOCKLESS = {
    "plain": ({}, False),
    "disabled": ({"enabled": False}, False),
    "first day": ({"valid_from": date(2026, 12, 1)}, True),
    "last day": ({"valid_until": date(2026, 12, 1)}, True),
    "hours": ({"schedule": "office"}, True),
}


@pytest.mark.parametrize(("limits", "needs"), CLOCKLESS.values(), ids=CLOCKLESS)
def test_a_credential_needs_the_clock_only_for_dates_and_hours(limits, needs):
    assert card_of(**limits).needs_clock is needs


def test_only_the_reason_granted_is_a_grant():
    words = {
        reason: Event(at=NOON, uid=None, holder="", reason=reason).decision
        for reason in Reason
    }

    assert [reason for reason in Reason if Verdict(reason).granted] == ["granted"]
    assert words == dict.fromkeys(Reason, "denied") | {Reason.GRANTED: "granted"}


def test_each_command_aims_at_a_state():
    assert {command: command.target for command in Command} == {
        Command.LOCK: LockState.LOCKED,
        Command.UNLOCK: LockState.UNLOCKED,
    }


DOOR_EVENTS = {
    "forced-open": "the door: forced-open (nobody was granted)",
    "held-open": "the door: held-open (nobody was granted)",
    "closed": "the door: closed (nobody was granted)",
}


@pytest.mark.parametrize(("reason", "words"), DOOR_EVENTS.items(), ids=DOOR_EVENTS)
def test_what_the_door_did_by_itself_is_no_denial(reason, words):
    event = Event(
        NOON, None, "", doorpi.Change(reason), source="door", note="nobody was granted"
    )

    assert event.decision == "changed"
    assert doorpi.describe(event) == words


def test_a_list_is_too_old_from_the_moment_on():
    member = doorpi.Membership("", "", NOON)
    card = card_of(membership=member)
    words = [
        doorpi.validity(card, {}, (NOON + timedelta(seconds=s)).astimezone(JST))
        for s in (-1, 0)
    ]

    assert words == ["always", "always, but its list is too old"]
