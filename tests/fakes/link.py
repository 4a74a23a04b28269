"""A link to a broker that is played, for one of its parts, on a clock that jumps."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from doorpi import Context, MqttConfig, MqttPart
from tests.helpers.world import FakeClock


class FakeLink:
    """``sent`` is what was published, in order; the broker acknowledges it at once with
    ``reason``, or, while that is None, with ``answer``."""

    def __init__(
        self,
        context: Context,
        make: Callable[[Any], MqttPart],
        table: MqttConfig,
    ) -> None:
        self.context, self.clock, self._make = context, context.clock, make
        self.sent: list[SimpleNamespace] = []
        self.reason: int | None = 0
        self.most, self.is_up = 16, True
        self.refused: dict[str, object] = {}
        self.restart(table)

    clock: FakeClock

    def restart(self, table: MqttConfig | None = None) -> None:
        """Another process, with what is on disk."""
        self.table = table or self.table
        self.root = f"doorpi/{self.table.site}/{self.table.door}"
        self.part = self._make(self)
        self.parts = [self.part]
        self.reconnect()

    def reconnect(self) -> None:
        self._waiting: list[SimpleNamespace] = []
        self._answers: list[tuple[SimpleNamespace, int]] = []
        self.part.due = float("-inf")
        self.part.up()

    @property
    def room(self) -> int:
        return self.most - len(self._waiting)

    def publish(
        self,
        topic: str,
        payload: str,
        *,
        is_retained: bool = False,
        done: Callable[[int], None] = lambda reason: None,
        **more: Any,
    ) -> bool:
        if self.room <= 0 or not self.is_up:
            return False
        message = SimpleNamespace(
            topic=topic, text=payload, is_retained=is_retained, done=done,
            at=self.clock.t,
        )  # fmt: skip
        self.sent.append(message)
        self._waiting.append(message)
        return True

    def answer(self, *reasons: int) -> None:
        """Acknowledge the oldest of what waits, one for each reason."""
        for reason in reasons:
            self._waiting.pop(0).done(reason)

    def hear(self, topic: str, payload: bytes) -> None:
        self.part.hear(SimpleNamespace(topic=topic, payload=payload))

    def step(self) -> None:
        """What the link does at one moment."""
        while self.reason is not None and self._waiting:
            self.answer(self.reason)
        if self.clock.t >= self.part.due:
            self.part.due = float("inf")
            self.part.due = self.clock.t + self.part.step()

    def until(self, holds: Callable[[], object], most_s: float = 600.0) -> None:
        """Step until it holds; ``most_s`` of the played time."""
        ends = self.clock.t + most_s
        while not holds():
            assert self.clock.t < ends, [each.text for each in self.sent]
            self.step()
            if not holds():
                self.clock.advance(max(0.05, min(self.part.due - self.clock.t, 0.5)))

    def steps(self, seconds: float) -> None:
        ends = self.clock.t + seconds
        self.until(lambda: self.clock.t >= ends, seconds + 1)
        self.step()

    def texts(self, name: str) -> list[str]:
        """What was published at a topic of the door, or at any other one."""
        return [e.text for e in self.sent if e.topic in (name, f"{self.root}/{name}")]

    def all_json(self, name: str) -> list[Any]:
        return [json.loads(text) for text in self.texts(name)]

    def json(self, name: str) -> Any:
        """The newest."""
        return self.all_json(name)[-1]
