"""How fast the door is, beside what would be possible: run by hand, prints a table.

    .venv/bin/python tests/tools/bench.py [TAPS]
    .venv/bin/python tests/tools/bench.py --light
    .venv/bin/python tests/tools/bench.py --scale [ROWS]

Everything in one run, so that a noisy machine disturbs all rows alike: the real door
(nfcpy on a virtual field, gpiozero on mock pins, HTTP to a simulated cloud) and, as
the limit, the same two requests made plainly on an open connection of a
``requests.Session``.  The seed's own flow is written anew as a row: open the reader, read,
activate, blink three times, ask, sleep a second, command.

With ``--light`` only the confirmed light is measured (four minutes): how long after the
motor's end it comes, at the vendor's times and as it is learnt.

With ``--scale`` the row counts of a long life instead: a list of a million cards and a log
of a million events, beside small ones.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import trustme
from gpiozero import Device, LEDBoard
from gpiozero.pins.mock import MockFactory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import doorpi
from tests.fakes.live_cloud import Live, LiveSesame, LiveSesameMini
from tests.fakes.virtual import VirtualCard, VirtualField
from tests.helpers.processes import DoorProcess, environment, write_config

KEN = "04A93C715ED284"

CONFIG = """
[door]
state_dir = "{folder}"
[reader]
device = "{device}"
virtual = true
poll_s = 0.02
rearm_s = 0.1
{lock}ca_file = "{ca_file}"
[[card]]
uid = "{uid}"
holder = "Ken Sato"
"""

NO_LOCK = """[lock]
kind = "sesame-mini"
device_id = "11200000-0000-4000-8000-000000000000"
api_key = "k"
base_url = "https://127.0.0.1:9"
"""


class Bench:
    """The real door on simulated surroundings, with a stopwatch at each station."""

    def __init__(
        self,
        folder: Path,
        *,
        ca_file: str = "",
        kind: type[Live] = LiveSesameMini,
        **cloud: Any,
    ) -> None:
        Device.pin_factory = MockFactory()
        self.radio = VirtualField()
        self.cloud = kind(**cloud)
        self.clock = doorpi.SystemClock()
        self.clock.is_set = lambda: True  # a container cannot know
        path = folder / "doorpi.toml"
        path.write_text(
            CONFIG.format(
                folder=folder, device=self.radio.device, uid=KEN,
                lock=self.cloud.table(), ca_file=ca_file,
            )
        )  # fmt: skip
        signals = doorpi.ProcessSignals()
        settings = doorpi.make_settings(path, {}, signals, self.clock)
        config = settings.load()
        self.door = doorpi.build(config, settings, {}, self.clock)
        self.equipment = self.door._keeper.equipment
        self.read_at = self.lit_at = self.confirmed_at = 0.0
        self._watch(self.equipment)
        self.idle_until_connected(1)  # opened ahead, before the first tap

    def idle_until_connected(self, count: int) -> None:
        """Let the door idle until it has opened its ``count``-th connection, and the
        server has it."""
        while self.cloud.connections < count:
            self.door.step()

    def _watch(self, equipment: doorpi.Equipment) -> None:
        """Note when a card has been read, and when the pins have changed for it."""
        source = next(s for s in equipment.sources if isinstance(s, doorpi.CardSource))
        sense, show = source.reader.sense, equipment.lights[""].show

        def watched_sense():
            card = sense()
            if card and not self.read_at:  # it is read again while the lock moves
                self.read_at = time.monotonic()
            return card

        def watched_show(*signals):
            show(*signals)  # returns with the first light on
            now = time.monotonic()
            if signals[0] is doorpi.Signal.WORKING:
                self.lit_at = now
            elif signals[0] in (doorpi.Signal.UNLOCKED, doorpi.Signal.LOCKED):
                self.confirmed_at = now

        source.reader.sense = watched_sense
        equipment.lights[""].show = watched_show

    def tap(self) -> tuple[float, float, float]:
        """One tap; returns seconds: card read to light, to command, and the tap from
        the card's arrival in the field to the command."""
        sent_before, self.read_at = len(self.cloud.commands), 0.0
        put_at = time.monotonic()
        self.radio.put(VirtualCard(bytes.fromhex(KEN)))
        while len(self.cloud.commands) == sent_before:
            self.door.step()
        command_at = self.cloud.commands[-1][0]
        self.radio.take()
        gone_at = time.monotonic()
        while time.monotonic() < gone_at + 0.2 or not self.door.is_idle:
            self.door.step()
        return (
            self.lit_at - self.read_at,
            command_at - self.read_at,
            command_at - put_at,
        )

    def confirm_lag(self) -> float:
        """Seconds from the motor's end to the confirmed light."""
        self.tap()
        return self.confirmed_at - (
            self.cloud.commands[-1][0] + self.cloud.bolt.motor_s
        )

    def close(self) -> None:
        self.equipment.close()
        self.radio.close()
        self.cloud.close()


