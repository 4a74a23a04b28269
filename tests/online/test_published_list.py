"""A door takes the list that is published for it, and keeps it when a bad one comes."""

from __future__ import annotations

import itertools
import json
import zlib
from datetime import timedelta

import pytest

import doorpi
from doorpi import Change, ListError, Origin, Reason, StoreError, read_part
from tests.helpers.fleet import (
    DAY,
    KEY,
    NOW,
    OTHER_KEY,
    Taker,
    packed,
    parts,
    people,
    person,
    public,
)
from tests.helpers.world import NOON

TEN = people(10)


@pytest.fixture
def taker(context):
    return Taker(context)


def in_force(taker) -> set[str]:
    return {card.holder for card in taker.link.context.synced.cards("mqtt")}


def events(taker) -> list[str]:
    found = taker.link.context.events.read()
    return [e.detail for e in found if (e.reason, e.source) == (Change.SYNC, "mqtt")]


def test_a_list_is_in_force_once_it_is_there(taker):
    limits = {"schedule": "day", "valid_until": "2027-01-31", "enabled": False}
    assert taker.hear(parts(people(3, **DAY) | {"cards": [person(1, **limits)]})) == ""

    card = taker.link.context.people.find(doorpi.Uid(person(1)["uid"]))
    assert (card.holder, card.source, card.schedule) == ("Person 1", "mqtt", "day")
    assert (card.enabled, str(card.valid_until)) == (False, "2027-01-31")
    assert card.hours.words == ("Mon-Fri 08:00-20:00",)
    assert taker.part.health() == {
        "version": NOW, "cards": 1, "local": 0, "error": "",
    }  # fmt: skip


def test_each_list_is_one_event(taker):
    taker.hear(parts(TEN))
    taker.hear(parts(TEN))
    taker.hear(parts(people(9, **DAY), NOW + 1))
    taker.hear(parts(people(9), NOW + 2))

    counts = [words.split(": ")[1] for words in events(taker)]
    assert counts == [
        "10 added, 0 changed, 0 removed",
        "0 added, 0 changed, 1 removed",
        "0 added, 0 changed, 0 removed",
    ]


@pytest.fixture
def in_bits(monkeypatch):
    """Lists of ten people have several parts."""
    monkeypatch.setattr("doorpi.CHUNK_BYTES", 50)


def test_parts_may_come_in_any_order_and_again(taker, in_bits):
    found = parts(TEN)
    assert len(found) >= 3

    for number in (3, 1, 1, *range(2, len(found) + 1)):
        assert taker.hear([found[number - 1]], number) == ""

    assert len(in_force(taker)) == 10


def test_missing_parts_are_reported(taker, context, in_bits):
    taker.hear(parts(TEN))
    taker.hear(parts(people(11), NOW + 1)[:1])

    context.clock.advance(31)
    assert "1 of" in taker.settle()
    assert len(in_force(taker)) == 10

    assert taker.hear(parts(TEN, NOW + 2)) == ""


def bomb() -> bytes:
    packer = zlib.compressobj(9)
    zeros = (packer.compress(bytes(1 << 20)) for _ in range(21))
    return b"".join(zeros) + packer.flush()


def unsigned(message: bytes) -> bytes:
    return message[:4] + bytes(64) + message[68:]


LATER = NOW + 10
TWENTY = people(20)
#: What arrives at a door that has ten people of NOW, and a word of the reason.
BAD = {
    "forged": (lambda: parts(TWENTY, LATER, OTHER_KEY), "signed"),
    "not signed": (lambda: [unsigned(parts(TWENTY, LATER)[0])], "signed"),
    "nonsense": (lambda: [b"nonsense"], "signed"),
    "its own head alone": (lambda: [b"DPL1"], "signed"),
    "old": (lambda: parts(TWENTY, NOW - 1), "newer"),
    "by a clock that is behind": (lambda: parts(TWENTY, 1_000_000_000), "clock"),
    "by a clock that is ahead": (lambda: parts(TWENTY, NOW + 200_000), "clock"),
    "by two leaders": (lambda: parts(TWENTY, NOW), "two"),
    "empty": (lambda: parts(people(0), LATER), "empty"),
    "halved": (lambda: parts(people(4), LATER), "missing"),
    "of another door": (lambda: parts(TWENTY, LATER, door="lab"), "main/lab"),
    "of another site": (lambda: parts(TWENTY, LATER, site="hq"), "hq/front"),
    "oversized": (lambda: [parts(TWENTY, LATER)[0] + bytes(100_000)], "signed"),
    "too many parts": (lambda: [_part(parts=500)], "sense"),
    "part 0": (lambda: [_part(part=0)], "sense"),
    "a version of the far future": (lambda: parts(TEN, 2**60, issued=NOW), "sense"),
    "a newer head": (lambda: [_part(more=1)], "newer version"),
    "a head of other types": (lambda: [_part(version="7")], "newer version"),
    "a zip bomb": (lambda: parts(bomb(), LATER), "longer"),
    "not packed": (lambda: parts(b"{}", LATER), "read"),
    "cut off": (lambda: parts(packed(TWENTY)[:-9], LATER), "read"),
    "not JSON": (lambda: parts(zlib.compress(b"{"), LATER), "read"),
    "deep JSON": (lambda: parts(zlib.compress(b"[" * 100_000), LATER), "read"),
    "no cards": (lambda: parts({"schedules": {}}, LATER), "read"),
    "a list": (lambda: parts([], LATER), "read"),
    "no UID": (lambda: parts({**TEN, "cards": [{"holder": "Ken"}]}, LATER), "read"),
    "an odd UID": (lambda: parts({**TEN, "cards": [{"uid": "xyz"}]}, LATER), "read"),
    "an unknown schedule": (
        lambda: parts({**TEN, "cards": [person(1, schedule="nights")]}, LATER),
        "nights",
    ),
    "odd hours": (lambda: parts(people(10, day={"times": ["x"]}), LATER), "read"),
    "a master card": (
        lambda: parts({**TEN, "cards": [person(1, role="master")]}, LATER),
        "master",
    ),
}  # fmt: skip


