"""An authority on a real HTTP server and the clock of the tests, without a door."""

from __future__ import annotations

from typing import Any

import doorpi
from doorpi import AccessRequest, AuthorityConfig, InlineWorker, Medium, Secret
from tests.helpers.world import KEN


class Memory:
    """What an authority has on disk, in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.writes = 0

    def recall(self, name: str) -> str | None:
        return self.texts.get(name)

    def keep(self, name: str, text: str) -> None:
        self.texts[name] = text
        self.writes += 1


class Asking:
    """``ask`` presents something to an authority of ``kind`` that ``fake`` plays."""

    def __init__(self, kind: str, fake: Any, clock: Any, **settings: object) -> None:
        self.clock, self.memory, self.fake = clock, Memory(), fake
        self.kind = kind
        self.settings = settings
        self.restart()

    def close(self) -> None:
        self.authority.close()

    def restart(self) -> None:
        if hasattr(self, "authority"):
            self.authority.close()
        config = AuthorityConfig(
            **{
                "name": "space",
                "kind": self.kind,
                "base_url": self.fake.base_url,
                "plain_http": True,
                **self.settings,
            }
        )
        make = doorpi.AUTHORITIES[self.kind]
        self.authority = make(
            config, self.clock, InlineWorker(), self.memory, ("lobby",)
        )

    def request(self, identifier: str, medium: Medium) -> AccessRequest:
        now = self.clock.monotonic()
        return AccessRequest(
            medium, identifier, self.clock.now(), now, now + 10, point="lobby"
        )

    def ask(self, identifier: str = KEN, medium: Medium = Medium.CARD) -> doorpi.Found:
        return self.authority.look_up(self.request(identifier, medium))


def secret(text: str) -> Secret:
    return Secret(text=text)
