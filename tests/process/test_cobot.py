"""A door, `doorpi online` and Cobot: a member of this minute, and a check-in before the door
opens."""

from __future__ import annotations

import contextlib
import time

import pytest

from doorpi import Reason, Result
from tests.fakes.cobot import SUBDOMAIN, TOKEN, FakeCobot, Pass
from tests.fakes.live_cloud import LiveSesameMini, RealTime
from tests.fakes.virtual import VirtualField
from tests.helpers.processes import DoorProcess, OnlineProcess, write_config

KEN, MIKA, STRANGER = "04A93C715ED284", "D3C2B1A0", "04112233445566"


def settings(server: FakeCobot, more: str) -> str:
    url = server.base_url
    return f"""
[cobot]
subdomain = "{SUBDOMAIN}"
token = "{TOKEN}"
base_url = "{url}"
site_url = "{url}"
uid_format = "HEX"
interval_s = 3600
{more}
"""


@pytest.mark.realtime
def test_a_member_of_this_minute_opens_and_nobody_waits_without_online(tmp_path):
    cloud, radio, server = LiveSesameMini(), VirtualField(), FakeCobot(RealTime())
    server.add("m1", KEN, plan="Ten Days", name="Ken Sato")
    server.catalogue["Ten Days"] = True
    server.passes = [Pass("m1")]
    config = write_config(
        tmp_path, cloud, radio.device, cards="",
        door="require_synced_clock = false",
        more=settings(server, 'check_in = "before"\ntime_passes = true'),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        for each in (radio, cloud, server):
            stack.callback(each.close)
        door = stack.enter_context(DoorProcess(config)).until_ready()
        online = stack.enter_context(OnlineProcess(config)).until_ready()
        online.until(lambda: "cobot: ok" in online.status, "the list")
        online.until((tmp_path / "state" / "look-ups" / "inbox.db").exists, "its desk")

        event = door.tap(radio, KEN)
        assert (event.reason, event.holder) == (Reason.GRANTED, "Ken Sato")
        assert event.result is Result.UNLOCKED
        assert len(server.check_ins) == 1

        server.add("m2", MIKA, plan="Full Time", name="Mika Mori")
        event = door.tap(radio, MIKA)
        assert (event.reason, event.holder) == (Reason.GRANTED, "Mika Mori")

        online.process.kill()
        online.process.wait()
        began = time.monotonic()
        assert door.tap(radio, STRANGER).reason is Reason.NOT_FOUND
        assert time.monotonic() - began < 2.0
