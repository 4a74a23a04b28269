"""A door that issues secure cards: real bytes between it and an emulated card."""

from __future__ import annotations

import json
from pathlib import Path

import doorpi
from doorpi import AccessRequest, Answer, Config, Medium, Secret, Uid, Wants
from tests.fakes.cards import ByteCard
from tests.helpers.air import DOOR_KEY, AirReader
from tests.helpers.world import World, config_of

ISSUER_KEY = Secret("f0e1d2c3b4a5968778695a4b3c2d1e0f", "issuer.key")
PROOF = doorpi.ProofConfig(door_key=DOOR_KEY, issuer_key=ISSUER_KEY)


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

    def source(self, config: Config, number: int = 0) -> doorpi.CardSource:
        source = super().source(config, number)
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
