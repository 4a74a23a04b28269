"""How Home Assistant gets to know the door: what it is sent would be accepted there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import jinja2
import pytest

from doorpi import Announcement, Config, DoorConfig, MqttConfig, compact_json, discovery
from tests.fakes.link import FakeLink
from tests.helpers.processes import ROOT

#: What each message may have, and must: of Home Assistant's own schemas.
KEYS = json.loads(
    Path(__file__).with_name("home_assistant_keys.json").read_text("utf-8")
)
NAME = "Büro \"4F\" 'x' {{ 1 }} 日本"
TOPIC = "homeassistant/device/office-4f/doorpi/config"
ALL = {"may": {"homeassistant": ["unlock", "lock", "lockdown-on", "status"]},
       "list_key": "a key"}  # fmt: skip
HEALTH = {"faults": [], "lockdown": "off", "battery_low": False, "since": "x",
          "list": {"version": 7}}  # fmt: skip
LOCK = {"state": "unlocked", "at": "t", "by": 'Ken "K" 健', "result": "unlocked"}


def table(**more) -> MqttConfig:
    return MqttConfig(host="broker", door="office-4f", **more)


def entities(**more) -> dict[str, dict]:
    """Those that are not taken away."""
    found = discovery(table(**more), NAME)["components"]
    return {key: each for key, each in found.items() if len(each) > 1}


def rendered(template: str, payload: object = None, **known) -> str:
    """As Home Assistant does it, where a value that a template lacks is no error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(template)
    return text.render(value_json=json.loads(json.dumps(payload)), **known)


@pytest.mark.parametrize("more", [{}, ALL, {"names": False}], ids=str)
def test_home_assistant_knows_every_key(more):
    message = discovery(table(**more), NAME)

    assert message.keys() <= {*KEYS["device message"]["required"],
                              *KEYS["device message"]["optional"]}  # fmt: skip
    assert message.keys() >= {*KEYS["device message"]["required"]}
    for entity in entities(**more).values():
        known = KEYS[entity["platform"]]
        assert entity.keys() - {"platform"} <= {*known["required"], *known["optional"]}
        assert entity.keys() >= {*known["required"], "unique_id"}


def test_every_entity_has_an_id_that_no_other_door_has():
    ids = [each["unique_id"] for each in entities(**ALL).values()]

    assert len(set(ids)) == len(ids)
    assert all(each.startswith("doorpi-main-office-4f-") for each in ids)


@pytest.mark.parametrize(
    ("more", "present", "absent"),
    [
        ({}, "lockdown-state", "lockdown ask list"),
        (ALL, "lockdown ask list last", "lockdown-state"),
        ({"may": {"ken": ["lockdown-on", "status"]}}, "lock", "lockdown ask"),
        ({"may": {"homeassistant": ["lockdown-off"]}}, "lockdown", "ask"),
        ({"names": False}, "lock event", "last"),
    ],
)
def test_an_entity_that_would_do_nothing_is_taken_away(more, present, absent):
    found = discovery(table(**more), NAME)["components"]

    assert all(len(found[key]) > 1 for key in present.split())
    assert all(found[key].keys() == {"platform"} for key in absent.split())


def test_a_press_makes_an_order_with_an_id_and_the_time():
    class Now:
        def timestamp(self) -> float:
            return 1795871216.7642

    def only(numbers: range) -> int:
        assert len(numbers) <= 100_000  # more is an error in Home Assistant
        return numbers[-1]

    template = entities(**ALL)["lock"]["command_template"]
    environment = jinja2.Environment()
    environment.filters["random"] = only

    text = environment.from_string(template).render(value="unlock", utcnow=Now)

    assert json.loads(text) == {
        "do": "unlock",
        "id": "99999-99999",
        "at": 1795871216.764,
    }


@pytest.mark.parametrize(
    ("key", "payload", "value"),
    [
        ("lock", LOCK, "unlocked"),
        ("lock", {**LOCK, "state": "None"}, "None"),
        ("last", {"holder": LOCK["by"]}, LOCK["by"]),
        ("problem", HEALTH, "OFF"),
        ("problem", {**HEALTH, "faults": ["reader-lost"]}, "ON"),
        ("battery", {**HEALTH, "battery_low": True}, "ON"),
        ("lockdown", {**HEALTH, "lockdown": "on"}, "on"),
        ("since", HEALTH, "x"),
        ("list", HEALTH, "7"),
    ],
)
def test_a_state_is_what_its_template_makes_of_the_payload(key, payload, value):
    assert rendered(entities(**ALL)[key]["value_template"], payload) == value


