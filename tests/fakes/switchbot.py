"""SwitchBot's cloud API v1.1 with a hub and a lock, played on loopback.

What it does: the documentation and the reports that the driver names.  Its status tells what was
so ``lag_s`` ago, as the real one does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

from doorpi import Command
from tests.fakes.cloud import QUESTIONS, FakeCloud, Fault, Reply, Request, lives

TOKEN = "c271f4a10ee2493f86a4ab5bd9a1a5a6"
SECRET = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
DEVICE_ID = "C77C293BEB59"
UNAUTHORIZED = 401, b'{"message":"Unauthorized"}'
OK_MESSAGE = "success"
DAILY_LIMIT = "Requests reached the daily limit"


def envelope(
    code: object = 100, body: object = None, message: str = OK_MESSAGE
) -> tuple[int, bytes]:
    """The one form of all its answers, inside an HTTP 200."""
    whole = {"statusCode": code, "body": body or {}, "message": message}
    return 200, json.dumps(whole).encode()


def says(code: int, message: str, transient_at=()) -> Fault:
    reply = Reply(*envelope(code, message=message))
    return Fault(reply=reply, transient_at=transient_at)


class FakeSwitchBot(FakeCloud):
    credentials: Mapping[str, str] = {
        "device_id": DEVICE_ID,
        "api_key": TOKEN,
        "secret_key": SECRET,
    }
    base_path = "/v1.1"
    faults = FakeCloud.faults | {
        "offline": says(161, "device offline", transient_at=("confirm",)),
        "offline-hub": says(171, "hub offline", transient_at=("confirm",)),
        "190": says(190, "Device internal error", transient_at=QUESTIONS),
        "quota": says(190, DAILY_LIMIT),
        "152": says(152, "device not found"),
        "160": says(160, "unsupported command"),
        "uncalibrated": lives(extra={"calibrate": False}, drops=1),
        "cloud-service-off": lives(tells_nothing=True, transient_at=("confirm",)),
        "moving": lives(shown="unlocking", transient_at=("confirm",)),
    }

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.battery = 95
        self.lag_s = 2.0
        self.spelling = {}  # what the cloud says for each place, if not that
        self.extra: dict[str, object] = {}  # more of a status' body
        self.tells_nothing = False  # cloud service off: success with an empty body
        self.calls_left = 10_000
        self._nonces: set[str] = set()

    def command_of(self, request: Request) -> Command | None:
        return Command(request.json["command"]) if request.method == "POST" else None

    def answer(self, request: Request) -> tuple[int, bytes]:
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
        now_ms = self.unix_s(self.clock.monotonic()) * 1000
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
        _, place = self.seen
        return {
            "deviceId": DEVICE_ID,
            "deviceType": "Smart Lock",
            "hubDeviceId": "C2DB4A033F33",
            "lockState": self.spelling.get(place, place),
            "doorState": "closed",
            "calibrate": True,
            "version": "V6.5",
            "battery": self.battery,
            **self.extra,
        }

    def _command(self, body: dict[str, object]) -> tuple[int, bytes]:
        if (body["parameter"], body["commandType"]) != ("default", "command"):
            return envelope(190, message="wrong format")
        self.turn(Command(body["command"]))
        return envelope()
