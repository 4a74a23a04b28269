"""Secure cards at the door: what opens, what does not, and that there is no way round.

The paths of a downgrade are those by which a card that is listed as a secure one might open
by its number alone.
"""

from __future__ import annotations

import contextlib
import sys

import pytest

import doorpi
from doorpi import (
    Medium,
    Origin,
    ProofConfig,
    Reason,
    Result,
    Role,
    Signal,
    SqliteStore,
)
from tests.fakes.rogue_cards import ats_rogue, copy_of, rogue
from tests.helpers.air import (
    MASTER,
    PROOF,
    Doorway,
    kens_card,
    kens_desfire,
)
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, World, card_of

SECURE = card_of(proof="ntag424")
REFUSING = PROOF._replace(uid_only="refuse")


@pytest.fixture
def doorway(world) -> Doorway:
    return Doorway(world)


def moves(world: World) -> int:
    return len(world.lock.sent)


# -- the tap


@pytest.mark.parametrize(
    ("shown", "proof", "frames"),
    [(kens_card, "ntag424", 4), (kens_desfire, "desfire", 4),
     (lambda: kens_desfire("EV3"), "desfire", 4), (lambda: kens_desfire("EV1"), "desfire", 5)],
    ids=["NTAG 424", "DESFire EV2", "DESFire EV3", "DESFire EV1"],
)  # fmt: skip
def test_card_that_proves_itself_opens(world, doorway, shown, proof, frames):
    doorway.open(card_of(proof=proof))

    event = doorway.tap(shown())

    assert (event.result, event.source) == (Result.UNLOCKED, Medium.SECURE_CARD)
    assert event.details.startswith("proven in ")
    assert len(doorway.reader.all_frames) == frames
    assert world.lights.signals == [Signal.WORKING, Signal.UNLOCKED]


def test_light_comes_before_the_proof_and_the_command_after_it(world, doorway):
    doorway.open(SECURE)

    doorway.tap(kens_card(slow_s=0.02))

    shown_at = next(
        at for at, signals in world.lights.shown if Signal.WORKING in signals
    )
    sent_at, _ = world.lock.sent[0]
    assert sent_at - shown_at >= 0.06


def test_card_that_lies_there_is_asked_once(world, doorway):
    doorway.open(SECURE, on_tap="unlock")
    doorway.reader.card = kens_card()
    for _ in range(200):
        doorway.door.step()

    assert (doorway.reader.challenges, moves(world)) == (1, 1)


@pytest.mark.parametrize(
    ("listed", "reason"),
    [(None, Reason.NOT_FOUND), (replace(SECURE, enabled=False), Reason.NOT_ENABLED),
     (replace(SECURE, valid_until=NOON.date().replace(year=2020)), Reason.EXPIRED),
     (replace(SECURE, schedule="gone"), Reason.NOT_PERMITTED_AT_THIS_TIME)],
    ids=["not on the list", "switched off", "expired", "outside its hours"],
)  # fmt: skip
def test_card_that_may_not_enter_gets_no_frame(world, doorway, listed, reason):
    doorway.open(*[listed] * bool(listed))

    assert doorway.tap(kens_card()).reason is reason
    assert doorway.reader.all_frames == []


def test_plain_card_beside_secure_ones_gets_no_frame(world, doorway):
    doorway.open(SECURE, card_of(STRANGER, "Anna"))

    assert doorway.tap(copy_of(STRANGER, "classic")).result is Result.UNLOCKED
    assert doorway.reader.all_frames == []


def test_reader_that_is_lost_in_a_proof_is_a_lost_reader(world, doorway):
    doorway.open(SECURE)
    doorway.reader.broken = doorpi.ReaderLost("unplugged")

    event = doorway.tap(kens_card())

    assert event.reason is Reason.PROOF_UNAVAILABLE
    assert Signal.READER_LOST in [
        sign for _, shown in world.lights.shown for sign in shown
    ]


def test_rogue_loses_no_reader(world, doorway):
    doorway.open(SECURE)

    for name in ("endless-wait", "silent-from-frame-2", "garbled", "empty"):
        doorway.tap(rogue(name, uid=KEN, keys={}))

    assert Signal.READER_LOST not in world.lights.signals
    assert moves(world) == 0
    assert doorway.tap(kens_card()).result is Result.UNLOCKED


# -- no way round


#: What has Ken's number, and the reason why it does not open.
COPIES = {
    "a magic MIFARE Classic": (lambda: copy_of(KEN, "classic"), Reason.NO_PROOF),
    "an NTAG 213": (lambda: copy_of(KEN), Reason.NO_PROOF),
    "a bare number": (lambda: copy_of(KEN, "uid-only"), Reason.NO_PROOF),
    "a phone that emulates": (lambda: copy_of(KEN, "desfire"), Reason.NO_PROOF),
    "a blank NTAG 424": (lambda: copy_of(KEN, "ntag424"), Reason.WRONG_PROOF),
    "Ken's of another generation": (lambda: kens_card(generation=2), Reason.WRONG_PROOF),
    "one that cannot be activated": (lambda: ats_rogue("length-0", uid=KEN), Reason.NO_PROOF),
    "one that is torn away": (lambda: rogue("silent-from-frame-1", uid=KEN), Reason.CARD_MOVED),
    "one that is locked": (lambda: locked(), Reason.CARD_LOCKED),
    "one that replays": (lambda: rogue("own-question-back", uid=KEN), Reason.WRONG_PROOF),
}  # fmt: skip


