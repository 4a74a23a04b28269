"""Secure cards are issued at the door, torn away anywhere, and wiped."""

from __future__ import annotations

import random
from collections import Counter

import pytest

import doorpi
from doorpi import (
    CardWriter,
    Change,
    Credential,
    IsoDep,
    NoteKey,
    Prover,
    Secret,
    Session,
    Signal,
    Uid,
    Wants,
)
from tests.fakes.cards import card as plain_card
from tests.fakes.secure_cards import desfire, foreign_ntag424, ntag424
from tests.helpers.air import AirReader
from tests.helpers.issuing import PROOF, IssuingDoor, uid_of
from tests.helpers.world import NOON, FakeClock, HeldWorker, card_of, config_of

H = bytes.fromhex
ZERO = bytes(16)

CARDS = {
    "NTAG 424 DNA": (ntag424, "ntag424"),
    "DESFire EV1": (lambda: desfire("EV1"), "desfire"),
    "DESFire EV2": (lambda: desfire("EV2"), "desfire"),
    "DESFire EV3": (lambda: desfire("EV3"), "desfire"),
}


def written(card, target: int = 1) -> str:
    """How it ends when a card is presented once: "", "moved", or why it is refused."""
    reader = AirReader(FakeClock())
    reader.card = card
    reader.sense()
    isodep = IsoDep(reader.exchange, reader.clock.monotonic)
    try:
        for _ in CardWriter(PROOF, uid_of(card), isodep).steps(target):
            pass
    except doorpi.NotProven as error:
        return error.reason
    return ""


def proof_fails(card, proof: str) -> object:
    """What a tap at the door says; None: proven."""
    reader = AirReader(FakeClock())
    reader.card = card
    reader.sense()
    prove = Prover(PROOF.door_key, reader.clock.monotonic).prove
    who = Credential(uid_of(card), "Ken Sato", proof=proof)
    return prove(who, reader.exchange, lambda: False)


def ring_of(card):
    """The keys of the application that the door uses."""
    chip = card.chip
    return chip._ring if card.ats[1] == 0x77 else chip.applications[b"\xd0\x0d\x01"]


# -- bytes, as the vendor prints them


class Sent(IsoDep):
    """Hears one command, and gives the answer."""

    def __init__(self, answer: str = "") -> None:
        self.answer, self.heard = H(answer), b""

    def ask(self, code, data=b"", status=0) -> bytes:
        self.heard = bytes([code]) + data
        return self.answer


def session_of(cipher_key, mac_key, name, counter, answer) -> tuple[Session, Sent]:
    sent = Sent(answer)
    session = Session(sent, ZERO, ZERO, ZERO, H(name))
    session.cipher_key, session.mac_key = H(cipher_key), H(mac_key)
    session.counter = counter
    return session, sent


#: Keys of the session, TI, counter; number, new key, version; the command, the answer.
# fmt: off
CHANGES = {
    "AN12196 T25, key 2": (
        "4CF3CB41A22583A61E89B158D252FC53", "5529860B2FC5FB6154B7F28361D30BF9", "7614281A", 2,
        2, "F3847D627727ED3BC9C4CC050489B966", 1,
        "C4022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD1D06E6",
        "203BB55D1089D587"),
    "AN12196 T26, key 0": (
        "4CF3CB41A22583A61E89B158D252FC53", "5529860B2FC5FB6154B7F28361D30BF9", "7614281A", 3,
        0, "5004BF991F408672B1EF00F08F9E8647", 1,
        "C400C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BDED6432",
        ""),
    "AN12343 T40, key 0 of a DESFire Light": (
        "E156C8522F7C8DC82B0C99BA847DE723", "45D50C1570000D2F173DF949288E3CAD", "94297F4D", 0,
        0, "01234567890123456789012345678901", 0,
        "C400BF5400DC97A1FBD65BE870716D6F11F8161BB4CA472856DB94AB94B2EC1A13E627CE07CF56C11091",
        ""),
}
# fmt: on


