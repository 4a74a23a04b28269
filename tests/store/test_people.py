"""The list of people on disk: its copy, its changes, and what rot takes back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from datetime import date
from pathlib import Path

import pytest

import doorpi
from doorpi import (
    NoteKey,
    Origin,
    Role,
    SqliteStore,
    StoreError,
    Uid,
    stricter,
)
from tests.helpers.stores import (
    INTENT,
    run_sql,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, card_of

# -- what goes in


def test_card_is_read_as_it_was_written(store):
    guest = card_of(
        enabled=False,
        valid_from=date(2026, 12, 1),
        valid_until=date(2040, 3, 31),
        schedule="office-hours",
        role=Role.MASTER,
        source=Origin.DB,
    )
    plain = card_of(STRANGER, "Jo", source=Origin.DB)

    store.people.add_card(guest, NOON)
    store.people.add_card(plain, NOON)

    assert store.people.find(KEN) == guest
    assert list(store.people.cards()) == [plain, guest]  # by holder
    assert store.people.find(Uid("01020304")) is None


def test_card_added_again_replaces_its_entry(store):
    store.people.add_card(card_of(schedule="office-hours"), NOON)

    store.people.add_card(card_of(holder="Ken S."), NOON)

    assert list(store.people.cards()) == [card_of(holder="Ken S.", source=Origin.DB)]


# -- its file and its copy

GUEST = Uid("0123AB07")


def spoil(file: Path) -> None:
    for leftover in file.parent.glob(f"{file.name}*"):
        leftover.write_bytes(b"<html>not a database</html>" * 400)


def test_the_list_changes_as_a_whole_or_not_at_all(store):
    guest = card_of(GUEST, holder="Jo Guest")
    store.people.add_card(card_of(), NOON)

    store.people.change_cards([guest], [KEN], NOON)
    assert [card.uid for card in store.people.cards()] == [GUEST]

    with pytest.raises(StoreError):
        store.people.change_cards(
            [card_of(), replace(guest, holder=None)], [GUEST], NOON
        )
    assert [card.uid for card in store.people.cards()] == [GUEST]


def test_when_the_list_changed_last_is_known(store):
    assert store.people.changed_at() is None

    store.people.add_card(card_of(), NOON)
    store.people.lock_down("owner")

    assert store.people.changed_at() == NOON


def test_a_lockdown_is_known_to_another_process_and_to_the_next_start(path, store):
    assert store.people.locked_down() is None
    store.people.lock_down("owner")
    with contextlib.closing(SqliteStore(path)) as other:
        assert other.people.locked_down() is True
        other.people.lock_down("")
    assert store.people.locked_down() is False


@pytest.mark.parametrize("restarted", [False, True])
def test_a_broken_list_is_set_aside_and_its_copy_lets_people_in(
    path, cards, door_store, restarted
):
    """At once: who comes first must get in as well."""
    door_store.people.add_card(card_of(), NOON)
    door_store.people.lock_down("owner")
    if restarted:
        door_store.close()
    spoil(cards)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    assert door_store.people.locked_down() is True
    assert list(path.parent.glob("cards.db.broken-*"))


@pytest.mark.parametrize("lost", ["removed", "emptied"])
def test_lost_list_is_restored_from_its_copy(cards, door_store, lost):
    """An empty file is what a power cut may leave, and looks to SQLite like a new one."""
    door_store.people.add_card(card_of(), NOON)
    door_store.people.lock_down("owner")
    door_store.close()
    cards.unlink()
    if lost == "emptied":
        cards.touch()

    assert list(door_store.people.cards()) == [card_of(source=Origin.DB)]
    assert door_store.people.locked_down() is True


def test_broken_copy_is_used_once(cards, door_store, caplog):
    door_store.people.change_cards([card_of()], [], NOON)
    spoil(cards)
    spoil(cards.with_name("cards.copy"))

    for _ in range(4):
        with contextlib.suppress(StoreError):
            assert door_store.people.find(KEN) is None

    assert door_store.people.find(KEN) is None
    assert len(list(cards.parent.glob("cards.db.broken-*"))) == 2


def test_copy_is_without_a_revoked_card(cards, door_store):
    door_store.people.add_card(card_of(), NOON)
    door_store.people.change_cards([], [KEN], NOON)
    spoil(cards)

    assert door_store.people.find(KEN) is None


@pytest.fixture
def killed(monkeypatch):
    """Whoever changes the list ends before there is a new copy."""

    def link(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(doorpi.os, "link", link)
        yield


def test_kill_while_revoking_leaves_no_old_copy(cards, store, door_store, request):
    store.people.add_card(card_of(), NOON)
    store.people.lock_down("")
    request.getfixturevalue("killed")

    with pytest.raises(KeyboardInterrupt):
        store.people.change_cards([], [KEN], NOON)
    assert not cards.with_name("cards.copy").exists()
    with pytest.raises(KeyboardInterrupt):
        store.people.lock_down("owner")
    store.close()
    spoil(cards)

    assert door_store.people.find(KEN) is None
    with pytest.raises(StoreError, match="changes of the list are lost"):
        door_store.people.locked_down()


def test_list_survives_two_losses(cards, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    spoil(cards)
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)

    assert door_store.people.needs_tidying
    door_store.people.tidy()
    assert not door_store.people.needs_tidying
    spoil(cards)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)


def test_the_door_makes_the_copy_in_its_next_idle_moment(cards, door_store, clock):
    """Also with a clock that is not set, by which nothing is removed."""
    clock.set = False
    door_store.people.change_cards([card_of()], [], NOON)
    spoil(cards)
    door_store.people.find(KEN)
    assert not cards.with_name("cards.copy").exists()

    retention = doorpi.Retention(365, clock)
    retention.step(door_store.people, door_store.events)

    assert cards.with_name("cards.copy").exists()


def test_a_copy_that_is_missing_is_made_in_an_idle_moment(cards, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    copy = cards.with_name("cards.copy")
    copy.unlink()

    door_store.people.tidy()
    spoil(cards)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)


def test_looking_for_a_copy_makes_none(cards, door_store):
    """SQLite takes an address with immutable=1 alone for one that it may create."""
    assert door_store.people.find(KEN) is None

    assert [file.name for file in cards.parent.glob("*.copy")] == []


def test_a_start_without_a_list_makes_none(cards, door_store):
    door_store.events.close_interrupted()
    door_store.people.tidy()
    assert door_store.people.locked_down() is None

    assert [file.name for file in cards.parent.glob("cards.*")] == []


def test_copy_is_of_the_last_change_even_if_made_meanwhile(store, path, monkeypatch):
    """Who waits for a copy is told that the card cannot be put on the list; and a copy
    of before would let in who was revoked meanwhile."""
    to_disk, revoke = os.fsync, [[KEN]]

    def slow(file: int) -> None:
        to_disk(file)
        if revoke:
            with contextlib.closing(SqliteStore(path, busy_s=0)) as other:
                other.people.change_cards([], revoke.pop(), NOON)

    monkeypatch.setattr(doorpi.os, "fsync", slow)
    store.people.change_cards([card_of(), card_of(STRANGER, "Mika")], [], NOON)
    store.close()

    copy = path.with_name("cards.copy")
    with contextlib.closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT uid FROM cards").fetchall() == [(STRANGER,)]
    assert [file.name for file in path.parent.glob("cards.copy*")] == ["cards.copy"]


def test_a_card_is_put_on_the_list_by_the_door_without_a_copy(cards, door_store):
    """The copy of a long list takes seconds, which somebody at the reader waits for."""
    door_store.people.add_card(card_of(STRANGER), NOON)
    door_store.people.tidy()
    copy = cards.with_name("cards.copy")
    assert copy.exists()

    door_store.people.add_card(card_of(), NOON)
    assert not copy.exists()  # better none than one of before
    assert door_store.people.needs_tidying

    door_store.people.tidy()
    assert not door_store.people.needs_tidying
    spoil(cards)
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)


def test_a_copy_has_no_name_before_it_is_complete(cards, store, killed):
    """Half a copy is in nobody's way, and the system removes it with its process."""
    with pytest.raises(KeyboardInterrupt):
        store.people.change_cards([card_of()], [], NOON)
    store.close()

    assert {file.name for file in cards.parent.iterdir()} == {"cards.db"}