def locked():
    """It was asked with a wrong key fifty times."""
    card = kens_card()
    card.chip._ring.failed[1] = 1000
    return card


@pytest.mark.parametrize("copy", COPIES)
def test_copy_of_a_number_opens_nothing(world, doorway, copy):
    make, reason = COPIES[copy]
    doorway.open(SECURE)

    event = doorway.tap(make())

    assert (event.reason, event.holder, event.source) == (reason, "Ken Sato", "card")
    assert (moves(world), doorway.reader.challenges <= 1) == (0, True)
    assert Signal.DENIED in world.lights.signals


@pytest.fixture
def listed(world, tmp_path):
    """The real databases, with Ken's secure card in them."""
    with contextlib.closing(SqliteStore(tmp_path / "doorpi.db")) as store:
        world.store = store
        store.people.add_card(SECURE, NOON)
        yield store


COPY = "classic"


def test_entry_of_the_file_without_proof_does_not_weaken_the_database(
    doorway, listed, world
):
    doorway.open(card_of())

    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NO_PROOF
    assert doorway.tap(kens_card()).result is Result.UNLOCKED


def test_entry_of_the_database_without_proof_does_not_weaken_the_file(
    doorway, listed, world
):
    listed.people.change_cards([], [], NOON, wiped=[KEN])
    listed.people.add_card(card_of(), NOON)
    doorway.open(SECURE)

    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NO_PROOF


def test_list_elsewhere_does_not_weaken_and_is_not_weakened(doorway, listed, world):
    listed.people.synced.find = lambda uid: card_of()
    doorway.open()
    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NO_PROOF

    listed.people.change_cards([], [], NOON, wiped=[KEN])
    listed.people.add_card(card_of(), NOON)
    listed.people.synced.find = lambda uid: SECURE
    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NO_PROOF
    assert moves(world) == 0


def test_whoever_puts_a_plain_entry_leaves_the_proof(listed):
    listed.people.add_card(card_of(holder="Ken S."), NOON)
    listed.people.change_cards([card_of(holder="K. Sato")], [], NOON)

    assert listed.people.find(KEN) == replace(
        SECURE, holder="K. Sato", source=Origin.DB
    )
    listed.people.add_card(replace(SECURE, generation=3), NOON)
    assert listed.people.find(KEN).generation == 3


BOSS = "04B0551122AA80"


def test_plain_master_card_weakens_no_secure_card(doorway, listed, world):
    doorway.open(card_of(BOSS, "Boss", role=Role.MASTER))

    doorway.tap(copy_of(BOSS, COPY))
    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NO_PROOF
    assert listed.people.find(KEN).proof == "ntag424"
    assert moves(world) == 0


def test_copy_of_a_secure_master_card_opens_no_window(doorway, world):
    boss = card_of(BOSS, "Boss", role=Role.MASTER, proof="ntag424")
    doorway.open(boss)

    assert doorway.tap(copy_of(BOSS, COPY)).reason is Reason.NO_PROOF
    assert doorway.tap(copy_of(STRANGER, COPY)).reason is Reason.NOT_FOUND
    assert Signal.ENROLLING not in world.lights.signals

    world.store.lockdown = True
    assert doorway.tap(copy_of(BOSS, COPY)).reason is Reason.NO_PROOF
    assert doorway.tap(kens_card(BOSS)).detail == "enrolment open for 15 s"


@pytest.mark.parametrize(
    "proof", [ProofConfig(), REFUSING._replace(door_key=doorpi.Secret())]
)
def test_door_without_a_key_opens_to_no_secure_card(doorway, world, proof):
    doorway.open(SECURE, proof=proof)

    for card in (kens_card(), copy_of(KEN, COPY)):
        assert doorway.tap(card).reason is Reason.PROOF_UNAVAILABLE
    assert (doorway.reader.all_frames, moves(world)) == ([], 0)


def test_door_without_the_library_opens_to_no_secure_card(doorway, world, monkeypatch):
    doorway.open(SECURE)
    shown = kens_card()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.cmac", None)

    assert doorway.tap(shown).reason is Reason.PROOF_UNAVAILABLE
    assert (doorway.reader.all_frames, moves(world)) == ([], 0)


