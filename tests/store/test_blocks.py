"""A block beats the list and the file: at the reader, on the disk, and through an edit."""

from __future__ import annotations

import contextlib

import pytest

import doorpi
from doorpi import Block, Reason, Role, Signal, SqliteStore, Uid
from tests.helpers.stores import run_sql
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, World, card_of, config_of

MASTER = Uid("0A0B0C0D")
BY_CARD = Block(uid=KEN, holder="Ken Sato", since=NOON.astimezone(), by="nobi")
BY_NAME = replace(BY_CARD, uid=None)


def told(world: World) -> list[tuple[str, Reason]]:
    return [(event.holder, event.reason) for event in world.store.events.values()]


# -- at the reader


def present(world: World, door: doorpi.Door, *uids: Uid) -> None:
    for uid in uids:
        world.reader.shows = [uid]
        door.step()
        door.step()
        world.clock.advance(1.0)
        door.step()


@pytest.mark.parametrize("key", [KEN, "Ken Sato"], ids=["card", "holder"])
@pytest.mark.parametrize("where", ["file", "database"])
def test_a_blocked_card_is_denied_at_the_next_tap(world, key, where):
    door = world.door(config_of(*[card_of()] * (where == "file")))
    if where == "database":
        world.store.add_card(card_of(), NOON)

    present(world, door, KEN)
    world.store.blocks[key] = BY_CARD
    present(world, door, KEN)

    assert told(world) == [
        ("Ken Sato", Reason.GRANTED), ("Ken Sato", Reason.NOT_ENABLED),
    ]  # fmt: skip
    assert len(world.lock.sent) == 1
    assert world.lights.signals[-1] is Signal.DENIED


def test_a_blocked_card_that_is_on_no_list_is_known(world):
    world.store.blocks[KEN] = BY_CARD
    present(world, world.door(config_of()), KEN)

    assert told(world) == [("Ken Sato", Reason.NOT_ENABLED)]
    assert KEN in world.store.kept["unknown"]  # `allow` tells of it


def test_a_card_that_is_blocked_while_the_lock_is_asked_stays_out(world):
    status = world.lock.status

    def blocked_meanwhile(by: float) -> doorpi.LockStatus:
        world.store.blocks[KEN] = BY_CARD
        return status(by)

    world.lock.status = blocked_meanwhile
    present(world, world.door(config_of(card_of())), KEN)

    assert world.lock.sent == []
    assert told(world) == [("Ken Sato", Reason.NOT_ENABLED)]


def test_a_blocked_card_is_not_enrolled_and_a_blocked_master_enrols_nobody(world):
    door = world.door(config_of(card_of(MASTER, "Nobi", role=Role.MASTER)))
    world.store.blocks[KEN] = BY_CARD
    present(world, door, MASTER, KEN)
    assert world.store.cards == {}

    world.clock.advance(60)
    world.store.blocks[MASTER] = replace(BY_CARD, uid=MASTER)
    present(world, door, MASTER, STRANGER)
    assert world.store.cards == {}
    assert told(world)[-2:] == [("Nobi", Reason.NOT_ENABLED), ("", Reason.NOT_FOUND)]


def test_disk_trouble_keeps_nobody_out_who_is_in_the_file(world):
    world.store.broken = "no disk"

    present(world, world.door(config_of(card_of())), KEN)

    assert len(world.lock.sent) == 1


# -- an edit


def test_access_changes_do_not_warn_of_a_blocked_card_in_the_database():
    row = card_of(source=doorpi.Origin.DB)

    lines = doorpi.access_changes(
        config_of(card_of()),
        config_of(),
        {KEN: row}.get,
        lambda uid, holder: BY_CARD,
    )

    assert lines == []


# -- on the disk