def test_a_copy_that_fails_sets_nothing_aside(cards, door_store, monkeypatch, caplog):
    def broken(_: int) -> None:
        raise doorpi.Spoilt("no copy of this")

    monkeypatch.setattr(doorpi.os, "fsync", broken)
    door_store.people.add_card(card_of(), NOON)
    door_store.people.tidy()

    assert caplog.messages == [
        f"the list was not copied to {cards.parent}/cards.copy: no copy of this"
    ]
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    assert list(cards.parent.glob("*.broken-*")) == []


def test_where_no_copy_can_be_kept_there_is_no_old_one(
    cards, store, monkeypatch, caplog
):
    store.people.add_card(card_of(), NOON)
    monkeypatch.setattr(doorpi.SqlitePeople, "copied_up_to", 0)

    store.people.change_cards([], [KEN], NOON)

    assert not cards.with_name("cards.copy").exists()


def test_a_broken_log_takes_nobody_off_the_list(path, door_store):
    door_store.people.add_card(card_of(), NOON)
    door_store.events.begin(INTENT)
    spoil(path)

    with pytest.raises(StoreError):
        door_store.events.begin(INTENT)

    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    assert door_store.events.begin(INTENT) == 1


def test_a_long_import_keeps_no_tap_from_the_log(store, path):
    """The door waits a quarter of a second for a file; an import may take long."""
    with contextlib.closing(SqliteStore(path, busy_s=0)) as door:
        door.people.add_card(card_of(), NOON)
        begun = []

        def rows():
            for number in range(50):
                yield card_of(f"{number:08X}", holder=f"Member {number}")
                begun.append((door.events.begin(INTENT), door.people.find(KEN)))

        store.people.change_cards(rows(), [], NOON)

    assert begun == [(i + 1, card_of(source=Origin.DB)) for i in range(50)]


