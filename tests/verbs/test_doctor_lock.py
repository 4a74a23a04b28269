"""`doctor`, the lock: the connection to its cloud, and its status.

At the edges stand servers that really misbehave.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography.x509.oid import ExtendedKeyUsageOID

import doorpi
from doorpi import (
    Finding,
    Health,
    Notes,
)
from tests.fakes.locks import DRIVERS, access_to, driver_of
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.wire import (
    HomeMade,
    RawServer,
    Wire,
    answers,
    served_by,
)
from tests.helpers.world import (
    NOON,
    FakeClock,
    FakeStore,
)

OK, WARN, FAIL = Health.OK, Health.WARN, Health.FAIL


# -- the way to a lock's cloud


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA(organization_name="Good CA")


@pytest.fixture(scope="module")
def trusted(ca) -> str:
    return ca.cert_pem.bytes().decode()


@pytest.fixture
def serve():
    """Starts raw servers: ``serve(how, certificate)``."""
    with contextlib.ExitStack() as stack:

        def start(how=None, certificate=None):
            tls = certificate and served_by(certificate)
            server = RawServer(how or answers(), tls)
            stack.callback(server.close)
            return server

        yield start


def connection(url: str, trusted: str = "", clock=None) -> list[Finding]:
    clock = clock or FakeClock()
    dialer = doorpi.Dialer(url, trusted, clock)
    with contextlib.closing(dialer):
        return list(doorpi.diagnose_connection(dialer, clock))


def test_diagnose_connection_times_each_step_and_sends_no_request(serve, ca, trusted):
    until = datetime(2027, 1, 3, tzinfo=UTC)
    server = serve(certificate=ca.issue_cert("127.0.0.1", not_after=until))

    reached, certificate = connection(server.url, trusted)

    assert (reached.health, reached.do) == (OK, "")
    assert re.fullmatch(
        r"127\.0\.0\.1: name \d+ ms, connect \d+ ms, TLS \d+ ms", reached.words
    )
    assert certificate == Finding(OK, "certificate by Good CA, valid until 2027-01-03")
    assert server.requests == []


def test_diagnose_connection_says_that_there_is_no_tls(serve):
    (reached,) = connection(serve().url)

    assert reached.health is OK
    assert reached.words.endswith(" ms, no TLS")


def test_diagnose_connection_warns_of_a_certificate_that_ends_soon(serve, ca, trusted):
    until = NOON.astimezone(UTC) + timedelta(days=20, hours=23)
    server = serve(certificate=ca.issue_cert("127.0.0.1", not_after=until))

    _, certificate = connection(server.url, trusted)

    words = f"certificate by Good CA, valid until {until:%Y-%m-%d}"
    do = "the server's owner must renew it before then; a cloud does so by itself"
    assert certificate == Finding(WARN, words, do)


def dated(ca, first: str, last: str) -> trustme.LeafCert:
    days = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last)]
    return ca.issue_cert("127.0.0.1", not_before=days[0], not_after=days[1])


SET_IT = "is the clock set? else the server's owner must renew it"
CERTIFICATES = {
    "expired": (
        lambda ca: dated(ca, "2020-01-01", "2020-02-01"),
        r"certificate has expired \(is the clock right\?\)",
        SET_IT,
    ),
    "of the future": (
        lambda ca: dated(ca, "2998-01-01", "2999-01-01"),
        r"certificate is not yet valid \(is the clock right\?\)",
        SET_IT,
    ),
    "another name": (
        lambda ca: ca.issue_cert("elsewhere.example"),
        r"IP address mismatch, .*",
        "is the address right? a WiFi that wants a sign-in answers for others",
    ),
    "another authority": (
        lambda ca: trustme.CA(organization_name="Hotel").issue_cert("127.0.0.1"),
        "unable to get local issuer certificate",
        doorpi.CERTIFICATE_ADVICE[doorpi.UNKNOWN_ISSUER],
    ),
}


@pytest.mark.parametrize(
    ("certificate", "words", "do"), CERTIFICATES.values(), ids=CERTIFICATES
)
def test_diagnose_connection_says_why_a_certificate_is_not_trusted(
    serve, ca, trusted, certificate, words, do
):
    server = serve(certificate=certificate(ca))

    (finding,) = connection(server.url, trusted)

    step = r"127\.0\.0\.1: name \d+ ms, connect \d+ ms, TLS: "
    assert re.fullmatch(step + words, finding.words)
    assert (finding.health, finding.do) == (FAIL, do)
    assert server.requests == []


def test_diagnose_connection_does_not_guess_about_a_bad_certificate(serve):
    home, use = HomeMade(), ExtendedKeyUsageOID.CLIENT_AUTH
    server = serve(certificate=home.issue_cert("127.0.0.1", use=use))

    (finding,) = connection(server.url, home.pem.decode())

    assert " ms, TLS: " in finding.words
    do = "the server's owner must have a new one made, without that"
    assert (finding.health, finding.do) == (FAIL, do)


OTHER_ENDS = {
    "speaks no TLS": (lambda wire: wire.send(b"HTTP/1.1 400 No\r\n\r\n"), "TLS: "),
    "hangs": (Wire.hang, "TLS: no answer"),
    "drips": (lambda wire: wire.drip(b"\x16\x03\x03\x40\x00"), "TLS: no answer"),
    "hangs up": (lambda wire: None, "TLS: "),
}


@pytest.mark.parametrize(("how", "words"), OTHER_ENDS.values(), ids=OTHER_ENDS)
def test_diagnose_connection_ends_in_time_whatever_answers(
    serve, trusted, monkeypatch, how, words
):
    monkeypatch.setattr(doorpi, "DIAL_S", 0.2)
    server = serve(how)

    watch = Stopwatch()
    (finding,) = connection(f"https://127.0.0.1:{server.port}", trusted)

    assert watch.own_s < 1.0
    assert f" ms, {words}" in finding.words
    assert (finding.health, finding.do) == (FAIL, doorpi.OTHER_END)


def test_diagnose_connection_names_a_ca_file_that_is_not_pem(serve):
    server = serve()

    (finding,) = connection(f"https://127.0.0.1:{server.port}", "not PEM")

    assert finding.health is FAIL
    assert ": trust: " in finding.words
    assert finding.do == "is ca_file a PEM file?"


def test_diagnose_connection_fails_on_a_closed_port():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    (finding,) = connection(f"http://127.0.0.1:{port}")

    assert finding.health is FAIL
    assert finding.words.endswith(" ms, connect: 127.0.0.1: connection refused")
    assert (
        finding.do
        == "is the port in the address right, and is the server or bridge on?"
    )


def test_diagnose_connection_fails_on_an_unknown_name(monkeypatch):
    def unknown(*args, **hints):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    words = "lock.example: name: its name cannot be looked up (no network, or no DNS)"
    assert connection("https://lock.example") == [Finding(FAIL, words, doorpi.NETWORK)]


def test_diagnose_connection_does_not_wait_for_a_dead_name_server(monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *args, **hints: answer.wait(30) and []
    )
    monkeypatch.setattr(doorpi, "DIAL_S", 0.1)

    (finding,) = connection("http://lock.example")

    answer.set()
    assert finding.words == "lock.example: name: no answer"
    assert (finding.health, finding.do) == (FAIL, doorpi.NETWORK)


def test_diagnose_connection_warns_of_a_slow_network(serve, monkeypatch):
    monkeypatch.setattr(doorpi, "SLOW_S", 0.0)

    (finding,) = connection(serve().url)

    assert (finding.health, finding.do) == (
        WARN,
        "each tap after a pause takes so long: is the WiFi weak?",
    )


def test_diagnose_connection_names_the_error_of_each_address(monkeypatch):
    """Its kernel refuses the socket already (97: address family not supported)."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    kind = socket.SOCK_STREAM, 0, ""
    addresses = [
        (12345, *kind, ("2001:db8::1", port)),
        (socket.AF_INET, *kind, ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **hints: addresses)

    (finding,) = connection("http://lock.example")

    assert finding.words.endswith(
        " ms, connect: 2001:db8::1: address family not supported by protocol;"
        " 127.0.0.1: connection refused"
    )
    assert (
        finding.do
        == "is the port in the address right, and is the server or bridge on?"
    )


# -- the lock


@pytest.fixture
def asked(clock):
    """Starts a vendor's cloud, and tells what `doctor` finds of its lock."""
    with contextlib.ExitStack() as stack:

        def ask(kind, *, fault="", calls_per_month=0, used=0, **switches):
            cloud = DRIVERS[kind](clock)
            stack.callback(cloud.close)
            cloud.switch(**switches)
            if fault:
                cloud.fail(fault, times=9)
            lock, store = driver_of(cloud), FakeStore()
            stack.callback(lock.close)
            access = replace(access_to(cloud), calls_per_month=calls_per_month)
            control = doorpi.LockControl(lock, access, store, clock)
            store.keep(Notes(counts={control.budget.month: used}))
            findings = doorpi.diagnose_lock(access, control, clock)
            return cloud, [*findings][1:]

        yield ask


@pytest.mark.parametrize("kind", DRIVERS)
def test_diagnose_lock_asks_once_and_never_moves(asked, kind):
    cloud, (status,) = asked(kind)

    assert status.health is OK
    assert status.words.startswith("locked")
    assert re.search(r"; it took \d+ ms$", status.words)
    assert (cloud.received, cloud.bolt.moved) == ([], [])
    assert (len(cloud.requests), cloud.connections) == (1, 1)


@pytest.mark.parametrize("kind", DRIVERS)
def test_diagnose_lock_fails_on_a_refused_key(asked, kind):
    cloud, findings = asked(kind, fault="401")

    assert findings[-1].health is FAIL
    assert findings[-1].words
    assert findings[-1].do
    assert (cloud.received, cloud.bolt.moved) == ([], [])


TROUBLES = {
    "wrong key": ({"fault": "401"}, FAIL, "HTTP 401: the key is not accepted", "compare api_key, secret_key and device_id with the app"),
    "a sign-in page": ({"fault": "html"}, FAIL, "HTTP 200 with an answer that is not JSON", doorpi.OTHER_END),
    "no such lock": ({"fault": "404"}, FAIL, "HTTP 404", "are device_id and base_url right?"),
    "busy": ({"fault": "busy-35"}, WARN, "HTTP 400 DEVICE_IS_BUSY 35", "ask again in a minute: sudo doorpi status"),
    "out of reach": ({"is_responsive": False, "sync_helps": False}, FAIL, "not known", doorpi.NEAR_THE_LOCK),
    "empty batteries": ({"battery": 14}, WARN, "locked, it answers, battery 14 %; it took ", "new batteries"),
    "flat batteries": ({"battery": 0}, WARN, "locked, it answers, battery 0 %; it took ", "new batteries"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "health", "words", "do"), TROUBLES.values(), ids=TROUBLES
)
def test_diagnose_lock_says_what_to_do(asked, trouble, health, words, do):
    cloud, findings = asked("sesame-mini", **trouble)

    assert (findings[-1].health, findings[-1].do) == (health, do)
    assert findings[-1].words.startswith(words)
    assert cloud.bolt.moved == []


def test_diagnose_lock_blames_the_clock_only_if_it_is_not_set(asked, clock):
    clock.set = False

    _, (*_, status) = asked("sesame-mini", fault="401")

    assert status.health is FAIL
    assert status.do.startswith("set the clock first")


def test_diagnose_lock_sends_the_owner_to_the_app(asked):
    _, (*_, status) = asked("sesame-mini", fault="low-battery-refused")

    assert status.health is FAIL
    assert status.do.startswith("see its app")


def test_diagnose_lock_fails_on_a_jammed_lock(asked):
    _, (status,) = asked("tedee", shown="jammed")

    assert status.health is FAIL
    assert status.words.startswith("not known (")
    assert status.do == "look at the door, and turn the lock once by hand"


def test_diagnose_lock_leaves_the_last_calls_to_the_door(asked):
    cloud, findings = asked("sesame-mini", calls_per_month=100, used=97)

    words = "status not asked: 97 of this month's 100 calls are used (97 %)"
    assert [(f.health, f.words) for f in findings] == [(WARN, words)]
    assert cloud.requests == []
