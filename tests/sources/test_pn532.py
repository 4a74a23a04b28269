"""The PN532 on a pty and its cards: as true as nfcpy and the door can tell."""

from __future__ import annotations

import errno
import itertools
import os
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import serial

import doorpi
from doorpi import Card, NfcReader, ReaderLost, Uid
from tests.fakes.cards import MODELS, card
from tests.fakes.pn532 import Pn532, frame_of, take_frame
from tests.helpers.chip import new_chip
from tests.helpers.processes import DoorProcess, wait_for, write_config

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

nfc = doorpi._nfcpy()
TYPE_A = nfc.clf.RemoteTarget("106A")


@pytest.fixture
def reader(chip):
    reader = NfcReader(chip.device)
    yield reader
    reader.close()


def abandon(frontend) -> None:
    """As when its process is killed: the port is closed, the chip hears nothing."""
    device, frontend.device = frontend.device, None
    if device is not None and device.chipset.transport.tty is not None:
        device.chipset.transport.tty.close()


@pytest.fixture
def raw(chip, monkeypatch):
    """nfcpy itself on an open port, without what the door changes in it."""
    monkeypatch.setattr(nfc.clf.pn532, "os", os)
    monkeypatch.delattr(nfc.clf.transport, "open", raising=False)
    frontend = nfc.ContactlessFrontend(chip.device)
    yield frontend
    abandon(frontend)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def trouble(action) -> str:
    """What an action raises, in short: its kind and its number."""
    try:
        action()
    except (OSError, termios.error) as error:
        number = errno.errorcode.get(error.args[0], "")
        return f"{type(error).__qualname__} {number}".strip()
    except Exception as error:
        return type(error).__qualname__
    return ""


def attempt(chip) -> str:
    """What nfcpy raises when it opens the port; nothing when it could."""
    frontends = []
    raised = trouble(lambda: frontends.append(nfc.ContactlessFrontend(chip.device)))
    for frontend in frontends:
        abandon(frontend)
    return raised


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


def test_an_ack_from_the_host_ends_the_command(chip, line):
    chip.latency_s, line.timeout = 0.5, 0.8
    line.write(bytes.fromhex(FIRMWARE))
    assert line.read(6).hex() == ACK

    line.write(bytes.fromhex(ACK))

    assert line.read(1) == b""
    chip.latency_s = 0.0
    line.write(bytes.fromhex("0000ff05fbd4140100001700"))
    assert line.read(15).hex() == ACK + "0000ff02fed5151600"


@pytest.mark.parametrize("length", [1, 2, 254, 255, 256, 264])
def test_frames_of_every_length_are_read_as_written(length):
    data = b"\xd4" * length
    buffer = bytearray(b"\x00" * 3 + frame_of(data) + b"\x00\x00")

    for end in range(len(buffer) - 4):  # cut short, it waits
        assert take_frame(buffer[:end]) is None
    assert take_frame(buffer) == (4, data)


# -- cards


def test_nfcpy_opens_it_as_a_pn532(chip, raw):
    assert raw.device.chipset_name == "PN532v1.6"
    assert chip.commands == {
        "GetFirmwareVersion": 2, "SAMConfiguration": 1, "SetSerialBaudrate": 1,
        "Diagnose": 1, "SetParameters": 1, "RFConfiguration": 8,
    }  # fmt: skip
    assert chip.baud == 921600


def shown_by(model: str) -> tuple[str, str, int]:
    """UID, ATQA and SAK that a model must show."""
    details = MODELS[model]
    usual = {8: "0400", 14: "4400", 20: "8400"}[len(details["uid"])]
    return details["uid"], details.get("atqa", usual), details.get("sak", 0)


FIXED = [name for name, details in MODELS.items() if not details.get("random")]


@pytest.mark.parametrize("model", FIXED)
def test_nfcpy_senses(chip, raw, model):
    chip.put(card(model))

    found = raw.sense(TYPE_A)

    shown = found.sdd_res.hex().upper(), found.sens_res.hex(), found.sel_res[0]
    assert shown == shown_by(model)