# -- what rot takes back


def test_a_change_of_the_list_does_not_stay_in_its_wal(cards, door_store, store):
    """One bad byte there, and SQLite takes back what was written after it."""
    door_store.people.find(KEN)  # the door has it open
    for change in (
        lambda: store.people.change_cards([card_of()], [], NOON),
        lambda: store.people.change_cards([], [KEN], NOON),
        lambda: store.people.lock_down("owner"),
    ):
        change()
        assert Path(f"{cards}-wal").stat().st_size == 0


def test_wal_is_emptied_later_if_a_reader_prevents_it(cards, store, door_store):
    door_store.people.add_card(card_of(), NOON)
    with contextlib.closing(sqlite3.connect(cards)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM cards").fetchall()
        store.people.change_cards([], [KEN], NOON)
        assert Path(f"{cards}-wal").stat().st_size > 0

    door_store.people.tidy()

    assert Path(f"{cards}-wal").stat().st_size == 0


@pytest.fixture
def older(cards, door_store, tmp_path):
    """Bring an older state of a file back, as rot in a -wal does."""

    def bring_back(name: str) -> None:
        for leftover in cards.parent.glob(f"{name}*"):
            leftover.unlink()
        shutil.copy(tmp_path / "older" / name, cards.parent / name)

    door_store.people.add_card(card_of(), NOON)
    door_store.people.add_card(card_of(STRANGER, "Jo"), NOON)
    door_store.people.lock_down("")
    door_store.close()
    shutil.copytree(cards.parent, tmp_path / "older")
    return bring_back


def test_of_list_and_copy_the_one_with_later_changes_counts(
    cards, door_store, older, caplog
):
    door_store.people.change_cards([], [KEN], NOON)
    door_store.people.lock_down("owner")
    door_store.close()
    older("cards.db")

    assert door_store.people.find(KEN) is None
    assert door_store.people.find(STRANGER) == card_of(STRANGER, "Jo", source=Origin.DB)
    assert door_store.people.locked_down() is True
    assert list(cards.parent.glob("cards.db.broken-*"))
    assert f"{cards} was lost: its last copy has taken its place" in caplog.messages


def test_verb_reports_an_older_list_and_leaves_it(cards, store, older):
    store.people.change_cards([], [KEN], NOON)
    store.close()
    older("cards.db")
    before = cards.read_bytes()

    for ask in (
        lambda: store.people.find(KEN),
        lambda: list(store.people.cards()),
        lambda: store.people.change_cards([], [STRANGER], NOON),
    ):
        with pytest.raises(StoreError, match="changes are lost: it has 3, its copy 4"):
            ask()
    assert cards.read_bytes() == before


def test_a_copy_that_is_not_whole_is_no_later_one(cards, door_store, older):
    door_store.people.change_cards([], [KEN], NOON)
    door_store.close()
    older("cards.db")
    copy = bytearray(cards.with_name("cards.copy").read_bytes())
    copy[-4096:] = b"\xa5" * 4096
    cards.with_name("cards.copy").write_bytes(copy)

    assert door_store.people.find(STRANGER) == card_of(STRANGER, "Jo", source=Origin.DB)
    with pytest.raises(StoreError, match="it has 3, the log knows of 4"):
        door_store.people.locked_down()


def test_rot_in_the_list_and_its_copy_ends_no_lockdown(cards, door_store):
    door_store.people.lock_down("owner")
    for file in (cards, cards.with_name("cards.copy")):
        spoil(file)
    for _ in range(4):
        assert door_store.people.locked_down() is True

    door_store.people.lock_down("")
    assert door_store.people.locked_down() is False


@pytest.mark.parametrize("lost", ["lockdown", "changes"])
def test_rot_in_a_mark_ends_no_lockdown(cards, door_store, lost):
    door_store.people.lock_down("owner")
    run_sql(cards, f"UPDATE marks SET name = 'x' WHERE name = '{lost}'")

    assert door_store.people.locked_down() is True


def test_rot_in_the_log_ends_no_lockdown(path, door_store):
    door_store.people.lock_down("owner")
    spoil(path)

    assert door_store.people.locked_down() is True


def test_a_lockdown_that_was_lifted_stays_lifted(path, door_store, older):
    door_store.people.lock_down("owner")
    door_store.people.lock_down("")
    door_store.close()
    assert door_store.people.locked_down() is False

    older("doorpi.db")  # the log has its word of before
    assert door_store.people.locked_down() is False
    door_store.people.tidy()
    assert door_store.events.recall("list") == "5 "


def test_lost_changes_are_reported_until_the_owner_changes_the_list(
    cards, door_store, older
):
    door_store.people.change_cards([], [KEN], NOON)
    door_store.close()
    older("cards.db")
    cards.with_name("cards.copy").unlink()

    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            door_store.people.locked_down()
        assert str(caught.value) == (
            f"{cards}: changes of the list are lost: it has 3, the log knows of 4;"
            " check who is on it with doorpi people, and then: doorpi lockdown off"
        )
    door_store.people.lock_down("")
    assert door_store.people.locked_down() is False
    assert door_store.events.recall("list") == "5 "


def test_a_list_of_an_older_program_counts_from_its_next_change_on(cards, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    run_sql(cards, "DELETE FROM marks WHERE name = 'changes'")
    run_sql(door_store.events.path, "DELETE FROM states WHERE name = 'list'")
    cards.with_name("cards.copy").unlink()

    assert door_store.people.locked_down() is None
    assert door_store.people.find(KEN) == card_of(source=Origin.DB)
    door_store.people.change_cards([], [KEN], NOON)
    assert door_store.events.recall("list") == "1 "


def test_a_secure_card_stays_one_where_the_list_cannot_be_read(store, cards):
    """Also one that the settings have by its number alone."""
    store.people.add_card(card_of(proof="ntag424", generation=3), NOON)
    store.people.add_card(card_of(STRANGER), NOON)
    store.people.tidy()
    store.people.close()
    cards.with_name("cards.copy").unlink()
    cards.write_bytes(b"no database" * 999)

    found = store.people.find(KEN)

    assert (found.enabled, found.proof, found.generation) == (False, "ntag424", 3)
    in_file = stricter(card_of(), found)
    assert (in_file.enabled, in_file.proof) == (True, "ntag424")
    with pytest.raises(StoreError):
        store.people.find(STRANGER)


def test_proofs_are_noted_once_and_those_of_wiped_cards_are_not(store):
    store.people.add_card(card_of(proof="ntag424"), NOON)
    store.people.tidy()
    assert store.events.noted(NoteKey.SECURE) == {KEN: "ntag424 1"}

    store.people.change_cards([], [], NOON, wiped=[KEN])
    store.people.tidy()

    assert store.events.noted(NoteKey.SECURE) == {}
