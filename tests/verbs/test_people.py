"""`allow`, `revoke`, `cards` and `lockdown`: what the owner types, and reads."""

from __future__ import annotations

import contextlib
import io
import json
import re
import string
import tomllib
from datetime import UTC, date, datetime, timedelta

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    Credential,
    Event,
    Notes,
    Origin,
    Reason,
    Role,
    SqliteStore,
    StoreError,
    Uid,
    main,
    parse_config,
    parse_limit,
    parse_uid,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, STRANGER, card_of

CONFIG = """
[lock]
kind = "relay"
[[schedule]]
name = "office-hours"
times = ["Mon-Fri 08:00-20:00"]
[[card]]
uid = "04:A9:3C:71:5E:D2:84"
holder = "Ken Sato"
"""
MIKA, PHONE = Uid("D3C2B1A0"), Uid("08112233")
KEN_WRITTEN, STRANGER_WRITTEN = "04:A9:3C:71:5E:D2:84", "04:FF:EE:DD:CC:BB:AA"


def seen(store: SqliteStore, ago_s: dict[Uid, float]) -> None:
    """The door has denied unknown cards."""
    clock = doorpi.SystemClock()
    presented = {uid: clock.monotonic() - ago for uid, ago in ago_s.items()}
    store.events.keep(Notes({"unknown": doorpi.unknown_text(presented, clock.boot())}))


# -- allow


def test_allow_lets_a_card_in(verb, store):
    said = verb("allow", " Mika Mori ", "--uid", "d3-c2-b1-a0")

    assert said == (0, ["Mika Mori may enter with D3:C2:B1:A0: always"], [])
    assert list(store.people.cards()) == [card_of(MIKA, "Mika Mori", source=Origin.DB)]


def test_allow_with_a_last_day_and_hours(verb, store):
    _, out, _ = verb(
        "allow", "Mika", "--uid", "D3C2B1A0",
        "--until", "2199-12-31", "--schedule", "office-hours",
    )  # fmt: skip

    assert out == [
        "Mika may enter with D3:C2:B1:A0: Mon-Fri 08:00-20:00, until 2199-12-31"
    ]
    assert store.people.find(MIKA) == card_of(
        MIKA, "Mika", source=Origin.DB, schedule="office-hours",
        valid_until=date(2199, 12, 31),
    )  # fmt: skip


def test_allow_takes_the_last_unknown_card_and_names_it_back(verb, store):
    seen(store, {STRANGER: 12})

    code, (line,), err = verb("allow", "Mika")

    before, seconds, after = line.partition(" (presented 12 s ago)")
    assert (code, before, after, err) == (
        0, f"Mika may enter with {STRANGER_WRITTEN}", ": always", [],
    )  # fmt: skip
    assert seconds
    assert store.people.find(STRANGER).holder == "Mika"


NOT_TAKEN = {
    "none was ever presented": (None, 0),
    "it was too long ago": (STRANGER, 301),
}


