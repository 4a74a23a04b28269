"""How fast the door is, beside what would be possible: run by hand, prints a table.

    .venv/bin/python tests/bench.py [TAPS]

Everything in one run, so that a noisy machine disturbs all rows alike: the real door
(nfcpy on a virtual field, gpiozero on mock pins, requests to a simulated cloud) and, as
the limit, the same two requests made plainly on an open connection of a
``requests.Session``.  The seed's own flow is written anew as a row: open the reader, read,
activate, blink three times, ask, sleep a second, command.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests
import trustme
from gpiozero import Device, LEDBoard
from gpiozero.pins.mock import MockFactory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import doorpi

KEN = "04A1B2C3D4E580"

CONFIG = """
[door]
state_dir = "{folder}"
[reader]
device = "{device}"
virtual = true
poll_s = 0.02
rearm_s = 0.1
[lock]
kind = "sesame-mini"
device_id = "{device_id}"
api_key = "{key}"
base_url = "{base_url}"
ca_file = "{ca_file}"
[[card]]
uid = "{uid}"
holder = "Ken Sato"
"""


class Bench:
    """The real door on simulated surroundings, with a stopwatch at each station."""

    def __init__(self, folder: Path, *, ca_file: str = "", **cloud: Any) -> None:
        Device.pin_factory = MockFactory()
        self.radio = doorpi.VirtualField()
        self.cloud = doorpi.SimulatedCloud(**cloud)
        self.clock = doorpi.SystemClock()
        path = folder / "doorpi.toml"
        path.write_text(
            CONFIG.format(
                folder=folder, device=self.radio.device, uid=KEN,
                device_id=self.cloud.device_id, key=self.cloud.key,
                base_url=self.cloud.base_url, ca_file=ca_file,
            )
        )  # fmt: skip
        config = doorpi.read_config(path, {})
        self.equipment = doorpi.equip(config, self.clock)
        self.read_at = self.lit_at = self.confirmed_at = 0.0
        self._watch(self.equipment)
        signals = doorpi.ProcessSignals()
        self.door = doorpi.Door(
            config,
            self.equipment,
            doorpi.FileSettings(path, {}, signals, self.clock),
            clock=self.clock,
            supervisor=doorpi.Systemd({}, self.clock),
        )
        self.idle_until_connected(1)  # opened ahead, before the first tap

    def idle_until_connected(self, count: int) -> None:
        """Let the door idle until it has opened its ``count``-th connection, and the
        server has it."""
        while self.cloud.connections < count:
            self.door.step()

    def _watch(self, equipment: doorpi.Equipment) -> None:
        """Note when a card has been read, and when the pins have changed for it."""
        sense, show = equipment.reader.sense, equipment.indicator.show

        def watched_sense():
            card = sense()
            self.read_at = time.monotonic() if card else self.read_at
            return card

        def watched_show(*signals):
            show(*signals)  # returns with the first light on
            now = time.monotonic()
            if signals[0] is doorpi.Signal.WORKING:
                self.lit_at = now
            elif signals[0] in (doorpi.Signal.UNLOCKED, doorpi.Signal.LOCKED):
                self.confirmed_at = now

        equipment.reader.sense = watched_sense
        equipment.indicator.show = watched_show

    def tap(self) -> tuple[float, float, float]:
        """One tap; returns seconds: card read to light, to command, and the tap from
        the card's arrival in the field to the command."""
        sent_before = len(self.cloud.commands)
        put_at = time.monotonic()
        self.radio.put(doorpi.VirtualCard(bytes.fromhex(KEN)))
        while len(self.cloud.commands) == sent_before:
            self.door.step()
        command_at = self.cloud.commands[-1][0]
        self.radio.take()
        gone_at = time.monotonic()
        while time.monotonic() < gone_at + 0.2:
            self.door.step()
        return (
            self.lit_at - self.read_at,
            command_at - self.read_at,
            command_at - put_at,
        )

    def confirm_lag(self) -> float:
        """Seconds from the motor's end to the confirmed light."""
        self.tap()
        return self.confirmed_at - (self.cloud.commands[-1][0] + self.cloud.motor_s)

    def close(self) -> None:
        self.equipment.close()
        self.radio.close()
        self.cloud.close()


