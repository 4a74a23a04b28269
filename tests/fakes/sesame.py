"""The current Sesame Web API, played on loopback, with the ways in which it misbehaves.

What it does: the documentation and the reports that the driver names.  Where the reports differ
(a dead module is answered by 200 or by 404, 200 has a body or none) it can play both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from doorpi import Command
from tests.fakes.cloud import GOING, OPPOSITE, FakeCloud, Request, answers, lives

API_KEY = "0123456789abcdefghijABCDEFGHIJ0123456789"
SECRET = "a13d4b890111676ba8fb36ece7e94f7d"  # from the official page
DEVICE_ID = "00000000-055a-fd65-0000-000000000000"
LOCK, UNLOCK, TOGGLE = 82, 83, 88
COMMANDS = {LOCK: Command.LOCK, UNLOCK: Command.UNLOCK}
FORBIDDEN = 403, b'{"message":"Forbidden"}'
LIMIT_EXCEEDED = 429, b'{"message":"Limit Exceeded"}'
NOT_FOUND = 404, b'{"message":"Not Found"}'


class FakeSesame(FakeCloud):
    """A Sesame 5 with its module and the cloud before them."""

    credentials: Mapping[str, str] = {
        "device_id": DEVICE_ID,
        "api_key": API_KEY,
        "secret_key": SECRET,
    }
    base_path = "/api"
    faults = FakeCloud.faults | {
        "quota": answers(*LIMIT_EXCEEDED),
        "offline": lives(module_is_online=False, lag_s=3600.0),
        "offline-404": lives(module_is_online=False, offline_cmd_is_404=True),
        "moving": lives(shown="unlocking", says_moved=True, transient_at=("confirm",)),
        "wrong-secret": lives(secret="00" * 16),
    }

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.battery = 94
        self.secret = SECRET
        self.calls_left = inf  # of the plan; then 429
        self.accepted: tuple[int, bytes] = (200, b'{"statusCode":200}')
        self.says_moved = False  # while the motor runs
        self.module_is_online: bool | None = True  # None: no wm2State in the answer
        self.offline_cmd_is_404 = False
        self.pushes: list[float] = []  # when a phone reports the state it sees
        self.in_ms = False

    def command_of(self, request: Request) -> Command | None:
        is_cmd = request.method == "POST"
        return COMMANDS.get(request.json["cmd"]) if is_cmd else None

    def answer(self, request: Request) -> tuple[int, bytes]:
        if request.headers.get("x-api-key") != API_KEY:
            return FORBIDDEN
        if self.calls_left <= 0:
            return LIMIT_EXCEEDED
        self.calls_left -= 1
        path = f"/api/sesame2/{DEVICE_ID}"
        if (request.method, request.path) == ("GET", path):
            return 200, json.dumps(self._status()).encode()
        if (request.method, request.path) == ("POST", f"{path}/cmd"):
            return self._command(request.json)
        return NOT_FOUND

    def _status(self) -> dict[str, object]:
        since, place = self.seen
        if place in GOING and not self.says_moved:
            since, place = self.bolt.leg(since, resting=True)
        now = self.clock.monotonic()
        stamp = self.unix_s(max([since, *(at for at in self.pushes if at <= now)]))
        status: dict[str, object] = {
            "isRechargeBattery": 0,
            "batteryPercentage": self.battery,
            "batteryVoltage": 5.87,
            "position": 11,
            "CHSesame2Status": place if place in OPPOSITE else "moved",
            "timestamp": int(stamp * 1000) if self.in_ms else int(stamp),
        }
        if self.module_is_online is not None:
            status["wm2State"] = self.module_is_online
        return status

    def _command(self, body: dict[str, object]) -> tuple[int, bytes]:
        if self.module_is_online is False and self.offline_cmd_is_404:
            return NOT_FOUND
        if self.module_is_online is not False and self._is_signed(str(body["sign"])):
            self.turn(COMMANDS.get(int(str(body["cmd"]))) or self._toggled())
        return self.accepted

    def _toggled(self) -> Command:
        is_locked = self.bolt.place == "locked"
        return Command.UNLOCK if is_locked else Command.LOCK

    def _is_signed(self, sign: str) -> bool:
        """A sign of the last, this or the next 256 s; the cloud compares four bytes."""
        return sign[:8] in {self._sign(offset_s)[:8] for offset_s in (-256, 0, 256)}

    def _sign(self, offset_s: int) -> str:
        stamp = int(self.unix_s(self.clock.monotonic())) + offset_s
        code = CMAC(AES(bytes.fromhex(self.secret)))
        code.update(stamp.to_bytes(4, "little")[1:])
        return code.finalize().hex()
