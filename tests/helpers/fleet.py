"""Published lists, and a door that takes them without a broker."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from doorpi import (
    Context,
    MqttConfig,
    PublishedList,
    signed_parts,
)
from tests.helpers.processes import wait_for
from tests.helpers.world import NOON

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NOW = int(NOON.timestamp())
DAY = {"day": {"times": ["Mon-Fri 08:00-20:00"], "closed": ["2026-12-25"]}}


def public(key: ed25519.Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def person(number: int, **more: Any) -> dict[str, Any]:
    return {"uid": f"0A{number:012X}", "holder": f"Person {number}", **more}


def people(count: int, **schedules: Any) -> dict[str, Any]:
    """The content of a list."""
    return {"cards": [person(i) for i in range(count)], "schedules": schedules}


def packed(document: Any) -> bytes:
    """As the publisher does it, also what it never sends."""
    return zlib.compress(json.dumps(document).encode())


def parts(
    document: Mapping[str, Any] | bytes,
    version: int = NOW,
    key: Any = KEY,
    **head: Any,
) -> list[bytes]:
    """A list as the publisher sends it, or with another ``head``."""
    whole = document if isinstance(document, bytes) else packed(document)
    usual = {"site": "main", "door": "front", "issued": version, "shrink": False}
    return [*signed_parts(whole, key, version=version, **{**usual, **head})]


class Taker:
    """The part of ``[mqtt]`` that takes lists, at the door front."""

    def __init__(self, context: Context, **table: Any) -> None:
        values = {"door": "front", "list_key": public(KEY), **table}
        self.link = SimpleNamespace(
            name="mqtt", table=MqttConfig(**values), context=context,
            root="doorpi/main/front", parts=[],
        )  # fmt: skip
        self.part = PublishedList(self.link)
        self.link.parts.append(self.part)

    def hear(self, messages: list[bytes], first: int = 1) -> str:
        """Hand over the messages of list/1, list/2, ...; why they are refused."""
        for number, payload in enumerate(messages, first):
            topic = f"doorpi/main/front/list/{number}"
            self.part.hear(SimpleNamespace(topic=topic, payload=payload))
        return self.settle()

    def settle(self) -> str:
        """Let it finish what it has begun."""
        wait_for(lambda: self.part.step() == self.part.idle_s)
        return self.part.trouble
