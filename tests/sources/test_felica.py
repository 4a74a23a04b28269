"""FeliCa: Suica, PASMO and phones by their IDm, on the radio field and the PN532."""

from __future__ import annotations

import socket

import pytest

import doorpi
from doorpi import Card, ConfigError, NfcReader, Uid, is_random, parse_config, parse_uid
from tests.fakes.cards import card
from tests.fakes.virtual import FelicaCard, VirtualCard
from tests.helpers.processes import wait_for as until
from tests.helpers.world import KEN

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

SUICA = Uid("01120312BE0B1C2D")
SUICA_CARD = FelicaCard(bytes.fromhex(SUICA))
PHONE = VirtualCard(b"\x08\x11\x22\x33", 0x20)


@pytest.fixture(params=["pty", "udp"])
def field(request):
    return request.getfixturevalue("radio" if request.param == "udp" else "chip")


@pytest.fixture
def reader(field):
    reader = NfcReader(field.device, types=("A", "F"))
    yield reader
    reader.close()


def seen(reader: NfcReader, looks: int = 4) -> set[Card | None]:
    return {reader.sense() for _ in range(looks)}


def test_the_idm_is_the_identifier_at_each_look(field, reader):
    field.put(SUICA_CARD)

    assert seen(reader) == {Card(SUICA)}


def test_cards_of_type_a_are_read_as_before(field, reader):
    ntag = card("ntag213")
    field.put(ntag)

    assert {found.uid for found in seen(reader)} == {Uid(ntag.uid.hex().upper())}


def test_a_phone_is_known_by_its_idm_and_not_by_its_random_uid(field, reader):
    field.put(PHONE, SUICA_CARD)

    assert seen(reader) == {Card(SUICA)}


def test_an_empty_field_has_no_card(field, reader):
    assert seen(reader) == {None}


def test_a_reader_for_type_a_does_not_look_for_felica(field):
    field.put(SUICA_CARD)
    reader = NfcReader(field.device)

    assert seen(reader) == {None}
    reader.close()


def test_a_reader_for_felica_alone_does_not_look_for_type_a(field):
    field.put(VirtualCard(bytes.fromhex(KEN)))
    reader = NfcReader(field.device, types=("F",))

    assert seen(reader) == {None}
    reader.close()


class Strange(FelicaCard):
    """Answers a poll with something that is no SENSF_RES."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(b"")
        self.answer = answer

    def poll(self, request: bytes) -> bytes:
        return self.answer


@pytest.mark.parametrize("answer", [b"", b"\x01", b"\x01" + bytes(7), b"\xff" * 3])
def test_an_answer_that_is_none_is_no_card(chip, answer):
    chip.put(Strange(answer))
    reader = NfcReader(chip.device, types=("F",))

    assert seen(reader) == {None}
    reader.close()


def bytes_of_a_look(chip, types: tuple[str, ...], *cards: object) -> float:
    """On the line of a PN532, per look."""
    chip.put(*cards)
    reader = NfcReader(chip.device, types=types)
    reader.sense()
    chip.traffic.clear()
    for _ in range(10):
        reader.sense()
    reader.close()
    looks = [size for name, size in chip.traffic if name != "Diagnose"]
    return sum(looks) / 10


@pytest.mark.parametrize("cards", [(), (card("ntag213"),)], ids=["empty", "type A"])
def test_a_look_for_both_takes_at_most_twice_the_bytes(chip, cards):
    alone = bytes_of_a_look(chip, ("A",), *cards)
    both = bytes_of_a_look(chip, ("A", "F"), *cards)

    assert alone < both <= 2 * alone


def test_the_polls_are_those_of_the_standard(chip):
    """SENSF_REQ: any system code, which is asked for, one time slot.  Source: NFC Forum
    Digital Protocol, 6.6.1; UM0701-02, 7.3.5."""
    asked = []
    list_target = chip.COMMANDS[0x4A][1]

    def noted(self, data):
        asked.append(data.hex())
        return list_target(self, data)

    chip.COMMANDS = chip.COMMANDS | {0x4A: ("InListPassiveTarget", noted)}
    reader = NfcReader(chip.device, types=("A", "F"))
    reader.sense()
    reader.sense()
    reader.close()

    assert asked == ["010100ffff0100", "0100", "010200ffff0100", "0100"]


# -- as identifiers


def test_an_idm_is_an_identifier_like_a_uid():
    assert parse_uid("01:12:03:12:be:0b:1c:2d") == SUICA
    config = parse_config(
        f'[reader]\ntypes = ["A", "F"]\n[lock]\nkind = "relay"\n[[card]]\nuid = "{SUICA}"\n'
        'holder = "Ken Sato"\n'
    )
    assert config.cards[SUICA].holder == "Ken Sato"
    assert config.readers[0].types == ("A", "F")


@pytest.mark.parametrize(
    ("uid", "is_it"),
    [("01FE1444EFB88FD5", True), (SUICA, False), ("0101FE1444EFB88F", False)],
)
def test_the_idm_of_a_peer_is_random(uid, is_it):
    assert is_random(Uid(uid)) is is_it


@pytest.mark.parametrize("types", ["[]", '["B"]', '["A", "f"]', '"A"', "[1]", "[[]]"])
def test_other_types_are_reported(types):
    with pytest.raises(ConfigError) as caught:
        parse_config(f'[reader]\ntypes = {types}\n[lock]\nkind = "relay"\n')

    assert [each.partition(" ")[0].rstrip(":") for each in caught.value.problems] == [
        "reader.types"
    ]


def is_bound(address) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        probe.settimeout(0.05)
        try:
            probe.send(b"?")
            probe.recv(1)
        except ConnectionRefusedError:
            return False
        except TimeoutError:
            return True


def test_tap_presents_a_felica_card():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    found = []
    shown = doorpi.start_thread(
        lambda: found.append(doorpi.show_card(bytes.fromhex(SUICA), address, 5.0)),
        "tap",
    )
    reader = NfcReader(f"udp:{address[0]}:{address[1]}", types=("A", "F"))
    until(lambda: is_bound(address), "the card")  # before that, a look lasts a second

    assert reader.sense() == Card(SUICA)

    shown.join()
    reader.close()
    assert found == [True]
