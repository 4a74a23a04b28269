"""The first Sesame API with a lock and its access point, played on loopback.

What it does: docs.candyhouse.co (2019), and the reports that the driver names.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from math import ceil, inf

from doorpi import Command
from tests.fakes.cloud import STAGES, FakeCloud, Fault, Request, answers, lives

DEVICE_ID = "126D3D66-9222-4E5A-BCDE-0C6629D48D43"
KEY = "0a1b2c-raw-key"


def error(status: int, word: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": word}).encode()


def says(status: int, word: str, transient_at=()) -> Fault:
    return answers(*error(status, word), transient_at=transient_at)


class FakeSesameMini(FakeCloud):
    """``locked`` is what was so when the server last heard of the lock: at the end of a
    task, unless ``stays_stale``, and of a sync.  ``synced_at`` lists when one was asked
    for."""

    credentials: Mapping[str, str] = {"device_id": DEVICE_ID, "api_key": KEY}
    base_path = "/public"
    faults = FakeCloud.faults | {
        "busy": says(400, "DEVICE_IS_BUSY 2", transient_at=STAGES),
        "busy-35": says(400, "DEVICE_IS_BUSY 35", transient_at=("confirm",)),
        "low-battery-refused": says(400, "LOW_BATTERY"),
        "throttled": says(429, "THROTTLED", transient_at=("confirm",)),
        "blocked": says(403, "Forbidden"),
        "not-yet": says(400, "BAD_PARAMS", transient_at=("confirm",)),
        "offline": lives(is_responsive=False),
    }
    max_burst = 20, 10.0  # so many requests in so many seconds; then 403 for 30 minutes

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.key = KEY
        self.is_responsive = True
        self.sync_helps = True  # it is responsive when a sync has ended
        self.sync_s = 3.0
        self.stays_stale = False
        self.not_yet_s = 0.0  # so long is a task not known yet
        self.synced_at: list[float] = []
        self._tasks: dict[str, tuple[float, float, str]] = {}  # begins, ends, error
        self._ids = itertools.count(0x462B7461)
        self._blocked_until = -inf
        self._times: list[float] = []
        self._heard: list[float] = []  # when the server heard of the lock
        self._helps_at = inf

    def command_of(self, request: Request) -> Command | None:
        if request.method != "POST" or request.json["command"] == "sync":
            return None
        return Command(request.json["command"])

    def answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("authorization") != self.key:
            return error(401, "UNAUTHORIZED")
        if self._is_blocked():
            return error(403, "Forbidden")
        if self.clock.monotonic() >= self._helps_at:
            self.is_responsive, self._helps_at = True, inf
        path, _, query = request.path.removeprefix(self.base_path).partition("?")
        if (request.method, path) == ("GET", "/action-result"):
            return self._tell(query.removeprefix("task_id="))
        if path != f"/sesame/{DEVICE_ID}":
            return error(400, "BAD_PARAMS")
        if request.method == "GET":
            return 200, json.dumps(self._status()).encode()
        word = request.json["command"]
        return self._sync() if word == "sync" else self._command(Command(word))

    def _is_blocked(self) -> bool:
        now = self.clock.monotonic()
        many, within_s = self.max_burst
        self._times = [at for at in self._times if now - at < within_s] + [now]
        if len(self._times) > many:
            self._blocked_until = now + 1800.0
        return now < self._blocked_until

    def _status(self) -> dict[str, object]:
        now = self.clock.monotonic()
        heard = [at for at in self._heard if at <= now]
        time_s = max(heard) if heard and self.stays_stale else now - self.lag_s
        if not heard and self.stays_stale:
            time_s = -inf
        _, place = self.bolt.leg(time_s, resting=True)
        return {
            "locked": place == "locked",
            "battery": self.battery,
            "responsive": self.is_responsive,
        }

    def _sync(self) -> tuple[int, bytes]:
        now = self.clock.monotonic()
        self.synced_at.append(now)
        self._heard.append(now + self.sync_s)
        if self.sync_helps and not self.is_responsive:
            self._helps_at = now + self.sync_s
        return self._begin(now + self.sync_s)

    def _command(self, command: Command) -> tuple[int, bytes]:
        now = self.clock.monotonic()
        running = [ends for begun, ends, _ in self._tasks.values() if now < ends < inf]
        if running:
            return error(400, f"DEVICE_IS_BUSY {ceil(max(running) - now)}")
        if not self.is_responsive:
            return self._begin(now + 10.0, "NOT_RESPONSIVE")
        ends_at = self.turn(command)
        if ends_at is None:
            return self._begin(inf)
        is_jammed = self.bolt.at(ends_at) == "jammed"
        return self._begin(ends_at, "MOTOR_JAMMED" if is_jammed else "")

    def _begin(self, ends_at: float, failure: str = "") -> tuple[int, bytes]:
        task = f"{next(self._ids):08x}-0000-4000-8000-000000000000"
        self._tasks[task] = self.clock.monotonic(), ends_at, failure
        return 200, json.dumps({"task_id": task}).encode()

    def _tell(self, task: str) -> tuple[int, bytes]:
        now = self.clock.monotonic()
        begun, ends_at, failure = self._tasks.get(task, (inf, inf, ""))
        if now < begun + self.not_yet_s:
            return error(400, "BAD_PARAMS")
        table: dict[str, object] = {"task_id": task, "status": "processing"}
        if now >= ends_at:
            table |= {"status": "terminated", "successful": not failure}
            table |= {"error": failure} if failure else {}
        return 200, json.dumps(table).encode()
