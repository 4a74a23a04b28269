"""A reader without radio: cards byte by byte before a door on fake ports."""

from __future__ import annotations

from typing import Any

import doorpi
from doorpi import Card, Credential, NoAnswer, Secret, Uid, card_key
from tests.fakes.cards import ByteCard
from tests.fakes.secure_cards import Air, SecureCard, desfire, ntag424
from tests.helpers.world import KEN, FakeClock, World, config_of

MASTER = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
DOOR_KEY = Secret(MASTER.hex(), "door.key")
PROOF = doorpi.ProofConfig(door_key=DOOR_KEY)


def kens_card(uid: str = KEN, generation: int = 1, **more: Any) -> SecureCard:
    """An NTAG 424 that this door has issued, as far as a tap sees."""
    key = card_key(MASTER, Uid(uid), "ntag424", generation)
    return ntag424(uid, {1: (key, generation)}, **more)


def kens_desfire(model: str = "EV2", uid: str = KEN, **more: Any) -> SecureCard:
    key = card_key(MASTER, Uid(uid), "desfire", 1)
    keys = {1: (key, 1)}
    return desfire(model, uid, aid="D00D01", count=2, keys=keys, **more)


class AirReader:
    """Shows ``card``, if there is one; ``frames`` are those since the last look."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.card = clock, None
        self.air: Air | None = None
        self.all_frames: list[bytes] = []
        self.broken: Exception | None = None
        self.senses = self.closed = 0

    card: ByteCard | None

    def sense(self) -> Card | None:
        self.senses += 1
        if self.broken and self.all_frames:
            raise self.broken
        self.air = Air(self.card, self.clock) if self.card else None
        if self.card is None or self.air is None or not self.air.is_there:
            return None
        return Card(Uid(self.card.uid.hex().upper()), self.card.atqa, self.card.sak)

    def exchange(self, frame: bytes, timeout_s: float) -> bytes:
        assert self.air is not None
        self.all_frames.append(frame)
        if self.broken:
            raise self.broken
        try:
            return self.air.exchange(frame, timeout_s)
        except (TimeoutError, ValueError) as error:
            raise NoAnswer(str(error)) from None

    def close(self) -> None:
        self.closed += 1

    @property
    def challenges(self) -> int:
        """How often an authentication was begun."""
        begun = (b"\x71", b"\xaa")
        return sum(frame[2:3] in begun for frame in self.all_frames)


class Doorway:
    """A door on fake ports whose reader speaks with cards."""

    def __init__(self, world: World) -> None:
        self.world, self.reader = world, AirReader(world.clock)

    def open(
        self, *cards: Credential, proof: doorpi.ProofConfig = PROOF, **door: Any
    ) -> doorpi.Door:
        """A new door, with ``cards`` in its file."""
        config = config_of(*cards, **door)._replace(proof=proof)
        self.world.reader = self.reader
        self.door = self.world.door(config)
        self.door._keeper.check_conditions()
        return self.door

    def tap(self, card: ByteCard) -> doorpi.Event | None:
        """Present ``card`` and take it away; the last event."""
        self.reader.card = card
        for _ in range(3):
            self.door.step()
        self.reader.card = None
        while not self.door.is_idle:
            self.door.step()
        self.world.clock.advance(2.0)
        for _ in range(12):
            self.door.step()
        return next(reversed(list(self.events())), None)

    def events(self) -> list[doorpi.Event]:
        kept = self.world.store.events
        return list(kept.values() if isinstance(kept, dict) else kept.read())