def test_wrong_key_file_is_named_before_a_card_is_asked(doorway, listed, world, caplog):
    doorway.open(on_tap="unlock")
    assert doorway.tap(kens_card()).decision == "granted"
    frames = len(doorway.reader.all_frames)

    other = ProofConfig(door_key=doorpi.Secret(bytes(range(16)).hex(), "door.key"))
    doorway.open(proof=other)

    assert doorway.tap(kens_card()).reason is Reason.PROOF_UNAVAILABLE
    assert len(doorway.reader.all_frames) == frames
    assert "door.key holds another key" in caplog.text
    assert MASTER.hex() not in caplog.text.replace(" ", "").lower()
    doorway.open(on_tap="unlock")
    assert doorway.tap(kens_card()).result is Result.UNLOCKED


@pytest.mark.parametrize(
    ("proof", "where", "loads"),
    [(PROOF, "", 0), (PROOF, "file", 1), (PROOF, "list", 1), (ProofConfig(), "list", 0)],
    ids=["no secure card", "in the file", "in the database", "no key"],
)  # fmt: skip
def test_library_is_loaded_ahead_only_where_a_secure_card_is_listed(
    doorway, listed, world, proof, where, loads
):
    """Whoever has none does not pay for it; a slow Pi needs seconds to load it."""
    if where != "list":
        listed.people.change_cards([], [], NOON, wiped=[KEN])
    door = doorway.open(*[SECURE] * (where == "file"), card_of(STRANGER), proof=proof)
    calls = []
    world.equipment.load_library = lambda: calls.append(1)
    door._keeper.use(door._keeper.config)

    for _ in range(5):
        world.clock.advance(11.0)
        door._keeper.check_conditions()

    assert len(calls) == loads


def test_source_that_cannot_ask_for_a_proof_has_none(world):
    class Bare(doorpi.Source):
        """It has no ``prove`` of its own."""

    assert Bare().prove(SECURE) is Reason.PROOF_UNAVAILABLE
    assert world.source(doorpi.Config()).prove(SECURE) is not None


def test_card_that_becomes_a_secure_one_meanwhile_does_not_open(doorway, listed, world):
    """By an edit, or another process, between the decision and the command."""
    listed.people.change_cards([], [], NOON, wiped=[KEN])
    listed.people.add_card(card_of(), NOON)
    doorway.open(on_tap="unlock")
    status = world.lock.status

    def slow_status(by):
        listed.people.add_card(SECURE, NOON)
        return status(by)

    world.lock.status = slow_status

    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NO_PROOF
    assert moves(world) == 0


def test_database_that_fails_keeps_its_secure_cards_shut(doorway, listed, world):
    doorway.open(on_tap="unlock")
    listed.people.find = broken
    listed.people.listed = broken

    assert doorway.tap(copy_of(KEN, COPY)).reason is Reason.NOT_FOUND
    assert moves(world) == 0


def broken(*_):
    raise doorpi.StoreError("broken")


def test_older_program_refuses_a_secure_card(listed, monkeypatch):
    """It knows neither column; what it does with those is the same as ours."""
    known = {
        k: v for k, v in doorpi.CARD_VALUES.items() if k not in ("proof", "generation")
    }
    monkeypatch.setattr(doorpi, "CARD_VALUES", known)
    monkeypatch.setattr(doorpi, "CARD_COLUMNS", ("uid", *known, "added_at"))

    found = listed.people.find(KEN)

    assert (found.enabled, found.proof) == (False, "")
    assert "needs a newer version" in found.refused


# -- after the migration


def test_uid_alone_is_refused_after_the_migration(doorway, world):
    doorway.open(SECURE, card_of(STRANGER, "Anna"), proof=REFUSING)

    assert doorway.tap(copy_of(STRANGER, COPY)).reason is Reason.NO_PROOF
    assert moves(world) == 0
    assert doorway.tap(kens_card()).result is Result.UNLOCKED


def test_nobody_is_enrolled_by_a_uid_after_the_migration(doorway, world):
    boss = card_of(BOSS, "Boss", role=Role.MASTER, proof="ntag424")
    doorway.open(boss, proof=REFUSING)

    doorway.tap(kens_card(BOSS))
    doorway.tap(copy_of(STRANGER, COPY))

    assert world.store.cards == {}
    assert Signal.ENROLLED not in world.lights.signals


class Members(doorpi.Authority):
    """It knows everybody, and flips their presence at each question."""

    name, schedule, answer_s = "members", "", 4.0

    def __init__(self) -> None:
        self.worker = doorpi.InlineWorker()
        self.asked: list[str] = []

    def takes(self, request):
        return True

    def look_up(self, request):
        self.asked.append(request.identifier)
        return doorpi.Found(card_of(request.identifier, "A member"))


@pytest.mark.parametrize(("proof", "asked"), [(PROOF, [STRANGER]), (REFUSING, [])])
def test_authority_is_not_asked_about_a_uid_that_opens_nothing(
    doorway, world, proof, asked
):
    doorway.open(proof=proof)
    world.equipment.authorities = [members := Members()]

    event = doorway.tap(copy_of(STRANGER, COPY))

    assert members.asked == asked
    assert event.reason is (Reason.GRANTED if asked else Reason.NO_PROOF)
