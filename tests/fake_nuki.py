"""Nuki's bridge and Nuki's Web API, played on loopback, and how they misbehave.

What they do: the documentation and the reports that the drivers name.  They live in the time of
the test's clock: a turn of the motor that a request waits for moves that clock.
"""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from urllib.parse import parse_qs, urlsplit

from fake_sesame import HttpServer, Request

TOKEN = "0a1b2c3d4e5f60718293"
NUKI_ID = 738197022
UNLOCK, LOCK, UNLATCH = 1, 2, 3
NUMBERS = {"locked": 1, "unlocked": 3}
TURNING = {"unlocked": 2, "locked": 4}
TARGETS = {UNLOCK: "unlocked", LOCK: "locked", UNLATCH: "unlocked"}
CUT = 0, b""  # no answer: the connection ends


class NukiServer(HttpServer):
    """An HTTP server that can cut a connection, and counts them.

    ``trouble`` says what becomes of the next commands: "cut-before" and "cut-after"
    acting, "hang-before" and "hang-after" (cut when the caller has lost patience), ""
    nothing.  ``actions`` are the commands that reached the lock.
    """

    def __init__(self, clock, answer) -> None:
        self.clock = clock
        self.motor_s = 3.0
        self.late_s = 0.0  # so much later than the bolt does the API know
        self.drops = 0  # so many commands are accepted and lost on the way
        self.jams = False
        self.battery: int | None = 68
        self.battery_is_critical = False
        self.trouble: list[str] = []
        self.actions: list[int] = []
        self.connections = self.open = 0
        self._bolt = "locked"
        self._shown = NUMBERS["locked"]
        self._shown_at = clock.monotonic() - 3600
        self._motor: tuple[float, str] | None = None  # when it ends, and where
        self._news: tuple[float, int] | None = None  # when the API knows, and what
        super().__init__(answer)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bolt(self) -> str:
        """Where the bolt is: "locked" or "unlocked"."""
        self._pass_time()
        return self._bolt

    def _pass_time(self) -> None:
        now = self.clock.monotonic()
        if self._motor and now >= self._motor[0]:
            ended_at, self._bolt = self._motor
            self._motor = None
            self._news = ended_at + self.late_s, NUMBERS[self._bolt]
        if self._news and now >= self._news[0]:
            self._shown_at, self._shown = self._news
            self._news = None

    def _act(self, action: int) -> None:
        if self.drops:
            self.drops -= 1
            return
        self.actions.append(action)
        now, target = self.clock.monotonic(), TARGETS[action]
        if self.jams:
            self._news = now + self.motor_s, 254
        elif target != self._bolt:
            self._motor = now + self.motor_s, target

    def _troubled(self, action: int) -> bool:
        """True when the caller gets no answer to its command."""
        how, _, when = (self.trouble.pop(0) if self.trouble else "").partition("-")
        if when == "after":
            self._act(action)
        if how == "hang":
            self.clock.advance(60.0)
        return bool(how)

    def _make_server(self) -> ThreadingHTTPServer:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # and it leaves hanging up to the caller
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                fake.connections += 1
                fake.open += 1

            def finish(self):
                fake.open -= 1
                super().finish()

            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(
                    self.command, self.path, headers, self.rfile.read(length)
                )
                status, body = fake.respond(request)
                self.close_connection = not status
                if status:
                    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
                    self.wfile.write(head.encode() + body)

            do_POST = do_GET  # noqa: N815 -- the name http.server looks for

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        return server


