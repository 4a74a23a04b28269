"""The link to a broker, a real one: how it comes up, and how it ends."""

from __future__ import annotations

from collections.abc import Callable

from doorpi import MqttMessage, MqttPart, Presence
from tests.helpers.broker import Linked, Peer
from tests.helpers.processes import wait_for

ONLINE = "doorpi/main/front/online"


class Echo(MqttPart):
    """Repeats what it hears."""

    filters = {"doorpi/main/front/do/+": False}  # noqa: RUF012

    def __init__(self, link) -> None:
        self.link, self.heard, self.answers = link, list[MqttMessage](), list[int]()

    def hear(self, message: MqttMessage) -> None:
        self.heard.append(message)
        self.link.publish(
            "echo", message.payload, correlation=b"7", done=self.answers.append
        )


def test_the_door_is_online_until_its_link_ends(
    broker, links: Callable[..., Linked], peers: Callable[..., Peer]
):
    peer, linked = peers(broker.port, ONLINE), links(broker.port, Presence)

    assert peer.wait(ONLINE, "online").text == "online"
    linked.until("")
    linked.stop()

    assert peer.wait(ONLINE, "offline")
    assert wait_for(lambda: peers(broker.port, ONLINE).wait(ONLINE)).is_retained


def test_a_part_hears_and_publishes(broker, links, peers):
    peer, linked = peers(broker.port, "echo"), links(broker.port, Echo)
    linked.until("")

    peer.say("doorpi/main/front/do/ken", b"hello")

    assert peer.wait("echo").text == "hello"
    assert peer.heard[0].properties.CorrelationData == b"7"
    (part,) = linked.link.parts
    wait_for(lambda: part.answers == [0], "the broker's answer")