#: Session key; number, new key, version; the command.
# fmt: off
CHANGES_OF_EV1 = {
    "key 0": (
        "F44B26F5C05DDD7110772281C4D066E8", 0, "00102030405060708090A0B0B0A09080", 0x10,
        "C400E9F85E219496C2B58C1090DC3935FAE9E840CF61B383D9531946256B1F110C10"),
    "key 0, another session": (
        "C2A1E47B27104712FE6D00A71177A19B", 0, "10182028303840485058606870788088", 0x10,
        "C4002945E3760E60F4A4046BB8A505B31CF559A3A2E05213BC82942CA6AB5DBCECF5"),
    "key 1": (
        "C2A1E47BD8100044FE6D00A74D7AB17C", 1, "00102030405060708090A0B0B0A09080", 0x10,
        "C401E7ECCB6BD1CA64BC161A12B1C024F71430337408C8A87EACAB7A1FF18951FCA3"),
}
# fmt: on


@pytest.mark.parametrize("name", CHANGES_OF_EV1)
def test_change_of_an_old_desfires_key_is_what_others_have_seen(name, monkeypatch):
    """Transcripts of RFDoorLock, pydesfire and desfire-python."""
    key, number, new, version, command = CHANGES_OF_EV1[name]
    session, sent = session_of(key, key, "", 0, "")
    session.ev1_key = H(key)
    writer = CardWriter(PROOF, Uid("04782E21801D80"), sent)
    writer._versions, writer._name = [0, 0], doorpi.EV1
    monkeypatch.setattr(writer, "_authenticate", lambda: session)
    monkeypatch.setattr(writer, "_key", lambda number, of: H(new) if of else ZERO)

    writer._change(number, version)

    assert sent.heard.hex().upper() == command


@pytest.mark.parametrize("name", CHANGES)
def test_change_of_a_key_is_what_the_vendor_prints(name, monkeypatch):
    cipher_key, mac_key, ti, counter, number, new, version, command, answer = CHANGES[
        name
    ]
    session, sent = session_of(cipher_key, mac_key, ti, counter, answer)
    writer = CardWriter(PROOF, Uid("04782E21801D80"), sent)
    writer._versions = [0] * 5
    monkeypatch.setattr(writer, "_authenticate", lambda: session)
    keys = {0: ZERO, version: H(new), -1: H(new)}
    monkeypatch.setattr(writer, "_key", lambda number, of: keys[of])
    if version == 0:
        writer._versions[number] = -1

    writer._change(number, version)

    assert sent.heard.hex().upper() == command


def test_change_of_file_settings_is_what_the_vendor_prints():
    """AN12196, T18."""
    keys = "1309C877509E5A215007FF0ED19CA564", "4C6626F5E72EA694202139295C7A7FC7"
    session, sent = session_of(*keys, "9D00C4DF", 1, "57BFF87B1241E93D")

    data = H("4000E0C1F121200000430000430000")
    session.command(0x5F, b"\x02", data, is_full=True)

    assert sent.heard.hex().upper() == (
        "5F0261B6D97903566E84C3AE5274467E89EAD799B7C1A0EF7A04"
    )


# -- torn away at every command


def commands_of(make) -> int:
    card = make()
    assert written(card) == ""
    return len(card.chip.heard)


CUTS = [
    (name, after, answer)
    for name, (make, _) in CARDS.items()
    for after in range(commands_of(make) + 1)
    for answer in ("delivered", "lost")
]


def test_card_torn_away_anywhere_is_finished_at_the_next_tap():
    for name, after, answer in CUTS:
        make, proof = CARDS[name]
        card = make()
        card.tear(after=after, answer=answer)
        how = written(card)
        card.comes_back()

        assert how in ("", doorpi.Reason.CARD_MOVED), (name, after, answer)
        assert written(card) == "", (name, after, answer)
        assert proof_fails(card, proof) is None, (name, after, answer)
        assert card.chip.ring is None or max(card.chip.ring.failed) <= 1


def test_wipe_torn_away_anywhere_is_finished_at_the_next_tap():
    for name, after, answer in CUTS:
        card = CARDS[name][0]()
        written(card)
        card.tear(after=after, answer=answer)
        written(card, 0)
        card.comes_back()

        assert written(card, 0) == "", (name, after, answer)
        assert card.chip.ring.keys == [ZERO] * len(card.chip.ring.keys)
        assert card.chip.ring.versions == [0] * len(card.chip.ring.keys)
        assert written(card) == "", (name, after, answer)


def test_torn_twice_and_in_both_directions():
    for first in range(commands_of(ntag424)):
        card = ntag424()
        for after, target in ((first, 1), (20, 0), (12, 1), (26, 0)):
            card.tear(after=after, answer="lost")
            written(card, target)
            card.comes_back()
        assert written(card) == ""
        assert proof_fails(card, "ntag424") is None


