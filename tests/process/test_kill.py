"""kill -9 at any moment: no event that led to a command is lost, and nothing is corrupted.

Forty doors that tap as fast as they can, each killed at a random moment.  The door,
its rules and its database are real; reader, lock and lights are the fakes.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from doorpi import Command, SqliteStore
from tests.helpers.processes import ROOT, environment

KILLS = int(os.environ.get("DOORPI_KILLS", "40"))

#: Forks a door whenever it is told to, and tells when that has ended: nothing has to be
#: imported each time.
NURSERY = """
import os, sys
sys.path.insert(0, {root!r})
from tests.helpers.values import replace
from pathlib import Path
import doorpi
from tests.helpers.world import KEN, World, card_of, config_of

folder = Path(sys.argv[1])
sent = os.open(folder / "sent", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def tap_for_ever():
    world = World()
    store = doorpi.SqliteStore(folder / "doorpi.db")
    lock = doorpi.LockConfig(relock_after_s=0.5)
    door = world.door(replace(config_of(card_of(KEN)), lock=lock))
    world.equipment.people, world.equipment.events = store.people, store.events
    send = world.lock.send

    def noted(command, send_by, by):
        os.write(sent, command[:1].encode())  # it leaves
        return send(command, send_by, by)

    world.lock.send = noted
    door = world.door_on_equipment(replace(config_of(card_of(KEN)), lock=lock))
    store.events.close_interrupted()
    os.write(1, b"+")
    while True:
        world.reader.shows = [KEN, *[None] * 12]
        while world.reader.shows:
            door.step()
        for memory in (world.lights.shown, world.clock.slept, world.lock.sent):
            memory.clear()


for line in sys.stdin:
    child = os.fork()
    if not child:
        tap_for_ever()
    os.write(1, b"%d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


class Nursery:
    """Doors one after the other on the database in ``folder``."""

    def __init__(self, folder: Path) -> None:
        program = NURSERY.format(root=str(ROOT))
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), bufsize=0,
        )  # fmt: skip

    def kill_one_after(self, seconds: float) -> None:
        """A door starts, taps for ``seconds``, and is killed."""
        self._process.stdin.write(b"go\n")
        words = b""
        while b"+" not in words or b"\n" not in words:
            words += self._process.stdout.read(1)
        pid = int(words.replace(b"+", b"").strip())
        signal.sigtimedwait([], seconds)
        os.kill(pid, signal.SIGKILL)
        while not words.endswith(b"dead\n"):
            words += self._process.stdout.read(1)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def test_kills_lose_no_event_that_led_to_a_command(tmp_path):
    chance, nursery = random.Random(9), Nursery(tmp_path)
    store = SqliteStore(tmp_path / "doorpi.db", busy_s=5)
    open_ends = 0
    for _ in range(KILLS):
        nursery.kill_one_after(chance.uniform(0.0, 0.05))

        assert store.events.verify() is None
        events = list(store.events.read())
        # Each command has its event, in order; an event whose door was killed may have
        # come to no command.
        expected = "".join(
            event.command[:1] + "?" * (event.result in (None, "interrupted"))
            for event in events
            if event.command
        )
        assert re.fullmatch(expected, (tmp_path / "sent").read_text())
        open_ends += events != [] and events[-1].result is None
        assert all(event.result for event in events[:-1])
        store.close()
    nursery.close()

    assert store.events.close_interrupted() in (0, 1)
    ended = list(store.events.read())
    store.close()
    assert all(event.result for event in ended)
    assert open_ends > KILLS / 20  # some were killed in the middle of a tap
    assert {event.source for event in ended} == {"card", "relock"}
    assert {event.command for event in ended} == set(Command)
