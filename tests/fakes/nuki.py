"""Nuki's bridge and Nuki's Web API, played on loopback, and how they misbehave.

What they do: the documentation and the reports that the drivers name.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from math import inf
from urllib.parse import parse_qs, urlsplit

from doorpi import Command
from tests.fakes.cloud import (
    FAULTS,
    STAGES,
    FakeCloud,
    Fault,
    Reply,
    Request,
    answers,
    lives,
)
from tests.helpers.values import replace

TOKEN = "0a1b2c3d4e5f60718293"
NUKI_ID = 738197022
COMMANDS = {1: Command.UNLOCK, 2: Command.LOCK}
STATES = {"locked": 1, "unlocked": 3, "unlocking": 2, "locking": 4, "jammed": 254}
STATES |= {"uncalibrated": 0}


class FakeNuki(FakeCloud):
    """What the bridge's lock and the web's have in common."""

    credentials: Mapping[str, str] = {"device_id": str(NUKI_ID), "api_key": TOKEN}
    faults = FakeCloud.faults | {
        "uncalibrated": lives(shown="uncalibrated", drops=1),
        "moving": lives(shown="unlocking", transient_at=("confirm",)),
        "low-battery": lives(battery_is_critical=True),
    }

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.bolt.motor_s = 3.0
        self.battery = 68
        self.battery_is_critical = False
        self.busy_until = -inf  # somebody else's request


class FakeBridge(FakeNuki):
    """A Nuki bridge, its lock and the radio between them.

    ``lag_s`` is that of its list.  ``times`` are the beginning and the end of each
    request.
    """

    faults = FakeNuki.faults | {
        "busy": answers(503, transient_at=STAGES),
        "offline": answers(410),
        # It takes its time: after one hang at the status the window is over.
        **{
            name: replace(FAULTS[name], transient_at=stages)
            for name, stages in {
                "hang-before": ("confirm",),
                "silent": ("confirm",),
                "hang-after": ("command", "confirm"),
                "drip": ("command", "confirm"),
            }.items()
        },
        "out-of-radio": lives(is_reachable=False, transient_at=STAGES),
    }

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.radio_s = 1.0  # to speak with the lock
        self.is_reachable = True
        self.lists_state = True  # its list can lack the state (homebridge-nukiio 8)
        self.is_lost = False  # for so long that the bridge has given the lock up
        self.device_type = 0
        self.times: list[tuple[float, float]] = []
        self._in_hand = threading.Lock()
        self._seen_hashes: set[str] = set()

    @property
    def gaps_s(self) -> list[float]:
        """From the end of each request to the beginning of the next."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return [begun - ended for (_, ended), (begun, _) in pairs]

    def patience_s(self, request: Request) -> float:
        return 22.0 if "lockAction" in request.path else 8.0

    def command_of(self, request: Request) -> Command | None:
        parts = urlsplit(request.path)
        is_command = parts.path == "/lockAction"
        return COMMANDS[int(parse_qs(parts.query)["action"][0])] if is_command else None

    def respond(self, request: Request) -> Reply:
        if not self._in_hand.acquire(blocking=False):
            return Reply(503)
        begun = self.clock.monotonic()
        try:
            return super().respond(request)
        finally:
            self.times.append((begun, self.clock.monotonic()))
            self._in_hand.release()

    def next_fault(self, stage: str) -> Fault:
        """It is mute when it is asked too soon."""
        is_mute = self.times and self.clock.monotonic() - self.times[-1][1] < 0.5
        return self.faults["hang-before"] if is_mute else super().next_fault(stage)

    def answer(self, request: Request) -> Reply | tuple[int, bytes]:
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if request.method != "GET" or not self._is_proved(query):
            return 401, b"HTTP 401 Unauthorized"
        if self.clock.monotonic() < self.busy_until or self.bolt.is_moving:
            return 503, b"HTTP 503 Service Unavailable"
        if parts.path == "/list":
            return 200, json.dumps([self._opener(), self._listed()]).encode()
        asked = query.get("nukiId"), query.get("deviceType")
        if asked != (str(NUKI_ID), str(self.device_type)):
            return 404, b"HTTP 404 Not Found"
        return self._ask_lock(parts.path, query)

    def _is_proved(self, query: dict[str, str]) -> bool:
        ts, rnr, code = (query.get(key, "") for key in ("ts", "rnr", "hash"))
        if "token" in query or not rnr.isdecimal() or int(rnr) > 65535:
            return False
        at = datetime.strptime(ts, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        is_fresh = abs((self.clock.now() - at).total_seconds()) < 60
        is_new = code not in self._seen_hashes
        self._seen_hashes.add(code)
        right = hashlib.sha256(f"{ts},{rnr},{TOKEN}".encode()).hexdigest()
        return is_fresh and is_new and code == right

    def _ask_lock(self, path: str, query: dict[str, str]) -> Reply | tuple[int, bytes]:
        if self.is_lost:
            return 410, b""
        if not self.is_reachable:
            failure = b'{"success":false,"batteryCritical":false}'
            return Reply(200, failure, after_s=self.radio_s)
        if path == "/lockAction":
            return self._command(COMMANDS[int(query["action"])])
        state = self._state(self.shown or self.bolt.place)  # fresh from the lock
        table = {**state, "success": True}
        return Reply(200, json.dumps(table).encode(), after_s=self.radio_s)

    def _command(self, command: Command) -> Reply:
        """It answers when the bolt has turned; ``nowait`` is never asked for."""
        now = self.clock.monotonic()
        ends_at = self.turn(command) or now
        ends_at = now if self.late_s else ends_at
        is_jammed = self.bolt.at(ends_at) == "jammed"
        table = {"success": not is_jammed, "batteryCritical": self.battery_is_critical}
        return Reply(200, json.dumps(table).encode(), after_s=ends_at - now)

    def _state(self, place: str) -> dict[str, object]:
        return {
            "mode": 2,
            "state": STATES[place],
            "batteryCritical": self.battery_is_critical,
            "batteryCharging": False,
            "batteryChargeState": self.battery,
        }

    def _listed(self) -> dict[str, object]:
        table = {"deviceType": self.device_type, "nukiId": NUKI_ID, "name": "Door"}
        if self.lists_state:
            stamp = {"timestamp": "2026-11-18T03:00:00Z"}
            table["lastKnownState"] = self._state(self.seen[1]) | stamp
        return table

    def _opener(self) -> dict[str, object]:
        return {"deviceType": 2, "nukiId": 1, "lastKnownState": {"state": 1}}


class FakeNukiWeb(FakeNuki):
    """Nuki's cloud and a lock: 204 at once, and what came of it later.

    ``reports`` are seconds at which the lock's entry gets a new date for other reasons.
    A ``sync`` has the lock asked, if it hears: then the cloud knows again what is so.
    """

    faults = FakeNuki.faults | {
        "busy": answers(423, transient_at=STAGES),
        "offline": lives(server_state=4),
    }

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.accepted: tuple[int, bytes] = (204, b"")
        self.server_state: int | None = 0
        self.type = 4
        self.hears_sync = True
        self.reports: list[float] = []

    def command_of(self, request: Request) -> Command | None:
        is_command = request.path.endswith("/action")
        return COMMANDS[request.json["action"]] if is_command else None

    def answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, b'{"detailMessage":"Your access token is not authorized"}'
        path = f"/smartlock/{NUKI_ID}"
        if (request.method, request.path) == ("GET", path):
            return 200, json.dumps(self._status()).encode()
        if (request.method, request.path) == ("POST", f"{path}/sync"):
            return self._sync()
        if (request.method, request.path) != ("POST", f"{path}/action"):
            return 404, b""
        if self.clock.monotonic() < self.busy_until:
            return 423, b""
        if self.server_state == 0:
            self.turn(COMMANDS[request.json["action"]])
        return self.accepted

    def _sync(self) -> tuple[int, bytes]:
        if self.hears_sync:
            self.shown, self.lag_s = None, 0.0
            self.reports.append(self.clock.monotonic() + 1.0)
        return 204, b""

    def _status(self) -> dict[str, object]:
        since, place = self.seen
        if place in ("locking", "unlocking") and not self.shown:
            since, place = self.bolt.leg(since, resting=True)
        now = self.clock.monotonic()
        stamp = self.unix_s(max([since, *(at for at in self.reports if at <= now)]))
        return {
            "smartlockId": NUKI_ID,
            "type": self.type,
            "name": "Door",
            "state": {
                "mode": 2,
                "state": STATES[place],
                "trigger": 0,
                "lastAction": 1,
                "batteryCritical": self.battery_is_critical,
                "batteryCharge": self.battery,
                "doorState": 2,
            },
            "serverState": self.server_state,
            "updateDate": datetime.fromtimestamp(stamp, UTC).isoformat()[:-6] + "Z",
        }
