"""A real broker (mosquitto) on a free port of this computer, and clients of it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import doorpi
from doorpi import Context, MqttConfig, MqttLink, MqttPart, ServiceThread
from tests.helpers.chat import RealClock
from tests.helpers.processes import wait_for

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
ANYBODY = "allow_anonymous true\n"
PASSWORD = "a password"  # of everybody in ``with_access``


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Broker:
    """mosquitto, with ``lines`` for its configuration; ``log`` is what it says."""

    def __init__(self, folder: Path, lines: str = ANYBODY) -> None:
        if not MOSQUITTO:
            pytest.skip("mosquitto is not installed")
        self.port, self.folder = free_port(), folder
        self._file, self._log = folder / "broker.conf", folder / "broker.log"
        self._file.write_text(
            f"listener {self.port} 127.0.0.1\n{lines}persistence false\n"
            "log_dest stderr\nlog_type all\nuser root\nset_tcp_nodelay true\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", self._file], stderr=log)
        wait_for(self._answers, "a broker that answers")

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def send(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process:
            self.send(number)
            self.process.wait()
            self.process = None


class Heard(NamedTuple):
    """A message as a client got it."""

    topic: str
    text: str
    is_retained: bool
    properties: Any


class Peer:
    """Another client of the broker, such as a home automation; ``heard`` is what it
    got, in order."""

    def __init__(
        self, port: int, *topics: str, user: str = "", password: str = "", **more: Any
    ) -> None:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard: list[Heard] = []
        self.answers: dict[int, str] = {}  # of the broker, by the message's number
        name = more.get("client_id", "")
        self.client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
        if user:
            self.client.username_pw_set(user, password)
        if "ca" in more:
            self.client.tls_set(more["ca"])
        self.client.on_message = self._hear
        self.client.on_publish = lambda *said: self.answers.update(
            {said[2]: str(said[3])}
        )
        ready = threading.Event()
        self.client.on_subscribe = lambda *said: ready.set()
        self.client.on_socket_open = lambda *said: said[2].setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self.client.on_connect = lambda *said: (
            self.client.subscribe([(topic, more.get("qos", 1)) for topic in topics])
            if topics
            else ready.set()
        )
        self.client.connect("localhost" if "ca" in more else "127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(10)

    def _hear(self, client: object, data: object, found: Any) -> None:
        text = found.payload.decode("utf-8", "replace")
        self.heard.append(Heard(found.topic, text, found.retain, found.properties))

    def say(
        self, topic: str, payload: str | bytes, *, qos: int = 1, **more: Any
    ) -> str:
        """Publish; the broker's answer to it in words."""
        sent = self.client.publish(topic, payload, qos, **more)
        return wait_for(lambda: self.answers.get(sent.mid), "the broker's answer")

    def texts(self, topic: str) -> list[str]:
        return [each.text for each in self.heard if each.topic == topic]

    def wait(self, topic: str, text: str = "", within_s: float = 10.0) -> Heard:
        """The first message of this topic that has ``text`` in it."""

        def found() -> Heard | None:
            fits = (h for h in self.heard if h.topic == topic and text in h.text)
            return next(fits, None)

        return wait_for(found, f"{text!r} at {topic}: {self.heard}", within_s)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client.on_message = self.client.on_publish = None  # they hold us
        self.client.on_subscribe = self.client.on_connect = None


class QuickLink(MqttLink):
    """One that does not make the tests wait."""

    backoff_s = (0.05, 1.0)


class QuickThread(ServiceThread):
    backoff_s = (0.05, 1.0)


class Linked:
    """``[mqtt]`` as the process `doorpi online` runs it, on databases in ``folder``,
    with a door that the test plays.  ``asked`` are the requests that reached it."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *parts: Callable[[MqttLink], MqttPart],
        config: doorpi.Config | None = None,
        kind: type[MqttLink] = QuickLink,
        **settings: Any,
    ) -> None:
        self.clock, self.asked = RealClock(), list[doorpi.AccessRequest]()
        self.door: Callable[[doorpi.AccessRequest], doorpi.Answer | None] = (
            lambda request: doorpi.Answer(True, ["unlocked"])
        )
        self.stores = doorpi.SqliteStore(folder / "doorpi.db")
        self.store = doorpi.OnlineStore(folder / "online.db")
        self.synced = doorpi.SyncedPeople(folder / "synced.db")
        values = {"host": "127.0.0.1", "port": port, "tls": False, "door": "front"}
        self.table = MqttConfig(**{**values, **settings})
        config = config or doorpi.Config(door=doorpi.DoorConfig(name="Front"))
        self.context = Context(
            config=config._replace(online={"mqtt": self.table}), clock=self.clock,
            store=self.store, people=self.stores.people, synced=self.synced,
            events=self.stores.events, ask=self._ask, troubles=dict, started=lambda: None,
        )  # fmt: skip
        self.parts, self.kind = parts, kind
        self.start()

    def start(self) -> None:
        self.link = self.kind("mqtt", self.table, self.context, self.parts)
        self.thread = QuickThread(self.link, self.store, self.clock)

    def _ask(self, request: doorpi.AccessRequest) -> doorpi.Answer | None:
        self.asked.append(request)
        return self.door(request)

    @property
    def state(self) -> str:
        """The service's trouble, "" if there is none."""
        return self.thread.state

    def until(self, state: str = "", within_s: float = 10.0) -> str:
        """Wait until the service's trouble has these words; "" for no trouble."""

        def holds() -> bool:
            return state in self.state if state else not self.state

        wait_for(holds, f"{state or 'no trouble'}, not {self.state!r}", within_s)
        return self.state

    def stop(self) -> None:
        self.thread.close()
        self.thread.thread.join(10)
        assert not self.thread.thread.is_alive()

    def close(self) -> None:
        self.stop()
        for each in (self.stores, self.store, self.synced):
            each.close()


class Proxy:
    """A TCP proxy before the broker that can freeze and cut every connection."""

    def __init__(self, port: int) -> None:
        self._target, self._server = port, socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.is_frozen = self.is_shut = False
        self.count = 0  # of connections so far
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.count += 1
                if self.is_shut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._pairs.append((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.is_frozen:
                    time.sleep(0.005)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()

    def cut(self) -> None:
        """End every connection that there is."""
        pairs, self._pairs = self._pairs, []
        for each in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.is_frozen = False
        self.cut()


def with_access(folder: Path, rules: str, *users: str) -> str:
    """Lines for a broker with these users and an access list."""
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("mosquitto_passwd is not installed")
    names, access = folder / "passwords", folder / "access"
    names.touch()
    for user in users:
        command = ["mosquitto_passwd", "-b", names, user, PASSWORD]
        subprocess.run(command, check=True, capture_output=True)
    access.write_text(rules)
    return f"allow_anonymous false\npassword_file {names}\nacl_file {access}\n"


@contextlib.contextmanager
def running(folder: Path, lines: str = ANYBODY) -> Iterator[Broker]:
    broker = Broker(folder, lines)
    try:
        yield broker
    finally:
        broker.stop()
