"""The published list beside the other lists: which of them decides about a card."""

from __future__ import annotations

import contextlib
from datetime import date

import pytest

from doorpi import (
    EPOCH,
    Circumstances,
    Membership,
    Origin,
    Reason,
    SyncedPeople,
    decide,
    validity,
)
from tests.helpers.world import KEN, MIKA, NOON, STRANGER, card_of

HOURS = '{"day": {"times": ["Mon-Fri 08:00-20:00"], "closed": ["2026-12-25"]}}'
WHERE = {
    "list": lambda store, card: publish(store, [card]),
    "here": lambda store, card: store.people.add_card(card, NOON),
    "member": lambda store, card: store.people.synced.replace(
        "cobot", [card._replace(membership=Membership("m", "", NOON))], NOON, NOON
    ),
}


def publish(store, cards, **more):
    store.people.synced.replace("mqtt", cards, NOON, None, mark="7 a b", **more)


@pytest.mark.parametrize(
    ("lists", "decides"),
    [
        ({"list": True, "here": False, "member": False}, Origin.MQTT),
        ({"list": False, "here": True, "member": True}, Origin.MQTT),
        ({"list": False, "member": True}, Origin.MQTT),
        ({"here": False, "member": True}, Origin.DB),
        ({"here": True, "member": False}, Origin.DB),
    ],
    ids=str,
)
def test_the_published_list_decides_before_what_was_allowed_here(store, lists, decides):
    for where, enabled in lists.items():
        WHERE[where](store, card_of(enabled=enabled))

    found = store.people.find(KEN)

    assert found.source is decides
    assert found.enabled is next(iter(lists.values()))
    assert [c.source for c in store.people.everybody()] == [decides]


def test_a_card_that_must_prove_itself_here_must_do_so_by_the_list_too(store):
    store.people.add_card(card_of(proof="ntag424", generation=3), NOON)
    publish(store, [card_of()])

    found = store.people.find(KEN)

    assert (found.source, found.proof, found.generation) == (
        Origin.MQTT,
        "ntag424",
        3,
    )


def test_an_entry_is_read_as_it_was_published(store):
    cards = [
        card_of(KEN, schedule="day", valid_until=date(2027, 1, 31)),
        card_of(MIKA, "Mika Mori", proof="desfire", generation=2),
        card_of(STRANGER, "Jo", enabled=False, refused="a newer version is needed"),
    ]
    publish(store, cards, hours=HOURS)

    found = [store.people.find(uid) for uid in (KEN, MIKA, STRANGER)]

    assert [c._replace(hours=None) for c in found] == [
        c._replace(source=Origin.MQTT) for c in cards
    ]
    assert store.people.has_secure_cards()
    assert store.people.synced.mark_of("mqtt") == "7 a b"
    assert store.people.synced.count("mqtt") == 3


def test_the_hours_of_a_list_are_its_own_whatever_doorpi_toml_calls_so(store):
    publish(store, [card_of(schedule="day")], hours=HOURS)
    card = store.people.find(KEN)

    verdicts = [
        decide(KEN, card, Circumstances(at)).reason
        for at in (NOON, NOON.replace(hour=21), NOON.replace(month=12, day=25))
    ]

    late = Reason.NOT_PERMITTED_AT_THIS_TIME
    assert verdicts == [Reason.GRANTED, late, late]
    assert validity(card, {}).startswith("Mon-Fri 08:00-20:00")


@pytest.mark.parametrize("hours", ["{}", '{"day": {"times": ["never"]}}', "nonsense"])
def test_hours_that_cannot_be_read_admit_nobody(store, hours):
    publish(store, [card_of(schedule="day")], hours=hours)

    verdict = decide(KEN, store.people.find(KEN), Circumstances(NOON))

    assert not verdict.granted


def test_a_list_that_is_trusted_for_ever_needs_no_clock(store):
    publish(store, [card_of()])
    unset = Circumstances(EPOCH, clock_set=False)
    assert decide(KEN, store.people.find(KEN), unset).granted

    store.people.synced.replace("mqtt", None, NOON, NOON)
    assert (
        decide(KEN, store.people.find(KEN), Circumstances(NOON)).reason
        is Reason.LIST_TOO_OLD
    )


def test_a_file_of_an_earlier_version_gets_the_new_columns(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(SyncedPeople, "schema", SyncedPeople.schema[:1])
        with contextlib.closing(SyncedPeople(tmp_path / "synced.db")) as old:
            old.replace("cobot", None, NOON, NOON)

    with contextlib.closing(SyncedPeople(tmp_path / "synced.db")) as new:
        new.replace("mqtt", [card_of()], NOON, None)
        assert new.find(KEN).source is Origin.MQTT
