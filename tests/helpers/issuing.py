"""A door that issues secure cards: real bytes between it and an emulated card."""

from __future__ import annotations

import json
from pathlib import Path

import doorpi
from doorpi import AccessRequest, Answer, Card, Config, Medium, Secret, Uid, Wants
from tests.fakes.cards import ByteCard
from tests.fakes.secure_cards import Air
from tests.helpers.world import FakeClock, World, config_of

DOOR_KEY, ISSUER_KEY = (
    "00112233445566778899aabbccddeeff",
    "f0e1d2c3b4a5968778695a4b3c2d1e0f",
)
PROOF = doorpi.ProofConfig(
    door_key=Secret(DOOR_KEY, "door.key"), issuer_key=Secret(ISSUER_KEY, "issuer.key")
)


class AirReader:
    """A reader with one card in its field, or none."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.card = clock, None
        self.air: Air | None = None
        self.looks = 0

    def sense(self) -> Card | None:
        self.looks += 1
        self.air = Air(self.card, self.clock) if self.card else None
        if self.air is None or not self.air.is_there:
            return None
        return Card(uid_of(self.card), self.card.atqa, self.card.sak)

    def exchange(self, frame: bytes, timeout_s: float) -> bytes:
        assert self.air is not None
        try:
            return self.air.exchange(frame, timeout_s)
        except (TimeoutError, ValueError) as error:
            raise doorpi.NoAnswer(str(error)) from None

    def close(self) -> None: ...


def uid_of(card: ByteCard) -> Uid:
    return Uid(card.uid.hex().upper())


class Verb(doorpi.Source):
    """Who gives an order, and what it hears of it; it leaves when ``has_left``."""

    due = float("inf")

    def __init__(self) -> None:
        self.worker = doorpi.InlineWorker()
        self.orders: list[AccessRequest] = []
        self.lines: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.has_left = False

    def poll(self, now: float) -> AccessRequest | None:
        return self.orders.pop(0) if self.orders else None

    def report(self, request, lines) -> bool:
        self.lines = list(lines)
        return not self.has_left

    def answer(self, request, answer) -> None:
        self.answers[request.id] = answer

    def close(self) -> None: ...


class IssuingDoor(World):
    """The door, its store on disk, a verb and cards."""

    def __init__(self, folder: Path, config: Config | None = None) -> None:
        super().__init__()
        self.store = doorpi.SqliteStore(folder / "doorpi.db")
        self.reader = AirReader(self.clock)
        self.verb = Verb()
        config = config or config_of()
        self.running = self.door(config._replace(proof=PROOF))
        self.equipment.sources = [*self.equipment.sources, self.verb]
        self.equipment.new_order = doorpi.Order

    def source(self, config: Config) -> doorpi.CardSource:
        source = super().source(config)
        source._prove = doorpi.Prover(PROOF.door_key, self.clock.monotonic).prove
        return source

    def order(
        self, wants=Wants.ISSUE, holder="Ken Sato", replaces="", name="one", **limits
    ) -> None:
        days = limits.get("valid_from"), limits.get("valid_until")
        wish = ["nobi", holder, *days, limits.get("schedule"), replaces]
        now = self.clock.monotonic()
        self.verb.orders.append(
            AccessRequest(
                Medium.COMMAND,
                json.dumps(wish, default=str),
                self.clock.now(),
                now,
                now + 60.0,
                wants,
                id=name,
            )
        )
        self.run(0.1)

    def run(self, seconds: float) -> None:
        ends_at = self.clock.monotonic() + seconds
        while self.clock.monotonic() < ends_at:
            self.running.step()

    def hold(self, card: ByteCard, seconds: float = 2.0) -> None:
        """Hold a card to the reader, and take it away."""
        self.reader.card = card
        self.run(seconds)
        self.reader.card = None
        self.run(1.0)

    @property
    def listed(self) -> dict[Uid, tuple[str, str, bool]]:
        """Who is on the list, by UID: holder, proof, and whether it is switched on."""
        cards = self.store.people.cards()
        return {card.uid: (card.holder, card.proof, card.enabled) for card in cards}