def plain(cloud: doorpi.SimulatedCloud, session: requests.Session) -> float:
    """The limit: status and command on a connection that is open; seconds to command."""
    url = f"{cloud.base_url}/sesame/{cloud.device_id}"
    started_at = time.monotonic()
    locked = session.get(url).json()["locked"]
    session.post(url, json={"command": "unlock" if locked else "lock"})
    return cloud.commands[-1][0] - started_at


def plain_rows(taps: int, *, ca_file: str = "", **cloud_is: Any) -> list[float]:
    cloud = doorpi.SimulatedCloud(**cloud_is)
    with requests.Session() as session:
        session.headers["Authorization"] = cloud.key
        session.trust_env = False  # or the environment's bundle would decide
        session.verify = ca_file or True
        plain(cloud, session)  # opens the connection
        rows = [plain(cloud, session) for _ in range(taps)]
    cloud.close()
    return rows


def seed_tap(radio: doorpi.VirtualField, cloud: doorpi.SimulatedCloud) -> float:
    """The seed's flow: from the card in the field to its command, in seconds."""
    nfc = doorpi._nfcpy()
    tags = importlib.import_module("nfc.tag")
    Device.pin_factory = MockFactory()
    led = LEDBoard(23)
    url = f"{cloud.base_url}/sesame/{cloud.device_id}"
    headers = {"Authorization": cloud.key}
    put_at = time.monotonic()
    radio.put(doorpi.VirtualCard(bytes.fromhex(KEN)))
    reader = nfc.ContactlessFrontend(radio.device)
    target = reader.sense(nfc.clf.RemoteTarget("106A"), iterations=6, interval=0.2)
    tags.activate(reader, target)
    for _ in range(3):
        led.on()
        time.sleep(0.5)
        led.off()
        time.sleep(0.5)
    locked = requests.get(url, headers=headers).json()["locked"]
    time.sleep(1)
    command = {"command": "unlock" if locked else "lock"}
    requests.post(url, headers=headers, json=command)
    reader.close()
    radio.take()
    led.close()
    return cloud.commands[-1][0] - put_at


def seed_rows(latency_s: float, taps: int) -> list[float]:
    cloud, radio = doorpi.SimulatedCloud(latency_s=latency_s), doorpi.VirtualField()
    rows = [seed_tap(radio, cloud) for _ in range(taps)]
    radio.close()
    cloud.close()
    return rows


def show(name: str, seconds: list[float], limit: list[float] | None = None) -> None:
    ms = sorted(second * 1000 for second in seconds)
    p95 = ms[min(len(ms) - 1, int(len(ms) * 0.95))]
    median = statistics.median(ms)
    ratio = f"{median / (statistics.median(limit) * 1000):6.2f} x" if limit else ""
    print(f"  {name:<44}{median:9.1f}{p95:9.1f}{ms[-1]:9.1f}   {ratio}", flush=True)


def measure(latency_s: float, taps: int) -> None:
    print(
        f"\nlatency {latency_s * 1000:.0f} ms{'':<31}  median      p95      max   to limit"
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), latency_s=latency_s)
        # The limit's taps and the door's in turn, so that noise meets both.
        limit, rows = [], []
        for _ in range(0, taps, 5):
            limit += plain_rows(5, latency_s=latency_s)
            rows += [bench.tap() for _ in range(5)]
        to_light, to_command, from_field = (list(c) for c in zip(*rows, strict=True))
        show("limit: two requests on an open connection", limit)
        show("tap to command, from the card being read", to_command, limit)
        show("tap to command, from the card's arrival", from_field, limit)
        show("card read to working light", to_light)
        print(f"  connections opened for {len(rows)} taps: {bench.cloud.connections}")
        bench.close()
    show("the seed's flow: tap to command", seed_rows(latency_s, 2), limit)


def measure_confirmation(taps: int) -> None:
    print("\nmotor's end to the confirmed light, motor 1.5 s")
    for latency_s in (0.0, 0.1):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), latency_s=latency_s, motor_s=1.5)
            show(
                f"at {latency_s * 1000:.0f} ms latency",
                [bench.confirm_lag() for _ in range(taps)],
            )
            bench.close()


