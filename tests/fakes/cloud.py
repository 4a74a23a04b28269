"""What all fake lock clouds share: a server on loopback, a bolt, and how both fail.

They live in the time of the test's clock: what takes time moves that clock, and a hang
lasts for as long as the caller has patience.  tests/fakes/live_cloud.py has them in real time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from doorpi import Command, start_thread
from tests.helpers.values import replace

QUESTIONS = ("status", "confirm")
STAGES = ("status", "command", "confirm")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer, ready after ``after_s``.

    ``delivery`` is "whole", "cut" (the connection ends without a word), "drip" (it
    begins, and goes on for longer than anybody waits) or "silent" (a Fault's).
    """

    status: int
    body: bytes = b""
    headers: tuple[str, ...] = ()
    delivery: str = "whole"
    after_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """One way in which a cloud, or what lies between it and the bolt, misbehaves.

    ``acts``: the request has its effect.  ``reply`` None is the right answer.
    ``delivery`` is a Reply's, or "hang": nothing comes for as long as anybody waits.
    "silent": the network swallows the request, and delivers it ``FakeCloud.outage_s``
    later, unless the caller has had its kernel drop it by then.
    ``during`` are the cloud's switches while this one request is dealt with.
    ``transient_at`` are the stages at which a person has a right to have it healed,
    when it happens once.
    """

    acts: bool = False
    reply: Reply | None = None
    delivery: str = "whole"
    during: Mapping[str, object] = field(default_factory=dict)
    transient_at: tuple[str, ...] = ()


def answers(status: int, body: bytes = b"", *headers: str, transient_at=()) -> Fault:
    """A fault that does nothing but to answer so."""
    return Fault(reply=Reply(status, body, headers), transient_at=transient_at)


def lives(transient_at=(), **during) -> Fault:
    """A fault that is nothing but these switches, at one request."""
    return Fault(acts=True, during=during, transient_at=transient_at)


WRONG_TYPES = (
    b'{"locked":"yes","responsive":1,"task_id":7,"status":1,"CHSesame2Status":7,'
    b'"timestamp":"x","statusCode":[],"body":7,"result":[1],"state":"1","success":"1"}'
)

#: Those that any HTTP service can have.
FAULTS: dict[str, Fault] = {
    "cut-before": Fault(delivery="cut", transient_at=QUESTIONS),
    "cut-after": Fault(acts=True, delivery="cut", transient_at=STAGES),
    "hang-before": Fault(delivery="hang", transient_at=QUESTIONS),
    "hang-after": Fault(acts=True, delivery="hang", transient_at=STAGES),
    "drip": Fault(acts=True, delivery="drip", transient_at=STAGES),
    "silent": Fault(delivery="silent", transient_at=QUESTIONS),
    "html": answers(200, b"<html>Sign in to the WiFi</html>", transient_at=QUESTIONS),
    "empty": answers(200, transient_at=QUESTIONS),
    "list": answers(200, b"[]", transient_at=QUESTIONS),
    "null": answers(200, b"null", transient_at=QUESTIONS),
    "wrong-types": answers(200, WRONG_TYPES, transient_at=QUESTIONS),
    "endless": answers(200, b"[" * 1_000_000, transient_at=QUESTIONS),
    "redirect": answers(302, b"", "Location: http://127.0.0.1:1/elsewhere"),
    "400": answers(400),
    "401": answers(401),
    "403": answers(403),
    "404": answers(404),
    "429": answers(429),
    "429-retry-after": answers(429, b"", "Retry-After: 2", transient_at=STAGES),
    "500-before": answers(500, transient_at=QUESTIONS),
    "500-after": Fault(acts=True, reply=Reply(500), transient_at=STAGES),
    "502": answers(502, b"<html>Bad Gateway</html>", transient_at=QUESTIONS),
    "503": answers(503, transient_at=QUESTIONS),
    "504": answers(504, transient_at=QUESTIONS),
}