class FakeBridge(NukiServer):
    """A Nuki bridge, its lock and the radio between them.

    ``times`` are the beginning and the end of each request.
    """

    def __init__(self, clock) -> None:
        self.radio_s = 1.0  # to speak with the lock
        self.is_reachable = True
        self.is_lost = False  # for so long that the bridge has given the lock up
        self.device_type = 0
        self.busy_until = -inf  # somebody else's request
        self.times: list[tuple[float, float]] = []
        self._in_hand = threading.Lock()
        self._seen_hashes: set[str] = set()
        super().__init__(clock, self._answer)

    @property
    def gaps_s(self) -> list[float]:
        """From the end of each request to the beginning of the next."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return [begun - ended for (_, ended), (begun, _) in pairs]

    def respond(self, request: Request) -> tuple[int, bytes]:
        if not self._in_hand.acquire(blocking=False):
            return 503, b""
        begun = self.clock.monotonic()
        is_mute = bool(self.times) and begun - self.times[-1][1] < 0.5
        try:
            if is_mute:
                self.requests.append(request)
                self.clock.advance(60.0)
            return CUT if is_mute else super().respond(request)
        finally:
            self.times.append((begun, self.clock.monotonic()))
            self._in_hand.release()

    def _answer(self, request: Request) -> tuple[int, bytes]:
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if request.method != "GET" or not self._is_proved(query):
            return 401, b"HTTP 401 Unauthorized"
        self._pass_time()
        now = self.clock.monotonic()
        if now < self.busy_until or (self._motor and now < self._motor[0]):
            return 503, b"HTTP 503 Service Unavailable"
        if parts.path == "/list":
            return 200, json.dumps([self._opener(), self._listed()]).encode()
        if parts.path not in ("/lockState", "/lockAction"):
            return 404, b""
        if (query["nukiId"], query["deviceType"]) != (
            str(NUKI_ID),
            str(self.device_type),
        ):
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

    def _ask_lock(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if self.is_lost:
            return 410, b""
        if path == "/lockAction":
            return self._command(int(query["action"]), query["nowait"] == "0")
        self.clock.advance(self.radio_s)
        if not self.is_reachable:
            return 200, b'{"success":false}'
        if self._shown != 254:
            self._shown = NUMBERS[self._bolt]  # fresh from the lock
        return 200, json.dumps({**self._state(), "success": True}).encode()

    def _command(self, action: int, waits: bool) -> tuple[int, bytes]:
        if not self.is_reachable:
            self.clock.advance(self.radio_s)
            return 200, b'{"success":false,"batteryCritical":false}'
        if self._troubled(action):
            return CUT
        self._act(action)
        if waits and (self._motor or self._news):
            self.clock.advance(self.motor_s)
        self._pass_time()
        done = not self.jams
        answer = {"success": done, "batteryCritical": self.battery_is_critical}
        return 200, json.dumps(answer).encode()

    def _state(self) -> dict[str, object]:
        return {
            "mode": 2,
            "state": self._shown,
            "batteryCritical": self.battery_is_critical,
            "batteryCharging": False,
            "batteryChargeState": self.battery,
        }

    def _listed(self) -> dict[str, object]:
        return {
            "deviceType": self.device_type,
            "nukiId": NUKI_ID,
            "name": "Door",
            "lastKnownState": {**self._state(), "timestamp": "2026-11-18T03:00:00Z"},
        }

    def _opener(self) -> dict[str, object]:
        return {"deviceType": 2, "nukiId": 1, "lastKnownState": {"state": 1}}


class FakeNukiWeb(NukiServer):
    """Nuki's cloud and a lock: 204 at once, and what came of it later.

    ``reports`` are seconds at which the lock's entry gets a new date for other reasons.
    """

    def __init__(self, clock) -> None:
        self.accepted: tuple[int, bytes] = (204, b"")
        self.server_state = 0
        self.type = 4
        self.busy_until = -inf
        self.reports: list[float] = []
        super().__init__(clock, self._answer)

    def _answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, b'{"detailMessage":"Your access token is not authorized"}'
        self._pass_time()
        path = f"/smartlock/{NUKI_ID}"
        if (request.method, request.path) == ("GET", path):
            return 200, json.dumps(self._status()).encode()
        if (request.method, request.path) != ("POST", f"{path}/action"):
            return 404, b""
        if self.clock.monotonic() < self.busy_until:
            return 423, b""
        action = int(request.json["action"])
        if self._troubled(action):
            return CUT
        if self.server_state == 0:
            self._act(action)
        return self.accepted

    def _status(self) -> dict[str, object]:
        now = self.clock.monotonic()
        while self.reports and now >= self.reports[0]:
            self._shown_at = max(self._shown_at, self.reports.pop(0))
        at_s = self.clock.now().timestamp() - now + self._shown_at
        return {
            "smartlockId": NUKI_ID,
            "type": self.type,
            "name": "Door",
            "state": {
                "mode": 2,
                "state": self._shown,
                "trigger": 0,
                "lastAction": 1,
                "batteryCritical": self.battery_is_critical,
                "batteryCharge": self.battery,
                "doorState": 2,
            },
            "serverState": self.server_state,
            "updateDate": datetime.fromtimestamp(at_s, UTC).isoformat()[:-6] + "Z",
        }