ACTIVATED = {
    "uid-only": "Type2Tag 'Mifare Ultralight (MF01CU1)' ID=04C1D2E3F4A5B6",
    "classic": "Type2Tag ID=D3C2B1A0",
    "classic-4k": "Type2Tag ID=5A31C702",
    "ntag213": "Type2Tag 'NXP NTAG213' ID=04A93C715ED284",
    "desfire": "Type4ATag MIU=61 FWT=0.077329",
    "ten-bytes": "Type4ATag MIU=253 FWT=0.038664",
    "long-ats": "Type4ATag MIU=253 FWT=0.038664",
    "phone": "Type4ATag MIU=253 FWT=0.038664",
    "phone-p2p": "Type4ATag MIU=253 FWT=0.038664",
    "nfc-dep": "None",
}


@pytest.mark.parametrize("model", ACTIVATED)
def test_nfcpy_activates(chip, raw, model):
    chip.put(card(model))

    tag = nfc.tag.activate(raw, raw.sense(TYPE_A))

    assert str(tag) == ACTIVATED[model]


PRESENT = {"uid-only": False, "classic": False, "ntag213": True, "desfire": True}


@pytest.mark.parametrize("model", PRESENT)
def test_nfcpys_presence_check_finds(chip, raw, model):
    """Of MIFARE Classic it says at once that it has gone: nfcpy's READ is refused."""
    chip.put(card(model))
    tag = nfc.tag.activate(raw, raw.sense(TYPE_A))

    assert tag.is_present is PRESENT[model]
    chip.take()
    assert not tag.is_present


def test_a_short_ats_breaks_nfcpy(chip, raw):
    chip.put(card("short-ats"))
    found = raw.sense(TYPE_A)

    assert trouble(lambda: nfc.tag.activate(raw, found)) == "IndexError"


def test_an_iso_dep_card_knows_no_file(chip, raw):
    chip.put(card("desfire"))
    tag = nfc.tag.activate(raw, raw.sense(TYPE_A))

    answers = [
        tag.send_apdu(0, 0xA4, 4, 0, b"\x01" * size, check_status=False)
        for size in (7, 200)  # the longer one in four blocks
    ]

    assert answers == [b"\x6a\x82"] * 2


# The conversation of a selected card, without check bytes; "" is silence.
TALKS = {
    "uid-only": [("3000", ""), ("60", ""), ("e080", "")],
    "classic": [("3000", "04"), ("3000", "")],
    "classic-4k": [("5000", ""), ("3000", "")],
    "ntag213": [
        ("60", "0004040201000f03"),
        ("3000", "04a93c19715ed284" + "79480000" + "e1101200"),
        ("3004", "0300fe00" + "00" * 12),
        ("302c", "00" * 4 + "04a93c19715ed28479480000"),  # goes on at page 0
        ("302d", "00"), ("60", ""),
    ],
    "desfire": [
        ("e050", "067577810280"),
        ("b2", "a3"),  # its number begins at 1: it is there
        ("0200a40400", "026a82"), ("0300a40400", "036a82"),
        ("b3", "036a82"),  # say it again
        ("b2", "a3"),
        ("1200a4", "a2"), ("0304", "036a82"),  # a question in two blocks
        ("c2", "c2"), ("0200a40400", ""),
    ],
    "short-ats": [("e080", "01"), ("0200a40400", "026a82")],
    "long-ats": [("e080", "147880700280318065b001020304050607089000")],
    "nfc-dep": [("e080", "")],
    "endless-wait": [("e080", "0578807000"), ("0200a40400", "f201"), *[("f201", "f201")] * 50],
    "endless-chain": [
        ("e080", "0578807000"), ("0200a40400", "12" + "00" * 32),
        *[("a3", "13" + "00" * 32), ("a2", "12" + "00" * 32)] * 50,
    ],
}  # fmt: skip


