"""The people of membership systems and of lists elsewhere, beside the owner's list."""

from __future__ import annotations

from datetime import timedelta

import pytest

from doorpi import (
    MOST_LOST,
    Membership,
    Origin,
    Reason,
    SqliteStore,
    StoreError,
    SyncedPeople,
    Uid,
    list_refusal,
)
from tests.helpers.world import KEN, MIKA, NOON, STRANGER, card_of

LATER = NOON + timedelta(days=3)
PLAN = Membership("m1", "Fix Desk", LATER)


def member(uid: Uid, name: str = "Mika Mori", **changes):
    values = {"source": Origin.COBOT, "membership": PLAN, **changes}
    return card_of(uid=uid, holder=name, **values)


@pytest.fixture
def synced(tmp_path):
    people = SyncedPeople(tmp_path / "synced.db")
    yield people
    people.close()


@pytest.fixture
def store(tmp_path):
    found = SqliteStore(tmp_path / "doorpi.db")
    yield found
    found.close()


def test_a_member_is_read_as_written(synced):
    span = (NOON, NOON + timedelta(hours=2))
    booked = PLAN._replace(refusal=Reason.NO_BOOKING, spans=(span,))
    written = member(MIKA, membership=booked, schedule="day", valid_until=NOON.date())

    synced.replace("cobot", [written], NOON, LATER)

    assert synced.find(MIKA) == written
    assert synced.read_at("cobot") == NOON


def test_the_owners_entry_counts_before_a_synced_one(store, synced):
    synced.replace("cobot", [member(KEN, "Cobot's Ken"), member(MIKA)], NOON, LATER)
    store.people.add_card(card_of(source=Origin.DB), NOON)

    assert store.people.find(KEN).source is Origin.DB
    assert store.people.find(MIKA).source is Origin.COBOT
    assert [card.holder for card in store.people.everybody()] == [
        "Ken Sato",
        "Mika Mori",
    ]


def test_everybody_is_listed_while_the_disk_is_full(store, synced, monkeypatch):
    """A query then opens the file again, also in the middle of another one."""
    synced.replace("cobot", [member(MIKA), member(STRANGER, "Aya Abe")], NOON, LATER)
    store.people.add_card(card_of(source=Origin.DB), NOON)
    store.close()
    monkeypatch.setattr("doorpi._has_no_room", lambda *_: True)

    found = [card.holder for card in store.people.everybody()]

    assert found == ["Aya Abe", "Ken Sato", "Mika Mori"]


def test_a_block_keeps_a_member_out_whom_the_next_sync_lists_again(store, synced):
    from doorpi import AccessRequest, Block, Forgiving, LocalList, Medium

    synced.replace("cobot", [member(MIKA)], NOON, LATER)
    store.people.change_cards([], [], NOON, block=[Block("Mika Mori", NOON, "owner")])
    synced.replace("cobot", [member(MIKA)], NOON, LATER)

    request = AccessRequest(Medium.CARD, MIKA, NOON, 0.0, 10.0)
    assert (
        LocalList({}, Forgiving(store.people, lambda *_: None)).look_up(request).block
    )


def test_confirming_a_list_prolongs_its_trust(synced):
    synced.replace("list 1", [member(MIKA, source=Origin.LIST)], NOON, NOON)

    synced.replace("list 1", None, LATER, LATER)

    assert synced.find(MIKA).membership.trusted_until == LATER
    assert synced.read_at("list 1") == LATER


def test_a_member_who_is_missing_once_stays_where_pages_may_shift(synced):
    for uids, expected in (
        ([KEN, MIKA], {KEN, MIKA}), ([KEN], {KEN, MIKA}), ([KEN, MIKA], {KEN, MIKA}),
        ([KEN], {KEN, MIKA}), ([KEN], {KEN}),
    ):  # fmt: skip
        rows = [member(uid) for uid in uids]
        synced.replace("cobot", rows, NOON, LATER, keeps_missing_once=True)
        assert {card.uid for card in synced.cards()} == expected


def test_each_source_replaces_only_its_own_people(synced):
    synced.replace("cobot", [member(KEN)], NOON, LATER)
    synced.replace("list 1", [member(MIKA, source=Origin.LIST)], NOON, LATER)
    synced.replace("list 1", [], NOON, LATER)
    assert [card.uid for card in synced.cards()] == [KEN]

    synced.keep_only(["list 1"])
    assert list(synced.cards()) == []


def test_of_two_entries_the_one_that_is_switched_on_counts(synced):
    synced.replace("cobot", [member(KEN, enabled=False)], NOON, LATER)
    synced.replace("list 1", [member(KEN, source=Origin.LIST)], NOON, LATER)

    assert synced.find(KEN).source is Origin.LIST


def test_a_system_may_know_only_the_first_four_bytes_of_a_card(synced):
    first = Uid(f"{KEN[:8]}*")
    synced.replace("cobot", [member(first)], NOON, LATER)

    assert synced.find(KEN) == member(KEN)
    assert synced.find(Uid(KEN[:8])) == member(Uid(KEN[:8]))
    assert synced.find(MIKA) is None


def test_an_entry_that_is_broken_admits_nobody(synced):
    synced.replace("cobot", [member(MIKA)], NOON, LATER)
    with synced._transaction() as db:
        db.execute("UPDATE members SET refusal = 'no-such-reason'")

    found = synced.find(MIKA)

    assert not found.enabled
    assert found.refused


def test_a_file_that_is_broken_hides_nobody_on_the_owners_list(store, synced, tmp_path):
    store.people.add_card(card_of(), NOON)
    synced.close()
    (tmp_path / "synced.db").write_bytes(b"nonsense" * 1000)

    assert store.people.find(KEN)
    assert store.people.find(STRANGER) is None
    with pytest.raises(StoreError):
        synced.find(MIKA)


UIDS = [Uid(f"{number:08X}") for number in range(100)]
LISTS = {
    "the first": ([], UIDS, True),
    "empty, as before": ([], [], True),
    "empty now": (UIDS, [], False),
    "one person, who left": (UIDS[:1], [], False),
    "a few left": (UIDS[:20], UIDS[MOST_LOST:20], True),
    "one more left": (UIDS[:20], UIDS[MOST_LOST + 1 : 20], False),
    "a quarter left": (UIDS, UIDS[25:], True),
    "more than a quarter left": (UIDS, UIDS[26:], False),
    "other people, as many": (UIDS[:50], UIDS[50:], False),
    "many joined": (UIDS[:2], UIDS, True),
}  # fmt: skip


@pytest.mark.parametrize(("before", "now", "is_taken"), LISTS.values(), ids=LISTS)
def test_a_list_that_lost_many_people_needs_the_owners_word(before, now, is_taken):
    assert (not list_refusal(before, now)) is is_taken