def _part(**changes) -> bytes:
    """One part with a signed head that no publisher makes."""
    head = {
        "site": "main", "door": "front", "version": LATER, "issued": LATER,
        "shrink": False, "parts": 1, "part": 1, "sha256": "",
    } | changes  # fmt: skip
    line = json.dumps(head).encode() + b"\n"
    return b"DPL1" + KEY.sign(doorpi._signed_of(line, b"")) + line


def test_a_bad_list_leaves_the_old_one_in_force(taker, context):
    taker.hear(parts(TEN))
    before = in_force(taker)

    for name, (make, word) in BAD.items():
        taker = Taker(context)
        assert word in taker.hear(make()), name
        assert word in taker.part.health()["error"], name
        assert in_force(taker) == before, name

    assert len(events(taker)) == 1
    assert taker.hear(parts(people(11), LATER + 5)) == ""


def test_every_bit_of_a_part_counts():
    (message,) = parts(people(1))
    keys = public(KEY)
    read_part(message, keys)

    for place, bit in itertools.product(range(len(message)), range(8)):
        flipped = bytearray(message)
        flipped[place] ^= 1 << bit
        with pytest.raises(ListError):
            read_part(bytes(flipped), keys)


def test_parts_of_two_lists_make_none(taker, in_bits):
    first, second = parts(TEN), parts(people(11), NOW + 1)
    taker.hear(first[:1])
    taker.hear(second[1:], 2)
    taker.hear(first[1:], 2)
    assert in_force(taker) == set()

    assert taker.hear([second[0]]) == ""
    assert len(in_force(taker)) == 11


def test_a_part_of_the_list_in_force_does_not_keep_a_newer_one_out(taker, in_bits):
    """The link came up while the newer one was being published."""
    old, new = parts(TEN), parts(people(11), NOW + 1)
    taker.hear(old)
    taker.hear(new[:1])
    taker.hear(old[1:], 2)

    assert taker.hear(new[1:], 2) == ""
    assert len(in_force(taker)) == 11


def test_a_chunk_of_another_list_is_found_by_the_hash(taker):
    """Only the publisher itself could sign that."""
    assert "belong" in taker.hear([_part()])


def test_what_is_left_of_a_longer_list_is_no_news(taker, in_bits):
    long = parts(people(11))
    assert taker.hear(parts(TEN, NOW + 1)) == ""

    assert taker.hear(long[1:], 2) == ""
    assert len(in_force(taker)) == 10


def test_a_much_smaller_list_is_taken_if_its_head_or_the_owner_says_so(taker, context):
    taker.hear(parts(TEN))
    refused = parts(people(2), NOW + 1)
    trouble = taker.hear(refused)
    assert "--accept" in trouble
    assert trouble.count("refused") == 1

    context.store.keep("accepted mqtt", context.store.recall("refused mqtt"))
    assert taker.settle() == ""
    assert len(in_force(taker)) == 2

    assert taker.hear(parts(people(0), NOW + 2, shrink=True)) == ""
    assert in_force(taker) == set()


def test_the_list_in_force_costs_nothing_when_it_comes_again(taker, context):
    taker.hear(parts(TEN))
    changes = context.synced._connection().total_changes

    taker.part.up()
    taker.part._confirm_at = doorpi.inf
    for _ in range(3):
        taker.hear(parts(TEN))

    assert context.synced._connection().total_changes - changes == 1  # confirmed


