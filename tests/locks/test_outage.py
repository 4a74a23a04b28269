"""The network goes silent while a command is on its way, and comes back later.

Two hosts and a cable between them: network namespaces, which only root can make.  The
kernel keeps what was written into a socket and sends it again until it is answered,
whatever became of the program.  An ordinary connection beside each command, written and
closed at the same moment, shows that it would have come late.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from doorpi import HttpMaybeSent, SystemClock, WebApi
from tests.helpers.processes import environment, wait_for
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.wire import RawServer, Wire, served_by

DOOR, LOCK = "10.77.0.1", "10.77.0.2"
NOWHERE = "02:00:00:00:00:99"  # nobody on the cable has this address
OUTAGE_S = 1.7  # the kernel sends again after 0.2, 0.6, 1.4, 3.0 s
CONTROL = b"GET /ordinary HTTP/1.1\r\n\r\n"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cable:
    """A door's host and a lock's, and what connects them."""

    def __init__(self) -> None:
        self.door, self.lock = (
            f"doorpi-{end}-{os.getpid()}" for end in ("door", "lock")
        )

    def lay(self) -> None:
        for host in (self.door, self.lock):
            ip("netns", "add", host)
        ip("link", "add", "cable", "netns", self.door, "type", "veth",
           "peer", "name", "cable", "netns", self.lock)  # fmt: skip
        for host, address in ((self.door, DOOR), (self.lock, LOCK)):
            ip("-n", host, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", host, "link", "set", "cable", "up")

    def remove(self) -> None:
        for host in (self.door, self.lock):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "delete", host)

    def cut(self) -> None:
        """What the door sends is lost without a sign."""
        ip("-n", self.door, "neighbor", "replace", LOCK, "lladdr", NOWHERE,
           "dev", "cable", "nud", "permanent")  # fmt: skip

    def mend(self) -> None:
        ip("-n", self.door, "neighbor", "delete", LOCK, "dev", "cable")

    @contextlib.contextmanager
    def at(self, host: str) -> Iterator[None]:
        """What this thread opens meanwhile, and threads that it starts, is there."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as here,
            Path(f"/run/netns/{host}").open("rb") as there,
        ):
            move_to(there.fileno())
            try:
                yield
            finally:
                move_to(here.fileno())


def move_to(namespace: int) -> None:
    """Source: setns(2); 0x40000000 is CLONE_NEWNET."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable()
    try:
        try:
            cable.lay()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield cable
    finally:
        cable.remove()


def patiently(wire: Wire) -> None:
    """One request, however long the door takes to start."""
    wire.sock.settimeout(60)
    wire.request()


class Outage:
    """A cloud that answers questions; when it is asked for a status, the cable is cut
    before its answer goes out."""

    def __init__(self, cable: Cable, tls=None) -> None:
        self.cable = cable
        self.has_begun = threading.Event()
        with cable.at(cable.lock):
            self.server = RawServer(self.serve, tls, host=LOCK)
            self.ordinary = RawServer(patiently, host=LOCK)

    def close(self) -> None:
        self.server.close()
        self.ordinary.close()

    def serve(self, wire: Wire) -> None:
        wire.sock.settimeout(60)
        while wire.request():
            if not self.has_begun.is_set():
                self.cable.cut()
            body = b'{"locked": true, "responsive": true}'
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            wire.send(head + body)
            self.has_begun.set()

    @property
    def commands(self) -> list[bytes]:
        return [request for request in self.server.requests if b"POST " in request]

    def control(self) -> socket.socket:
        """An ordinary connection, opened while all is well."""
        with self.cable.at(self.cable.door):
            return socket.create_connection((LOCK, self.ordinary.port))

    def ends(self, after_s: float, control: socket.socket) -> None:
        """Let it last until ``after_s`` from now, and wait for what comes late."""
        control.sendall(CONTROL)
        control.close()
        time.sleep(after_s)
        self.cable.mend()
        wait_for(lambda: self.ordinary.requests, "the ordinary one comes late")
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("by_s", "send_by_s"), [(0.5, 10.0), (10.0, 0.5)], ids=["given-up", "window-over"]
)
def test_command_lost_in_an_outage_is_not_delivered_late(cable, by_s, send_by_s):
    outage = Outage(cable)
    clock = SystemClock()
    with contextlib.closing(outage), cable.at(cable.door):
        api = WebApi(outage.server.url, trusted="", clock=clock)
        control = outage.control()
        api.call("GET", "/status", by=clock.monotonic() + 5)
        now, watch = clock.monotonic(), Stopwatch()

        with pytest.raises(HttpMaybeSent, match="did not answer in time"):
            api.call("POST", "/unlock", by=now + by_s, send_by=now + send_by_s)

        assert watch.wall_s > 0.4
        assert watch.own_s < 1.5
        outage.ends(OUTAGE_S - 0.5, control)
        assert outage.commands == []
        assert api.call("GET", "/status", by=clock.monotonic() + 5).status == 200
        api.dialer.close()


def test_command_is_delivered_when_the_outage_ends_in_time(cable):
    outage = Outage(cable)
    clock = SystemClock()
    with contextlib.closing(outage), cable.at(cable.door):
        api = WebApi(outage.server.url, trusted="", clock=clock)
        api.call("GET", "/status", by=clock.monotonic() + 5)
        threading.Timer(0.5, cable.mend).start()
        now = clock.monotonic()

        reply = api.call("POST", "/unlock", by=now + 8, send_by=now + 8)

        assert reply.status == 200
        assert len(outage.commands) == 1
        api.dialer.close()


CONFIG = """
[door]
state_dir = "{folder}"
[lock]
kind = "sesame-mini"
device_id = "11200000-0000-4000-8000-000000000000"
api_key = "s3cret-key"
base_url = "{url}"
ca_file = "{ca_file}"
"""


def unacknowledged(pid: int) -> int:
    """How many bytes the process's host keeps for the network to come back.  Source:
    proc(5), net/tcp: column 2 is the peer, 4 the queue of what is sent."""
    rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return sum(int(row.split()[4].partition(":")[0], 16) for row in rows)


def test_command_of_a_killed_process_is_not_delivered_late(cable, tmp_path):
    ca = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    outage = Outage(cable, served_by(ca.issue_cert(LOCK)))
    config = tmp_path / "doorpi.toml"
    config.write_text(
        CONFIG.format(folder=tmp_path, url=outage.server.url, ca_file=ca_file)
    )
    with contextlib.closing(outage):
        control = outage.control()
        verb = subprocess.Popen(
            ["ip", "netns", "exec", cable.door, sys.executable, "-m", "doorpi",
             "--config", str(config), "unlock"],
            env=environment(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert outage.has_begun.wait(20)
            wait_for(
                lambda: unacknowledged(verb.pid), "the command waits in the kernel"
            )
        finally:
            verb.send_signal(signal.SIGKILL)
            verb.wait()
        outage.ends(OUTAGE_S, control)
        assert outage.commands == []
        log = subprocess.run(
            [sys.executable, "-m", "doorpi", "--config", str(config), "log", "--json"],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert re.search(r'"command": ?"unlock"', log.stdout)
