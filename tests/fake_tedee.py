"""Tedee's cloud API with a bridge and a lock, played on loopback.

What it does: tedee-com/tedee-api-doc.
"""

from __future__ import annotations

import itertools
import json

from fake_sesame import Request
from fake_switchbot import Bolt, FaultyServer

KEY = "snwu6R.eC+Xuad0sx5inRRo0AaZkYe+EURqYpWwrDR3lU5kuNc="
DEVICE_ID = "33819"

NUMBERS = {"locked": 6, "unlocked": 2, "locking": 5, "unlocking": 4, "jammed": 3}


class FakeTedee(FaultyServer):
    """The attributes below are switches; ``synced_at`` lists when the state was asked."""

    def __init__(self, clock) -> None:
        self.bolt = Bolt(clock)
        self.numbers = NUMBERS | {}
        self.is_connected = True
        self.is_calibrated = True
        self.properties_key = "lockProperties"
        self.number_ids = False
        self.drops = False  # the operation never comes to the lock
        self.synced_at: list[float] = []
        self._operations: dict[str, tuple[float, int]] = {}  # when it ends, its result
        self._ids = itertools.count(1619078520230)
        super().__init__(clock, self._answer)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1.32"

    def _answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("authorization") != f"PersonalKey {KEY}":
            return 401, b""
        path = request.path.removeprefix("/api/v1.32/my")
        if (request.method, path) == ("GET", f"/lock/{DEVICE_ID}/sync"):
            return self._sync()
        for command in ("lock", "unlock"):
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
            state = self.numbers[self.bolt.place] if self.is_calibrated else 0
            properties = {
                "state": state,
                "doorState": 3,
                "isCharging": False,
                "batteryLevel": 54,
                "stateChangeResult": 0,
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

    def _operate(self, command: str) -> tuple[int, bytes]:
        """An uncalibrated lock answers as any other, and does nothing."""
        operation = str(next(self._ids))
        ends_at, result = self.clock.monotonic(), 0
        if self.drops:
            ends_at = float("inf")
        elif self.is_calibrated:
            ends_at += self.bolt.motor_s
            result = 1 if self.bolt.jams else 0
            self.bolt.turn(command)
        self._operations[operation] = ends_at, result
        told = int(operation) if self.number_ids else operation
        stamp = "2021-04-26T05:53:57.423Z"
        return success({"operationId": told, "lastStateChangedDate": stamp}, 202)

    def _tell(self, operation: str) -> tuple[int, bytes]:
        ends_at, result = self._operations[operation]
        is_over = self.clock.monotonic() >= ends_at
        return success(
            {
                "deviceId": int(DEVICE_ID),
                "operationId": operation,
                "result": result if is_over else 0,
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
