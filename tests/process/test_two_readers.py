"""A door with a reader on each side, as a real process on two radio fields."""

from __future__ import annotations

import json

from doorpi import Reason, Result
from tests.fakes.live_cloud import LiveSesameMini
from tests.fakes.virtual import VirtualField
from tests.helpers.processes import (
    KEN_CARD,
    DoorProcess,
    doorpi_says,
    write_config,
)
from tests.helpers.world import KEN

SECOND = """
[[reader]]
name = "exit"
direction = "out"
device = "{device}"
virtual = true
poll_s = 0.01
rearm_s = 0.1
leds = {{ green_gpio = 5, red_gpio = 6 }}
"""


def test_who_comes_in_goes_out_and_comes_in_again(tmp_path):
    cloud, entrance, way_out = LiveSesameMini(), VirtualField(), VirtualField()
    config = write_config(
        tmp_path, cloud, entrance.device,
        door='require_synced_clock = false\non_tap = "unlock"\npassback_s = 3600.0',
        reader='name = "entrance"\ndirection = "in"\npoll_s = 0.01\nrearm_s = 0.1',
        more=SECOND.format(device=way_out.device), cards=KEN_CARD,
    )  # fmt: skip
    config.write_text(config.read_text().replace("\n[reader]\n", "\n[[reader]]\n"))

    def present() -> list[str]:
        out = doorpi_says("--config", str(config), "present", "--json").stdout
        return [json.loads(line)["holder"] for line in out.splitlines()]

    with DoorProcess(config) as door:
        door.until_ready()
        came = door.tap(entrance, KEN)
        assert present() == ["Ken Sato"]
        again = door.tap(entrance, KEN)
        entrance.close()  # nothing answers there any more
        went = door.tap(way_out, KEN)
        assert present() == []
        door.stop()
    way_out.close()
    cloud.close()

    assert (came.point, came.result) == ("entrance", Result.UNLOCKED)
    assert again.reason is Reason.PASSBACK
    assert (went.point, went.result) == ("exit", Result.UNLOCKED)
