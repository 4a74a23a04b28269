"""Tedee's cloud API with a bridge and a lock, played on loopback.

What it does: tedee-com/tedee-api-doc.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from math import inf

from doorpi import Command
from tests.fakes.cloud import FakeCloud, Request, answers, lives

KEY = "snwu6R.eC+Xuad0sx5inRRo0AaZkYe+EURqYpWwrDR3lU5kuNc="
DEVICE_ID = "33819"

NUMBERS = {"locked": 6, "unlocked": 2, "locking": 5, "unlocking": 4, "jammed": 3}


class FakeTedee(FakeCloud):
    """``synced_at`` lists when the state was asked."""

    credentials: Mapping[str, str] = {"device_id": DEVICE_ID, "api_key": KEY}
    base_path = "/api/v37"
    faults = FakeCloud.faults | {
        "offline": lives(is_connected=False),
        "quota": answers(429, b"", "Retry-After: 1800"),
        "uncalibrated": lives(is_calibrated=False),
        "moving": lives(shown="unlocking"),
    }

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.battery = 54
        self.numbers = NUMBERS | {}
        self.is_connected = True
        self.is_calibrated = True
        self.properties_key = "lockProperties"
        self.number_ids = False
        self.synced_at: list[float] = []
        self._operations: dict[str, tuple[float, bool]] = {}  # when it ends, how
        self._ids = itertools.count(1619078520230)

    def command_of(self, request: Request) -> Command | None:
        is_command = request.method == "POST"
        return Command(request.path.rpartition("/")[2]) if is_command else None

    def answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("authorization") != f"PersonalKey {KEY}":
            return 401, b""
        path = request.path.removeprefix(f"{self.base_path}/my")
        if (request.method, path) == ("GET", f"/lock/{DEVICE_ID}/sync"):
            return self._sync()
        for command in Command:
            there = ("POST", f"/lock/{DEVICE_ID}/operation/{command}")
            if (request.method, path) == there:
                return self._operate(command)
        operation = path.removeprefix("/device/operation/")
        if request.method == "GET" and operation in self._operations:
            return self._tell(operation)
        return failure(404, "The device was not found.")

    def _sync(self) -> tuple[int, bytes]:
        self.synced_at.append(self.clock.monotonic())
        properties: dict[str, object] | None = None
        if self.is_connected:
            _, place = self.seen
            properties = {
                "state": self.numbers[place] if self.is_calibrated else 0,
                "doorState": 3,
                "isCharging": False,
                "batteryLevel": self.battery,
                "stateChangeResult": int(place == "jammed"),
                "lastStateChangedDate": "2021-04-26T06:02:04.197Z",
            }
        return success(
            {
                "id": int(DEVICE_ID),
                "isConnected": self.is_connected,
                self.properties_key: properties,
                "revision": 1,
            }
        )

    def _operate(self, command: Command) -> tuple[int, bytes]:
        """An uncalibrated lock answers as any other, and does nothing."""
        operation = str(next(self._ids))
        ends_at: float | None = self.clock.monotonic()
        if not self.is_connected:
            ends_at = None
        elif self.is_calibrated:
            ends_at = self.turn(command)
        ends_at = inf if ends_at is None else ends_at
        self._operations[operation] = ends_at, self.bolt.at(ends_at) == "jammed"
        told = int(operation) if self.number_ids else operation
        stamp = "2021-04-26T05:53:57.423Z"
        return success({"operationId": told, "lastStateChangedDate": stamp}, 202)

    def _tell(self, operation: str) -> tuple[int, bytes]:
        ends_at, jams = self._operations[operation]
        is_over = self.clock.monotonic() >= ends_at
        return success(
            {
                "deviceId": int(DEVICE_ID),
                "operationId": operation,
                "result": int(is_over and jams),
                "status": "COMPLETED" if is_over else "PENDING",
                "type": 1,
            }
        )


def success(result: object, status: int = 200) -> tuple[int, bytes]:
    """The one form of all its answers."""
    whole = {
        "result": result,
        "success": True,
        "errorMessages": [],
        "statusCode": status,
    }
    return status, json.dumps(whole).encode()


def failure(status: int, *messages: str) -> tuple[int, bytes]:
    whole = {
        "result": None,
        "success": False,
        "errorMessages": list(messages),
        "statusCode": status,
    }
    return status, json.dumps(whole).encode()