def plain(cloud: LiveSesameMini, session: requests.Session) -> float:
    """The limit: status and command on a connection that is open; seconds to command."""
    url = f"{cloud.base_url}/sesame/{cloud.device_id}"
    started_at = time.monotonic()
    locked = session.get(url).json()["locked"]
    session.post(url, json={"command": "unlock" if locked else "lock"})
    return cloud.commands[-1][0] - started_at


def plain_rows(taps: int, *, ca_file: str = "", **cloud_is: Any) -> list[float]:
    cloud = LiveSesameMini(**cloud_is)
    with requests.Session() as session:
        session.headers["Authorization"] = cloud.key
        session.trust_env = False  # or the environment's bundle would decide
        session.verify = ca_file or True
        plain(cloud, session)  # opens the connection
        rows = [plain(cloud, session) for _ in range(taps)]
    cloud.close()
    return rows


def seed_tap(radio: VirtualField, cloud: LiveSesameMini) -> float:
    """The seed's flow: from the card in the field to its command, in seconds."""
    nfc = doorpi._nfcpy()
    tags = importlib.import_module("nfc.tag")
    Device.pin_factory = MockFactory()
    led = LEDBoard(23)
    url = f"{cloud.base_url}/sesame/{cloud.device_id}"
    headers = {"Authorization": cloud.key}
    put_at = time.monotonic()
    radio.put(VirtualCard(bytes.fromhex(KEN)))
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
    cloud, radio = LiveSesameMini(latency_s=latency_s), VirtualField()
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


