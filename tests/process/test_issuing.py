"""`issue`, the running door and a card: real processes and nfcpy's own field."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.fakes.secure_cards import ntag424
from tests.helpers.processes import (
    DoorProcess,
    doorpi_says,
    environment,
    wait_for,
    write_config,
)

PROOF = """
[proof]
door_key = { file = "door.key" }
issuer_key = { file = "issuer.key" }
"""


def issue(config, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "doorpi", "--config", str(config), "issue", *args],
        env=environment(USER="nobi", SUDO_USER=None), cwd="/", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_card_is_issued_at_the_door_and_opens_it(tmp_path, cloud, radio):
    config = write_config(tmp_path, cloud, radio.device, more=PROOF)
    assert doorpi_says("--config", str(config), "keys", "new").returncode == 0
    with DoorProcess(config) as door:
        door.until_ready()
        with issue(config, "Jo Guest") as verb:  # whose sender changes their mind
            assert verb.stdout.readline().startswith("hold the card")
            verb.send_signal(signal.SIGINT)
            assert verb.wait(10) == 130
        card = ntag424()
        with issue(config, "Mika Mori") as verb:
            assert verb.stdout.readline().startswith("hold the card")
            radio.put(card)
            said, errors = verb.communicate(timeout=20)
        assert (verb.returncode, errors) == (0, "")
        *steps, end = said.splitlines()
        assert len(steps) == 7
        assert end == "04:95:8C:AA:5C:5E:80 is Mika Mori's: always"
        assert not door.taps

        radio.take()
        door.until_idle(radio)
        radio.put(card)
        wait_for(lambda: cloud.commands, "the lock's command")
        assert "Mika Mori" in door.journal
        keys = [path.read_text().strip() for path in tmp_path.glob("*.key")]
        assert len(keys) == 2
        assert not [key for key in keys if key in door.journal + said]
