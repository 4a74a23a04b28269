"""A week of events for a broker, while `doorpi online` is killed again and again: every
event arrives, in order, and a duplicate is told by its id."""

from __future__ import annotations

import contextlib
import json
import random
import signal
from itertools import pairwise
from pathlib import Path

import pytest

import doorpi
from doorpi import Result, SqliteStore
from tests.helpers.broker import MOSQUITTO, Peer, running
from tests.helpers.nursery import Nursery
from tests.helpers.processes import wait_for
from tests.helpers.stores import DENIED, INTENT, record
from tests.helpers.values import replace

EVENTS, KILLS = 3_000, 15
TOPIC = "doorpi/main/front/events"
FASTER = "import paho.mqtt.client; doorpi.ServiceThread.backoff_s = (0.02, 0.1)"
SETTINGS = """
[door]
name = "Front"
require_synced_clock = false
[lock]
kind = "relay"
relay_gpio = 17
[mqtt]
host = "127.0.0.1"
port = {port}
tls = false
"""


def a_week(store: SqliteStore) -> None:
    """In one transaction, as a commit for each event takes the disk a while."""
    ended = replace(INTENT, result=Result.UNLOCKED, holder='健 "K"')
    with store.events._transaction() as db:
        for number in range(EVENTS):
            event = ended if number % 3 else DENIED
            begun = replace(event, id=doorpi._begin(db, event))
            if event.result:
                doorpi._finish(db, begun)


def test_a_week_of_events_survives_any_kill(tmp_path: Path):
    if not MOSQUITTO:
        pytest.skip("mosquitto is not installed")
    chance = random.Random(20)
    with (
        running(tmp_path) as broker,
        contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store,
    ):
        config = tmp_path / "doorpi.toml"
        config.write_text(SETTINGS.format(port=broker.port))
        a_week(store)
        reader, nursery = Peer(broker.port, TOPIC), Nursery(config, FASTER)
        for _ in range(KILLS):
            pid, wanted = nursery.start(), len(reader.heard) + chance.randint(0, 150)
            wait_for(lambda wanted=wanted: len(reader.heard) >= wanted, "events", 20)
            nursery.kill(pid)
        last = nursery.start()
        record(store, replace(INTENT, at=doorpi.SystemClock().now()), result="locked")
        wait_for(lambda: f'"id":{EVENTS + 1},' in reader.heard[-1].text, "the rest", 30)
        nursery.kill(last, signal.SIGTERM)
        nursery.close()
        reader.close()

    got = [json.loads(each.text)["id"] for each in reader.heard]
    assert {*got} == {*range(1, EVENTS + 2)}
    # Each goes on after the one before, or begins again at the mark of a killed process.
    assert all(late <= early + 1 for early, late in pairwise(got))
    assert sum(late <= early for early, late in pairwise(got)) <= KILLS