def select(shown) -> None:
    shown.wake()
    for level in (b"\x93", b"\x95", b"\x97")[: len(shown.uid) // 3]:
        shown.answer(level + b"\x70" + shown.answer(level + b"\x20"))


@pytest.mark.parametrize("model", TALKS)
def test_a_selected_card_says(model):
    shown = card(model)
    select(shown)

    said = [
        (shown.answer(bytes.fromhex(asked)) or b"").hex() for asked, _ in TALKS[model]
    ]

    assert said == [answer for _, answer in TALKS[model]]


def test_a_card_that_was_woken_again_begins_anew():
    shown = card("classic")
    for _ in range(3):
        select(shown)
        assert shown.answer(b"\x30\x00") == b"\x04"
        assert shown.answer(b"\x30\x00") is None


@pytest.mark.parametrize("model", ["endless-wait", "endless-chain"])
def test_an_endless_card_goes_on_for_as_long_as_nfcpy_listens(chip, raw, model):
    chip.put(card(model))
    tag = nfc.tag.activate(raw, raw.sense(TYPE_A))
    talk = threading.Thread(
        target=lambda: trouble(lambda: tag.send_apdu(0, 0xA4, 4, 0, check_status=False))
    )
    before = chip.commands["InCommunicateThru"]

    talk.start()

    wait_for(lambda: chip.commands["InCommunicateThru"] > before + 40, "40 exchanges")
    assert talk.is_alive()
    chip.hang_up()
    talk.join(10)
    assert not talk.is_alive()


def test_the_real_chip_would_ask_for_the_ats_itself(chip, line):
    """Until nfcpy takes that from it with SetParameters."""
    chip.put(card("short-ats"))

    line.write(frame_of(bytes.fromhex("d44a0100")))

    target = "01" + "0044" + "20" + "07" + "0455AA55AA55AA".lower() + "01"
    expected = frame_of(bytes.fromhex("d54b01" + target))
    assert line.read(6 + len(expected))[6:] == expected


# Of InCommunicateThru after the card was listed: with check bytes reckoned by the chip,
# as after a list, and without, as nfcpy wants it for Type 2 tags.
THROUGH = {
    "an answer": ("ntag213", "60", "00" + "0004040201000f03", "00" + "0004040201000f03" + "8091"),
    "four bits": ("classic", "3000", "02", "0004"),
    "silence": ("uid-only", "3000", "01", "01"),
    "a short ATS": ("short-ats", "e080", "0001", "0001" + "7740"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "asked", "checked", "plain"), THROUGH.values(), ids=THROUGH
)
def test_check_bytes_are_the_chips_or_the_hosts(
    chip, line, model, asked, checked, plain
):
    def ask(data: str) -> str:
        line.write(frame_of(bytes.fromhex("d4" + data)))
        assert line.read(6).hex() == ACK
        head = line.read(5)
        return line.read(head[3] + 2)[2:-2].hex()

    chip.put(card(model))
    ask("1200")  # no automatic RATS
    ask("3202000b01")  # 0.1 ms for an answer

    assert ask("4a0100")[:2] == "01"
    assert ask("42" + asked) == checked
    assert ask("4a0100")[:2] == "01"
    ask("08630300")  # CIU_RxMode
    assert ask("42" + asked) == plain


def test_two_cards_collide_and_the_same_one_wins_each_time(chip, raw):
    chip.put(card("classic", uid="01000000"), card("classic", uid="02000000"))

    seen = {raw.sense(TYPE_A).sdd_res.hex() for _ in range(5)}

    assert seen == {"01000000"}  # bit by bit, lowest first


def test_two_cards_may_be_shown_in_turn(chip, raw):
    chip.in_turn = True
    chip.put(card("classic"), card("ntag213"))

    seen = [raw.sense(TYPE_A).sdd_res.hex().upper() for _ in range(4)]

    assert sorted(seen[:2]) == ["04A93C715ED284", "D3C2B1A0"]
    assert seen[2:] == seen[:2]


def test_a_wanted_card_is_found_among_others(chip, raw):
    chip.put(card("classic"), card("ntag213"), card("ten-bytes"))

    for uid in ("D3C2B1A0", "04A93C715ED284", "04112233445566778899"):
        wanted = nfc.clf.RemoteTarget("106A", sel_req=bytearray.fromhex(uid))
        assert raw.sense(wanted).sdd_res.hex().upper() == uid
    wanted = nfc.clf.RemoteTarget("106A", sel_req=bytearray.fromhex("D3C2B1A1"))
    assert raw.sense(wanted) is None


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


def test_nfcpy_looks_for_another_kind_of_card_when_one_answers_and_no_more(chip, raw):
    """It asks the chip for its last byte: 26 if nothing answered that."""
    assert raw.sense(TYPE_A) is None
    assert chip.commands["InListPassiveTarget"] == 1

    chip.put(card("ntag213", frames=1))

    assert raw.sense(TYPE_A) is None
    assert chip.commands["InListPassiveTarget"] == 3
    assert chip.senses == 2


def test_a_card_that_left_says_nothing():
    left = card("ntag213", frames=1)
    assert left.wake() == b"\x44\x00"

    assert left.answer(b"\x93\x20") is None
    assert left.wake() == b""
    assert left.is_gone


@pytest.mark.parametrize("frames", range(5))
def test_a_card_that_leaves_in_the_middle_is_no_card(chip, reader, frames):
    chip.put(card("ntag213", frames=frames))

    assert reader.sense() is None
    chip.put(card("ntag213", frames=5))
    assert reader.sense().uid == "04A93C715ED284"
    assert reader.sense() is None


def test_a_card_in_a_hasty_hand_is_there_and_gone(chip, reader, clock):
    chip.put(hasty := card("classic", stays_s=0.03, monotonic=clock.monotonic))

    assert [reader.sense().uid for _ in range(2)] == 2 * ["D3C2B1A0"]

    clock.advance(0.03)
    assert hasty.is_gone
    assert reader.sense() is None


# -- faults, as nfcpy shows them

#: What sense, close and then open raise: what the door is built to live with.
RAW_FAULTS = {
    "hang-up": ("hang_up", {}, "error EIO", "error EIO", "OSError ENODEV"),
    "hang-up in a command": ("hang_up", {"after": 1}, "OSError EIO", "error EIO", "OSError ENODEV"),
    "hang-up in an answer": ("hang_up", {"after_bytes": 8}, "SerialException", "error EIO", "OSError ENODEV"),
    "mute": ("mute", {}, "OSError EIO", "", "TimeoutError ETIMEDOUT"),
    "mute in an answer": ("mute", {"after_bytes": 8}, "IndexError", "", "TimeoutError ETIMEDOUT"),
    "ACK only": ("ack_only", {}, "TimeoutError ETIMEDOUT", "", "TimeoutError ETIMEDOUT"),
    "ACK only in a list": ("ack_only", {"after": 1}, "TimeoutError ETIMEDOUT", "", "TimeoutError ETIMEDOUT"),
    "noise": ("garbage", {}, "OSError EIO", "", "OSError ENODEV"),
    "2 bytes": ("short_answers", {}, "IndexError", "IndexError", "IndexError"),
    "error frame": ("error_frames", {}, "Chipset.Error", "Chipset.Error", "OSError ENODEV"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "when", "at_sense", "at_close", "at_open"),
    RAW_FAULTS.values(),
    ids=RAW_FAULTS,
)
def test_nfcpy_raises(chip, raw, fault, when, at_sense, at_close, at_open):
    device = raw.device
    chip.put(card("ntag213"))
    assert raw.sense(TYPE_A)

    getattr(chip, fault)(**when)

    assert trouble(lambda: raw.sense(TYPE_A)) == at_sense
    assert trouble(raw.close) == at_close
    assert (raw.device is None) is (at_close == "")  # left behind, with its files
    chip.baud = 115200  # another trap, of its own
    if line := device.chipset.transport.tty:  # left open, and the port locked by it
        line.close()
    assert attempt(chip) == at_open


CURES = {
    "a cure": lambda chip: chip.cure(),
    "a reset": lambda chip: chip.reset(),
    "a new plug": lambda chip: (chip.hang_up(), chip.plug_in()),
}


@pytest.mark.parametrize("end", CURES.values(), ids=CURES)
@pytest.mark.parametrize("fault", ["mute", "garbage"])
def test_a_fault_ends_with(chip, reader, fault, end):
    getattr(chip, fault)()
    with pytest.raises(ReaderLost):
        reader.sense()

    end(chip)

    assert reader.sense() is None


@pytest.mark.parametrize("end", ["a reset", "a new plug"])
def test_a_stubborn_fault_does_not_end_with(chip, reader, end):
    chip.mute(stubborn=True)

    CURES[end](chip)

    with pytest.raises(ReaderLost):
        reader.sense()
    chip.cure()
    assert reader.sense() is None


def test_a_reset_is_counted_and_sets_the_speed(chip):
    chip.baud = 921600

    chip.reset()
    chip.reset()

    assert (chip.resets, chip.baud) == (2, 115200)


def test_a_port_that_has_gone_has_no_name_until_it_comes_back(chip):
    gone = chip.path.resolve()

    chip.hang_up()
    assert not chip.path.is_symlink()
    chip.plug_in()

    assert chip.path.resolve().exists()
    assert chip.path.resolve().parent == gone.parent


def test_a_slow_chip_is_waited_for(chip, raw):
    chip.put(card("ntag213"))
    chip.latency_s = 0.03
    began_at = time.monotonic()

    assert raw.sense(TYPE_A)

    assert time.monotonic() - began_at >= 4 * 0.03  # field off, list, read, write


def test_an_answer_that_is_too_late_is_never_heard(chip, raw):
    chip.latency_s = 5.0
    assert trouble(lambda: raw.sense(TYPE_A)) == "TimeoutError ETIMEDOUT"

    chip.latency_s = 0.0
    chip.put(card("ntag213"))

    assert raw.sense(TYPE_A).sdd_res.hex() == "04a93c715ed284"


# -- the speed


def test_a_chip_that_was_left_at_921600_baud_is_not_opened_again(chip, raw):
    """nfcpy #203, #63: the process was killed; no number of attempts helps."""
    assert raw.sense(TYPE_A) is None
    abandon(raw)
    assert chip.baud == 921600

    assert [attempt(chip) for _ in range(2)] == ["TimeoutError ETIMEDOUT"] * 2
    chip.reset()
    assert attempt(chip) == ""


@pytest.mark.parametrize("noise", [False, True])
def test_a_chip_at_another_speed_hears_nothing(chip, noise):
    chip.baud = 460800
    chip.noise_at_wrong_speed = noise
    with serial.Serial(str(chip.path), 115200, timeout=0.1) as line:
        line.write(bytes.fromhex(FIRMWARE))
        assert bool(line.read(1)) is noise

        line.baudrate = 460800
        line.reset_input_buffer()
        line.write(bytes.fromhex(FIRMWARE))

        assert line.read(19).hex() == ACK + VERSION
    assert chip.commands == {"GetFirmwareVersion": 1}


def test_the_speed_changes_with_the_hosts_ack(chip, line):
    line.write(frame_of(b"\xd4\x10\x05"))
    assert line.read(15).hex() == ACK + "0000ff02fed5111a00"
    line.write(bytes.fromhex(FIRMWARE))
    assert line.read(19).hex() == ACK + VERSION
    assert chip.baud == 115200

    line.write(bytes.fromhex(ACK))

    wait_for(lambda: chip.baud == 230400, "the new speed")


def test_a_host_whose_ack_was_flushed_is_heard_at_the_new_speed(chip, line):
    """pyserial flushes what it has written when it closes; a UART has sent it by then."""
    line.write(frame_of(b"\xd4\x10\x05"))
    assert line.read(15).hex() == ACK + "0000ff02fed5111a00"

    line.baudrate = 230400
    line.write(bytes.fromhex(FIRMWARE))

    assert line.read(19).hex() == ACK + VERSION
    assert chip.baud == 230400


def test_a_polite_close_leaves_it_asleep_at_115200(chip, raw):
    raw.close()

    assert (chip.baud, chip.commands["PowerDown"]) == (115200, 1)
    assert attempt(chip) == ""


def test_some_chips_are_deaf_after_power_down_until_a_reset(chip, raw):
    """nfcpy #186: what its close() sends last."""
    chip.deaf_after_power_down = True

    raw.close()

    assert attempt(chip) == "TimeoutError ETIMEDOUT"
    chip.reset()
    assert attempt(chip) == ""


def test_a_sleeping_chip_loses_a_command_without_bytes_to_wake_it(chip, line):
    line.write(frame_of(b"\xd4\x16\x10"))
    assert line.read(16).hex() == ACK + "0000ff03fdd517001400"
    line.timeout = 0.05

    line.write(bytes.fromhex(FIRMWARE))

    assert line.read(1) == b""
    line.write(bytes.fromhex(FIRMWARE))
    assert line.read(19).hex() == ACK + VERSION


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


def test_every_fault_loses_the_reader_and_no_file_thirty_times_over():
    """All faults at once, each with a chip of its own: most of it is waiting."""
    lost_and_found("mute", 1)  # what Python and nfcpy open once
    files, threads = open_files(), threading.active_count()

    with ThreadPoolExecutor(len(DOOR_FAULTS)) as hands:
        said = list(hands.map(lambda fault: lost_and_found(fault, 30), DOOR_FAULTS))

    for words, usual in zip(said, USUAL_WORDS.values(), strict=True):
        assert usual in words  # a busy computer adds others
        assert "still there" not in words
    assert (open_files(), threading.active_count()) == (files, threads)
