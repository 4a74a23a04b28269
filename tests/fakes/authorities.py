"""CarontePass and Digital ID, as their servers answered when they were tried.

``script`` and ``delivery`` are those of FakeCloud: any answer, and any way to break it off.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from doorpi import Command
from tests.fakes.cloud import FakeCloud, Reply, Request

USER, PASSWORD = "door", "caronte-password-0001"
API_KEY = "digital-id-key-0002"


class FakeAuthority(FakeCloud):
    hangs_up = True

    def command_of(self, request: Request) -> Command | None:
        return None


def json_reply(status: int, value: object) -> Reply:
    return Reply(
        status, json.dumps(value).encode(), ("Content-Type: application/json",)
    )


class FakeCarontePass(FakeAuthority):
    """``members`` are user numbers by code, with whether they have paid.  ``inside`` is
    flipped by each request about one who has, whether the answer arrives or not."""

    version = 2  # which answers an unknown code with a new device; 3 with []
    http = "HTTP/1.0"

    def __init__(self, clock) -> None:
        self.members: dict[str, tuple[int, bool]] = {}
        self.inside: dict[str, bool] = {}
        super().__init__(clock)

    def answer(self, request: Request) -> Reply:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {pair}":
            return json_reply(401, {"detail": "Invalid username/password."})
        prefix = "/api/1/device/"
        code = urlsplit(request.path).path.removeprefix(prefix)
        if not request.path.startswith(prefix) or code.count(".") == 1:
            return Reply(404, b"<h1>Not Found</h1>")
        if code.endswith("/"):
            return json_reply(404, {"detail": "Not found."})
        user, has_paid = self.members.get(code, (0, False))
        if code not in self.members and self.version == 3:
            return json_reply(200, [])
        if has_paid:
            self.inside[code] = not self.inside.get(code, False)
        device = {"id": 7, "user": user or None, "kind": "card", "code": code}
        return json_reply(200, [{**device, "result": True if has_paid else None}])

    def parts_of(self, reply, request):
        """Without a length: the end of the connection ends the body."""
        if reply.delivery != "whole":
            yield from super().parts_of(reply, request)
            return
        lines = [f"{self.http} {reply.status} X", "Connection: close", *reply.headers]
        yield "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body


@dataclass
class Employee:
    id: int = 123
    name: str = "John Smith"
    reference: str = "EMP001"
    organisation: int = 1
    is_active: bool = True

    @property
    def table(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "employee_reference": self.reference,
            "display_reference": self.reference,
            "full_name": self.name,
            "organisation_id": self.organisation,
            "organisation_name": "Example",
            "is_active": self.is_active,
        }


@dataclass
class Token:
    employee: Employee = field(default_factory=Employee)
    kind: str = "qr"
    refusal: str = ""  # one of its words for a no


class FakeDigitalId(FakeAuthority):
    """``tokens`` are those that it knows; ``key`` is what it wants in X-API-Key."""

    hangs_up = False

    def __init__(self, clock) -> None:
        self.tokens: dict[str, Token] = {}
        self.key = API_KEY
        super().__init__(clock)

    def answer(self, request: Request) -> Reply:
        if urlsplit(request.path).path != "/api/verify-token.php":
            return Reply(404, b"<html>File not found.</html>")
        if self.key and request.headers.get("x-api-key") != self.key:
            return json_reply(401, {"success": False, "error": "unauthorized"})
        asked = request.json
        token = self.tokens.get(asked["token"])
        refusal = token.refusal if token else "token_not_found"
        if token and token.kind != asked["type"]:
            refusal = "token_not_found"
        if refusal or token is None:
            return self.no(refusal)
        return self.yes(token, asked["type"])

    def no(self, word: str) -> Reply:
        return json_reply(
            403, {"success": False, "valid": False, "message": "no", "error": word}
        )

    def yes(self, token: Token, kind: str = "qr", **changes: object) -> Reply:
        verdict = {
            "success": True,
            "valid": True,
            "employee": token.employee.table,
            "id_card": {"id": 456, "expires_at": "2027-12-31 23:59:59"},
            "verification_type": kind,
            "verified_at": "2026-11-18T10:30:00+00:00",
            "message": "Verification successful",
        }
        return json_reply(200, {**verdict, **changes})
