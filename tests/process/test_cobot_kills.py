"""kill -9 of `doorpi online` at any moment, while members come in and Cobot's answers are
lost or wrong: nobody is checked in twice, no check-in is lost that could be made, and nobody
is let in or kept out by a broken list."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import doorpi
from doorpi import (
    Circumstances,
    Command,
    Event,
    OnlineStore,
    Reason,
    Result,
    SyncedPeople,
    Uid,
    decide,
)
from tests.fakes.cobot import SUBDOMAIN, TOKEN, FakeCobot, Pass
from tests.fakes.live_cloud import RealTime
from tests.helpers.nursery import Nursery
from tests.helpers.processes import wait_for

KILLS = int(os.environ.get("DOORPI_KILLS", "50"))
MEMBERS = [f"0A{number:012X}" for number in range(60)]
ENDED, STRANGER = "0B000000000001", "0B000000000002"
FASTER = """
doorpi.CobotDesk.look_every_s = doorpi.CobotDesk.log_every_s = 0.005
doorpi.Roster.look_s = 0.005
doorpi.CobotApi.calls_per_min = 100_000
doorpi.CheckIns.settles_s = 0.2
doorpi.ServiceThread.backoff_s = (0.01, 0.02)
"""


def written(folder: Path, server: FakeCobot) -> Path:
    path = folder / "doorpi.toml"
    path.write_text(
        f"""
[door]
state_dir = "{folder}/state"
require_synced_clock = false
[lock]
kind = "relay"
[cobot]
subdomain = "{SUBDOMAIN}"
token = "{TOKEN}"
base_url = "{server.base_url}"
site_url = "{server.base_url}"
uid_format = "HEX"
time_passes = true
check_in = "after"
interval_s = 1
"""
    )
    return path


class Weather:
    """What goes wrong with each call, at random."""

    def __init__(self, server: FakeCobot, chance: random.Random) -> None:
        self.server, self.chance = server, chance
        self.is_bad = True
        #: What two readings in a row may explain is broken once until one was whole.
        self.was_broken: set[str] = set()
        server.before_call = self.blow

    def blow(self, name: str) -> None:
        server, dice = self.server, self.chance.random()
        for lists in (server.empty, server.halved, server.torn):
            lists.discard(name)
        if not self.is_bad:
            return
        if name == "check-in" and dice < 0.5:
            server.fail_at(
                name, self.chance.choice(("cut-after", "500-after", "cut-before"))
            )
        elif name in ("tokens", "members", "plans") and dice < 0.3:
            self.chance.choice((server.empty, server.halved, server.torn)).add(name)
        elif name in ("passes", "catalogue") and dice < 0.2:
            if name not in self.was_broken:
                server.empty.add(name)
            self.was_broken.add(name)
        elif dice > 0.95:
            server.fail_at(name, self.chance.choice(("cut-after", "html", "503")))


def test_kills_check_nobody_in_twice_and_shut_nobody_out(tmp_path):
    chance, clock = random.Random(17), RealTime()
    server = FakeCobot(clock)
    for number, uid in enumerate(MEMBERS):
        server.add(f"m{number}", uid, plan="Ten Days")
        server.passes += [Pass(f"m{number}"), Pass(f"m{number}")]
    server.catalogue["Ten Days"] = True
    server.page_size = 25
    server.add("ended", ENDED, canceled="2020-12-31")
    config = written(tmp_path, server)
    nursery = Nursery(config, FASTER)
    synced = SyncedPeople(tmp_path / "state" / "synced.db", busy_s=5)
    log = doorpi.SqliteEvents(tmp_path / "state" / "doorpi.db", busy_s=5)
    notes = OnlineStore(tmp_path / "state" / "online.db", busy_s=5)

    first = nursery.start()
    wait_for(lambda: notes.exists() and notes.recall("cobot bookmark"), "the bookmark")
    wait_for(lambda: len(list(synced.cards())) >= len(MEMBERS), "the list")
    nursery.kill(first)
    weather, came_in = Weather(server, chance), Counter[str]()
    for _ in range(KILLS):
        pid = nursery.start()
        uid = chance.choice(MEMBERS)
        came_in[uid] += 1
        log.record(entry(uid))
        time.sleep(chance.uniform(0.0, 0.2))
        nursery.kill(pid)
        if (notes.recall("doubt cobot") or "\n").endswith("\n"):  # nobody was lost
            weather.was_broken.clear()
        decided = {decided_about(synced, each) for each in MEMBERS}
        assert decided == {Reason.GRANTED}
        assert decided_about(synced, ENDED) is not Reason.GRANTED
        assert decided_about(synced, STRANGER) is Reason.NOT_FOUND
    weather.is_bad = False
    last = nursery.start()
    wait_for(
        lambda: {s["state"] for s in states(notes)} <= {"done", "gave-up"}, "ends", 30
    )
    wait_for(lambda: len(states(notes)) == len(came_in), "every check-in", 30)
    nursery.kill(last, signal.SIGTERM)

    made = Counter(each["membership"] for each in server.check_ins)
    assert max(made.values()) == 1
    assert server.guests == []
    assert len(made) > len(came_in) / 2
    for row in states(notes):
        is_made = row["member"] in made
        assert is_made or (row["state"] == "gave-up" and row["sent"] == 2), row
    nursery.close()
    for each in (synced, log, notes, server):
        each.close()


def entry(uid: str) -> Event:
    return Event(
        datetime.now(UTC), Uid(uid), "Somebody", Reason.GRANTED,
        command=Command.UNLOCK, result=Result.UNLOCKED,
    )  # fmt: skip


def states(notes: OnlineStore) -> list[dict]:
    return [json.loads(text) for text in notes.under("check-in ").values()]


def decided_about(synced: SyncedPeople, uid: str) -> Reason:
    now = Circumstances(datetime.now(UTC))
    return Reason(decide(Uid(uid), synced.find(Uid(uid)), now).reason)