def measure_confirmation(taps: int = 30) -> None:
    """As DESIGN 12 has it: in the median of 30 taps after the first ten, within one round
    trip + 0.3 s of the motor's end, for one call more per direction at most."""
    print(
        "\nmotor's end to the confirmed light, motor 1.5 s, latency 100 ms: limit 400 ms"
    )
    for kind in (LiveSesame, LiveSesameMini):
        confirm_rows(kind, max(4, taps // 5), learns=False)
        confirm_rows(kind, taps, learns=True)


def confirm_rows(kind: type[Live], taps: int, *, learns: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), kind=kind, latency_s=0.1, motor_s=1.5)
        if not learns:
            control = bench.door._keeper.control
            control._confirm_time = lambda command: doorpi.ConfirmTime()
        phases = {"the first ten": 10, "after these": taps} if learns else {"": taps}
        for phase, count in phases.items():
            before = len(bench.cloud.requests)
            lags = [bench.confirm_lag() for _ in range(count)]
            calls = (len(bench.cloud.requests) - before) / count
            title = f"learnt, {phase}" if learns else "at the vendor's times"
            show(f"{kind.kind}: {title}; {calls:.1f} calls a tap", lags)
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
doorpi.Systemd.report = lambda self, state: os._exit(0)
doorpi.main(["--config", sys.argv[1], "run"])
"""
IMPORT_LIMIT, READY_LIMIT = 330, 500  # million instructions, as DESIGN 12 has them


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
                folder=folder, device="udp:127.0.0.1:9", uid=KEN, lock=NO_LOCK,
                ca_file="",
            )
        )  # fmt: skip
        counts = (
            ("import doorpi", instructions("import doorpi", folder=folder), IMPORT_LIMIT),
            ("`run` until READY=1",
             instructions(UNTIL_READY, str(path), folder=folder), READY_LIMIT),
        )  # fmt: skip
    for title, count, limit in counts:
        print(f"  {title:44}{count:9}   limit {limit}: {count / limit:.2f} x")


# -- a million of each


def uid_of(number: int) -> doorpi.Uid:
    return doorpi.Uid(f"04{number:012X}")


def fill_list(folder: Path, count: int) -> float:
    """``count`` cards as `import` puts them there; returns the seconds it took."""
    cards = (
        doorpi.Credential(uid=uid_of(number), holder=f"Holder {number}")
        for number in range(count)
    )
    store = doorpi.SqliteStore(folder / "state" / "doorpi.db", busy_s=5)
    began_at = time.monotonic()
    store.people.change_cards(cards, [], datetime.now(UTC))
    took_s = time.monotonic() - began_at
    store.close()
    return took_s


def fill_log(path: Path, count: int, days: int) -> None:
    """``count`` taps of 200 people, evenly over the last ``days``, with their ends."""
    store = doorpi.SqliteStore(path, busy_s=5)
    store.events.keep(doorpi.NO_NOTES)  # makes the database
    db = store.events._connection()
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -500000")
    now, step = datetime.now(UTC), timedelta(days=days) / count

    def linked(rows: Iterator[tuple]) -> Iterator[tuple]:
        for row in rows:
            ends[len(row)] = doorpi.chain_hash(ends.get(len(row), ""), row)
            yield *row, ends[len(row)]

    ends: dict[int, str] = {}
    events = (
        (n, doorpi.utc_text(now - step * (count - n)), uid_of(n * 7919 % 200),
         f"Holder {n * 7919 % 200}", "granted", "unlock", "card")
        for n in range(1, count + 1)
    )  # fmt: skip
    outcomes = ((n, n, "unlocked", 412, "") for n in range(1, count + 1))
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,'','','')", linked(events)
    )
    db.executemany("INSERT INTO outcomes VALUES (?,?,?,?,?,?)", linked(outcomes))
    chains = [(count, ends[7], "events"), (count, ends[5], "outcomes")]
    db.executemany("UPDATE chains SET id = ?, hash = ? WHERE name = ?", chains)
    db.commit()
    store.close()
    os.sync()  # or the first of what is measured would pay for it


def forget_pages(path: Path) -> None:
    """The kernel's copy of the file goes; it is read from the disk again."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def percentiles(name: str, seconds: list[float]) -> None:
    ms = sorted(second * 1000 for second in seconds)
    p99 = ms[min(len(ms) - 1, int(len(ms) * 0.99))]
    print(
        f"  {name:<44}{statistics.median(ms):9.3f}{p99:9.3f}{ms[-1]:9.3f}", flush=True
    )


def timed(action) -> float:
    began_at = time.perf_counter()
    action()
    return time.perf_counter() - began_at


def measure_lookups(folder: Path, count: int) -> None:
    print(f"\nlookup among {count:,} cards, ms{'':<15}   median      p99      max")
    rng = random.Random(1)
    known = [uid_of(rng.randrange(count)) for _ in range(2000)]
    unknown = [uid_of(count + rng.randrange(10**12)) for _ in range(2000)]
    path = folder / "state" / "doorpi.db"
    store = doorpi.SqliteStore(path)
    for name, uids in (("known", known), ("unknown", unknown)):
        from_disk, cold = [], []
        for seconds, is_on_disk in ((from_disk, True), (cold, False)):
            for uid in uids[:500]:
                store.close()
                store.people.locked_down()  # opens it
                if is_on_disk:
                    forget_pages(path.with_name("cards.db"))
                seconds.append(timed(lambda uid=uid: store.people.find(uid)))
        warm = [timed(lambda uid=uid: store.people.find(uid)) for uid in uids]
        percentiles(f"{name}, all of it from the disk", from_disk)
        percentiles(f"{name}, the first on a connection", cold)
        percentiles(f"{name}, later ones", warm)
    store.close()


def rss_kb(pid: int) -> int:
    found = re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def run_memory(folder: Path, count: int) -> int:
    """kB of `run` after taps of some of ``count`` cards."""
    radio, cloud = VirtualField(), LiveSesameMini()
    config = write_config(folder, cloud, radio.device, cards="")
    rng = random.Random(2)
    with DoorProcess(config) as door:
        door.until_ready()
        for _ in range(20):
            door.tap(radio, uid_of(rng.randrange(count)))
        used = rss_kb(door.pid)
        door.stop()
    radio.close()
    cloud.close()
    return used


def measure_size(small: Path, big: Path, count: int) -> None:
    print(f"\n`run` with 10 and with {count:,} cards")
    kb = [run_memory(small, 10), run_memory(big, count)]
    print(f"  memory after 20 taps, MB   {kb[0] / 1000:9.1f}{kb[1] / 1000:9.1f}")
    if shutil.which("valgrind") is None:
        print("  valgrind is not installed: the start is not measured")
        return
    text = CONFIG.format(
        folder="state", device="udp:127.0.0.1:9", uid=KEN, lock=NO_LOCK, ca_file="",
    )  # fmt: skip
    counts = []
    for folder in (small, big):
        path = folder / "doorpi.toml"
        path.write_text(text.replace('"state"', f'"{folder}/state"'))
        counts.append(instructions(UNTIL_READY, str(path), folder=small))
    ratio = counts[1] / counts[0]
    print(
        f"  million instructions until READY=1 {counts[0]} {counts[1]}   {ratio:.2f} x"
    )


class StepClock:
    """Lets a second pass for each step of the retention, at once."""

    def __init__(self) -> None:
        self.ahead_s = 100.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def is_set(self) -> bool:
        return True


def measure_log(folder: Path, count: int) -> None:
    print(f"\na log of {count:,} events")
    path = folder / "state" / "doorpi.db"
    print(
        f"  written in                         {timed(lambda: fill_log(path, count, 730)):9.1f} s"
    )
    print(f"  its file                           {path.stat().st_size / 1e6:9.0f} MB")
    config = folder / "doorpi.toml"
    config.write_text(f'[door]\nstate_dir = "{path.parent}"\n[lock]\nkind = "relay"\n')
    command = [sys.executable, "-m", "doorpi", "--config", str(config), "log"]
    for args in (
        ["--since", "today"],
        ["--since", "today", "--denied"],
        ["--uid", uid_of(7)],
    ):
        seconds = [
            timed(lambda args=args: subprocess.run(
                [*command, *args], env=environment(), stdout=subprocess.DEVNULL, check=True
            ))
            for _ in range(7)
        ]  # fmt: skip
        print(
            f"  {' '.join(['log', *args]):<30} median {statistics.median(seconds):9.2f} s"
        )
    store = doorpi.SqliteStore(path, busy_s=5)
    print(f"  log --verify                       {timed(store.events.verify):9.1f} s")
    store.close()
    measure_retention(path)


def measure_retention(path: Path, steps: int = 1000) -> None:
    print(
        "\nhalf of it is too old: steps of the retention, ms   median      p99      max"
    )
    store, clock = doorpi.SqliteStore(path, repair=True), StepClock()
    store.events.keep(doorpi.Notes({"retention": doorpi.utc_text(clock.now())}))
    store.events.close_interrupted()  # as a door does when it starts
    retention, removed = doorpi.Retention(365, clock), 0
    tap = doorpi.Event(
        at=datetime.now(UTC), uid=uid_of(1), holder="Holder 1",
        reason=doorpi.Reason.GRANTED, command=doorpi.Command.UNLOCK,
    )  # fmt: skip

    def forget(*args):
        nonlocal removed
        found = store.events.forget(*args)
        removed += found
        return found

    events = doorpi.Forgiving(store.events, lambda why, is_write: None)
    events.forget = forget
    alone = [timed(lambda: store.events.begin(tap)) for _ in range(100)]
    took, taps = [], []
    for number in range(steps):
        took.append(timed(lambda: retention.step(store.people, events)))
        clock.ahead_s += 1.0
        if number % 5 == 0:
            taps.append(timed(lambda: store.events.begin(tap)))
    percentiles("a step", took)
    percentiles("a tap's begin, alone", alone)
    percentiles("a tap's begin, between steps", taps)
    wal = Path(f"{path}-wal").stat().st_size / 1e6
    print(f"  rows removed: {removed:,} in {steps} steps; the -wal has {wal:.1f} MB")
    store.close()


def measure_scale(count: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        small, big = Path(name) / "small", Path(name) / "big"
        log = Path(name) / "log"
        for folder in (small, big, log):
            folder.mkdir()
        fill_list(small, 10)
        print(f"{count:,} cards written in {fill_list(big, count):.1f} s", flush=True)
        measure_lookups(big, count)
        measure_size(small, big, count)
        measure_log(log, count)


def main() -> None:
    if sys.argv[1:2] == ["--scale"]:
        measure_scale(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
        return
    if sys.argv[1:] == ["--light"]:
        measure_confirmation()
        return
    taps = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    for latency_s in (0.0, 0.1):
        measure(latency_s, taps)
    measure_confirmation(max(3, taps // 5))
    measure_idle(max(3, taps // 5))
    measure_writes(taps)
    measure_start()
    left = [t.name for t in threading.enumerate() if t.name == "dial"]
    print(f"\nconnection threads left: {len(left)}")


if __name__ == "__main__":
    main()