def test_keys_are_of_this_card_and_key_0_comes_last():
    card = ntag424()
    written(card)
    codes = [(c[1], c[5]) for c in card.chip.heard if c[1] in (0x5F, 0xC4)]

    assert codes == [(0x5F, 2), (0xC4, 1), (0xC4, 2), (0xC4, 3), (0xC4, 4), (0xC4, 0)]
    keys = card.chip.ring.keys
    assert card.chip.ring.versions == [1] * 5
    assert len({*keys, ZERO}) == 6
    uid = uid_of(card)
    assert keys[1] == doorpi.card_key(H(PROOF.door_key.text), uid, "ntag424", 1, 1)
    assert keys[0] == doorpi.card_key(H(PROOF.issuer_key.text), uid, "ntag424", 1, 0)


def test_file_2_is_for_key_0_alone_and_free_again_after_wipe():
    card = ntag424()
    written(card)
    assert card.chip.files[2].rights == (0xE, 0, 0, 0)
    written(card, 0)
    assert card.chip.files[2].rights == (0xE, 0xE, 0xE, 0)


def test_nothing_that_lasts_for_ever_is_sent():
    """SetConfiguration (random UID, LRP) and FormatPICC, and the card's own DES key."""
    for make, _ in CARDS.values():
        card = make()
        for target in (1, 0):
            written(card, target)
        assert not {0x5C, 0xFC, 0x54} & {command[1] for command in card.chip.heard}


# -- at the door


@pytest.fixture
def door(tmp_path):
    door = IssuingDoor(tmp_path)
    yield door
    door.equipment.close()


@pytest.mark.parametrize("name", CARDS)
def test_blank_card_becomes_a_key(door, name):
    make, proof = CARDS[name]
    card = make()
    door.order()
    assert door.lights.standing is Signal.ISSUING
    door.hold(card)

    assert door.verb.answers["one"].done
    assert door.listed == {uid_of(card): ("Ken Sato", proof, True)}
    assert door.lights.signals == [Signal.ISSUING, Signal.ENROLLED]
    assert door.verb.lines[1].endswith(f": {name}")
    assert len(door.verb.lines) == len(ring_of(card).keys) + 3
    (event,) = door.store.events.read()
    assert (event.reason, event.holder, event.uid) == (
        Change.ALLOW,
        "Ken Sato",
        uid_of(card),
    )
    assert door.store.events.noted(NoteKey.ISSUING) == {}

    door.hold(card)
    assert door.lock.sent, list(door.store.events.read())  # it opens

    ring_of(card).keys[1] = ZERO  # a copy of its number
    door.lock.sent.clear()
    door.hold(card)
    assert not door.lock.sent


@pytest.mark.parametrize("answer", ["delivered", "lost"])
@pytest.mark.parametrize("after", range(0, 39, 3))
def test_torn_card_is_not_listed_until_it_is_back(door, after, answer):
    card = ntag424()
    card.tear(after=after, answer=answer)
    door.order()
    door.hold(card)
    was_listed = bool(door.listed)
    assert was_listed == bool(door.verb.answers)
    if not was_listed:
        assert "moved" in door.verb.lines[-1]
        assert door.lights.standing is Signal.ISSUING
    card.comes_back()
    if not was_listed:
        door.hold(card)

    assert door.listed == {uid_of(card): ("Ken Sato", "ntag424", True)}
    assert door.verb.answers["one"].done


def test_torn_card_waits_for_a_later_order_and_is_known(door):
    card = ntag424()
    card.tear(after=20)
    door.order()
    door.hold(card)
    door.run(70)

    assert not door.verb.answers["one"].done
    assert door.listed == {}
    assert [*door.store.events.noted(NoteKey.ISSUING)] == [uid_of(card)]
    assert door.lights.standing is Signal.READY
    card.comes_back()
    door.order(name="two", holder="Mika Mori")
    door.hold(card)
    assert door.listed == {uid_of(card): ("Mika Mori", "ntag424", True)}


