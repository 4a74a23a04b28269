"""A web server with a list of people in a file, as a git host or a spreadsheet serves it."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.fakes.authorities import FakeAuthority
from tests.fakes.cloud import Reply, Request

TOKEN = "list-token-0003"


class FakeListServer(FakeAuthority):
    """``text`` is the list at /doors.csv.  With ``key`` it is signed there."""

    has_etags = True
    signature_in_base64 = True

    def __init__(self, clock) -> None:
        self.text = ""
        self.key: ed25519.Ed25519PrivateKey | None = None
        super().__init__(clock)

    @property
    def list_key(self) -> str:
        assert self.key
        return base64.b64encode(self.key.public_key().public_bytes_raw()).decode()

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply(401)
        content = self.text.encode()
        if request.path == "/doors.csv.sig?v=1" and self.key:
            signature = self.key.sign(content)
            if self.signature_in_base64:
                signature = base64.encodebytes(signature)  # in lines of 76
            return Reply(200, signature)
        if request.path != "/doors.csv?v=1":
            return Reply(404)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if self.has_etags and request.headers.get("if-none-match") == etag:
            return Reply(304)
        return Reply(200, content, (f"ETag: {etag}",) if self.has_etags else ())