@pytest.mark.parametrize(("uid", "ago_s"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_allow_without_a_recent_card_says_what_to_do(verb, store, uid, ago_s):
    if uid:
        seen(store, {uid: ago_s})

    assert verb("allow", "Mika") == (1, [], [
        ("no unknown card was presented in the last 5 minutes: present the new card and"
        " try again, or give --uid")
    ])  # fmt: skip
    assert list(store.people.cards()) == []


def test_a_card_of_before_a_reboot_is_not_taken(verb, store):
    """The monotonic clock begins anew, and what it says may look like just now."""
    presented = {STRANGER: doorpi.SystemClock().monotonic() - 5}
    store.events.keep(
        Notes({"unknown": doorpi.unknown_text(presented, "another-boot")})
    )

    assert verb("allow", "Mika")[0] == 1
    assert list(store.people.cards()) == []


def test_allow_refuses_to_choose_between_unknown_cards_and_names_them(verb, store):
    """A stranger may have shown one after the colleague who is meant."""
    seen(store, {MIKA: 40, STRANGER: 3})

    code, out, (words,) = verb("allow", "Jo")

    assert (code, out) == (1, [])
    assert words == (
        "2 unknown cards were presented in the last 5 minutes, D3:C2:B1:A0 (40 s ago)"
        f" and {STRANGER_WRITTEN} (3 s ago): give --uid with the one you mean"
    )
    assert list(store.people.cards()) == []
    assert verb("allow", "Jo", "--uid", MIKA)[0] == 0


def test_a_phone_that_was_presented_after_the_card_is_not_taken_for_it(verb, store):
    """A card in the phone's case does so."""
    seen(store, {STRANGER: 3, PHONE: 1})

    code, (line,), err = verb("allow", "Mika")

    assert (code, line.split(" (")[0], err) == (
        0,
        f"Mika may enter with {STRANGER_WRITTEN}",
        [],
    )


@pytest.mark.parametrize(
    "other", [{MIKA: 301}, {KEN: 40}, {PHONE: 40}], ids=["too old", "known", "a phone"]
)
def test_allow_ignores_cards_that_cannot_be_meant(verb, store, other):
    seen(store, other | {STRANGER: 3})

    assert verb("allow", "Mika")[::2] == (0, [])


@pytest.mark.parametrize("uid", [STRANGER, KEN], ids=["of the database", "of the file"])
def test_allow_without_uid_never_renames_a_card(verb, store, uid):
    """Typed twice by mistake, or meant for the next card that was not shown yet."""
    seen(store, {uid: 10})
    if uid == STRANGER:
        verb("allow", "Mika")
    name = "Mika" if uid == STRANGER else "Ken Sato"

    code, out, err = verb("allow", "Jo")

    assert (code, out) == (1, [])
    assert err == [
        (
            f"the card that was presented last, {name} ({doorpi.format_uid(uid)}), is"
            " already on the list: present the new card and try again, or give --uid"
        )
    ]
    assert "Jo" not in [card.holder for card in store.people.cards()]


def test_allow_warns_of_a_number_printed_on_a_card(verb):
    printed = verb("allow", "Mika", "--uid", "07730211")
    read = verb("allow", "Jo", "--uid", "07:73:02:12")

    assert printed[2] == [f"07730211: {doorpi.NUMBER_WORDS}"]
    assert (printed[0], read[0], read[2]) == (0, 0, [])


def test_allow_keeps_the_letters_of_a_name_and_drops_paste_marks(verb):
    persian = "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"

    _, out, _ = verb("allow", f"\u200f{persian}\u00a0", "--uid", "D3C2B1A0")

    assert out == [f"{persian} may enter with D3:C2:B1:A0: always"]
    assert f'holder = "{persian}"' in verb("cards", "--toml")[1]
    assert verb("why", persian.replace("\u200c", ""))[0] == 0


def test_a_card_is_renamed_and_keeps_its_limits(verb, store):
    verb("allow", "Card of 2026-11-21", "--uid", "D3C2B1A0", "--until", "2199-12-31")

    _, out, _ = verb("allow", "Mika", "--uid", "D3C2B1A0")

    assert out == [
        (
            "Mika may enter with D3:C2:B1:A0: always, until 2199-12-31"
            " (until now: Card of 2026-11-21)"
        )
    ]
    assert store.people.find(MIKA).valid_until == date(2199, 12, 31)


def test_check_has_one_line_for_a_person(verb, folder):
    two = '[[person]]\nname = "Aya"\ncards = ["11223344", "11223355"]\n'
    path = folder / "doorpi.toml"
    path.write_text(path.read_text() + two)

    _, out, _ = verb("check")

    aya = [line for line in out if "11:22:33:44" in line and "Aya" in line]
    assert aya == ["  Aya       11:22:33:44, 11:22:33:55  always"]


def test_a_further_card_gets_the_limits_on_which_the_others_agree(verb, store):
    verb("allow", "Mika", "--uid", "D3C2B1A0", "--until", "2199-12-31")
    verb("allow", "Aya", "--uid", "11223344")

    _, out, _ = verb("allow", "mika", "--uid", "D3C2B1A1")
    assert "until 2199-12-31" in out[0]
    _, out, _ = verb("allow", "Mika", "--uid", "D3C2B1A2", "--until", "2198-12-31")
    assert "until 2198-12-31" in out[0]
    _, out, _ = verb("allow", "Mika", "--uid", "D3C2B1A3")
    assert "until" not in out[0]


def test_allow_switches_a_card_on_again(verb, store):
    store.people.add_card(
        card_of(MIKA, "Mika", enabled=False, role=Role.MASTER), doorpi_now()
    )

    _, out, _ = verb("allow", "Mika", "--uid", "D3C2B1A0")

    assert out == [
        (
            "Mika enrols cards with D3:C2:B1:A0:"
            " always [master: enrols cards, does not open]"
        )
    ]
    assert store.people.find(MIKA) == card_of(
        MIKA, "Mika", role=Role.MASTER, source=Origin.DB
    )


def doorpi_now() -> datetime:
    return datetime.now(UTC)


# fmt: off
REFUSED = {
    "a random UID": (["X", "--uid", "08112233"],
        "08:11:22:33: a random UID (4 bytes beginning with 08, or 8 with 01:FE), as phones have: it changes at each tap and cannot be enrolled; use a card"),
    "a card of the file": (["X", "--uid", "04A93C715ED284"],
        f"{KEN_WRITTEN} is in doorpi.toml, as Ken Sato: the file decides, so edit it there"),
    "hours that are none": (["X", "--uid", "01020304", "--schedule", "ofice-hours"],
        "no [[schedule]] is called 'ofice-hours'; did you mean 'office-hours'?"),
    "a day that is over": (["X", "--uid", "01020304", "--until", "2020-12-31"],
        "2020-12-31 has passed: the card would never work; give a later --until"),
}
# fmt: on


@pytest.mark.parametrize(("args", "words"), REFUSED.values(), ids=REFUSED)
def test_allow_refuses_with_the_reason(verb, store, args, words):
    assert verb("allow", *args) == (1, [], [words])
    assert list(store.people.cards()) == []


STALE = {
    "hours that are gone": (
        {"schedule": "nights"}, [], "no [[schedule]] is called 'nights'"
    ),
    "a day that is over": (
        {"valid_until": date(2020, 1, 1)},
        [],
        "2020-01-01 has passed: the card would never work; give a later --until",
    ),
    "a time that is over": (
        {},
        ["--until", "2020-01-01 18:00"],
        "2020-01-01 18:00 has passed: the card would never work; give a later --until",
    ),
    "an end at its beginning": (
        {},
        ["--from", "2199-01-01 18:00", "--until", "2199-01-01 18:00"],
        "the card is valid from 2199-01-01 18:00, which is after 2199-01-01 18:00",
    ),
    "a day before the first": (
        {"valid_from": date(2199, 1, 1)},
        ["--until", "2198-01-01"],
        "the card is valid from 2199-01-01, which is after 2198-01-01",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("was", "args", "words"), STALE.values(), ids=STALE)
def test_allow_refuses_limits_that_would_keep_the_card_out(
    verb, store, was, args, words
):
    card = card_of(MIKA, "Mika", **was, source=Origin.DB)
    store.people.add_card(card, doorpi_now())

    assert verb("allow", "Jo", "--uid", MIKA, *args) == (1, [], [words])
    assert list(store.people.cards()) == [card]


def test_allow_with_times_of_day(verb, store, folder):
    _, out, _ = verb(
        "allow", "Mika", "--uid", MIKA,
        "--from", "2198-12-01 09:30", "--until", "2199-12-31 18:00",
    )  # fmt: skip

    words = "always, from 2198-12-01 09:30, until 2199-12-31 18:00"
    assert out == [f"Mika may enter with D3:C2:B1:A0: {words}"]
    first, last = parse_limit("2198-12-01 09:30"), parse_limit("2199-12-31 18:00")
    card = card_of(
        MIKA, "Mika", source=Origin.DB, valid_from=first, valid_until=last
    )  # fmt: skip
    assert store.people.find(MIKA) == card
    assert words in verb("people")[1][2]
    for form in ("--json", "--toml"):  # an export brings the entry back as it was
        list_file = folder / f"people{form}"
        list_file.write_text("\n".join(verb("people", form)[1]))
        store.people.change_cards([], [MIKA], doorpi_now())
        verb("import", str(list_file))
        assert store.people.find(MIKA) == card


def test_a_program_that_knows_only_days_refuses_a_card_with_a_time(
    verb, store, monkeypatch
):
    verb("allow", "Mika", "--uid", MIKA, "--until", "2199-12-31 18:00")

    monkeypatch.setitem(doorpi.CARD_VALUES, "valid_until", doorpi._day)  # an older one
    card = store.people.find(MIKA)

    assert not card.enabled
    assert card.refused


def test_a_card_for_one_day_may_be_for_today(verb, store):
    today = datetime.now().astimezone().date()
    store.people.add_card(card_of(MIKA, "Mika", valid_from=today), doorpi_now())

    assert verb("allow", "Mika", "--uid", MIKA, "--until", f"{today}")[0] == 0


def test_allow_in_a_lockdown_says_so(verb, store):
    store.people.lock_down("owner")

    assert verb("allow", "Mika", "--uid", MIKA)[2] == ["locked down: nobody may enter"]


def test_a_phone_that_was_presented_is_refused_with_the_reason(verb, store):
    seen(store, {PHONE: 3})

    code, _, (words,) = verb("allow", "Mika")

    assert code == 1
    assert words.startswith("08:11:22:33: a random UID")


WRONG = {
    "no UID": (["X", "--uid", "04A1"], "a UID has 4, 7, 8 or 10 bytes, not 2"),
    "no date": (["X", "--uid", "01020304", "--until", "soon"], "not a date such as"),
    "no name": ([" "], "a name needs visible characters"),
    "a name without end": (["x" * 201], "at most 200"),
    "a name that moves the cursor": (
        ["Mi\x1b[2Jka"],
        "a name needs visible characters",
    ),
}


@pytest.mark.parametrize(("args", "words"), WRONG.values(), ids=WRONG)
def test_wrong_usage_of_allow_is_exit_2_in_words(verb, capsys, args, words):
    with pytest.raises(SystemExit) as caught:
        verb("allow", *args)

    assert caught.value.code == 2
    assert words in capsys.readouterr().err


# -- revoke


@pytest.fixture
def people(store):
    at = doorpi_now()
    store.people.add_card(card_of(MIKA, "Mika Mori"), at)
    store.people.add_card(card_of(Uid("01020304"), "Mika Mori"), at)
    store.people.add_card(card_of(Uid("DEADBEEF"), "Jo Guest"), at)
    store.people.add_card(card_of(Uid("01020305"), "Dead Beef"), at)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("whom", ["D3:C2:B1:A0", "d3c2b1a0"])
def test_revoke_takes_a_card_away(verb, store, whom):
    said = verb("revoke", whom)

    assert said == (
        0, ["Mika Mori (D3:C2:B1:A0) is blocked, and removed from the database's list"], [],
    )  # fmt: skip
    assert store.people.find(MIKA) is None
    assert len(list(store.people.cards())) == 3


@pytest.mark.usefixtures("people")
def test_revoke_of_a_holder_takes_all_of_their_cards(verb, store):
    code, out, _ = verb("revoke", " mika  MORI")

    assert (code, len(out)) == (0, 3)
    assert {card.holder for card in store.people.cards()} == {"Jo Guest", "Dead Beef"}


@pytest.mark.usefixtures("people")
def test_a_name_that_could_be_a_uid_is_first_of_all_a_uid(verb, store):
    verb("revoke", "dead beef")
    assert [c.holder for c in store.people.cards() if "ea" in c.holder] == ["Dead Beef"]

    verb("revoke", "dead beef")
    assert [c.holder for c in store.people.cards() if "ea" in c.holder] == []


def test_revoke_of_a_name_blocks_whatever_card_they_get(verb, store):
    store.people.add_card(card_of(MIKA, "Mika Mori"), doorpi_now())

    _, out, _ = verb("revoke", "mika mori")

    assert out[1:] == [
        (
            "any other card or pass of Mika Mori is blocked, too; to lift that: doorpi allow NAME"
            " --uid UID"
        )
    ]
    assert store.people.block_on(STRANGER, "MIKA  Mori").by == "nobi"
    assert store.people.block_on(STRANGER, "Mika") is None


@pytest.mark.parametrize("whom", ["Ken Sato", "ken  SATO", KEN_WRITTEN])
def test_revoke_blocks_a_card_of_the_file(verb, folder, store, whom):
    store.people.add_card(card_of(holder="Ken of the database"), doorpi_now())

    code, out, err = verb("revoke", whom)

    assert (code, err) == (0, [])
    assert out[:2] == [
        f"Ken Sato ({KEN_WRITTEN}) is blocked; you may also delete it from doorpi.toml",
        f"Ken of the database ({KEN_WRITTEN}) is blocked, and removed from the database's list",
    ]  # fmt: skip
    assert list(store.people.cards()) == []
    assert len(out) == (2 if whom == KEN_WRITTEN else 3)
    assert "is blocked (it was already); you may" in verb("revoke", whom)[1][0]


@pytest.mark.usefixtures("people")
def test_revoke_of_nobody_suggests_names(verb, store):
    assert verb("revoke", "Mika Mory") == (1, [], [
        'nobody is called "Mika Mory"; did you mean "Mika Mori"?'
    ])  # fmt: skip
    assert verb("revoke", "mika")[2] == [
        'nobody is called "mika"; did you mean "Mika Mori"?'
    ]
    assert verb("revoke", "01:02:03:99")[2] == [
        'no such card is on the list, and nobody is called "01:02:03:99"'
    ]
    assert len(list(store.people.cards())) == 4
    assert store.people.blocks() == []


@pytest.mark.parametrize("typed", ["why", "revoke"])
def test_a_name_without_its_accents_is_only_suggested(verb, store, typed):
    store.people.add_card(card_of(MIKA, "Zoë Ångström"), doorpi_now())

    assert verb(typed, "zoe angstrom") == (
        1, [], ['nobody is called "zoe angstrom"; did you mean "Zoë Ångström"?'],
    )  # fmt: skip
    assert verb(typed, "Zoe")[2] == [
        'nobody is called "Zoe"; did you mean "Zoë Ångström"?'
    ]
    assert verb(typed, "zoe\u0308 ÅNGSTRÖM")[0] == 0


def test_revoke_where_the_list_cannot_be_written_says_that_nobody_is_blocked(
    verb, folder
):
    (folder / "state" / "cards.db").mkdir(parents=True)

    code, out, (told,) = verb("revoke", "Ken Sato")

    assert (code, out) == (1, [])
    assert told.startswith("database: ")
    assert told.endswith("; nobody was blocked")


# -- what a block does


def test_a_blocked_card_stays_out_whatever_the_file_says(verb, folder, store):
    verb("revoke", "Ken Sato")

    _, (why,), _ = verb("why", "Ken Sato")
    _, cards, _ = verb("cards")
    _, check, _ = verb("check")
    _, (told,), _ = verb("cards", "--json")
    _, (toml,), _ = verb("cards", "--toml")

    since = f"blocked since {store.people.blocks()[0].since:%Y-%m-%d %H:%M} by nobi"
    assert why == (
        f"Ken Sato ({KEN_WRITTEN}) would be denied: not-enabled, {since}; to lift it:"
        f" doorpi allow NAME --uid {KEN_WRITTEN}."
    )
    assert f"{KEN_WRITTEN}  {since}  " in cards[1]
    assert cards[-1] == "to lift a block: doorpi allow NAME --uid UID"
    assert f"  Ken Sato  {KEN_WRITTEN}  {since}" in check
    (known,) = json.loads(told)["identifiers"]
    assert (known["enabled"], known["refused"]) == (False, since)
    assert toml == f"# Ken Sato ({KEN_WRITTEN}): {since}"


def test_why_knows_a_revoked_card_that_is_on_no_list(verb, store):
    store.people.add_card(card_of(MIKA, "Mika Mori"), doorpi_now())
    verb("revoke", "D3C2B1A0")

    for whom in ("Mika Mori", "D3:C2:B1:A0"):
        assert verb("why", whom)[1][0].startswith(
            "Mika Mori (D3:C2:B1:A0) would be denied: not-enabled, blocked since "
        )


def test_allow_lifts_the_blocks_of_card_and_holder(verb, store):
    for uid in (MIKA, STRANGER):
        store.people.add_card(card_of(uid, "Mika Mori"), doorpi_now())
    verb("revoke", "Mika Mori")
    since = f"{store.people.blocks()[0].since:%Y-%m-%d %H:%M}"

    code, out, err = verb("allow", "Mika Mori", "--uid", "D3C2B1A0")

    assert code == 0
    assert out == [
        "Mika Mori may enter with D3:C2:B1:A0: always",
        f"no longer blocked since {since} by nobi",  # card and holder
    ]
    assert err == []
    assert [block.uid for block in store.people.blocks()] == [STRANGER]
    assert store.people.block_on(MIKA, "Mika Mori") is None


def test_allow_lifts_the_block_on_a_card_of_the_file(verb, store):
    verb("revoke", "Ken Sato")

    assert verb("allow", "Ken", "--uid", KEN_WRITTEN)[2] == [
        (
            f"{KEN_WRITTEN} is in doorpi.toml, as Ken Sato: the file decides, so edit it"
            f" there; to lift its block: doorpi allow 'Ken Sato' --uid {KEN_WRITTEN}"
        )
    ]
    assert (
        verb("allow", "Ken Sato", "--uid", KEN_WRITTEN, "--until", "2199-01-01")[0] == 1
    )
    assert len(store.people.blocks()) == 2

    code, out, _ = verb("allow", "Ken Sato", "--uid", KEN_WRITTEN)

    assert (code, out[0]) == (0, f"Ken Sato may enter with {KEN_WRITTEN}: always")
    assert store.people.blocks() == []
    assert list(store.people.cards()) == []


def test_allow_does_not_take_a_blocked_card_for_a_new_one(verb, store):
    store.people.add_card(card_of(MIKA, "Mika Mori"), doorpi_now())
    verb("revoke", "Mika Mori")
    seen(store, {STRANGER: 60, MIKA: 5})

    code, _, (told,) = verb("allow", "Jo Guest")

    assert code == 1
    assert told.startswith(
        "the card that was presented last, Mika Mori (D3:C2:B1:A0), is blocked since "
    )
    assert told.endswith("; to lift it: doorpi allow NAME --uid D3:C2:B1:A0")


def test_an_import_lifts_no_block(verb, store, folder):
    store.people.add_card(card_of(MIKA, "Mika Mori"), doorpi_now())
    verb("revoke", "D3C2B1A0")
    (folder / "list.csv").write_text("uid,holder\nD3:C2:B1:A0,Mika Mori\n", "utf-8")

    code, out, _ = verb("import", str(folder / "list.csv"))

    assert code == 0
    since = f"{store.people.blocks()[0].since:%Y-%m-%d %H:%M}"
    note = f"note: Mika Mori (D3:C2:B1:A0) stays blocked since {since} by nobi"
    assert note in out
    assert store.people.block_on(MIKA, "")


# -- cards


def test_cards_is_a_table_with_when_each_was_seen(verb, store):
    at = datetime(2026, 11, 20, 7, 58, tzinfo=UTC)
    store.people.add_card(card_of(MIKA, "Mika", schedule="office-hours"), at)
    event = Event(at=at, uid=MIKA, holder="Mika", reason=Reason.GRANTED)
    store.events.begin(event)
    store.events.begin(replace(event, at=at + timedelta(hours=9), source="command"))

    _, out, _ = verb("cards")

    local = f"{at.astimezone():%Y-%m-%d %H:%M}"
    assert out == [
        "HOLDER    UID                   VALID                SCHEDULE      FROM  LAST SEEN",
        f"Ken Sato  {KEN_WRITTEN}  always               -             toml  -",
        f"Mika      D3:C2:B1:A0           Mon-Fri 08:00-20:00  office-hours  db    {local}",
    ]  # fmt: skip


def test_cards_are_by_holder_and_of_two_sources_the_file_s_is_shown(verb, store):
    store.people.add_card(card_of(MIKA, "Anna"), doorpi_now())
    store.people.add_card(card_of(holder="Somebody"), doorpi_now())

    told = [json.loads(line) for line in verb("cards", "--json")[1]]

    assert [(p["holder"], [i["source"] for i in p["identifiers"]]) for p in told] == [
        ("Anna", ["db"]), ("Ken Sato", ["toml"]),
    ]  # fmt: skip


def test_a_list_that_is_printed_to_a_file_counts_as_its_backup(verb, store):
    assert store.events.recall("backup") is None
    store.people.add_card(card_of(MIKA, "Mika"), doorpi_now())

    verb("cards")
    assert store.events.recall("backup") is None
    verb("cards", "--toml")

    kept_at = datetime.fromisoformat(store.events.recall("backup"))
    assert timedelta(0) <= doorpi_now() - kept_at < timedelta(seconds=30)


names = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" "),
    min_size=1,
    max_size=doorpi.LONGEST_NAME,
).filter(str.strip)
some_days = st.none() | st.dates(date(1970, 1, 1), date(2199, 12, 31))
fixed_uids = (
    st.sampled_from(doorpi.UID_BYTES)
    .flatmap(lambda size: st.binary(min_size=size, max_size=size))
    .map(lambda raw: Uid(raw.hex().upper()))
    .filter(lambda uid: not (len(uid) == 8 and uid[:2] in ("08", doorpi.CASCADE_TAG)))
)
credentials = st.builds(
    Credential,
    uid=fixed_uids,
    holder=names.map(str.strip),
    enabled=st.booleans(),
    valid_from=some_days,
    valid_until=some_days,
    schedule=st.none() | st.sampled_from(["office-hours", '"nights"\\']),
    role=st.sampled_from(Role),
    source=st.just(Origin.TOML),
    refused=st.just(""),
    block=st.none(),
    starts=st.none(),
    ends=st.none(),
    guest_pass=st.none(),
    membership=st.none(),
    hours=st.none(),
    proof=st.sampled_from(["", *doorpi.PROOFS]),
    generation=st.integers(1, 255),
).filter(
    lambda card: (
        not (
            card.valid_from and card.valid_until and card.valid_from > card.valid_until
        )
    )
)
HOURS = [
    {"name": name, "times": ["Mon 08:00-09:00"]}
    for name in ("office-hours", '"nights"\\')
]


@settings(max_examples=60)
@given(st.lists(credentials, unique_by=lambda card: card.uid, max_size=8))
def test_any_list_that_is_printed_as_toml_is_read_as_the_same(cards):
    cards = sorted(cards, key=lambda card: card.holder)
    text = "\n".join(map(doorpi.person_toml, doorpi.people_of(cards, "enabled")))

    read = parse_config(
        tomli_w.dumps({"lock": {"kind": "relay"}, "schedule": HOURS}) + text
    ).cards

    assert read == {card.uid: card for card in cards}
    assert len(tomllib.loads(text).get("card", [])) == len(cards)


SPELLINGS = (
    lambda digits: digits,
    str.lower,
    lambda digits: ":".join(pairs(digits)),
    lambda digits: "-".join(pairs(digits)).lower(),
    lambda digits: f" {' '.join(pairs(digits))} ",
)


def pairs(digits: str) -> list[str]:
    return [digits[i : i + 2] for i in range(0, len(digits), 2)]


@given(fixed_uids, fixed_uids, st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS))
def test_no_spelling_of_a_uid_is_read_as_another_card(one, other, spell, spell_other):
    assert parse_uid(spell(one)) == one
    assert (parse_uid(spell(one)) == parse_uid(spell_other(other))) is (one == other)


