"""Cards that misbehave, by name, each with the right keys but for what its name says.

    field.put(rogue("endless-wait", uid=KEN, keys={1: (key, 1)}))
    field.put(random_rogue(4711, uid=KEN))

An honest NTAG 424 whose answers are spoilt: a door that is content with too little opens.
Behind the answers to RATS of `ATS` the card may be honest: such a one may be granted.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fakes.cards import ByteCard, card
from tests.fakes.secure_cards import NTAG_ATS, SecureCard, desfire, ntag424
from tests.fakes.virtual import GARBLED

#: The frame's number (RATS is 0), the frame, the honest answer; None is silence.
Spoil = Callable[[int, bytes, bytes | None], bytes | None]


def _always(block: Callable[[int], bytes]) -> Callable[[], Spoil]:
    """After RATS, the same for every frame, by the number of its block."""

    def spoil(number, frame, honest):
        return honest if number == 0 else block(frame[0] & 1 if frame else 0)

    return lambda: spoil


def _each(change: Callable[[bytes], bytes | None]) -> Callable[[], Spoil]:
    """Every answer after RATS, changed."""

    def spoil(number, frame, honest):
        return honest if number == 0 or honest is None else change(honest)

    return lambda: spoil


def _at(place: int, change: Callable[[bytes, bytes], bytes | None]):
    """The answer to one frame, made from the frame and the honest one."""

    def spoil(number, frame, honest):
        if number != place or honest is None:
            return honest
        return change(frame, honest)

    return lambda: spoil


def _from(place: int, block: bytes | None) -> Callable[[], Spoil]:
    return lambda: lambda number, frame, honest: honest if number < place else block


def _replay() -> Spoil:
    """The first presentation is honest; then its answers are given again."""
    recorded: dict[int, bytes | None] = {}

    def spoil(number, frame, honest):
        return recorded.setdefault(number, honest)

    return spoil


def _wait_then(silence: bytes | None) -> Callable[[], Spoil]:
    def spoil(number, frame, honest):
        if number == 0:
            return honest
        return silence if frame[:1] == b"\xf2" else b"\xf2\x3b"

    return lambda: spoil


def _resized(by: int) -> Callable[[bytes], bytes]:
    """Longer or shorter before the status, whose two bytes stay."""

    def change(honest):
        body = honest[:-2]
        body = body[:by] if by < 0 else body + bytes(by)
        return (body or honest[:1]) + honest[-2:]

    return change


I_BLOCK, CHAINING, ACK, NAK = 0x02, 0x12, 0xA2, 0xB2

#: None of these may open the door.
ROGUES: dict[str, Callable[[], Spoil]] = {
    # without end
    "endless-wait": _always(lambda n: b"\xf2\x01"),
    "endless-long-wait": _always(lambda n: b"\xf2\x3b"),
    "endless-wait-by-the-power-bits": _always(lambda n: b"\xf2\xc1"),
    "endless-wait-of-0": _always(lambda n: b"\xf2\x00"),
    "endless-wait-of-63": _always(lambda n: b"\xf2\x3f"),
    "endless-wait-without-a-number": _always(lambda n: b"\xf2"),
    "endless-wait-and-more": _always(lambda n: b"\xf2\x01\x01"),
    "endless-chain": _always(lambda n: bytes([CHAINING | n]) + bytes(32)),
    "endless-chain-of-nothing": _always(lambda n: bytes([CHAINING | n])),
    "endless-chain-of-253": _always(lambda n: bytes([CHAINING | n]) + bytes(253)),
    "endless-chain-of-one-number": _always(lambda n: bytes([CHAINING]) + bytes(16)),
    "endless-ack": _always(lambda n: bytes([ACK | n])),
    "endless-ack-of-the-other-number": _always(lambda n: bytes([ACK | n ^ 1])),
    "endless-nak": _always(lambda n: bytes([NAK | n])),
    "endless-nak-of-the-other-number": _always(lambda n: bytes([NAK | n ^ 1])),
    "endless-more": _always(lambda n: bytes([I_BLOCK | n]) + bytes(16) + b"\x91\xaf"),
    "wait-then-silence": _wait_then(None),
    "wait-then-nothing": _wait_then(b""),
    # blocks that are none of ours
    "other-number": _each(lambda honest: bytes([honest[0] ^ 1]) + honest[1:]),
    "with-a-cid": _each(lambda honest: bytes([honest[0] | 0x08, 0]) + honest[1:]),
    "with-a-nad": _each(lambda honest: bytes([honest[0] | 0x04, 0]) + honest[1:]),
    "chaining-bit": _each(lambda honest: bytes([honest[0] | 0x10]) + honest[1:]),
    "pcb-rfu": _each(lambda honest: bytes([honest[0] | 0x20]) + honest[1:]),
    "pcb-0": _each(lambda honest: b"\x00" + honest[1:]),
    "pcb-ff": _each(lambda honest: b"\xff" + honest[1:]),
    "deselects": _always(lambda n: b"\xc2"),
    "parameters": _always(lambda n: b"\xd0"),
    "s-block-rfu": _always(lambda n: b"\xf0\x01"),
    "echo": lambda: lambda number, frame, honest: honest if number == 0 else frame,
    "ats-again": _always(lambda n: NTAG_ATS),
    # wrong lengths
    "empty": _always(lambda n: b""),
    "pcb-alone": _always(lambda n: bytes([I_BLOCK | n])),
    "half-a-status": _always(lambda n: bytes([I_BLOCK | n, 0x91])),
    "status-alone": _each(lambda honest: honest[:1] + honest[-2:]),
    "9100-alone": _always(lambda n: bytes([I_BLOCK | n, 0x91, 0x00])),
    "9000-alone": _always(lambda n: bytes([I_BLOCK | n, 0x90, 0x00])),
    "91af-alone": _always(lambda n: bytes([I_BLOCK | n, 0x91, 0xAF])),
    "no-status": _each(lambda honest: honest[:-2]),
    "cut-by-1": _each(lambda honest: honest[:-1]),
    **{
        f"part-{part}-{'longer' if by > 0 else 'shorter'}-by-{abs(by)}": _at(
            part + 1, lambda frame, honest, by=by: _resized(by)(honest)
        )
        for part in (1, 2)
        for by in (-16, -1, 1, 16, 200)
    },
    # answers that prove nothing
    "proof-of-zeros": _at(3, lambda frame, honest: honest[:1] + bytes(32) + b"\x91\x00"),
    "own-question-back": _at(3, lambda frame, honest: honest[:1] + frame[6:38] + b"\x91\x00"),
    "challenge-of-zeros": _at(2, lambda frame, honest: honest[:1] + bytes(16) + b"\x91\xaf"),
    "one-bit-wrong": _at(3, lambda frame, honest: honest[:6] + bytes([honest[6] ^ 1]) + honest[7:]),
    "proof-under-91af": _at(3, lambda frame, honest: honest[:-1] + b"\xaf"),
    "proof-under-9000": _at(3, lambda frame, honest: honest[:-2] + b"\x90\x00"),
    "proof-under-91ae": _at(3, lambda frame, honest: honest[:-2] + b"\x91\xae"),
    "challenge-under-9100": _at(2, lambda frame, honest: honest[:-1] + b"\x00"),
    "refuses-the-select": _at(1, lambda frame, honest: honest[:1] + b"\x6a\x82"),
    # the air
    "garbled": _always(lambda n: GARBLED),
    **{f"silent-from-frame-{n}": _from(n, None) for n in range(4)},
    **{f"empty-from-frame-{n}": _from(n, b"") for n in range(4)},
}  # fmt: skip

#: Other answers to RATS: lengths that lie, and all of them from 0 to 255.
ATS: dict[str, bytes] = {
    **{f"length-{n}": (bytes([n, 0x78, 0x80, 0x70, 0x02]) + bytes(251))[:n] for n in range(256)},
    "too-short-for-its-length": bytes.fromhex("067777"),
    "longer-than-its-length": NTAG_ATS + bytes(20),
    "length-0-said": b"\x00" + NTAG_ATS[1:],
    "length-255-said": b"\xff" + NTAG_ATS[1:],
    "no-interface-bytes": bytes.fromhex("0208"),
    "promises-ta-tb-tc": bytes.fromhex("0278"),
    "tb-alone": bytes.fromhex("032871"),
    "fwi-14": bytes.fromhex("067777e10280"),
    "fwi-15": bytes.fromhex("067777ff0280"),
    "sfgi-14": bytes.fromhex("0677777e0280"),
    "frames-of-16": bytes.fromhex("067077710280"),
    "frames-of-rfu": bytes.fromhex("067f77710280"),
    "an-i-block": bytes.fromhex("029000"),
}  # fmt: skip


def rogue(name: str, **of: object) -> SecureCard:
    """A new one; ``of``: as for `ntag424`."""
    return ntag424(rogue=ROGUES[name](), **of)


def replaying(**of: object) -> SecureCard:
    """Honest when it is first presented; then it says the same."""
    return ntag424(rogue=_replay(), **of)


def ats_rogue(name: str, *, then_silent: bool = False, **of: object) -> SecureCard:
    """An honest card, or a silent one, behind another answer to RATS."""

    def spoil(number, frame, honest):
        if number == 0:
            return ATS[name]
        return None if then_silent else honest

    return ntag424(rogue=spoil, **of)


def random_rogue(seed: int, **of: object) -> SecureCard:
    """Says whatever comes to its mind; about half of it in the form of a block."""
    chance = random.Random(seed)

    def block(frame: bytes, honest: bytes | None) -> bytes | None:
        number = frame[0] & 1 if frame else 0
        size = chance.choice((0, 1, 2, 3, 16, 18, 19, 32, 34, 35, 60, 253))
        status = chance.choice(
            (b"\x91\xaf", b"\x91\x00", b"\x90\x00", chance.randbytes(2))
        )
        return chance.choice(
            (
                honest,
                bytes([I_BLOCK | number]) + chance.randbytes(size) + status,
                bytes([CHAINING | number]) + chance.randbytes(size),
                bytes([chance.choice((ACK, NAK)) | chance.getrandbits(1)]),
                b"\xf2" + chance.randbytes(chance.randint(0, 2)),
                chance.randbytes(size),
                None,
            )
        )

    def spoil(number, frame, honest):
        if number == 0 and chance.random() < 0.8:
            return honest
        return block(frame, honest if number < 3 else None)

    return ntag424(rogue=spoil, **of)


def phone(sak: int = 0x20) -> ByteCard:
    """A new number at each look, and no application for us."""
    return card("phone" if sak == 0x20 else "phone-p2p")


def copy_of(uid: str, kind: str = "ntag213") -> ByteCard:
    """A cheap card with another's number: of ``MODELS``, or a blank ``ntag424`` or
    ``desfire``, which answer everything, with factory keys."""
    if kind == "ntag424":
        return ntag424(uid)
    if kind == "desfire-aes":
        return desfire("EV2", uid, aid="D00D01")
    return card(kind, uid=uid)
