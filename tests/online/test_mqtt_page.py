"""tests/docs/mqtt.md as it is printed: the broker's settings, and what a door with them
shows to Home Assistant and to whoever keeps records."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from datetime import UTC, datetime

import pytest

import doorpi
from doorpi import (
    Announcement,
    DoorState,
    EventFeed,
    MqttConfig,
    Orders,
    Reason,
    parse_config,
)
from tests.helpers.broker import MOSQUITTO, Broker, Linked, Peer
from tests.helpers.processes import ROOT, wait_for
from tests.helpers.stores import DENIED, INTENT, record
from tests.helpers.values import replace

PAGE = (ROOT / "tests/docs/mqtt.md").read_text("utf-8")
ROOT_TOPIC = "doorpi/main/front"
PASSWORD = "only for a test"
PARTS = DoorState, Orders, Announcement, EventFeed


def blocks(kind: str) -> list[str]:
    """The blocks of this kind, without their indentation."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```$", PAGE, re.M | re.S)
    return [re.sub(f"^{indent}", "", text, flags=re.M) for indent, text in found]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """As the page sets it up, in a folder of ours and on a port of ours."""
    if not MOSQUITTO:
        pytest.skip("mosquitto is not installed")
    folder = tmp_path_factory.mktemp("broker")
    (settings,), (access,) = blocks("mosquitto"), blocks("acl")
    (certificate,) = re.findall("sudo (openssl .*)", PAGE)
    words = shlex.split(certificate.replace("broker.local", "localhost"))
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    (folder / "acl").write_text(access)
    for number, user in enumerate(["homeassistant", "front", "records", "lab"]):
        create = ["-c"] * (not number)
        subprocess.run(
            ["mosquitto_passwd", *create, "-b", folder / "passwd", user, PASSWORD],
            check=True, capture_output=True,
        )  # fmt: skip
    lines = settings.replace("/etc/mosquitto/certs", "/etc/mosquitto")
    lines = lines.replace("/etc/mosquitto", str(folder))
    broker = Broker(folder, lines.replace("listener 8883\n", ""))
    yield broker
    broker.stop()


def peer(broker, user: str, *topics: str) -> Peer:
    ca = str(broker.folder / "broker.crt")
    return Peer(broker.port, *topics, user=user, password=PASSWORD, ca=ca)


@pytest.fixture
def linked(broker, tmp_path, monkeypatch):
    """The door with the page's settings."""
    monkeypatch.setattr(Announcement, "spread_s", 0.1)
    (toml,) = blocks("toml")
    table = parse_config(f'[lock]\nkind = "relay"\nrelay_gpio = 17\n{toml}').online[
        "mqtt"
    ]
    assert isinstance(table, MqttConfig)
    ours = {
        "host": "localhost", "ca_file": "",
        "trusted": (broker.folder / "broker.crt").read_text(),
        "password": doorpi.Secret(PASSWORD),
    }  # fmt: skip
    values = {key: value for key, value in table.items() if key != "port"}
    made = Linked(tmp_path, broker.port, *PARTS, **{**values, **ours})
    yield made
    made.close()


def order(**keys) -> str:
    return json.dumps({"at": datetime.now(UTC).timestamp(), **keys})


def test_home_assistant_gets_to_know_the_door_and_moves_it(broker, linked):
    home = peer(broker, "homeassistant", f"{ROOT_TOPIC}/+", "homeassistant/device/#")
    try:
        config = home.wait("homeassistant/device/front/doorpi/config").text
        assert json.loads(config)["components"]["lock"]["command_topic"] == (
            f"{ROOT_TOPIC}/do/homeassistant"
        )
        assert home.wait(f"{ROOT_TOPIC}/online", "online")
        assert home.wait(f"{ROOT_TOPIC}/health", '"faults":[]')

        answer = home.say(f"{ROOT_TOPIC}/do/homeassistant", order(do="unlock", id="1"))
        assert "Success" in answer
        done = json.loads(home.wait(f"{ROOT_TOPIC}/done").text)
        assert (done["result"], done["by"]) == ("unlocked", "homeassistant")
        event = record(
            linked.stores,
            replace(INTENT, at=datetime.now(UTC), holder='健 "K"'),
            result=doorpi.Result.UNLOCKED,
        )
        got = json.loads(home.wait(f"{ROOT_TOPIC}/event").text)
        assert (got["id"], got["holder"]) == (event.id, '健 "K"')
        assert home.wait(f"{ROOT_TOPIC}/lock", '"unlocked"')

        before = len(home.texts("homeassistant/device/front/doorpi/config"))
        home.client.publish("homeassistant/status", "online", 0)
        wait_for(
            lambda: (
                len(home.texts("homeassistant/device/front/doorpi/config")) > before
            ),
            "the door again",
        )
    finally:
        home.close()


def test_the_access_list_keeps_everybody_to_their_own(broker, linked):
    linked.until("")
    records = peer(broker, "records", f"{ROOT_TOPIC}/+")
    lab, home = peer(broker, "lab"), peer(broker, "homeassistant", f"{ROOT_TOPIC}/+")
    try:
        refused = [
            (lab, f"{ROOT_TOPIC}/lock"),  # another door's
            (lab, f"{ROOT_TOPIC}/do/homeassistant"),
            (lab, "homeassistant/device/front/doorpi/config"),
            (records, f"{ROOT_TOPIC}/do/homeassistant"),
            (home, f"{ROOT_TOPIC}/do/front"),  # in another's name
            (home, f"{ROOT_TOPIC}/list/1"),
            (home, f"{ROOT_TOPIC}/lock"),
        ]
        for client, topic in refused:
            assert "Not authorized" in client.say(topic, "x"), topic
        linked.stores.events.begin(replace(DENIED, reason=Reason.LOCKED_DOWN))
        records.wait(f"{ROOT_TOPIC}/events", "locked-down")
        home.wait(f"{ROOT_TOPIC}/events", "locked-down")
        assert {each.topic for each in records.heard} == {f"{ROOT_TOPIC}/events"}
    finally:
        for client in (records, lab, home):
            client.close()


def test_the_example_of_an_automation_names_what_is_sent():
    (text,) = blocks("yaml")

    assert "event.front_access" in text
    assert set(re.findall(r"attributes\.(\w+)", text)) == {"event_type", "holder"}
    assert all(f"`{each}`" in PAGE for each in doorpi.EVENT_TYPES)
