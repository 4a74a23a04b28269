"""Cards byte by byte, from waking to what they say once they are selected.

One table for both fields: `virtual.VirtualField` (nfcpy's udp driver) and `pn532.Pn532`
(nfcpy's PN532 driver on a pty) show a card the same frames, without check bytes (CRC_A).

    radio.put(card("ntag213"))
    radio.put(card("classic", uid="01020304", frames=2))    # leaves in the middle
    radio.put(card("desfire", stays_s=0.03))                # a hasty hand
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf

from tests.fakes.virtual import VirtualCard

#: Hears each frame and says its answer; None is silence, and so is everything after its
#: end, until the card is woken again.
Talk = Generator[bytes | None, bytes, None]

NAK = b"\x00"  # four bits on the air
NOT_ALLOWED = b"\x04"  # MIFARE Classic's, to whoever is not authenticated
HALT = b"\x50\x00"


@dataclass
class ByteCard(VirtualCard):
    """A card that goes on after selection, and may leave.

    It is gone for good after ``frames`` frames of the reader (REQA is the first), or
    ``stays_s`` after the first.  ``atqa`` is in air order; without it, the usual one.
    """

    atqa: bytes = b""
    speaks: Callable[[bytes], Talk] | None = None
    frames: float = inf
    stays_s: float = inf
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._talk: Talk | None = None
        self._leaves_at = inf

    @property
    def is_gone(self) -> bool:
        return self.frames <= 0 or self.monotonic() >= self._leaves_at

    def wake(self) -> bytes:
        if not self._hears():
            return b""
        self._talk = None
        usual = super().wake()
        return self.atqa or usual

    def answer(self, frame: bytes) -> bytes | None:
        if not self._hears():
            return None
        if self._talk is not None:
            try:
                return self._talk.send(frame)
            except StopIteration:
                return None
        answer = super().answer(frame)
        if answer is not None and frame[1:2] == b"\x70" and not answer[0] & 0x04:
            self._talk = (self.speaks or silent)(self.uid)
            next(self._talk)
        return answer

    def _hears(self) -> bool:
        if self.is_gone:
            return False
        self.frames -= 1
        if self._leaves_at == inf:
            self._leaves_at = self.monotonic() + self.stays_s
        return True


# -- what they say once they are selected


def silent(uid: bytes) -> Talk:
    while True:
        yield None


def classic(uid: bytes) -> Talk:
    """Says no to whatever is not an authentication, once, and sleeps."""
    frame = yield None
    if frame != HALT:
        yield NOT_ALLOWED


def ntag213(uid: bytes) -> Talk:
    """Source: NXP NTAG213/215/216 data sheet, 8.5 (memory), 10.1 (GET_VERSION), 10.2
    (READ: four pages, around the end); after a NAK it sleeps (8.4)."""
    memory = bytearray(45 * 4)
    first = uid[:3] + bytes([0x88 ^ uid[0] ^ uid[1] ^ uid[2]])
    check = uid[3] ^ uid[4] ^ uid[5] ^ uid[6]
    memory[:16] = first + uid[3:] + bytes([check, 0x48, 0, 0]) + b"\xe1\x10\x12\x00"
    memory[16:20] = b"\x03\x00\xfe\x00"  # an empty NDEF message
    frame = yield None
    while frame != HALT:
        if frame == b"\x60":
            frame = yield bytes.fromhex("0004040201000f03")
        elif len(frame) == 2 and frame[0] == 0x30 and frame[1] < 45:
            frame = yield bytes((memory * 2)[frame[1] * 4 :][:16])
        else:
            yield NAK
            return


NO_SUCH_FILE = b"\x6a\x82"


def no_such_file(number: int) -> bytes:
    return bytes([0x02 | number]) + NO_SUCH_FILE


def wait_longer(number: int) -> bytes:
    """S(WTX): ask for more time, whatever the question was."""
    return b"\xf2\x01"


def more_to_come(number: int) -> bytes:
    """An I-block with the chaining bit."""
    return bytes([0x12 | number]) + bytes(32)


def iso_dep(
    ats: str = "0578807000", says: Callable[[int], bytes] = no_such_file
) -> Callable[[bytes], Talk]:
    """A card with blocks, that answers each command as ``says``.

    Source: ISO/IEC 14443-4, 7.5.3: the card's block number begins at 1 and becomes that
    of each I-block (rule D), and turns with each R-block that has the other (rule E);
    R(NAK) with the other number is met with R(ACK) (rule 12), with its own, or R(ACK)
    with its own, by the last block again (rule 11).
    """

    def speak(uid: bytes) -> Talk:
        frame = yield None
        if frame[:1] != b"\xe0":  # RATS
            return
        number, last = 1, bytes.fromhex(ats)
        answer = last
        while (frame := (yield answer))[:1] != b"\xc2":  # S(DESELECT)
            pcb = frame[0]
            answer, number = _block(pcb, number, last, says)
            if pcb & 0xF6 != 0xB2:
                last = answer
        yield frame

    return speak


def _block(
    pcb: int, number: int, last: bytes, says: Callable[[int], bytes]
) -> tuple[bytes, int]:
    """The card's answer to a block, and its number from then on."""
    is_other = pcb & 1 != number
    if pcb & 0xE2 == 0x02:  # I-block
        number = pcb & 1
        return (bytes([0xA2 | number]) if pcb & 0x10 else says(number)), number
    if pcb & 0xF6 == 0xB2 and is_other:  # R(NAK): are you there?
        return bytes([0xA2 | number]), number
    if pcb & 0xF6 == 0xA2 and is_other:  # R(ACK): go on
        return says(number ^ 1), number ^ 1
    return (says(number) if pcb == 0xF2 else last), number  # S(WTX) granted


