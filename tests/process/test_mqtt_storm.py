"""kill -9 of the door, of `doorpi online` and of the broker, and others that take its
place at the broker, while orders come over a bridge that keeps them: none is carried out
late, and none twice."""

from __future__ import annotations

import json
import random
import signal
import time
from itertools import count
from pathlib import Path

from doorpi import Result
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.virtual import VirtualField
from tests.helpers.broker import ANYBODY, Broker, Peer
from tests.helpers.nursery import Nursery
from tests.helpers.processes import DoorProcess, wait_for, write_config

TURNS, OLDEST_S = 8, 10.0
DO, DONE = "doorpi/main/front/do/ha", "doorpi/main/front/done"
FASTER = """
import paho.mqtt.client
doorpi.ServiceThread.backoff_s = (0.02, 0.1)
doorpi.Orders.per_min = 10_000
"""
MQTT = """
[mqtt]
host = "127.0.0.1"
port = {port}
tls = false
door = "front"
may = {{ ha = ["unlock", "lock"] }}
"""
BRIDGE = """
connection building
address 127.0.0.1:{port}
bridge_protocol_version mqttv50
topic doorpi/main/+/do/+ out 1
restart_timeout 1
"""


class Storm:
    """A door, its `doorpi online`, its broker and a second one with a bridge to it."""

    def __init__(self, folder: Path) -> None:
        (folder / "far").mkdir()
        self.broker = Broker(folder)
        bridge = BRIDGE.format(port=self.broker.port)
        self.far = Broker(folder / "far", ANYBODY + bridge)
        self.cloud, self.radio = LiveSesameMini(), VirtualField()
        self.config = write_config(
            folder, self.cloud, self.radio.device,
            door="require_synced_clock = false", more=MQTT.format(port=self.broker.port),
        )  # fmt: skip
        self.door = DoorProcess(self.config).until_ready()
        self.nursery = Nursery(self.config, FASTER)
        self.online = self.nursery.start()
        self.orderer, self.listener = Peer(self.far.port), Peer(self.broker.port, DONE)
        self.pressed: dict[str, float] = {}  # when, by the order's id
        self._numbers = count(1)

    def press(self, chance: random.Random) -> None:
        """Give an order; half of them are so old that a delay makes them late."""
        name = f"order-{next(self._numbers)}"
        age_s = chance.choice([0.0, OLDEST_S - 0.2])
        self.pressed[name] = at = time.time() - age_s
        order = {"do": chance.choice(["unlock", "lock"]), "id": name, "at": at}
        self.orderer.client.publish(DO, json.dumps(order), 1)

    def until_an_order_works(self, chance: random.Random) -> None:
        """Give one after the other until one of them is carried out."""

        def works() -> bool:
            first = len(self.listener.heard)
            self.press(chance)
            signal.sigtimedwait([], 0.3)
            heard = [json.loads(each.text) for each in self.listener.heard[first:]]
            return any(each["result"] in ("unlocked", "locked") for each in heard)

        wait_for(works, "an order that is carried out", 30)

    def kill_online(self) -> None:
        self.nursery.kill(self.online)
        self.online = self.nursery.start()

    def kill_broker(self) -> None:
        self.broker.stop()
        self.broker.start()

    def kill_door(self) -> None:
        self.door.process.kill()
        self.door.__exit__(None)
        self.door = DoorProcess(self.config).until_ready()

    def take_over(self) -> None:
        """Another program uses the door's name at the broker."""
        other = Peer(self.broker.port, client_id="doorpi-main-front")
        other.close()

    def close(self) -> None:
        self.nursery.kill(self.online)
        self.nursery.close()
        self.door.__exit__(None)
        self.orderer.close()
        self.listener.close()
        for each in (self.far, self.broker):
            each.stop()
        self.cloud.close()
        self.radio.close()


def test_orders_are_never_late_or_carried_out_twice(tmp_path):
    chance, storm = random.Random(20), Storm(tmp_path)
    kinds = [storm.kill_online, storm.kill_broker, storm.take_over, storm.kill_door]
    for turn in range(TURNS):
        if turn < 4:  # else often while it starts
            storm.until_an_order_works(chance)
        for _ in range(chance.randint(1, 3)):
            storm.press(chance)
        signal.sigtimedwait([], chance.uniform(0.0, 0.3))
        kinds[turn % len(kinds)]()
    storm.until_an_order_works(chance)
    events = [event for event in storm.door.events if event.source == "mqtt"]
    commands = [at for at, _ in storm.cloud.commands]
    storm.close()

    names = [event.request for event in events]
    assert len(names) == len({*names})  # none twice
    assert len(commands) <= sum(event.command is not None for event in events)
    to_wall = time.time() - time.monotonic()
    ended = (Result.UNLOCKED, Result.LOCKED)
    moved = [event for event in events if event.result in ended]
    assert len(moved) > TURNS / 2
    for event in moved:
        at, sent = storm.pressed[event.request], [each + to_wall for each in commands]
        assert any(-0.1 <= each - at <= OLDEST_S + 0.1 for each in sent), event
    assert {event.holder for event in events} == {"ha"}
