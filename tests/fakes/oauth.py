"""A vendor with OAuth: its cloud, its token endpoint on another host, and the driver.

No lock that DoorPi knows is like this.  It shows what a driver has at hand for one: a
second host (``_reach``), a form, texts on disk (DriverStateFile), and a 401 that is no failure.
As a program it is a door that asks for the status once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import doorpi
from doorpi import (
    AuthError,
    Command,
    HttpError,
    LockAccess,
    LockPolicy,
    LockState,
    LockStatus,
    NotSent,
    Progress,
    Reply,
    Secret,
    Sent,
    Unreadable,
    WebLock,
)
from tests.fakes.cloud import OPPOSITE, FakeCloud, Request

CLIENT = "doorpi-client"
FIRST = "refresh-token-0000"


class OAuthLock(WebLock):
    """Its access tokens are short-lived; its refresh token changes at each use, and
    who shows an old one is locked out."""

    policy = LockPolicy(confirm_at_s=(0.0,), confirm_every_s=1.0)
    states: Mapping[Any, LockState | str] = {
        "locked": LockState.LOCKED,
        "unlocked": LockState.UNLOCKED,
    }

    path = "/locks/{}"

    def __init__(self, access, clock, keep) -> None:
        super().__init__(access, clock, keep)
        self._tokens = self._reach(vars(access)["token_url"])

    def status(self, by: float) -> LockStatus:
        told = self._json(self._ask("GET", self._path, by), dict)
        return self._observed(told.get("state"))

    def send(self, command: Command, send_by: float, by: float) -> str | None:
        self._ask("POST", self._path, by, send_by, body={"command": command.value})
        return None

    def confirm(self, sent: Sent, by: float) -> Progress:
        is_there = self.status(by).state is sent.command.target
        return Progress.DONE if is_there else Progress.PENDING

    def _ask(self, method, path, by, send_by=inf, **more) -> Reply:
        for may_refresh in (True, False):
            token = self._kept()["access"]
            try:
                return super()._ask(
                    method, path, by, send_by,
                    headers=lambda token=token: {"Authorization": f"Bearer {token}"},
                    **more,
                )  # fmt: skip
            except AuthError:
                if not may_refresh:
                    raise
                self._refresh(min(by, send_by))
        raise AssertionError

    def _kept(self) -> dict[str, str]:
        """Both tokens, read again each time: another program may have new ones."""
        first = {"access": "", "refresh": vars(self._access)["refresh_token"].text}
        kept = json.loads(self._keep.recall("tokens") or "{}")
        self._hide(*kept.values())
        return first | kept

    def _hide(self, *texts: str) -> None:
        """``texts`` are secret from now on, in place of those given out before."""
        self._secrets[:] = [*doorpi._secrets_in(self._access), *texts]

    def _refresh(self, by: float) -> None:
        """Get a new access token.  Nothing goes to the lock meanwhile, so what fails
        here was surely not passed on.  Not a question: it may not be asked twice."""
        old = self._kept()["refresh"]
        form = {
            "grant_type": "refresh_token",
            "client_id": CLIENT,
            "refresh_token": old,
        }
        try:
            reply = self._tokens.call(
                "POST", "/token", by=by, send_by=by, body=form, is_form=True, secrets=[old]
            )  # fmt: skip
            told = reply.json(dict) if reply.is_accepted else {}
        except HttpError as error:
            raise NotSent(f"no new token: {error}") from None
        if reply.status in (400, 401):
            raise AuthError(f"{reply.words}: sign in again")
        if not reply.is_accepted:
            raise NotSent(f"no new token: {reply.words}")
        tokens = told.get("access_token"), told.get("refresh_token", old)
        if not all(isinstance(token, str) and token for token in tokens):
            raise Unreadable("an answer without tokens")
        words = dict(zip(("access", "refresh"), tokens, strict=True))
        self._keep.keep("tokens", json.dumps(words))  # before anything else
        self._hide(*words.values())


class FakeTokens(FakeCloud):
    """The token endpoint."""

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.number = 0
        self.is_locked_out = False

    @property
    def base_url(self) -> str:
        return super().base_url.replace("127.0.0.1", "localhost")  # another host

    @property
    def access(self) -> str:
        return f"access-token-{self.number:04}"

    def command_of(self, request: Request) -> Command | None:
        return None

    def answer(self, request: Request) -> tuple[int, bytes]:
        kind = request.headers["content-type"]
        assert kind == "application/x-www-form-urlencoded"
        form = {
            key: values[0] for key, values in parse_qs(request.body.decode()).items()
        }
        assert (form["grant_type"], form["client_id"]) == ("refresh_token", CLIENT)
        shown = form["refresh_token"]
        self.is_locked_out |= shown != f"refresh-token-{self.number:04}"
        if self.is_locked_out:
            told = {
                "error": "invalid_grant",
                "error_description": f"{shown} is used up",
            }
            return 400, json.dumps(told).encode()
        self.number += 1
        refresh = f"refresh-token-{self.number:04}"
        tokens = {"access_token": self.access, "refresh_token": refresh}
        return 200, json.dumps(tokens).encode()


class FakeOAuth(FakeCloud):
    """The lock's cloud, which takes the last access token only."""

    def __init__(self, clock, tokens: FakeTokens) -> None:
        super().__init__(clock)
        self.tokens = tokens
        self.has_expired = False
        self.before_answer = lambda: None

    def command_of(self, request: Request) -> Command | None:
        is_command = request.method == "POST" and not self._is_refused(request)
        return Command(request.json["command"]) if is_command else None

    def _is_refused(self, request: Request) -> bool:
        right = f"Bearer {self.tokens.access}"
        is_known = self.tokens.number and request.headers["authorization"] == right
        return not is_known or self.has_expired

    def answer(self, request: Request) -> tuple[int, bytes]:
        if self._is_refused(request):
            self.has_expired = False
            token = request.headers["authorization"].removeprefix("Bearer ")
            return 401, json.dumps({"error": f"{token} has expired"}).encode()
        self.before_answer()
        if command := self.command_of(request):
            self.turn(command)
            return 202, b""
        _, place = self.seen
        state = place if place in OPPOSITE else "moving"
        return 200, json.dumps({"state": state}).encode()


def access_of(base_url: str, token_url: str, refresh_token: str = FIRST) -> LockAccess:
    own = {"token_url": token_url, "refresh_token": Secret(refresh_token)}
    return LockAccess(kind="oauth", device_id="7", base_url=base_url, **own)


if __name__ == "__main__":
    base_url, token_url, folder = sys.argv[1:]
    access, clock = access_of(base_url, token_url), doorpi.SystemClock()
    words = doorpi.DriverStateFile(Path(folder) / "lock.words", access)
    lock = OAuthLock(access, clock, words)
    print(lock.status(clock.monotonic() + 10).state)
    lock.close()
