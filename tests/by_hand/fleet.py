"""A fleet on one mosquitto on this computer: figures for tests/docs/fleet.md.

    .venv/bin/python -m tests.by_hand.fleet lists [--cards 10000] [--doors 4]
    .venv/bin/python -m tests.by_hand.fleet doors [--count 1000] [--taps 200]

``lists``: real `doorpi online` processes take a list that the verb `publish` sends.
``doors``: many doors, each with the real link and the real part that takes lists, in
some processes: all connect at once, get a list, have a day of taps as fast as the
computer can, get another list, and lose their broker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import doorpi
from doorpi import MqttLink, MqttPart, PublishedList
from tests.helpers.broker import MOSQUITTO, free_port
from tests.helpers.chat import RealClock
from tests.helpers.fleet import KEY, public
from tests.helpers.processes import environment

PER_PROCESS = 125  # select() takes no descriptor above 1023
TICKS = os.sysconf("SC_CLK_TCK")


def say(*words: object) -> None:
    print(*words, flush=True)


def until(holds: Callable[[], object], within_s: float = 900.0) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() > began + within_s:
            raise SystemExit(f"not within {within_s:g} s")
        time.sleep(0.05)
    return time.monotonic() - began


STARTED: list[subprocess.Popen[bytes]] = []


class Broker:
    """mosquitto as on a server: it keeps what is retained on the disk."""

    def __init__(self, folder: Path) -> None:
        self.port, self._file = free_port(), folder / "broker.conf"
        self._file.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\n"
            "autosave_interval 60\nlog_dest none\n"
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([MOSQUITTO or "mosquitto", "-c", self._file])
        STARTED.append(self.process)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()

    @property
    def cpu_s(self) -> float:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        return sum(map(int, stat.split()[11:13])) / TICKS

    @property
    def connections(self) -> int:
        """That are established."""
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(r[1].endswith(f":{self.port:04X}") and r[3] == "01" for r in rows)

    @property
    def memory_mb(self) -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024


class Watch:
    """A client that counts the doors that are online."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        self.online: set[str] = set()
        self._client = Client(CallbackAPIVersion.VERSION2, "", protocol=MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda *_: self._client.subscribe("doorpi/+/+/online")
        self._client.on_message = self._hear
        until(lambda: self._connects(port), 10)
        self._client.loop_start()

    def _connects(self, port: int) -> bool:
        with contextlib.suppress(OSError):
            self._client.connect("127.0.0.1", port)
            return True
        return False

    def _hear(self, client: object, data: object, found: Any) -> None:
        if found.payload == b"online" and not found.retain:
            self.online.add(found.topic)


class Notes(dict[str, str]):
    """An OnlineStore in memory."""

    def recall(self, name: str) -> str | None:
        return self.get(name)

    def keep(self, name: str, value: str) -> None:
        self[name] = value

    def change(self, notes: dict[str, str | None]) -> None:
        for name, value in notes.items():
            self.pop(name, None) if value is None else self.keep(name, value)


class Day(MqttPart):
    """The topics that a door publishes: ``online``, and more for ``taps`` once ``begin``
    is set."""

    def __init__(self, link: MqttLink, taps: int, begin: Any, done: Any) -> None:
        self._link, self._taps, self._begin, self._done = link, taps, begin, done
        self._said, self._left = "", 0
        self._has_begun = False

    def up(self) -> None:
        self._link.publish(f"{self._link.root}/online", "online", is_retained=True)

    def step(self) -> float:
        link = self._link
        text = json.dumps({"list": link.parts[1].health()})
        if text != self._said and link.publish(
            f"{link.root}/health", text, is_retained=True
        ):
            self._said = text
        if not self._has_begun and self._begin.is_set():
            self._has_begun, self._left = True, self._taps * 4
        while self._left and link.room > 0:
            kind = ("lock", "event", "events", "last")[self._left % 4]
            values = {
                "id": self._left,
                "at": "2026-11-29T03:00:05.123Z",
                "holder": "Ken Sato",
            }
            values |= {
                "decision": "granted",
                "reason": "granted",
                "result": "unlocked",
                "more": "-" * 100,
            }
            is_state = kind in ("lock", "last")
            link.publish(
                f"{link.root}/{kind}", json.dumps(values), is_retained=is_state
            )
            self._left -= 1
            if not self._left:
                with self._done.get_lock():
                    self._done.value += 1
        return 0.02 if self._left else 0.5


def play_doors(first: int, args: Any, port: int, folder: Path, flags: Any) -> None:
    """A process of doors; it ends with its parent's SIGTERM."""
    flags.connect.wait()
    for number in range(first, min(first + PER_PROCESS, args.count)):
        home = folder / f"{number}"
        home.mkdir()
        context = doorpi.Context(
            clock=RealClock(), store=Notes(), troubles=dict,
            synced=doorpi.SyncedPeople(home / "synced.db"),
            people=SimpleNamespace(count=lambda: 0),
            events=SimpleNamespace(record=lambda event: None),
        )  # fmt: skip
        table = doorpi.MqttConfig(
            host="127.0.0.1", port=port, tls=False, door=f"d{number}",
            list_key=public(KEY),
        )  # fmt: skip
        day = lambda link: Day(link, args.taps, flags.begin, flags.done)  # noqa: E731
        link = MqttLink("mqtt", table, context, [day, PublishedList])
        doorpi.ServiceThread(link, context.store, context.clock)
    multiprocessing.Event().wait()


@contextlib.contextmanager
def fleet(args: Any, port: int, folder: Path) -> Iterator[Any]:
    make = multiprocessing.get_context("fork")
    flags = SimpleNamespace(
        connect=make.Event(), begin=make.Event(), done=make.Value("i", 0)
    )
    processes = [
        make.Process(
            target=play_doors, args=(n, args, port, folder, flags), daemon=True
        )
        for n in range(0, args.count, PER_PROCESS)
    ]
    for each in processes:
        each.start()
    time.sleep(1.0)
    try:
        yield flags
    finally:
        for each in processes:
            each.terminate()


def publish(port: int, folder: Path, doors: int, cards: int) -> Counter[str]:
    """Lists of so many cards to all doors; the doors' answers."""
    uids = [doorpi.Uid(f"0A{number:012X}") for number in range(cards)]
    people = {uid: doorpi.Credential(uid, f"Holder of {uid}") for uid in uids}
    config = doorpi.Config(cards=people)
    editions = [
        doorpi.Edition(f"d{number}", config, folder / "published" / f"d{number}")
        for number in range(doors)
    ]
    table = doorpi.MqttConfig(host="127.0.0.1", port=port, tls=False, door="x")
    clock = RealClock()
    doorpi.Publisher(editions, table, clock, KEY, shrink=False).run(120.0)
    return Counter(each.state(clock.monotonic())[1] for each in editions)


def play_fleet(args: Any, folder: Path) -> None:
    broker = Broker(folder)
    watch = Watch(broker.port)
    cpu_s = broker.cpu_s

    def phase(name: str, took_s: float) -> None:
        nonlocal cpu_s
        used_s, cpu_s = broker.cpu_s - cpu_s, broker.cpu_s
        say(
            f"{name}: {took_s:.1f} s; broker {used_s:.2f} s CPU, {broker.memory_mb:.0f} MB"
        )

    def all_online() -> bool:
        return len(watch.online) >= args.count

    with fleet(args, broker.port, folder) as flags:
        flags.connect.set()
        phase(f"{args.count} doors connect at once", until(all_online))
        for cards, name in ((100, "first list"), (101, "one card more")):
            began = time.monotonic()
            states = publish(broker.port, folder, args.count, cards)
            phase(f"{name}, {cards} cards: {dict(states)}", time.monotonic() - began)
        flags.begin.set()
        took_s = until(lambda: flags.done.value >= args.count)
        count = args.count * args.taps * 4
        phase(
            f"{args.taps} taps a door, {count:,} messages, {count / took_s:,.0f}/s",
            took_s,
        )
        broker.stop(signal.SIGKILL)
        broker.start()
        cpu_s = 0.0
        took_s = until(lambda: broker.connections > args.count)  # the watch, too
        phase("the broker is killed and starts again, all are back", took_s)
    broker.stop()


# -- real processes


def play_lists(args: Any, folder: Path) -> None:
    broker, doors = Broker(folder), [f"d{number}" for number in range(args.doors)]
    mqtt = f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\ntls = false\n'
    (folder / "doorpi.toml").write_text(mqtt)
    verb = [sys.executable, "-m", "doorpi", "--config", str(folder / "doorpi.toml")]
    run = {"env": environment(), "cwd": "/", "text": True, "capture_output": True}
    key = subprocess.run([*verb, "list-key"], check=True, **run).stdout.split()[-1]
    people = "".join(
        f'[[card]]\nuid = "0A{n:012X}"\nholder = "Person number {n}"\n'
        f"doors = {json.dumps(doors)}\n" + 'schedule = "day"\n' * (n % 5 < 2)
        for n in range(args.cards)
    )
    text = "".join(f'[[door]]\nid = "{door}"\n' for door in doors)
    text += '[[schedule]]\nname = "day"\ntimes = ["Mon-Fri 08:00-20:00"]\n' + people
    (folder / "FLEET.toml").write_text(text)
    processes = []
    for door in doors:
        (folder / door).mkdir()
        config = folder / door / "doorpi.toml"
        more = f'door = "{door}"\nlist_key = "{key}"\n[lock]\nkind = "relay"\n'
        config.write_text(mqtt + more)
        command = [sys.executable, "-m", "doorpi", "--config", str(config), "online"]
        processes.append(subprocess.Popen(command, env=environment(), cwd="/"))
    STARTED.extend(processes)
    time.sleep(3.0)
    lists = [doorpi.SyncedPeople(folder / d / "state" / "synced.db") for d in doors]
    began = time.monotonic()
    command = [*verb, "publish", str(folder / "FLEET.toml"), "--wait", str(args.wait)]
    with subprocess.Popen(command, env=run["env"], cwd="/") as publisher:
        until(lambda: all(each.mark_of("mqtt") for each in lists))
        in_force_s = time.monotonic() - began
        publisher.wait()
    say(
        f"{args.cards:,} cards on {args.doors} doors: in force after {in_force_s:.1f} s"
    )
    say(f"publish ended after {time.monotonic() - began:.1f} s")
    say("counts:", [each.count("mqtt") for each in lists])
    for each in processes:
        status = Path(f"/proc/{each.pid}/status").read_text()
        say("peak of `online`:", status.partition("VmHWM:")[2].split()[0], "kB")
        each.terminate()
        each.wait()
    broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    lists, doors = verbs.add_parser("lists"), verbs.add_parser("doors")
    for where, name, usual in (
        (lists, "cards", 10_000), (lists, "doors", 4), (lists, "wait", 60),
        (doors, "count", 1000), (doors, "taps", 200),
    ):  # fmt: skip
        where.add_argument(f"--{name}", type=int, default=usual)
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # as LimitNOFILE= does
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            {"lists": play_lists, "doors": play_fleet}[args.verb](args, Path(folder))
    finally:
        for each in STARTED:
            each.kill()


if __name__ == "__main__":
    main()