#: Those of every lock behind a cloud; what they look like is the vendor's own.
LOCK_FAULTS: dict[str, Fault] = {
    "jammed": lives(shown="jammed", jams=1),
    "low-battery": lives(battery=5),
    "dropped": lives(drops=1),
    "late": lives(late_s=15.0),
    "stale": lives(lag_s=3600.0),
}

OPPOSITE = {"locked": "unlocked", "unlocked": "locked"}
TARGETS = {"lock": "locked", "unlock": "unlocked"}
GOING = {"locking": "locked", "unlocking": "unlocked"}


class Bolt:
    """Where the bolt is: "locked", "unlocked", or between: "locking", "unlocking",
    "jammed".

    The next ``jams`` turns end half way.  ``moved`` are the commands that took effect.
    """

    def __init__(self, clock) -> None:
        self.motor_s = 1.5
        self.jams = 0
        self.moved: list[Command] = []
        self._clock = clock
        self._legs = [(clock.monotonic() - 3600, "locked")]  # since when, where

    def turn(self, command: Command, after_s: float = 0.0) -> float:
        """The motor runs, if there is anything to move.  Returns when it ends."""
        begins_at = self._clock.monotonic() + after_s
        self.moved.append(command)
        target, going = TARGETS[command], f"{command}ing"
        if self.at(begins_at) == target:
            return begins_at
        ends_at = begins_at + self.motor_s
        end = "jammed" if self.jams else target
        self.jams = max(0, self.jams - 1)
        self._legs = [leg for leg in self._legs if leg[0] <= begins_at]
        self._legs += [(begins_at, going), (ends_at, end)]
        return ends_at

    def is_found(self, place: str) -> None:
        """Somebody turned it by hand, just now."""
        now = self._clock.monotonic()
        self._legs = [leg for leg in self._legs if leg[0] <= now] + [(now, place)]

    def leg(self, time_s: float, *, resting: bool = False) -> tuple[float, str]:
        """Where it was at ``time_s``, and since when; ``resting``: last came to rest."""
        legs = [leg for leg in self._legs if not (resting and leg[1] in GOING)]
        return ([leg for leg in legs if leg[0] <= time_s] or legs[:1])[-1]

    def at(self, time_s: float) -> str:
        return self.leg(time_s)[1]

    @property
    def place(self) -> str:
        return self.at(self._clock.monotonic())

    @property
    def is_moving(self) -> bool:
        return self.place in GOING


