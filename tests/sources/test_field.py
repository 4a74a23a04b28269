"""The virtual radio field, at the level of its datagrams."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from doorpi import show_card, type_a_answers
from tests.fakes.virtual import VirtualCard, VirtualField


class Poll:
    """A reader's end of the field, on a socket of its own."""

    def __init__(self, radio: VirtualField) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", radio.port))
        self.socket.settimeout(2)

    def raw(self, datagram: bytes) -> None:
        self.socket.send(datagram)

    def ask(self, frame: str) -> str | None:
        """The field's answer to one frame; None if there is none within 2 s."""
        self.raw(f"106A {frame}".encode())
        return self.answer()

    def ask_early(self, frame: str) -> str | None:
        """None as well where nobody listens yet."""
        with contextlib.suppress(ConnectionRefusedError):
            return self.ask(frame)
        return None

    def answer(self) -> str | None:
        try:
            datagram = self.socket.recv(4096)
        except TimeoutError:
            return None
        technology, _, data = datagram.partition(b" ")
        assert technology == b"106A"
        return data.decode()

    def is_silent_at(self, frame: str) -> bool:
        """True when the answer that comes next is the one to a later poll: the field
        answers in order, so that no time need pass."""
        self.raw(f"106A {frame}".encode())
        self.raw(b"106A 26")
        return self.answer() in SENS_RES


SENS_RES = ("", "0400", "4400", "8400")  # an empty field and each size of UID


@pytest.fixture
def poll(radio):
    poll = Poll(radio)
    yield poll
    poll.socket.close()


def card(uid: str, **details) -> VirtualCard:
    return VirtualCard(bytes.fromhex(uid), **details)


# Each exchange as ISO/IEC 14443-3 has it; check bytes reckoned by hand.
CONVERSATIONS = {
    "4 bytes, SAK 08": (
        card("D3C2B1A0", sak=0x08),
        [("26", "0400"), ("9320", "d3c2b1a000"), ("9370d3c2b1a000", "08")],
    ),
    "7 bytes, SAK 00": (
        card("04A93C715ED284"),
        [
            ("26", "4400"),
            ("9320", "8804a93c19"), ("93708804a93c19", "04"),
            ("9520", "715ed28479"), ("9570715ed28479", "00"),
        ],
    ),
    "10 bytes, SAK 20": (
        card("04112233445566778899", sak=0x20),
        [
            ("26", "8400"),
            ("9320", "88041122bf"), ("937088041122bf", "04"),
            ("9520", "88334455aa"), ("957088334455aa", "04"),
            ("9720", "6677889900"), ("97706677889900", "20"),
        ],
    ),
    "waking a halted card": (
        card("D3C2B1A0"),
        [("52", "0400"), ("9320", "d3c2b1a000")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_card_answers_anticollision_as_the_standard_says(radio, poll, name):
    shown, exchange = CONVERSATIONS[name]
    radio.put(shown)

    answers = [poll.ask(asked) for asked, _ in exchange]

    assert answers == [answer for _, answer in exchange]


def test_an_empty_field_answers_with_no_data(poll):
    assert poll.ask("26") == ""


SILENCE = {
    "a level that the UID has not": "9520",
    "a select with a wrong check byte": "9370d3c2b1a001",
    "a select of another card": "9370d3c2b1a100",
    "a select cut short": "9370d3c2",
    "a split anticollision, as with two cards": "9330d3",
    "a command of a selected card": "3000",
    "HALT": "5000",
    "an unknown command": "ff",
}


@pytest.mark.parametrize("frame", SILENCE.values(), ids=SILENCE)
def test_a_card_is_silent_at(radio, poll, frame):
    radio.put(card("D3C2B1A0"))
    assert poll.ask("26") == "0400"

    assert poll.is_silent_at(frame)


GARBAGE = {
    "nothing at all": b"",
    "a space": b" ",
    "no frame": b"106A",
    "an empty frame": b"106A ",
    "odd hex": b"106A 2",
    "not hex": b"106A xyz",
    "not ASCII": b"106A \xff\xfe",
    "binary": bytes(range(256)),
    "zeros": bytes(64),
    "the field goes off": b"RFOFF",
    "another technology": b"106B 26",
    "a technology of no reader": b"999Z 26",
    "huge": b"106A " + b"26" * 30_000,
}


@pytest.mark.parametrize("datagram", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_ignored_and_the_next_poll_is_answered(radio, poll, datagram):
    radio.put(card("04A93C715ED284"))
    poll.raw(datagram)

    assert poll.ask("26") == "4400"
    assert poll.ask("9320") == "8804a93c19"


# -- the card of `tap`


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_card_of_tap_answers_as_well(name):
    shown, exchange = CONVERSATIONS[name]
    answers = type_a_answers(shown.uid)

    said = [answers[asked] for asked, _ in exchange]

    last = "00" if len(exchange[-1][1]) == 2 else exchange[-1][1]
    assert said == [*(answer for _, answer in exchange[:-1]), last]


@pytest.mark.parametrize("frame", SILENCE.values(), ids=SILENCE)
def test_the_card_of_tap_is_silent_at(frame):
    assert frame not in type_a_answers(bytes.fromhex("D3C2B1A0"))


def test_the_card_of_tap_is_there_until_it_was_read():
    radio = VirtualField()
    address = ("127.0.0.1", radio.port)
    radio.close()
    with ThreadPoolExecutor() as pool:
        poll = Poll(radio)
        shown = pool.submit(show_card, bytes.fromhex("04A93C715ED284"), address, 5.0)
        with contextlib.closing(poll.socket):
            while poll.ask_early("26") is None:
                assert not shown.done()
            for datagram in GARBAGE.values():
                poll.raw(datagram)
            exchange = CONVERSATIONS["7 bytes, SAK 00"][1]

            answers = [poll.ask(asked) for asked, _ in exchange]

        assert answers == [answer for _, answer in exchange]
        assert shown.result(5) is True


def test_card_of_tap_without_a_reader_is_not_read():
    assert show_card(bytes(4), ("127.0.0.1", 0), within_s=0.01) is False