def test_a_lockdown_that_home_assistant_may_not_change_is_a_state_alone():
    state = entities()["lockdown-state"]

    assert rendered(state["value_template"], {**HEALTH, "lockdown": "on"}) == "ON"
    assert "command_topic" not in state


@pytest.mark.parametrize(
    ("key", "payload", "attributes"),
    [
        ("lock", LOCK, {key: LOCK[key] for key in ("at", "by", "result")}),
        ("problem", {**HEALTH, "faults": ['"', "健"]}, {"faults": ['"', "健"]}),
    ],
)
def test_attributes_survive_quotes(key, payload, attributes):
    template = entities(**ALL)[key]["json_attributes_template"]

    assert json.loads(rendered(template, payload)) == attributes


def test_states_are_never_assumed_and_orders_never_kept():
    """What Home Assistant does by default is not what a door needs."""
    message, lock = discovery(table(), NAME), entities()["lock"]

    assert (lock["optimistic"], lock["retain"], message["qos"]) == (False, False, 0)
    assert "payload_open" not in lock
    assert message["availability"] == [{"topic": "doorpi/main/office-4f/online"}]
    assert lock["command_topic"] == "doorpi/main/office-4f/do/homeassistant"


def test_home_assistants_own_code_accepts_it():
    python = os.environ.get("HA_PYTHON")
    if not python:
        pytest.skip("Home Assistant is not installed: HA_PYTHON names no interpreter")
    for more in ({}, ALL, {"names": False}):
        text = compact_json(discovery(table(**more), NAME))

        checked = subprocess.run(
            [python, ROOT / "tests/tools/home_assistant.py", TOPIC],
            input=text, text=True, capture_output=True, check=False,
        )  # fmt: skip

        # An older Home Assistant does not know this key, and finds a name itself.
        found = re.sub(".*default_entity_id is dropped\n", "", checked.stdout)
        assert (found.strip(), checked.stderr) == ("", ""), more


# -- when it is sent


@pytest.fixture
def link(context) -> FakeLink:
    context.config = Config(door=DoorConfig(name=NAME))
    return FakeLink(context, Announcement, table())


def test_it_is_sent_once_for_each_connection(link):
    link.steps(30)
    assert [(each.topic, each.is_retained) for each in link.sent] == [(TOPIC, True)]
    assert link.json(TOPIC)["device"]["name"] == NAME

    link.reconnect()
    link.steps(30)

    assert len(link.sent) == 2


def test_it_is_sent_again_when_home_assistant_starts_but_not_by_all_doors_at_once(link):
    waits = []
    link.steps(10)
    for _ in range(20):
        before, began = len(link.sent), link.clock.t
        link.hear("homeassistant/status", b"online")
        link.until(lambda before=before: len(link.sent) > before, 15)
        waits.append(link.clock.t - began)
        link.hear("homeassistant/status", b"offline")
        link.steps(15)
        assert len(link.sent) == before + 1

    assert max(waits) <= 10.5
    assert max(waits) - min(waits) > 2


def test_a_new_name_of_the_door_is_sent(link):
    link.steps(10)
    link.context.config = Config(door=DoorConfig(name="Front"))
    link.steps(10)

    assert [json.loads(each.text)["device"]["name"] for each in link.sent] == [
        NAME, "Front",
    ]  # fmt: skip


def test_a_door_that_is_no_longer_announced_is_removed_once(link):
    link.steps(10)
    for _ in range(2):
        link.restart(table(homeassistant=False))
        link.steps(30)

    assert [(e.topic, e.text, e.is_retained) for e in link.sent[1:]] == [
        (TOPIC, "", True)
    ]


def test_a_door_that_was_never_announced_is_not_removed(context):
    link = FakeLink(context, Announcement, table(homeassistant=False))
    link.steps(30)

    assert not link.sent


def test_a_removal_waits_for_the_link(link):
    link.steps(10)
    link.is_up = False
    link.restart(table(homeassistant=False))
    link.steps(10)
    assert link.context.store.recall("mqtt announced") == TOPIC

    link.is_up = True
    link.steps(10)

    assert link.sent[-1].text == ""
    assert link.context.store.recall("mqtt announced") == ""


def test_under_another_name_in_the_topics_the_former_one_is_removed(link):
    link.steps(10)
    link.restart(table()._replace(door="lab"))
    link.steps(30)

    assert [(each.topic, each.text == "") for each in link.sent[1:]] == [
        (TOPIC, True),
        ("homeassistant/device/lab/doorpi/config", False),
    ]