#: What there is at doors.  NFC-DEP itself (ATR_REQ) is left out: no door asks for it.
MODELS = {
    "uid-only": {"uid": "04C1D2E3F4A5B6", "speaks": silent},
    "classic": {"uid": "D3C2B1A0", "sak": 0x08, "speaks": classic},
    "classic-4k": {"uid": "5A31C702", "sak": 0x18, "atqa": "0200", "speaks": classic},
    "classic-7": {"uid": "04118833445566", "sak": 0x08, "speaks": classic},
    "ntag213": {"uid": "04A93C715ED284", "speaks": ntag213},
    "desfire": {"uid": "04112233445566", "sak": 0x20, "atqa": "4403", "speaks": iso_dep("067577810280")},
    "ten-bytes": {"uid": "04112233445566778899", "sak": 0x20, "speaks": iso_dep()},
    "short-ats": {"uid": "0455AA55AA55AA", "sak": 0x20, "speaks": iso_dep("01")},
    "long-ats": {"uid": "04AA55AA55AA55", "sak": 0x20, "speaks": iso_dep("1478807002" + "80318065b0" + "0102030405060708" + "9000")},
    "phone": {"uid": "08000000", "sak": 0x20, "random": True, "speaks": iso_dep()},
    "nfc-dep": {"uid": "B4C3D2A1", "sak": 0x40, "speaks": silent},
    "phone-p2p": {"uid": "08000000", "sak": 0x60, "random": True, "speaks": iso_dep()},
    "endless-wait": {"uid": "04DEAD00000001", "sak": 0x20, "speaks": iso_dep(says=wait_longer)},
    "endless-chain": {"uid": "04DEAD00000002", "sak": 0x20, "speaks": iso_dep(says=more_to_come)},
}  # fmt: skip


def card(model: str, **changes) -> ByteCard:
    """A new card of ``MODELS``; ``uid`` and ``atqa`` may be given in hex."""
    details = MODELS[model] | changes
    for key in ("uid", "atqa"):
        if isinstance(details.get(key), str):
            details[key] = bytes.fromhex(details[key])
    return ByteCard(**details)
