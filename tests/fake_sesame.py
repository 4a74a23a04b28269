"""The current Sesame Web API, played on loopback, with the ways in which it misbehaves.

What it does: the documentation and the reports that the driver names.  Where the reports differ
(a dead module is answered by 200 or by 404, 200 has a body or none) it can play both.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

API_KEY = "0123456789abcdefghijABCDEFGHIJ0123456789"
SECRET = "a13d4b890111676ba8fb36ece7e94f7d"  # from the official page
DEVICE_ID = "00000000-055a-fd65-0000-000000000000"
LOCK, UNLOCK, TOGGLE = 82, 83, 88
FORBIDDEN = 403, b'{"message":"Forbidden"}'


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class HttpServer:
    """A real HTTP server that keeps what it was asked; ``answer`` gives status and body.

    ``script`` goes first: each entry answers the next request, None lets it through.
    """

    def __init__(self, answer=lambda request: (200, b"{}")) -> None:
        self.answer = answer
        self.script: list[tuple[int, bytes] | None] = []
        self.requests: list[Request] = []
        self._server = self._make_server()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def asked(self) -> list[str]:
        """Method and path of each request."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, request: Request) -> tuple[int, bytes]:
        self.requests.append(request)
        scripted = self.script.pop(0) if self.script else None
        return scripted or self.answer(request)

    def _make_server(self) -> ThreadingHTTPServer:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(
                    self.command, self.path, headers, self.rfile.read(length)
                )
                status, body = fake.respond(request)
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body)

            do_POST = do_GET  # noqa: N815 -- the name http.server looks for

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        return server


class FakeSesame(HttpServer):
    """A Sesame 5 with its module and the cloud before them, in the time of ``clock``.

    The attributes below are switches; ``moved`` lists the cmd numbers that took effect.
    """

    def __init__(self, clock) -> None:
        self.clock = clock
        self.secret = SECRET
        self.calls_left = inf  # of the plan; then 429
        self.accepted: tuple[int, bytes] = (200, b'{"statusCode":200}')
        self.motor_s = 1.5
        self.says_moved = False  # while the motor runs
        self.module_is_online: bool | None = True  # None: no wm2State in the answer
        self.offline_cmd_is_404 = False
        self.drops = 0  # so many commands are accepted and lost on the way
        self.pushes: list[float] = []  # when a phone reports the state it sees
        self.in_ms = False
        self.battery = 94
        self.moved: list[int] = []
        self._position = "locked"
        self._stamp = self._now_s() - 3600
        self._motor: tuple[float, str] | None = None  # when it ends, and where
        super().__init__(self._answer)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def position(self) -> str:
        """Where the bolt is: "locked" or "unlocked"."""
        self._run_motor()
        return self._position

    def turn(self, position: str) -> None:
        """Somebody turns the key; the cloud hears of it."""
        self._position, self._stamp = position, self._now_s()

    def _now_s(self) -> float:
        return self.clock.now().timestamp()

    def _run_motor(self) -> None:
        now = self._now_s()
        if self._motor and now >= self._motor[0]:
            self._stamp, self._position = self._motor
            self._motor = None
        while self.pushes and now >= self.pushes[0]:
            self._stamp = max(self._stamp, self.pushes.pop(0))

    def _answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("x-api-key") != API_KEY:
            return FORBIDDEN
        if self.calls_left <= 0:
            return 429, b'{"message":"Limit Exceeded"}'
        self.calls_left -= 1
        self._run_motor()
        path = f"/api/sesame2/{DEVICE_ID}"
        if (request.method, request.path) == ("GET", path):
            return 200, json.dumps(self._status()).encode()
        if (request.method, request.path) == ("POST", f"{path}/cmd"):
            return self._command(request.json)
        return 404, b'{"message":"Not Found"}'

    def _status(self) -> dict[str, object]:
        word = self._position
        if self._motor and self.says_moved:
            word = "moved"
        status: dict[str, object] = {
            "isRechargeBattery": 0,
            "batteryPercentage": self.battery,
            "batteryVoltage": 5.87,
            "position": 11,
            "CHSesame2Status": word,
            "timestamp": int(self._stamp * 1000) if self.in_ms else int(self._stamp),
        }
        if self.module_is_online is not None:
            status["wm2State"] = self.module_is_online
        return status

    def _command(self, body: dict[str, object]) -> tuple[int, bytes]:
        if self.module_is_online is False and self.offline_cmd_is_404:
            return 404, b'{"message":"Not Found"}'
        if self.module_is_online is not False and self._is_signed(str(body["sign"])):
            if self.drops:
                self.drops -= 1
            else:
                self._move(int(str(body["cmd"])))
        return self.accepted

    def _is_signed(self, sign: str) -> bool:
        """A sign of the last, this or the next 256 s; the cloud compares four bytes."""
        return sign[:8] in {self._sign(offset_s)[:8] for offset_s in (-256, 0, 256)}

    def _sign(self, offset_s: int) -> str:
        stamp = int(self._now_s()) + offset_s
        code = CMAC(AES(bytes.fromhex(self.secret)))
        code.update(stamp.to_bytes(4, "little")[1:])
        return code.finalize().hex()

    def _move(self, cmd: int) -> None:
        toggled = {"locked": "unlocked", "unlocked": "locked"}[self._position]
        target = {LOCK: "locked", UNLOCK: "unlocked", TOGGLE: toggled}[cmd]
        self.moved.append(cmd)
        if target != self._position:
            self._motor = self._now_s() + self.motor_s, target
