"""SwitchBot's cloud API v1.1 with a hub and a lock, played on loopback.

What it does: the documentation and the reports that the driver names.  Its status tells what was
so ``lag_s`` ago, as the real one does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fake_sesame import HttpServer, Request

TOKEN = "c271f4a10ee2493f86a4ab5bd9a1a5a6"
SECRET = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
DEVICE_ID = "C77C293BEB59"
UNAUTHORIZED = 401, b'{"message":"Unauthorized"}'
OK_MESSAGE = "success"
DAILY_LIMIT = "Requests reached the daily limit"

#: How the connection ends without an answer, and whether the request was acted on.
FAULTS = ("cut-before", "cut-after", "hang-before", "hang-after")
HANG_S = 5.0  # as long as one try may take


@dataclass(frozen=True)
class Reply:
    """An answer with headers of its own."""

    status: int
    body: bytes
    headers: tuple[str, ...] = ()


class FaultyServer(HttpServer):
    """Also breaks off, and hangs: a hang takes HANG_S of the one clock and no real time.

    An entry of ``script`` may also be one of FAULTS, or a Reply.
    """

    def __init__(self, clock, answer) -> None:
        self.clock = clock
        super().__init__(answer)

    def respond(self, request: Request) -> Reply | None:
        """None: the connection is closed without a word."""
        self.requests.append(request)
        scripted = self.script.pop(0) if self.script else None
        if not isinstance(scripted, str):
            reply = scripted or self.answer(request)
            return reply if isinstance(reply, Reply) else Reply(*reply)
        how, when = scripted.split("-")
        if when == "after":
            self.answer(request)
        if how == "hang":
            self.clock.advance(HANG_S)
        return None

    def _make_server(self) -> ThreadingHTTPServer:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = fake.respond(
                    Request(self.command, self.path, headers, self.rfile.read(length))
                )
                if reply is None:
                    self.close_connection = True
                    return
                head = [
                    f"HTTP/1.1 {reply.status} X",
                    f"Content-Length: {len(reply.body)}",
                    *reply.headers,
                ]
                self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n" + reply.body)

            do_POST = do_GET  # noqa: N815 -- the name http.server looks for

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        return server


class Bolt:
    """Where the bolt is, in the time of ``clock``: LOCKED, UNLOCKED, or between.

    Attributes are switches; ``moved`` lists the commands that took effect.
    """

    def __init__(self, clock) -> None:
        self.motor_s = 1.5
        self.jams = False
        self.moved: list[str] = []
        self._clock = clock
        self._legs: list[tuple[float, str]] = [(0.0, "locked")]  # since when, where

    def turn(self, command: str) -> None:
        """The motor runs, if there is anything to move."""
        target = {"lock": "locked", "unlock": "unlocked"}[command]
        self.moved.append(command)
        now = self._clock.monotonic()
        if self.at(now) == target:
            return
        going = "locking" if command == "lock" else "unlocking"
        end = "jammed" if self.jams else target
        self._legs += [(now, going), (now + self.motor_s, end)]

    def is_found(self, place: str) -> None:
        """Somebody turned it by hand, just now."""
        self._legs.append((self._clock.monotonic(), place))

    def at(self, time_s: float) -> str:
        return [place for since, place in self._legs if since <= time_s][-1]

    @property
    def place(self) -> str:
        return self.at(self._clock.monotonic())


class FakeSwitchBot(FaultyServer):
    """The attributes below are switches."""

    def __init__(self, clock) -> None:
        self.bolt = Bolt(clock)
        self.lag_s = 2.0
        self.spelling = {}  # what the cloud says for each place, if not that
        self.extra: dict[str, object] = {}  # more of a status' body
        self.tells_nothing = False  # cloud service off: success with an empty body
        self.drops = 0  # so many commands are accepted and lost on the way
        self.calls_left = 10_000
        self.ahead_s = 0.0  # how much the server's clock is ahead of the door's
        self._nonces: set[str] = set()
        super().__init__(clock, self._answer)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1.1"

    def _answer(self, request: Request) -> tuple[int, bytes]:
        if not self._is_signed(request.headers):
            return UNAUTHORIZED
        if self.calls_left <= 0:
            return envelope(190, message=DAILY_LIMIT)
        self.calls_left -= 1
        path = f"/v1.1/devices/{DEVICE_ID}"
        if (request.method, request.path) == ("GET", f"{path}/status"):
            return envelope(body=self._status())
        if (request.method, request.path) == ("POST", f"{path}/commands"):
            return self._command(request.json)
        return envelope(152, message="device not found")

    def _is_signed(self, headers: dict[str, str]) -> bool:
        """Signed with the secret, in these five minutes, and never seen before."""
        token, stamp = headers.get("authorization", ""), headers.get("t", "")
        nonce, sign = headers.get("nonce", ""), headers.get("sign", "")
        whole = hmac.new(
            SECRET.encode(), (token + stamp + nonce).encode(), hashlib.sha256
        )
        now_ms = (self.clock.now().timestamp() + self.ahead_s) * 1000
        is_new = bool(nonce) and nonce not in self._nonces
        self._nonces.add(nonce)
        return (
            token == TOKEN
            and len(stamp) == 13
            and abs(int(stamp) - now_ms) < 300_000
            and sign == base64.b64encode(whole.digest()).decode()
            and is_new
        )

    def _status(self) -> dict[str, object]:
        if self.tells_nothing:
            return {}
        place = self.bolt.at(self.clock.monotonic() - self.lag_s)
        return {
            "deviceId": DEVICE_ID,
            "deviceType": "Smart Lock",
            "hubDeviceId": "C2DB4A033F33",
            "lockState": self.spelling.get(place, place),
            "doorState": "closed",
            "calibrate": True,
            "version": "V6.5",
            "battery": 95,
            **self.extra,
        }

    def _command(self, body: dict[str, object]) -> tuple[int, bytes]:
        if (body["parameter"], body["commandType"]) != ("default", "command"):
            return envelope(190, message="wrong format")
        if body["command"] not in ("lock", "unlock"):
            return envelope(160, message="unsupported command")
        if self.drops:
            self.drops -= 1
        else:
            self.bolt.turn(str(body["command"]))
        return envelope()


def envelope(
    code: object = 100, body: object = None, message: str = OK_MESSAGE
) -> tuple[int, bytes]:
    """The one form of all its answers, inside an HTTP 200."""
    whole = {"statusCode": code, "body": body or {}, "message": message}
    return 200, json.dumps(whole).encode()