def test_a_list_is_too_old_without_the_broker_and_valid_with_it(context):
    taker = Taker(context, trust_for_days=2)
    uid = doorpi.Uid(person(0)["uid"])

    def reason(days: float) -> Reason:
        when = doorpi.Circumstances(NOON + timedelta(days=days))
        return doorpi.decide(uid, context.people.find(uid), when).reason

    taker.hear(parts(TEN))
    assert [reason(1.9), reason(2.1)] == [Reason.GRANTED, Reason.LIST_TOO_OLD]

    context.clock.advance(86_400)
    taker.part.step()  # the link is up, and the list in force
    assert reason(2.1) is Reason.GRANTED


def test_a_list_that_is_valid_for_days_waits_for_the_clock(context):
    taker = Taker(context, trust_for_days=2)
    context.clock.set = False
    assert "clock" in taker.hear(parts(TEN))

    context.clock.set = True
    context.clock.advance(61)
    assert taker.settle() == ""
    assert len(in_force(taker)) == 10


def test_a_list_for_ever_is_taken_while_the_clock_is_not_set(taker, context):
    context.clock.set = False
    context.clock.advance(-300 * 86_400)

    assert taker.hear(parts(TEN)) == ""


def test_a_lost_file_does_not_let_an_older_list_back_in(taker, context):
    taker.hear(parts(TEN, NOW + 5))
    context.synced.keep_only([])

    assert "newer" in taker.hear(parts(TWENTY, NOW))
    assert taker.hear(parts(TEN, NOW + 5)) == ""
    assert len(in_force(taker)) == 10


def test_a_key_that_is_trusted_no_more_sets_no_version(context):
    thief = Taker(context)
    thief.hear(parts(TWENTY, NOW + 80_000))
    owner = Taker(context, list_key=f"{public(OTHER_KEY)}")

    assert "signed" in owner.hear(parts(TWENTY, NOW + 90_000))
    assert owner.hear(parts(people(19), NOW, OTHER_KEY)) == ""
    assert len(in_force(owner)) == 19


def test_two_keys_may_be_trusted_while_one_takes_the_place_of_the_other(context):
    taker = Taker(context, list_key=f"{public(KEY)} {public(OTHER_KEY)}")

    assert taker.hear(parts(TEN)) == ""
    assert taker.hear(parts(TWENTY, NOW + 1, OTHER_KEY)) == ""
    assert "newer" in taker.hear(parts(TEN))


def test_without_a_list_key_no_list_is_in_force(context):
    Taker(context).hear(parts(TEN))
    taker = Taker(context, list_key="")

    assert taker.part.filters == {}
    taker.part.step()
    assert in_force(taker) == set()
    assert len(events(taker)) == 2


def test_a_disk_that_fails_keeps_the_old_list(taker, context, monkeypatch):
    taker.hear(parts(TEN))
    with monkeypatch.context() as full:
        full.setattr(
            context.synced,
            "replace",
            lambda *a, **k: (_ for _ in ()).throw(StoreError("disk full")),
        )
        assert "disk full" in taker.hear(parts(TWENTY, LATER))
    assert len(in_force(taker)) == 10

    context.clock.advance(61)
    assert taker.settle() == ""
    assert len(in_force(taker)) == 20


def test_an_entry_of_a_newer_version_admits_nobody(taker):
    cards = [person(1, proof="ntag999"), person(2, only_on="mondays"), person(3)]
    taker.hear(parts({"cards": cards, "schedules": {}}))

    found = list(taker.link.context.synced.cards("mqtt"))
    assert [card.enabled for card in found] == [False, False, True]
    assert all("newer version" in card.refused for card in found[:2])
    assert all(card.source is Origin.MQTT for card in found)


def test_doctor_says_which_list_is_in_force(taker, context, tmp_path):
    def found() -> doorpi.Finding:
        (finding,) = doorpi._list_findings(
            "mqtt", taker.link.table, tmp_path, context.store, context.clock
        )
        return finding

    assert (found().health, bool(found().do)) == (doorpi.Health.WARN, True)

    taker.hear(parts(TEN))
    health, words, _ = found()
    assert (health, "10 cards" in words) == (doorpi.Health.OK, True)


def test_the_owner_sees_where_an_entry_is_from(taker, context):
    taker.hear(parts({**TEN, "cards": [person(1, enabled=False)]}))
    uid = doorpi.Uid(person(1)["uid"])
    card = context.people.find(uid)

    sentence = doorpi.answer_in_words(
        uid, card, doorpi.Circumstances(NOON), is_now=True
    )
    assert "switched off on the published list" in sentence
    with pytest.raises(doorpi.Refused, match="published list"):
        doorpi.allow_card(context.people, context.config, card, NOON)