def measure_idle(taps: int) -> None:
    """A server that closes idle connections, as API gateways do (there after a minute,
    here after 2 s): the tap comes 3 s after the last one."""
    print("\nafter idle, over TLS, latency 100 ms")
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(ca_file)
        limit = plain_rows(taps, ca_file=ca_file, latency_s=0.1, tls=tls)
        bench = Bench(folder, ca_file=ca_file, latency_s=0.1, tls=tls, idle_s=2.0)
        rows = []
        for _ in range(taps):
            idle_from, connected = time.monotonic(), bench.cloud.connections
            bench.idle_until_connected(connected + 1)  # closed, and opened anew
            while time.monotonic() < idle_from + 3.0:
                bench.door.step()
            rows.append(bench.tap()[1])
        show("limit: two requests on an open connection", limit)
        show("tap to command, connection closed meanwhile", rows, limit)
        print(f"  requests for {taps} taps: {len(bench.cloud.requests)}")
        bench.close()


def written() -> int:
    """Bytes that this process has had written to a disk.  Source: proc(5), io."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line[:11] == "write_bytes")


def measure_writes(taps: int) -> None:
    """SD cards wear by it."""
    print("\nwritten to the disk (0 where the temporary folder is in memory)")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.tap()
        before = written()
        for _ in range(taps):
            bench.tap()
        by_taps, idle_from = written(), time.monotonic()
        while time.monotonic() < idle_from + 10.0:
            bench.door.step()
        print(
            f"  bytes a tap                                 {(by_taps - before) // taps:9}"
        )
        print(f"  bytes in 10 s of idle time                  {written() - by_taps:9}")
        bench.close()


UNTIL_READY = """
import os, sys, doorpi
doorpi.Systemd.ready = lambda self: os._exit(0)
doorpi.main(["--config", sys.argv[1], "run"])
"""
EAGER = """
import os, doorpi
import nfc, nfc.clf, gpiozero, requests, sqlite3, tomllib, tomli_w, ssl
import cryptography.hazmat.primitives.cmac
import cryptography.hazmat.primitives.ciphers.algorithms
ssl.create_default_context()
os._exit(0)
"""


def instructions(program: str, *args: str, folder: Path) -> int:
    """Millions of them, by callgrind; everything was compiled by a run before."""
    ours = Path(doorpi.__file__).parent
    env = os.environ | {
        "PYTHONPATH": str(ours), "PYTHONHASHSEED": "0", "GPIOZERO_PIN_FACTORY": "mock",
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
    }  # fmt: skip
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program, *args]
    subprocess.run(command, env=env, check=True, capture_output=True)
    counted = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        env=env, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Collected *: *(\d+)", counted.stderr)
    assert found, counted.stderr
    return int(found[1]) // 1_000_000


def measure_start() -> None:
    """The cold start, in instructions: repeatable, and near what an ARM counts."""
    print("\ncold start, million instructions (callgrind)")
    if shutil.which("valgrind") is None:
        print("  valgrind is not installed: not measured")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "doorpi.toml"
        path.write_text(
            CONFIG.format(
                folder=folder, device="udp:127.0.0.1:9", uid=KEN, device_id="d",
                key="k", base_url="https://127.0.0.1:9", ca_file="",
            )
        )  # fmt: skip
        ready = instructions(UNTIL_READY, str(path), folder=folder)
        eager = instructions(EAGER, folder=folder)
    print(f"  run until READY=1                           {ready:9}")
    print(
        f"  all libraries and authorities, loaded ahead {eager:9}   {ready / eager:.2f} x"
    )


def main() -> None:
    taps = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    for latency_s in (0.0, 0.1):
        measure(latency_s, taps)
    measure_confirmation(max(3, taps // 10))
    measure_idle(max(3, taps // 5))
    measure_writes(taps)
    measure_start()
    left = [t.name for t in threading.enumerate() if t.name == "dial"]
    print(f"\nconnection threads left: {len(left)}")


if __name__ == "__main__":
    main()