class FakeCloud:
    """A vendor's HTTP API; a class of its own gives ``command_of`` and ``answer``.

    The attributes below are switches.  ``received`` are the commands that came in, with
    their time, whether anything came of them or not; ``requests`` all that was asked.
    ``late`` are the commands that came in when the network was back.
    What is in ``script`` answers the next requests: a Reply, (status, body), the name of
    a fault, or None for the right answer.
    """

    credentials: Mapping[str, str]  # what the owner writes under [lock]
    base_path = ""
    faults = FAULTS | LOCK_FAULTS
    hang_s = 5.0  # as long as one try may take
    outage_s = 25.0
    ends_within_s = 0.001  # so often does the server look whether it is to end
    latency_s = 0.0  # a round trip: half of it before the request takes effect
    tls: ssl.SSLContext | None = None  # it speaks https
    idle_s: float | None = None  # a connection that idles for so long is closed
    hangs_up = False  # after each answer

    def __init__(self, clock) -> None:
        self.clock = clock
        self.bolt = Bolt(clock)
        self.battery: int | None = 80
        self.lag_s = 0.0  # the status tells what was so long ago
        self.shown: str | None = None  # what it tells whatever the bolt does
        self.drops = 0  # so many commands are accepted and lost on the way
        self.late_s = 0.0  # so much later than accepted does a command come to the bolt
        self.ahead_s = 0.0  # how much the server's clock is ahead of the door's
        self.script: list[Reply | tuple[int, bytes] | str | None] = []
        self.requests: list[Request] = []
        self.stages: list[str] = []  # what each request was
        self.received: list[tuple[float, Command]] = []
        self.late: list[tuple[float, Command]] = []
        self._swallowing = 0
        self.connections = self.open = 0
        self._is_commanded = False
        self._planned: list[tuple[Fault, str, float]] = []
        self._troubles: list[Exception] = []
        self._wires: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.go_online()

    @property
    def base_url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}{self.base_path}"

    @property
    def asked(self) -> list[str]:
        """Method and path of each request."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def go_online(self) -> None:
        if self._server is None:
            self._server = _server_of(self)
            self.port = self._server.server_port
            serve = functools.partial(self._server.serve_forever, self.ends_within_s)
            start_thread(serve, "cloud")

    def go_offline(self) -> None:
        """Every connection is cut and no new one is taken."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for wire in list(self._wires):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.go_offline()
        if self._troubles:
            raise self._troubles[0]

    def fail(self, fault: str, at: str = "any", times: float = 1) -> None:
        """Play ``fault`` at the next ``times`` requests of the stage ``at``.

        "status" is any question before a command, "command" the command, "confirm" any
        question after it, until ``new_tap``; "any" is each of them.
        """
        assert at in (*STAGES, "any"), at
        self._planned.append((self.faults[fault], at, times))

    def new_tap(self) -> None:
        """The next question is a first one; faults that have not come don't come."""
        self._is_commanded = False
        self._planned.clear()

    def switch(self, **switches: object) -> dict[str, object]:
        """Set switches, the bolt's too.  Returns what they were."""
        before = {}
        for name, value in switches.items():
            owner = self.bolt if hasattr(self.bolt, name) else self
            before[name] = getattr(owner, name)
            setattr(owner, name, value)
        return before

    # -- what a vendor's class says

    def command_of(self, request: Request) -> Command | None:
        """The command that ``request`` is, None for a question."""
        raise NotImplementedError

    def answer(self, request: Request) -> Reply | tuple[int, bytes]:
        """Do what is asked, and what is said to it."""
        raise NotImplementedError

    def patience_s(self, request: Request) -> float:
        """How long the caller waits for an answer."""
        return self.hang_s

    # -- for it

    @property
    def seen(self) -> tuple[float, str]:
        """Where the status puts the bolt, and since when."""
        time_s = self.clock.monotonic() - self.lag_s
        return (time_s, self.shown) if self.shown else self.bolt.leg(time_s)

    def turn(self, command: Command) -> float | None:
        """``command`` goes to the bolt.  Returns when it ends, None: it never comes."""
        if self.drops:
            self.drops -= 1
            return None
        return self.bolt.turn(command, self.late_s)

    def unix_s(self, time_s: float) -> float:
        """A time of the test's clock as the server's own clock has it."""
        now_s = self.clock.now().timestamp() + self.ahead_s
        return now_s + time_s - self.clock.monotonic()

    # -- one request, on the connection's thread

    def respond(self, request: Request) -> Reply:
        try:
            return self._respond(request)
        except Exception as error:  # close raises it, in the test
            self._troubles.append(error)
            return Reply(500, delivery="cut")

    def _respond(self, request: Request) -> Reply:
        self._travel()
        command = self.command_of(request)
        stage = "confirm" if self._is_commanded else "status"
        if command:
            self.received.append((self.clock.monotonic(), command))
            self._is_commanded, stage = True, "command"
        self.requests.append(request)
        self.stages.append(stage)
        reply = self._reply_to(request, stage)
        self._travel()
        return reply

    def _travel(self) -> None:
        """One way between the caller and the cloud."""
        if self.latency_s:
            self.clock.advance(self.latency_s / 2)

    def _reply_to(self, request: Request, stage: str) -> Reply:
        scripted = self.script.pop(0) if self.script else None
        if isinstance(scripted, str):
            return self._play(self.faults[scripted], request)
        if scripted is not None:
            return _reply(scripted)
        return self._play(self.next_fault(stage), request)

    def parts_of(self, reply: Reply, request: Request) -> Iterator[bytes]:
        """What goes on the wire, each when it comes."""
        if reply.delivery == "cut":
            return
        length = f"Content-Length: {len(reply.body)}"
        head = "\r\n".join([f"HTTP/1.1 {reply.status} X", length, *reply.headers])
        whole = head.encode() + b"\r\n\r\n" + reply.body
        if reply.delivery == "whole":
            yield whole
            return
        yield whole[:1]
        self.clock.advance(self.patience_s(request))
        yield whole[1:9]

    def swallow(self, request: Request, connection: socket.socket) -> None:
        """The network is away until after the caller's patience."""
        sent_at, command = self.clock.monotonic(), self.command_of(request)
        self._swallowing += 1
        try:
            self.clock.advance(self.patience_s(request))
            connection.sendall(b"H")  # wakes the caller, whose time is over
            if command and not ends_with_reset(connection):
                at = sent_at + self.outage_s
                self.late.append((at, command))
                self.bolt.turn(command, at - self.clock.monotonic())
        finally:  # a caller that is gone already cannot be woken
            self._swallowing -= 1

    def late_ones(self) -> list[tuple[float, Command]]:
        """``late``, when that is decided."""
        ends_at = time.monotonic() + 10
        while self._swallowing and time.monotonic() < ends_at:
            time.sleep(0.001)
        return self.late

    def next_fault(self, stage: str) -> Fault:
        for index, (fault, at, times) in enumerate(self._planned):
            if at in (stage, "any"):
                self._planned[index] = fault, at, times - 1
                if times <= 1:
                    del self._planned[index]
                return fault
        return Fault(acts=True)

    def _play(self, fault: Fault, request: Request) -> Reply:
        reply = fault.reply or Reply(200)
        if fault.acts:
            before = self.switch(**fault.during)
            right = _reply(self.answer(request))
            self.switch(**before)
            reply = fault.reply or right
        if fault.delivery == "hang":
            self.clock.advance(self.patience_s(request))
        if fault.delivery in ("cut", "hang"):
            return replace(reply, delivery="cut")
        if fault.delivery == "whole":
            self.clock.advance(reply.after_s)
        return replace(reply, delivery=fault.delivery)