LISTED = Uid("04C1D2E3F4A5B6")
REFUSED = {
    "keys of somebody else": (foreign_ntag424, "neither those of a blank card"),
    "of another generation": (lambda: foreign_ntag424(version=7), "neither those"),
    "a phone": (lambda: plain_card("phone"), "random UID"),
    "a random UID": (lambda: ntag424(random_uid=True), "random"),
    "LRP": (lambda: ntag424(lrp=True), "in LRP mode"),
    "a plain card": (lambda: plain_card("ntag213"), "not a secure card"),
    "an unknown card": (lambda: plain_card("desfire"), "no NTAG 424 DNA or DESFire"),
    "on the list": (lambda: ntag424(LISTED), "already on the list, as Mika Mori"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_card_that_is_refused_in_words(tmp_path, name):
    door = IssuingDoor(tmp_path, config_of(card_of(LISTED, "Mika Mori")))
    make, words = REFUSED[name]
    card = make()
    door.order()
    door.hold(card)

    (answer,) = door.verb.answers.values()
    assert not answer.done
    assert words in answer.lines[0]
    assert door.listed == {}
    assert door.lights.signals == [Signal.ISSUING, Signal.DENIED]
    assert door.store.events.noted(NoteKey.ISSUING) == {}
    assert not door.lock.sent
    chip = getattr(card, "chip", None)
    assert chip is None or len(chip.tries) <= 1
    door.equipment.close()


def test_order_ends_when_its_time_is_up(door):
    door.order()
    door.run(61)
    door.hold(ntag424())

    assert not door.verb.answers["one"].done
    assert "time is up" in door.verb.answers["one"].lines[0]
    assert door.listed == {}
    assert door.lights.signals == [Signal.ISSUING, Signal.READY, Signal.DENIED]


def test_order_ends_when_its_verb_leaves(door):
    door.order()
    door.verb.has_left = True
    door.run(1.0)
    card = ntag424()
    door.hold(card)

    assert door.listed == {}
    assert card.chip.heard == []


def test_verb_that_leaves_while_the_card_is_written_tears_nothing(door):
    card = ntag424()
    card.waits = {0x60: 1}
    door.order()
    door.reader.card = card
    while len(door.verb.lines) < 4:
        door.run(0.01)
    door.verb.has_left = True
    door.run(2.0)

    assert door.listed == {uid_of(card): ("Ken Sato", "ntag424", True)}


def test_later_order_replaces_the_one_before(door):
    door.order(name="one", holder="Ken Sato")
    door.order(name="two", holder="Mika Mori")
    card = ntag424()
    door.hold(card)

    assert "replaced" in door.verb.answers["one"].lines[0]
    assert door.verb.answers["two"].done
    assert door.listed == {uid_of(card): ("Mika Mori", "ntag424", True)}


def test_card_at_the_door_is_written_while_the_loop_goes_on(door):
    """A step takes the reader much less than the second that the watchdog allows."""
    card, took_s = desfire(slow_s=0.05), []
    source = door.equipment.sources[0]

    class Timed(doorpi.InlineWorker):
        def submit(self, function):
            def timed():
                began = door.clock.monotonic()
                try:
                    return function()
                finally:
                    took_s.append(door.clock.monotonic() - began)

            return super().submit(timed)

    source.worker = Timed()
    door.order()
    door.hold(card, 6.0)

    assert door.verb.answers["one"].done
    assert sum(took_s) > 1.0
    assert max(took_s) < 0.6


def test_reader_looks_for_no_other_card_while_one_is_written(door):
    """A look would mute the field, and end the session with the card."""
    held, looks = HeldWorker(), []
    door.equipment.sources[0].worker = held
    door.order()
    door.reader.card = ntag424()
    while "one" not in door.verb.answers:
        door.running.step()
        if held.jobs:
            held.jobs.pop(0).run()
        if len(door.verb.lines) > 1:
            looks.append(door.reader.senses)

    assert door.verb.answers["one"].done
    assert len(looks) >= len(door.verb.lines)
    assert len({*looks[:-2]}) == 1, looks


OLD = Uid("0A0B0C0D")


def put(door, **changes) -> None:
    card = card_of(OLD, "Ken Sato", source=doorpi.Origin.DB, **changes)
    door.store.people.add_card(card, door.clock.now())


def test_replaced_card_of_the_list_is_switched_off(door):
    put(door, valid_until=NOON.date(), schedule="office-hours")
    door.order(replaces=OLD, valid_until=NOON.date(), schedule="office-hours")
    card = ntag424()
    door.hold(card)

    assert door.listed[OLD] == ("Ken Sato", "", False)
    assert door.listed[uid_of(card)] == ("Ken Sato", "ntag424", True)
    new = door.store.people.find(uid_of(card))
    assert (new.valid_until, new.schedule) == (NOON.date(), "office-hours")


def test_replaced_card_of_the_settings_is_blocked(tmp_path):
    door = IssuingDoor(tmp_path, config_of(card_of(OLD)))
    door.order(replaces=OLD)
    door.hold(ntag424())

    assert len(door.listed) == 1
    assert door.store.people.block_on(OLD, "").by == "nobi"
    assert door.store.people.block_on(Uid(""), "Ken Sato") is None
    door.equipment.close()


def test_card_that_is_listed_by_its_uid_alone_becomes_secure(door):
    card = ntag424()
    listed = card_of(uid_of(card), source=doorpi.Origin.DB)
    door.store.people.add_card(listed, door.clock.now())
    door.order(replaces=uid_of(card))
    door.hold(card)

    assert door.listed == {uid_of(card): ("Ken Sato", "ntag424", True)}


def test_new_card_lifts_the_block_on_its_holder(door):
    block = doorpi.Block("Ken Sato", NOON, "nobi")
    door.store.people.change_cards([], [], NOON, [block])
    door.order()
    door.hold(ntag424())

    assert door.store.people.blocks() == []


@pytest.mark.parametrize("name", CARDS)
def test_wiped_card_is_blank_and_on_no_list(door, name):
    card = CARDS[name][0]()
    door.order()
    door.hold(card)
    door.order(Wants.WIPE, holder="", name="two")
    door.hold(card)

    assert door.verb.answers["two"].done
    assert door.listed == {}
    assert set(ring_of(card).keys) == {ZERO}
    *_, event = door.store.events.read()
    assert (event.reason, event.uid) == (Change.REVOKE, uid_of(card))
    assert event.holder == "Ken Sato"
    assert door.store.events.noted(NoteKey.ISSUING) == {}


def test_card_is_off_the_list_before_it_is_wiped(door):
    card = ntag424()
    door.order()
    door.hold(card)
    card.tear(after=18)
    door.order(Wants.WIPE, holder="", name="two")
    door.hold(card)

    assert door.listed == {uid_of(card): ("Ken Sato", "ntag424", False)}
    assert ring_of(card).versions != [1] * 5
    card.comes_back()
    door.hold(card)
    assert door.verb.answers["two"].done
    assert door.listed == {}  # its number alone may be allowed again
    assert set(ring_of(card).keys) == {ZERO}


def test_card_that_was_revoked_is_issued_to_somebody_else(door):
    card = ntag424()
    door.order()
    door.hold(card)
    block = doorpi.Block("Ken Sato", NOON, "nobi", uid_of(card))
    door.store.people.change_cards([], [uid_of(card)], NOON, [block])

    door.order(name="two", holder="Mika Mori")
    door.hold(card)

    assert door.listed == {uid_of(card): ("Mika Mori", "ntag424", True)}
    assert door.store.people.blocks() == []


def test_wipe_leaves_other_cards_alone(door):
    put(door)
    for number, (card, words) in enumerate(
        (
            (ntag424(uid="04C1D2E3F4A5B6"), "by its UID alone"),
            (foreign_ntag424(), "neither those"),
            (desfire(), "91A0"),
        )
    ):
        if not number:
            listed = card_of(uid_of(card), source=doorpi.Origin.DB)
            door.store.people.add_card(listed, door.clock.now())
        before = dict(door.listed)
        door.order(Wants.WIPE, holder="", name=str(number))
        door.hold(card)
        assert words in door.verb.answers[str(number)].lines[0]
        assert door.listed == before
        assert not any(c[1] in (0xC4, 0x5F, 0xCA) for c in card.chip.heard)


def test_door_without_the_issuer_key_says_so(door, monkeypatch):
    keeper = door.running._keeper
    keeper.config = keeper.config._replace(proof=PROOF._replace(issuer_key=Secret()))
    card = ntag424()
    door.order()
    door.hold(card)

    assert "issuer_key" in door.verb.answers["one"].lines[0]
    assert card.chip.heard == []


def test_slow_disk_takes_no_time_from_the_card(door, monkeypatch):
    keep = door.store.events.keep

    def slowly(notes):
        door.clock.advance(2.0)
        keep(notes)

    monkeypatch.setattr(door.store.events, "keep", slowly)
    door.order()
    door.hold(ntag424(), 6.0)

    assert door.verb.answers["one"].done
    assert "moved" not in " ".join(door.verb.lines)


def test_plain_card_that_is_replaced_by_itself_is_no_secure_card(door):
    card = plain_card("ntag213")
    listed = card_of(uid_of(card), source=doorpi.Origin.DB)
    door.store.people.add_card(listed, door.clock.now())
    door.order(replaces=uid_of(card))
    door.hold(card)

    assert "not a secure card" in door.verb.answers["one"].lines[0]


def test_issuer_key_may_come_while_an_order_waits(tmp_path):
    door = IssuingDoor(tmp_path)
    keeper = door.running._keeper
    with_key, keeper.config = keeper.config, config_of()
    door.order()
    door.settings.renewed, door.settings.reload = with_key, True
    door.run(1.0)
    door.hold(ntag424())

    assert door.verb.answers["one"].done
    door.equipment.close()


def test_list_that_cannot_be_written_keeps_the_card_off_it(door, monkeypatch):
    def fail(*rest, **more):
        raise doorpi.StoreError("disk full")

    card = ntag424()
    with monkeypatch.context() as patch:
        patch.setattr(door.store.people, "change_cards", fail)
        door.order()
        door.hold(card)
        assert "disk full" in door.verb.answers["one"].lines[0]
        assert door.listed == {}
    door.order(name="two")
    door.hold(card)
    assert door.listed == {uid_of(card): ("Ken Sato", "ntag424", True)}


def test_intent_that_cannot_be_stored_changes_no_card(door, monkeypatch):
    def fail(*rest, **more):
        raise doorpi.StoreError("disk full")

    card = ntag424()
    monkeypatch.setattr(door.store.events, "keep", fail)
    door.order()
    door.hold(card)

    assert "disk full" in door.verb.answers["one"].lines[0]
    assert not any(command[1] in (0xC4, 0x5F) for command in card.chip.heard)


def test_order_of_another_version_is_refused(door):
    door.order()
    door.verb.orders.append(
        door.running._keeper.order._request._replace(id="two", identifier='["x"]')
    )
    door.run(0.1)
    door.hold(ntag424())

    assert "does not understand" in door.verb.answers["two"].lines[0]
    assert door.listed == {}


def test_no_key_is_in_any_output(door, tmp_path, caplog):
    caplog.set_level(0)
    card = ntag424()
    for number, cut in enumerate((9, 14, 20, 27, 33, 99)):
        card.tear(after=cut)
        door.order(name=str(number))
        door.hold(card)
        card.comes_back()
        door.run(60)
    door.hold(foreign_ntag424())
    secrets = [PROOF.door_key.text, PROOF.issuer_key.text]
    secrets += [key.hex() for key in ring_of(card).keys]
    shown = [caplog.text, repr(door.verb.answers), repr(door.verb.lines)]
    shown += [repr(list(door.store.events.read())), repr(PROOF), repr(door.running)]
    stored = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]

    assert uid_of(card) in door.listed
    for secret in secrets:
        for text in shown:
            assert secret.lower() not in text.lower()
        for content in stored:
            assert bytes.fromhex(secret) not in content
            assert secret.encode() not in content.lower()


def test_random_answers_are_refused(monkeypatch):
    """Whatever a card says at any command: refused, or moved, and nothing else."""
    dice, ends = random.Random(7), Counter[str]()
    for number in range(600):
        make, _ = CARDS[dice.choice([*CARDS])]
        card, at = make(), dice.randrange(40)
        honest = card.chip.command

        def command(apdu, honest=honest, card=card, at=at):
            answer = honest(apdu)
            if len(card.chip.heard) < at:
                return answer
            kind, size = dice.randrange(3), dice.choice([0, 1, 2, 7, 8, 16, 24, 32, 60])
            if kind == 0:
                return dice.randbytes(size) + b"\x91" + dice.choice([b"\0", b"\xaf"])
            return (
                answer[: dice.randrange(len(answer))]
                if kind == 1
                else dice.randbytes(size)
            )

        monkeypatch.setattr(card.chip, "command", command)
        ends[written(card, number % 2)] += 1

    assert ends.keys() <= {"", *doorpi.Reason}
    assert ends[doorpi.Reason.NO_PROOF] > 40
