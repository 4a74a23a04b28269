"""The emulated PN532: its frames, and its cards and faults as the door meets them."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import serial

import doorpi
from doorpi import Card, NfcReader, ReaderLost, Uid
from tests.fakes.cards import MODELS, card
from tests.fakes.pn532 import Pn532
from tests.helpers.chip import new_chip
from tests.helpers.processes import DoorProcess, open_files, wait_for, write_config

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture
def reader(chip):
    reader = NfcReader(chip.device)
    yield reader
    reader.close()


# -- the line, byte by byte


@pytest.fixture
def line(chip):
    with serial.Serial(str(chip.path), 115200, timeout=2) as line:
        yield line


FIRMWARE = "0000ff02fed4022a00"
ACK = "0000ff00ff00"
VERSION = "0000ff06fad50332010607e800"
ERROR = "0000ff01ff7f8100"

# As the user manual has them (6.2.1 and 7.2), checksums reckoned by hand.
DIALOGUES = {
    "a command": (FIRMWARE, ACK + VERSION),
    "a command behind zeros that wake": ("00" * 10 + FIRMWARE, ACK + VERSION),
    "a command behind 55s that wake": ("55" * 16 + FIRMWARE, ACK + VERSION),
    "an extended frame": ("0000ffffff0002fed4022a00", ACK + VERSION),
    "a NACK: the answer again": (FIRMWARE + "0000ffff0000", ACK + VERSION * 2),
    "a wrong length checksum": ("0000ff02ffd4022a00" + FIRMWARE, ACK + VERSION),
    "a wrong checksum": ("0000ff02fed4022b00" + FIRMWARE, ACK + VERSION),
    "noise without a start": ("deadbeef" + FIRMWARE, ACK + VERSION),
    "an unknown command": ("0000ff02fed4999300", ACK + ERROR),
    "parameters missing": ("0000ff02fed44ae200", ACK + ERROR),
    "the empty field": ("0000ff04fcd44a0100e100", ACK + "0000ff03fdd54b00e000"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "heard"), DIALOGUES.values(), ids=DIALOGUES)
def test_the_chip_speaks_as_the_manual_says(line, said, heard):
    line.write(bytes.fromhex(said))

    assert line.read(len(heard) // 2).hex() == heard


# -- cards


def shown_by(model: str) -> tuple[str, str, int]:
    """UID, ATQA and SAK that a model must show."""
    details = MODELS[model]
    usual = {8: "0400", 14: "4400", 20: "8400"}[len(details["uid"])]
    return details["uid"], details.get("atqa", usual), details.get("sak", 0)


FIXED = [name for name, details in MODELS.items() if not details.get("random")]


@pytest.fixture(params=["pty", "udp"])
def field(request):
    """Each field that cards can be put into."""
    if request.param == "udp":
        return request.getfixturevalue("radio")
    return request.getfixturevalue("chip")


@pytest.fixture
def door_reader(field):
    reader = NfcReader(field.device)
    yield reader
    reader.close()


def test_the_door_reads_every_model_in_each_field(field, door_reader):
    read = {}
    for model in FIXED:
        field.put(card(model))
        read[model] = door_reader.sense()
        assert field.wait_until_read(1)

    def expected(model):
        uid, atqa, sak = shown_by(model)
        return Card(Uid(uid), atqa=bytes.fromhex(atqa), sak=sak)

    assert read == {model: expected(model) for model in FIXED}


def test_a_door_in_another_process_reads_its_cards(tmp_path, cloud, chip):
    config = write_config(tmp_path, cloud, chip.device)

    with DoorProcess(config).until_ready() as door:
        granted = door.tap(chip, "04A93C715ED284")
        denied = door.tap(chip, "04C1D2E3F4A5B6")

    assert (granted.holder, granted.decision) == ("Ken Sato", "granted")
    assert (denied.uid, denied.decision) == ("04C1D2E3F4A5B6", "denied")


@pytest.mark.parametrize("model", ["phone", "phone-p2p"])
def test_a_phone_has_a_new_uid_at_each_look_in_each_field(field, door_reader, model):
    field.put(card(model))

    uids = {door_reader.sense().uid for _ in range(5)}

    assert len(uids) == 5
    assert all(doorpi.is_random(uid) for uid in uids)


def test_a_field_counts_looks_and_is_empty_when_the_card_is_taken(field, door_reader):
    field.put(card("ntag213"))
    assert door_reader.sense()
    assert field.polls == 1

    field.take()

    assert door_reader.sense() is None
    assert field.polls == 2


@pytest.mark.parametrize("frames", range(5))
def test_a_card_that_leaves_in_the_middle_is_no_card(chip, reader, frames):
    chip.put(card("ntag213", frames=frames))

    assert reader.sense() is None
    chip.put(card("ntag213", frames=5))
    assert reader.sense().uid == "04A93C715ED284"
    assert reader.sense() is None


def test_card_held_briefly_is_read_and_then_missing(chip, reader, clock):
    chip.put(hasty := card("classic", stays_s=0.03, monotonic=clock.monotonic))

    assert [reader.sense().uid for _ in range(2)] == 2 * ["D3C2B1A0"]

    clock.advance(0.03)
    assert hasty.is_gone
    assert reader.sense() is None


# -- faults, as the door sees them

#: Fault, after how many commands of a look (there are four), and how it is ended.
DOOR_FAULTS = {
    "hang_up": range(4),
    "mute": range(4),
    "ack_only": (0, 0, 0, 2),  # nfcpy would wait a second for the list of cards
    "garbage": range(4),
    "short_answers": range(4),
    "error_frames": range(4),
}


def when_lost(reader: NfcReader) -> str:
    """Look for a card until the reader is lost; what it says then."""
    for _ in range(3):
        try:
            reader.sense()
        except ReaderLost as lost:
            return str(lost)
    return "still there"


def is_read(chip: Pn532, reader: NfcReader) -> bool:
    try:
        return reader.sense() == Card(Uid("04A93C715ED284"), atqa=b"\x44\x00", sak=0)
    except ReaderLost:  # nfcpy waits 0.1 s, and the computer may be busy
        chip.reset()
        return False


def lost_and_found(fault: str, cycles: int) -> set[str]:
    """A reader that is lost and read again ``cycles`` times, and what it said."""
    said, devices = set(), []
    with closing(new_chip()) as chip, closing(NfcReader(chip.device)) as reader:
        chip.put(card("ntag213"))
        for after in itertools.islice(itertools.cycle(DOOR_FAULTS[fault]), cycles):
            wait_for(lambda: is_read(chip, reader), "the card is read", 3)
            devices.append(reader._frontend.device)  # no collector closes it
            getattr(chip, fault)(after=after)
            said.add(when_lost(reader).replace(chip.device, "it"))
            chip.reset()
            chip.plug_in()
        wait_for(lambda: is_read(chip, reader), "the card is read", 3)
    assert [device for device in devices if is_open(device)] == []
    return said


def is_open(device) -> bool:
    tty = getattr(device.chipset.transport, "tty", None)
    return tty is not None and tty.is_open


USUAL_WORDS = {
    "hang_up": "it: input/output error",
    "mute": "it: input/output error",
    "ack_only": "it: connection timed out",
    "garbage": "it: input/output error",
    "short_answers": "it: bytearray index out of range",
    "error_frames": "it: Invalid command syntax - received error frame",
}


def test_every_fault_loses_the_reader_and_no_file_ten_times_over():
    """All faults at once, each with a chip of its own: most of it is waiting."""
    lost_and_found("mute", 1)  # what Python and nfcpy open once
    files, threads = open_files(), threading.active_count()

    with ThreadPoolExecutor(len(DOOR_FAULTS)) as hands:
        said = list(hands.map(lambda fault: lost_and_found(fault, 10), DOOR_FAULTS))

    for words, usual in zip(said, USUAL_WORDS.values(), strict=True):
        assert usual in words  # a busy computer adds others
        assert "still there" not in words
    assert (open_files(), threading.active_count()) == (files, threads)