def ends_with_reset(connection: socket.socket) -> bool:
    """How the caller ends it: a reset drops what its kernel has not delivered yet, an
    ordinary end queues up behind that, and a caller with endless patience has none."""
    connection.settimeout(3)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return False


def _reply(answer: Reply | tuple[int, bytes]) -> Reply:
    return answer if isinstance(answer, Reply) else Reply(*answer)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: FakeCloud, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", fake.port), handler)
        self._tls = fake.tls

    def get_request(self):
        """The handshake comes with the first byte, on the connection's thread."""
        wire, address = super().get_request()
        if self._tls:
            wire = self._tls.wrap_socket(
                wire, server_side=True, do_handshake_on_connect=False
            )
        return wire, address

    def handle_error(self, request, client_address):
        """A caller that hangs up is its own business."""


def _server_of(fake: FakeCloud) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # and it leaves hanging up to the caller
        disable_nagle_algorithm = True
        timeout = fake.idle_s

        def setup(self):
            super().setup()
            fake.connections += 1
            fake.open += 1
            fake._wires.add(self.connection)

        def finish(self):
            fake.open -= 1
            fake._wires.discard(self.connection)
            super().finish()

        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            reply = fake.respond(request)
            self.close_connection |= fake.hangs_up or reply.delivery != "whole"
            with contextlib.suppress(OSError):  # a caller that has hung up
                if reply.delivery == "silent":
                    fake.swallow(request, self.connection)
                else:
                    self.wfile.writelines(fake.parts_of(reply, request))

        do_POST = do_GET  # noqa: N815 -- the name http.server looks for

        def log_message(self, *args):
            pass

    return Server(fake, Handler)
