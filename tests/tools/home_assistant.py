"""Checks a discovery message with the code of Home Assistant that this interpreter has.

    $HA_PYTHON tests/tools/home_assistant.py TOPIC < PAYLOAD

It prints what Home Assistant would refuse, and the keys that it would drop silently.
An interpreter that has it: `python3.13 -m venv V; V/bin/pip install --no-deps
homeassistant==2025.4.4`, and what its import then misses.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import tempfile
from typing import Any

#: What is not of one platform: shared options of the message.
SHARED = {"origin", "availability", "qos", "device"}


class Caught(logging.Handler):
    """``lines`` are the warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def problems(topic: str, text: str) -> list[str]:
    from homeassistant.components.mqtt import discovery
    from homeassistant.core import HomeAssistant

    found = Caught()
    logging.getLogger("homeassistant.components.mqtt.discovery").addHandler(found)
    with tempfile.TemporaryDirectory() as folder:
        home = HomeAssistant(folder)
        _, node, name = discovery.TOPIC_MATCHER.match(
            topic.removeprefix("homeassistant/")
        ).groups()
        try:
            payload = discovery._parse_device_payload(home, text, topic, name, node)
        except TypeError:  # before 2026
            payload = discovery._parse_device_payload(home, text, name, node)
        for key, config in payload.get("components", {}).items():
            component = discovery.MQTTDiscoveryPayload(config)
            platform = component.pop("platform")
            if component:  # else it is removed
                component["device"] = payload["device"]
                component["origin"] = payload["origin"]
                discovery._merge_common_device_options(component, payload)
                found.lines += check(key, platform, component)
        await home.async_stop(force=True)
    return found.lines


def check(key: str, platform: str, config: dict[str, Any]) -> list[str]:
    module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
    try:
        kept = module.DISCOVERY_SCHEMA(dict(config))
    except Exception as error:  # of voluptuous, or of what replaced it
        return [f"{key}: {error}"]
    return [f"{key}: {each} is dropped" for each in config.keys() - kept - SHARED]


def main() -> int:
    found = asyncio.run(problems(sys.argv[1], sys.stdin.read()))
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
