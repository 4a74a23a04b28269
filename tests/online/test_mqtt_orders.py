"""Orders over MQTT: which reach the door, how they are answered, and that none is late
or carried out twice.  The broker is a real one; the test plays the door."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import doorpi
from doorpi import (
    NOT_TAKEN,
    TOO_LONG,
    Answer,
    Medium,
    MqttPart,
    Orders,
    Wants,
    parse_order,
)
from tests.helpers.broker import Linked, Peer
from tests.helpers.processes import wait_for

DOOR = "doorpi/main/front"
DONE = f"{DOOR}/done"
MAY = {"ha": [*doorpi.MQTT_ORDERS], "ken": ["lock"]}


class Feed(MqttPart):
    """Notes from which event on it was asked to publish again."""

    def __init__(self, link) -> None:
        self.since: list[int] = []

    def resend(self, after_id: int) -> bool:
        self.since.append(after_id)
        return True


class Desk:
    """A home automation that gives orders to a door."""

    def __init__(self, linked: Linked, peer: Peer) -> None:
        self.linked, self.peer, self._numbers = linked, peer, count(1)
        linked.until("")
        unanswered = linked.link._unanswered  # the subscriptions, at first
        wait_for(lambda: linked.link.room and not unanswered, "subscriptions")

    def text(self, do: str, age_s: float = 0.0, **changes: Any) -> str:
        """An order of its own id; a change to None leaves its key out."""
        at = self.linked.clock.now().timestamp() - age_s
        order = {"do": do, "id": f"order-{next(self._numbers)}", "at": at, **changes}
        return json.dumps({k: v for k, v in order.items() if v is not None})

    def send(self, payload: str | bytes, sender: str = "ha", **more: Any) -> None:
        self.peer.say(f"{DOOR}/do/{sender}", payload, **more)

    def answers(self, number: int) -> list[dict[str, Any]]:
        """The first answers, so many."""
        wait_for(lambda: len(self.peer.heard) >= number, f"{number} answers", 20)
        return [json.loads(heard.text) for heard in self.peer.heard]

    def order(self, do: str, sender: str = "ha", **changes: Any) -> dict[str, Any]:
        """The answer to an order."""
        before = len(self.peer.heard)
        self.send(self.text(do, **changes), sender)
        return self.answers(before + 1)[before]


@pytest.fixture
def desks(broker, links, peers) -> Callable[..., Desk]:
    def desk(*, port: int = 0, orders: type = Orders, **settings: Any) -> Desk:
        made = links(port or broker.port, orders, Feed, **{"may": MAY, **settings})
        return Desk(made, peers(broker.port, DONE))

    return desk


@pytest.fixture
def desk(desks) -> Desk:
    return desks()


# -- what reaches the door


@pytest.mark.parametrize(
    ("do", "age_s", "good_s"),
    [("unlock", 0, 10), ("lock", 4, 6), ("status", 9, 1), ("unlock", -4, 10)],
)
def test_an_order_reaches_the_door_until_its_ten_seconds_are_over(
    desk, do, age_s, good_s
):
    desk.order(do, age_s=age_s)

    (request,) = desk.linked.asked
    assert (request.medium, request.identifier) == (Medium.MQTT, "ha")
    assert request.wants is Wants(do)
    assert request.id.startswith("order-1 ")
    assert good_s - 0.5 < request.good_until - request.arrived <= good_s


#: Orders, and what is answered instead of carrying them out.
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "of somebody unknown": ({"sender": "eve"}, "not-allowed"),
    "that its sender may not give": ({"sender": "ken"}, "not-allowed"),
    "without a time": ({"at": None}, "no-time"),
    "without an id": ({"id": None}, "no-id"),
    "with an empty id": ({"id": ""}, "no-id"),
    "too old": ({"age_s": 11}, "stale"),
    "of the future": ({"age_s": -6}, "stale"),
    "in milliseconds": ({"at": 1795871216760}, "stale"),
    "at no time": ({"at": float("nan")}, "not-understood"),
    "at no number": ({"at": "now"}, "not-understood"),
    "at true": ({"at": True}, "not-understood"),
    "at a long number": ({"at": 10**400}, "not-understood"),
    "with an unknown key": ({"force": True}, "not-understood"),
    "with a number as its id": ({"id": 7}, "not-understood"),
    "with a space in its id": ({"id": "a b"}, "not-understood"),
    "with a long id": ({"id": "x" * 65}, "not-understood"),
    "with an event's id": ({"since": 4}, "not-understood"),
    "of an unknown kind": ({"do": "toggle"}, "not-understood"),
    "to open": ({"do": "open"}, "not-understood"),
    "of no kind": ({"do": None}, "not-understood"),
    "of two kinds": ({"do": ["unlock"]}, "not-understood"),
    "of events since nowhere": ({"do": "events"}, "not-understood"),
    "of events since less than none": ({"do": "events", "since": -1}, "not-understood"),
    "of more than 512 bytes": ({"id": "x" * 500}, "not-understood"),
}


def test_what_is_no_good_order_is_refused_and_answered(desk):
    for what, (changes, result) in REFUSALS.items():
        answer = desk.order(**{"do": "unlock", **changes})

        assert answer["result"] == result, what
        assert answer["by"] == changes.get("sender", "ha")
    assert desk.linked.asked == []


@pytest.mark.parametrize(
    ("payload", "result"),
    [
        (b"unlock", "no-time"), (b"toggle", "not-understood"), (b"", "not-understood"),
        (b"[]", "not-understood"), (b'"unlock"', "not-understood"),
        (b"\xff\xfe", "not-understood"), (b"[" * 512, "not-understood"),
        (b'{"do":"unlock"', "not-understood"),
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(desk, payload, result):
    desk.send(payload)

    (answer,) = desk.answers(1)
    assert (answer["result"], answer["id"]) == (result, "")
    assert desk.linked.asked == []


@pytest.mark.parametrize("payload", [b"{}", b"null", b"{" * 600, b'{"do":1}'])
def test_an_order_is_read_or_refused_in_words(payload):
    with pytest.raises(ValueError, match=r"[a-z]{3}"):
        parse_order(payload)


def test_refusals_are_logged_once_a_minute(desk, caplog):
    caplog.set_level("INFO", "doorpi")
    for _ in range(5):
        desk.order("unlock", sender="eve")

    assert caplog.text.count("not-allowed") == 1


# -- how it went


@pytest.mark.parametrize(
    ("do", "answer", "result", "detail"),
    [
        ("unlock", Answer(True, ["unlocked"]), "unlocked", ""),
        ("lock", Answer(True, ["locked: it was already"]), "locked", "it was already"),
        ("unlock", Answer(False, ["denied: locked-down"]), "locked-down", ""),
        ("unlock", Answer(False, ["unsure: no answer"]), "unsure", "no answer"),
        ("unlock", Answer(False, ["denied: stale"]), "busy", ""),
        ("unlock", Answer(False, [f"refused: {TOO_LONG}"]), "busy", TOO_LONG),
        ("unlock", doorpi.CUT_OFF, "interrupted", "the door was stopped meanwhile"),
        ("unlock", NOT_TAKEN, "busy", "the running door did not take the request"),
        ("unlock", None, "door-not-running", ""),
        (
            "status", Answer(True, ["locked, it answers", "12 calls"]),
            "locked", "locked, it answers; 12 calls",
        ),
        (
            "status", Answer(False, ["not known: no answer"]),
            "unknown-state", "not known: no answer",
        ),
    ],
)  # fmt: skip
def test_the_answer_is_the_confirmed_outcome(desk, do, answer, result, detail):
    desk.linked.door = lambda request: answer

    said = desk.order(do, id="7")

    assert said.pop("ms") >= 0
    assert said == {"id": "7", "do": do, "by": "ha", "result": result, "detail": detail}
    assert not desk.peer.heard[0].is_retained


def test_an_answer_carries_the_orders_correlation_data(desk):
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = b"\x00same"
    properties.ResponseTopic = "doorpi/elsewhere"
    desk.send(desk.text("lock"), properties=properties)

    desk.answers(1)
    assert desk.peer.heard[0].properties.CorrelationData == b"\x00same"
    assert not hasattr(desk.peer.heard[0].properties, "ResponseTopic")


def test_events_are_published_again_by_the_part_that_has_them(desk):
    assert desk.order("events", since=17)["result"] == "events"

    assert desk.linked.link.parts[1].since == [17]


def test_what_fails_is_said(desk):
    def door(request: object) -> Answer:
        raise doorpi.StoreError("disk I/O error")

    desk.linked.door = door

    assert desk.order("lock")["detail"] == "disk I/O error"
    assert desk.order("lock")["result"] == "failed"


# -- lockdown


def test_a_lockdown_changes_the_list_and_is_one_event(desk):
    people = desk.linked.stores.people

    first, again = desk.order("lockdown-on"), desk.order("lockdown-on")
    was_down = people.locked_down()
    last = desk.order("lockdown-off")

    assert [each["result"] for each in (first, again, last)] == [
        "lockdown-on", "lockdown-on", "lockdown-off",
    ]  # fmt: skip
    assert (was_down, people.locked_down()) == (True, False)
    events = list(desk.linked.stores.events.read())
    assert [(e.reason, e.source, e.details) for e in events] == [
        ("lockdown-on", "mqtt", "by ha"),
        ("lockdown-off", "mqtt", "by ha"),
    ]
    assert desk.linked.asked == []


# -- the clock


@pytest.mark.parametrize(
    ("do", "result"),
    [
        ("unlock", "clock-not-set"), ("lockdown-off", "clock-not-set"),
        ("lock", "locked"), ("lockdown-on", "lockdown-on"),
    ],
)  # fmt: skip
def test_while_the_clock_is_not_set_only_what_lets_nobody_in_is_taken(desk, do, result):
    desk.linked.clock.set = False
    desk.linked.door = lambda request: Answer(True, ["locked"])

    assert desk.order(do, age_s=4_000_000)["result"] == result


def test_a_clock_that_need_not_be_set_counts_as_set(desks):
    door = doorpi.DoorConfig(require_synced_clock=False)
    desk = desks(config=doorpi.Config(door=door))
    desk.linked.clock.set = False

    assert desk.order("unlock")["result"] == "unlocked"
    assert desk.order("unlock", age_s=12)["result"] == "stale"


# -- never twice, never too many


def test_an_id_counts_once(desk):
    text = desk.text("unlock")
    for _ in range(3):
        desk.send(text)
    desk.send(desk.text("unlock", id=json.loads(text)["id"]))

    results = [answer["result"] for answer in desk.answers(4)]
    assert sorted(results) == ["duplicate", "duplicate", "duplicate", "unlocked"]
    assert len(desk.linked.asked) == 1


def test_a_lockdown_is_not_ended_again_by_an_order_that_comes_again_after_a_restart(
    desk,
):
    people = desk.linked.stores.people
    people.lock_down("by ken")
    text = desk.text("lockdown-off", id="1")
    desk.send(text)
    assert desk.answers(1)[0]["result"] == "lockdown-off"
    people.lock_down("by ken")

    desk.linked.stop()
    desk.linked.start()
    desk.linked.until("")
    desk.send(text)

    assert desk.answers(2)[1]["result"] == "duplicate"
    assert people.locked_down()
    assert desk.order("lockdown-off")["result"] == "lockdown-off"


def test_two_senders_may_use_the_same_id(desk):
    desk.order("lock", id="1")
    desk.order("lock", sender="ken", id="1")

    first, other = desk.linked.asked
    assert first.id != other.id


def test_a_sender_gives_at_most_ten_orders_a_minute(desk):
    results = [desk.order("lock")["result"] for _ in range(11)]

    assert results == ["unlocked"] * 10 + ["too-many"]
    assert desk.order("lock", sender="ken")["result"] == "unlocked"
    assert len(desk.linked.asked) == 11


class Hasty(Orders):
    good_s = 0.4


def test_orders_are_carried_out_one_at_a_time_and_wait_no_longer_than_they_are_good(
    desks,
):
    desk, go = desks(orders=Hasty), threading.Event()

    def door(request: object) -> Answer:
        go.wait(10)
        return Answer(True, ["unlocked"])

    desk.linked.door = door
    for _ in range(3):
        desk.send(desk.text("unlock"))

    late = desk.answers(2)
    go.set()
    assert [each["result"] for each in late] == ["busy", "busy"]
    assert desk.answers(3)[2]["result"] == "unlocked"
    assert len(desk.linked.asked) == 1


# -- never late


def test_a_retained_order_is_refused(desk):
    desk.send(desk.text("unlock"), retain=True)

    assert desk.answers(1)[0]["result"] == "retained"
    assert desk.linked.asked == []


def test_an_order_that_was_retained_before_the_link_came_up_is_not_even_heard(
    desks, broker, peers
):
    order = {"do": "unlock", "id": "old", "at": time.time()}
    peers(broker.port).say(f"{DOOR}/do/ha", json.dumps(order), retain=True)

    desk = desks()

    assert desk.order("lock")["result"] == "unlocked"
    assert [each.wants for each in desk.linked.asked] == [Wants.LOCK]


@pytest.fixture
def proxy(broker) -> Iterator[Any]:
    from tests.helpers.broker import Proxy

    proxy = Proxy(broker.port)
    yield proxy
    proxy.close()


def test_what_a_frozen_link_kept_is_refused(desks, proxy):
    desk = desks(port=proxy.port, orders=Hasty)
    proxy.is_frozen = True
    desk.send(desk.text("unlock"), qos=0)
    desk.send(desk.text("unlock"), qos=1)
    time.sleep(0.5)

    proxy.is_frozen = False

    assert [each["result"] for each in desk.answers(2)] == ["stale", "stale"]
    assert desk.linked.asked == []


def test_what_was_sent_while_the_link_was_cut_is_never_delivered(desks, proxy):
    desk = desks(port=proxy.port)
    proxy.is_shut = True
    proxy.cut()
    desk.linked.until("127.0.0.1")
    desk.send(desk.text("unlock"), qos=1)
    proxy.is_shut = False

    desk.linked.until("")
    assert desk.order("lock")["result"] == "unlocked"
    assert [each.wants for each in desk.linked.asked] == [Wants.LOCK]


def test_the_answer_comes_when_the_link_is_up_again(desks, proxy):
    desk, go = desks(port=proxy.port), threading.Event()

    def door(request: object) -> Answer:
        go.wait(10)
        return Answer(True, ["unlocked"])

    desk.linked.door = door
    desk.send(desk.text("unlock"))
    wait_for(lambda: desk.linked.asked, "the order at the door")
    proxy.cut()
    desk.linked.until("127.0.0.1")
    go.set()

    assert [each["result"] for each in desk.answers(1)] == ["unlocked"]
    assert len(desk.linked.asked) == 1