@given(st.text(string.hexdigits + " :-.0123456789", max_size=24))
def test_parse_uid_keeps_every_digit(text):
    """Every digit of what was typed is there, in order, and nothing else."""
    try:
        uid = parse_uid(text)
    except ValueError:
        return
    if "." in text:
        typed = "".join(f"{int(number):02X}" for number in text.strip().split("."))
    else:
        typed = "".join(c for c in text if c in string.hexdigits).upper()
    assert uid == typed


# -- lockdown


def test_lockdown_is_on_until_it_is_lifted_and_in_the_log(verb, store):
    assert verb("lockdown", "on") == (0, [
        "locked down: nobody may enter; to end this: doorpi lockdown off"
    ], [])  # fmt: skip
    assert store.people.locked_down() is True
    assert verb("lockdown", "on")[1] == [
        (
            "locked down: nobody may enter (it was already); to end this:"
            " doorpi lockdown off"
        )
    ]
    assert verb("lockdown", "off")[1] == [
        "not locked down: everybody on the list may enter"
    ]
    assert store.people.locked_down() is False

    told = [json.loads(line) for line in verb("log", "--json")[1]]
    assert [
        (event["holder"], event["reason"], event["source"], event["detail"])
        for event in told
    ] == [
        ("", "lockdown-on", "command", "by nobi"),
        ("", "lockdown-off", "command", "by nobi"),
    ]


