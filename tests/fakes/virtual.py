"""A radio field with cards in it, on the loopback interface."""

from __future__ import annotations

import random
import socket
import threading
from dataclasses import dataclass

import doorpi

#: What comes of an answer whose check bytes are wrong when it reaches the reader.
GARBLED = b"garbled on the air"


@dataclass(slots=True)
class VirtualCard:
    """A Type A card as far as anticollision goes; ``uid`` 4, 7 or 10 bytes.

    ``random`` cards answer each poll with a new UID of the kind phones use.
    """

    uid: bytes
    sak: int = 0x00
    random: bool = False

    def wake(self) -> bytes:
        """Answer REQA: the ATQA, in air order, whose upper bits tell the UID's size."""
        if self.random:
            self.uid = b"\x08" + random.randbytes(3)
        return bytes([0x04 | doorpi.TYPE_A_BYTES.index(len(self.uid)) << 6, 0x00])

    def answer(self, frame: bytes) -> bytes | None:
        """Answer an anticollision or select frame; None is silence.

        Source: ISO/IEC 14443-3, 6.5: 93/95/97 name the cascade level, 20 asks for
        its four bytes and their check byte, 70 selects; bit 3 of the SAK says that
        the UID goes on at the next level.
        """
        parts = self._parts()
        level = {0x93: 0, 0x95: 1, 0x97: 2}.get(frame[0] if frame else 0, 9)
        if level >= len(parts):
            return None
        part = parts[level]
        checked = part + bytes([part[0] ^ part[1] ^ part[2] ^ part[3]])
        if frame[1:] == b"\x20":
            return checked
        if frame[1:] == b"\x70" + checked:
            return bytes([0x04 if level + 1 < len(parts) else self.sak])
        return None

    def _parts(self) -> list[bytes]:
        """The UID in fours, each but the last behind the cascade tag 88."""
        uid = self.uid
        tagged = [b"\x88" + uid[i : i + 3] for i in range(0, len(uid) - 4, 3)]
        return [*tagged, uid[-4:]]


@dataclass(slots=True)
class FelicaCard:
    """A FeliCa card (or a phone that is one) as far as polling goes; ``idm`` 8 bytes."""

    idm: bytes

    def poll(self, request: bytes) -> bytes:
        """Answer a SENSF_REQ.  Source: NFC Forum Digital Protocol, 6.6.1: 01, NFCID2 and
        PAD, and the system code where the request asks for it (RC 1)."""
        return b"\x01" + self.idm + bytes(8) + b"\x88\xb4" * (request[3:4] == b"\x01")


class VirtualField:
    """A radio field that nfcpy's ``udp:`` driver looks into, on a socket of its own.

    Cards are put and taken from any thread.  With several in the field each poll
    meets the next one in turn.  An empty field answers a poll at once with nothing,
    as a real reader does; without that nfcpy waits a second for it.

    One datagram carries one frame: ``106A 26``; ``RFOFF`` when the field goes off.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        self.device = f"udp:{host}:{self.port}"
        self.polls = 0
        self._cards: list[VirtualCard | FelicaCard] = []
        self._selected: VirtualCard | None = None
        self._guard = threading.Lock()
        self._was_read = threading.Event()
        self._closing = False
        self._thread = doorpi.start_thread(self._serve, "field")

    def put(self, *cards: VirtualCard | FelicaCard) -> None:
        """Hold ``cards`` into the field, in place of any that are there."""
        with self._guard:
            self._was_read.clear()
            self._cards = list(cards)
            self._selected = None

    def take(self) -> None:
        with self._guard:
            self._cards = []
            self._selected = None

    def wait_until_read(self, timeout_s: float) -> bool:
        """True once a reader has selected a card since the last ``put``."""
        return self._was_read.wait(timeout_s)

    def close(self) -> None:
        self._closing = True
        self._socket.sendto(b"", self._socket.getsockname())  # wakes the thread
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing:
            try:
                datagram, sender = self._socket.recvfrom(1024)
            except TimeoutError:
                continue
            technology, _, frame = datagram.partition(b" ")
            if technology in (b"212F", b"424F"):
                answer = self._poll_felica(bytes.fromhex(frame.decode())[1:])
                self._socket.sendto(technology + b" " + answer.hex().encode(), sender)
                continue
            if technology != b"106A":
                continue
            try:
                answer = self._answer(bytes.fromhex(frame.decode()))
            except ValueError:  # noise: a card stays silent
                continue
            if answer is not None and answer is not GARBLED:
                self._socket.sendto(b"106A " + answer.hex().encode(), sender)

    def _poll_felica(self, request: bytes) -> bytes:
        with self._guard:
            found = [card for card in self._cards if isinstance(card, FelicaCard)]
            if not found:
                return b""
            self._was_read.set()
            answer = found[0].poll(request)
            return bytes([len(answer) + 1]) + answer

    def _answer(self, frame: bytes) -> bytes | None:
        with self._guard:
            if frame in (b"\x26", b"\x52"):  # REQA, WUPA
                self.polls += 1
                cards = [card for card in self._cards if isinstance(card, VirtualCard)]
                if not cards:
                    return b""
                self._selected = cards[self.polls % len(cards)]
                return self._selected.wake()
            if self._selected is None:
                return None
            answer = self._selected.answer(frame)
            if answer is not None and len(answer) == 1 and not answer[0] & 0x04:
                self._was_read.set()
            return answer
