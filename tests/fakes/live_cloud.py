"""The fake lock clouds in real time, for the demo, the bench and doors that are processes.

What takes time takes it here, until the cloud is closed or goes offline.
"""

from __future__ import annotations

import ssl
import threading
import time

from doorpi import Command, SystemClock
from tests.fakes import sesame, sesame_mini
from tests.fakes.cloud import FakeCloud
from tests.fakes.sesame import FakeSesame
from tests.fakes.sesame_mini import FakeSesameMini


class RealTime:
    """The computer's clock, whose waits end early once ``is_over``."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.now, self.monotonic = self._clock.now, self._clock.monotonic
        self.is_over = threading.Event()

    def advance(self, seconds: float) -> None:
        self.is_over.wait(seconds)


class Live(FakeCloud):
    """``commands`` are those that had an effect, with the time of their arrival.

    ``locked`` is where the bolt is; it changes at the end of the motor's run, and when
    somebody turns the key.
    """

    kind: str  # a row of doorpi.LOCKS
    key: str
    clock: RealTime
    hang_s = 60.0
    ends_within_s = 0.02  # it takes no time from the door it is measured with

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        motor_s: float = 0.0,
        tls: ssl.SSLContext | None = None,
        idle_s: float | None = None,
    ) -> None:
        self.latency_s, self.tls, self.idle_s = latency_s, tls, idle_s
        self.commands: list[tuple[float, Command]] = []
        super().__init__(RealTime())
        self.bolt.motor_s = motor_s

    def go_online(self) -> None:
        self.clock.is_over.clear()
        super().go_online()

    def go_offline(self) -> None:
        self.clock.is_over.set()
        super().go_offline()

    def fail_always(self, fault: str, at: str = "any") -> None:
        """From now on ``fault``, and no other that was planned."""
        self._planned.clear()
        self.fail(fault, at, times=float("inf"))

    def turn(self, command: Command) -> float | None:
        self.commands.append((time.monotonic(), command))
        return super().turn(command)

    @property
    def locked(self) -> bool:
        return self.bolt.leg(time.monotonic(), resting=True)[1] == "locked"

    @locked.setter
    def locked(self, locked: bool) -> None:
        self.bolt.is_found("locked" if locked else "unlocked")

    def table(self, name: str = "lock") -> str:
        """What the owner writes into doorpi.toml."""
        lines = {"kind": self.kind, **self.credentials, "api_key": self.key}
        lines["base_url"] = self.base_url
        return "".join([f"[{name}]\n", *(f'{k} = "{v}"\n' for k, v in lines.items())])


class LiveSesame(Live, FakeSesame):
    """A current Sesame."""

    kind = "sesame"
    key = sesame.API_KEY


class LiveSesameMini(Live, FakeSesameMini):
    """A Sesame mini, and a cloud that is asked as often as one likes."""

    kind = "sesame-mini"
    device_id = sesame_mini.DEVICE_ID
    max_burst = 10_000, 1.0
