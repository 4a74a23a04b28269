"""The pins of a Pi in memory: what happened on each, and some that fail."""

from __future__ import annotations

import time

from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPin

from doorpi import (
    LockAccess,
    Relay,
    SystemClock,
)

GPIO = 17


OPEN, SHUT = True, False


class BoardPin(MockPin):
    """A pin that starts at the level the chip pulls it to, and tells its board of each
    change."""

    def __init__(self, factory, info):
        super().__init__(factory, info)
        self.gpio = int(info.name.removeprefix("GPIO"))
        self._state = self.gpio <= 8
        self.clear_states()

    def _change_state(self, value):
        changed = super()._change_state(value)
        if changed:
            self.factory.note(self.gpio, bool(value))
        return changed


class Board(MockFactory):
    """The pins of one Pi, and what happened on them: ``[(seconds, level)]`` of each."""

    def __init__(self) -> None:
        super().__init__(pin_class=BoardPin)
        self.changes: dict[int, list[tuple[float, bool]]] = {}

    def note(self, gpio: int, level: bool) -> None:
        self.changes.setdefault(gpio, []).append((time.monotonic(), level))

    def levels(self, gpio: int = GPIO) -> list[bool]:
        return [level for _, level in self.changes.get(gpio, [])]

    def relay(self, clock=None, **lock) -> Relay:
        Device.pin_factory = self
        access = LockAccess(kind="relay", **{"relay_gpio": GPIO} | lock)
        return Relay(access, clock or SystemClock())


class BrokenPin(BoardPin):
    """Cannot be set to the levels in ``fails_at``, once it is an output at rest."""

    fails_at: tuple[bool, ...] = ()

    def _set_state(self, value):
        if bool(value) in self.factory.fails_at:
            raise OSError(5, "Input/output error")
        super()._set_state(value)


class BrokenBoard(Board):
    def __init__(self) -> None:
        super().__init__()
        self.pin_class = BrokenPin
        self.fails_at: tuple[bool, ...] = ()