def test_a_block_is_on_disk_for_everybody_and_counts_once(path, door_store):
    for _ in range(2):
        door_store.people.change_cards([], [], NOON, block=[BY_CARD, BY_NAME])

    with contextlib.closing(SqliteStore(path)) as other:
        assert other.people.block_on(KEN, "") == BY_CARD
        assert other.people.block_on(STRANGER, "ken  SATO") == BY_NAME
        assert other.people.block_on(STRANGER, "Ken") is None
        assert sorted(other.people.blocks(), key=str) == sorted(
            [BY_CARD, BY_NAME], key=str
        )
        other.people.change_cards([], [], NOON, lift=[BY_CARD])
    assert door_store.people.block_on(KEN, "") is None
    assert door_store.people.blocks() == [BY_NAME]


WITHOUT_PROOF = """
DROP INDEX cards_proof; ALTER TABLE cards DROP COLUMN proof;
ALTER TABLE cards DROP COLUMN generation
"""


def test_a_list_of_an_older_version_gets_its_table(path, door_store):
    door_store.people.change_cards([card_of()], [], NOON)
    door_store.close()
    for file in (path.with_name("cards.db"), path.with_name("cards.copy")):
        run_sql(file, f"DROP TABLE blocks; DROP TABLE passes; {WITHOUT_PROOF}")
        run_sql(file, "PRAGMA user_version = 1")

    assert door_store.people.block_on(KEN, "Ken Sato") is None
    door_store.people.change_cards([], [KEN], NOON, block=[BY_CARD])
    assert door_store.people.block_on(KEN, "") == BY_CARD


LOST = {
    "the row": "DELETE FROM blocks",
    "its name": "UPDATE blocks SET name = 'x'",
    "the table": "DROP TABLE blocks",
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_block_lost_by_the_list_is_known_to_the_log(path, door_store, lost):
    door_store.people.change_cards([], [], NOON, block=[BY_CARD])
    door_store.close()
    run_sql(path.with_name("cards.db"), lost)

    assert door_store.people.block_on(KEN, "") == BY_CARD


@pytest.mark.parametrize("name", ["cards.db", "doorpi.db"])
def test_block_outlasts_a_broken_file(path, door_store, name):
    door_store.people.change_cards([], [], NOON, block=[BY_CARD])
    door_store.close()
    path.with_name(name).write_bytes(b"no database" * 1000)

    with contextlib.suppress(doorpi.StoreError):
        door_store.events.begin(
            doorpi.Event(at=NOON, uid=KEN, holder="", reason=Reason.NOT_FOUND)
        )
    for _ in range(2):
        with contextlib.suppress(doorpi.StoreError):  # it is set aside
            door_store.people.tidy()

    assert door_store.people.block_on(KEN, "") == BY_CARD
    assert len(door_store.people._query("SELECT 1 FROM blocks")) == 1
    noted = door_store.events._query(
        "SELECT name FROM states WHERE name LIKE 'block %'"
    )
    assert [name for (name,) in noted] == [f"block uid {KEN}"]


def test_a_block_with_broken_words_still_blocks(path, door_store):
    door_store.people.change_cards([], [], NOON, block=[BY_CARD])
    run_sql(path.with_name("cards.db"), "UPDATE blocks SET since = 'x', who = x'00'")

    assert door_store.people.block_on(KEN, "").uid == KEN


@pytest.mark.parametrize("value", ["'x'", "x'00ff'", "7"])
def test_a_broken_note_of_a_block_still_blocks(path, door_store, value):
    door_store.people.change_cards([], [], NOON, block=[BY_CARD])
    path.with_name("cards.db").unlink()
    path.with_name("cards.copy").unlink()
    run_sql(path, f"UPDATE states SET value = {value} WHERE name LIKE 'block %'")

    assert door_store.people.block_on(KEN, "").uid == KEN
    assert [block.uid for block in door_store.people.blocks()] == [KEN]


def test_asking_for_a_block_makes_no_file(path, door_store):
    assert door_store.people.block_on(KEN, "Ken Sato") is None
    assert door_store.people.blocks() == []
    assert list(path.parent.iterdir()) == []