def test_a_lockdown_whose_word_was_lost_can_be_lifted(verb, store):
    """A door that runs keeps to what it knew until it is told otherwise."""
    assert store.people.locked_down() is None

    said = verb("lockdown", "off")

    assert said[1] == ["not locked down: everybody on the list may enter"]
    assert store.people.locked_down() is False


def test_lockdown_without_a_word_is_wrong_usage(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        verb("lockdown", "maybe")

    assert caught.value.code == 2
    assert "'maybe'" in capsys.readouterr().err


def test_a_log_that_cannot_be_written_does_not_stop_a_lockdown(
    verb, store, folder, caplog
):
    (folder / "state" / "doorpi.db").mkdir(parents=True)

    code, _, _ = verb("lockdown", "on")

    assert code == 0
    why = f"{store.events.path}: unable to open database file"
    assert caplog.messages == [
        f"not noted that the list was changed: {why}", f"not logged: {why}",
    ]  # fmt: skip
    with pytest.raises(StoreError):  # the log
        store.events.recall("list")
    assert store.people.locked_down() is True


# -- names from outside

HOSTILE = "\x1b[2J\x07Miﾐ\u202e\r\n\x00'; DROP TABLE cards;--"


def hostile(store: SqliteStore) -> None:
    """What a program that is not ours may have put there."""
    store.people.add_card(card_of(MIKA, HOSTILE, schedule=HOSTILE), doorpi_now())


@pytest.mark.parametrize(
    "args", [["cards"], ["revoke", "D3C2B1A0"], ["why", "D3C2B1A0"]]
)
def test_a_hostile_name_is_shown_and_not_obeyed(verb, store, args):
    hostile(store)

    code, out, err = verb(*args)

    assert code == 0
    text = "\n".join((*out, *err))
    assert "\\x1b[2J\\x07Miﾐ\\u202e\\r\\n\\x00'; DROP TABLE cards;--" in text
    assert doorpi.is_visible(text.replace("\n", ""))


def test_names_that_a_terminal_has_no_letters_for_are_spelt_out(
    folder, store, monkeypatch
):
    store.people.add_card(card_of(MIKA, "安倍 Mika"), doorpi_now())
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii"))

    assert main(["--config", str(folder / "doorpi.toml"), "cards"]) == 0

    assert b"\\u5b89\\u500d Mika" in written.getvalue()


def test_status_mentions_a_lockdown(verb, store):
    store.people.lock_down("owner")

    assert verb("status")[1][-1] == ("locked down: nobody may enter")


KEYLESS = [
    "cards", "allow Mika --uid 0102030A", "revoke D3C2B1A0", "why KenSato", "log",
    "lockdown on", "legend",
]  # fmt: skip


@pytest.mark.parametrize("typed", KEYLESS)
def test_verbs_that_need_no_key_of_the_lock_ask_for_none(verb, folder, store, typed):
    """At midnight, where systemd hands the key to the service alone."""
    store.people.add_card(card_of(MIKA, "Mika"), doorpi_now())
    text = CONFIG.replace('kind = "relay"', LOCK_OF_A_CLOUD).replace("Ken S", "KenS")
    (folder / "doorpi.toml").write_text(text, encoding="utf-8")

    code, _, err = verb(*typed.split())

    assert (code, err) == (0, [])
    assert verb("status")[0] == 78


LOCK_OF_A_CLOUD = """
kind = "sesame-mini"
device_id = "11200000-0000-4000-8000-000000000000"
api_key = { file = "lock.key" }
ca_file = "not-here.pem"
"""


BROKEN = {
    "elsewhere": "[door]\nstate_dir = 'there'\n" + CONFIG + "x = [\n",
    "empty": "",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_verbs_use_the_last_good_settings(folder, capsys, broken):
    """The door goes on with its last good settings; so do the owner's verbs."""
    where = folder / ("there" if "there" in broken else "state")
    where.mkdir(exist_ok=True)
    path = folder / "doorpi.toml"
    doorpi.LastGood(CONFIG, {}, str(path), where).save()
    path.write_text(broken, encoding="utf-8")

    for typed in ("lockdown on", "cards", "why 04A93C715ED284", "log"):
        assert main(["--config", str(folder / "doorpi.toml"), *typed.split()]) == 0

    out, err = capsys.readouterr()
    assert "Ken Sato (04:A9:3C:71:5E:D2:84) would be denied: locked-down" in out
    told = rf"{folder}/doorpi.toml: \d problems?; using the last good settings, of "
    assert [bool(re.match(told, line)) for line in err.splitlines()] == [True] * 4
    with contextlib.closing(SqliteStore(where / "doorpi.db")) as store:
        assert store.people.locked_down() is True


def test_where_no_door_ever_ran_a_bad_file_is_the_end_of_it(folder, capsys):
    (folder / "doorpi.toml").write_text("[lokc]\n" + CONFIG, encoding="utf-8")

    assert main(["--config", str(folder / "doorpi.toml"), "lockdown", "on"]) == 78

    assert "lokc: unknown key" in capsys.readouterr().err
    assert not (folder / "state").exists()
