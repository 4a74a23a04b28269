"""`doctor`, all but the reader: lights, locks, clock, disk, databases, files, backup.

Each is a generator of findings; at its edges stand servers that really misbehave,
SQLite files that are really broken, and pins in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from cryptography.x509.oid import ExtendedKeyUsageOID
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPin

import doorpi
from doorpi import (
    Event,
    Finding,
    Health,
    LedsConfig,
    LockAccess,
    Notes,
    Reason,
    SqliteStore,
    main,
)
from tests.fakes.broken_pins import busy_pin, misspelt_library, no_library
from tests.fakes.locks import DRIVERS, access_to, driver_of
from tests.helpers.processes import write_config
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.values import replace
from tests.helpers.wire import (
    HomeMade,
    RawServer,
    Wire,
    answers,
    served_by,
    swallowing_address,
)
from tests.helpers.world import (
    JST,
    KEN,
    NOON,
    FakeClock,
    FakeStore,
    card_of,
    config_of,
)

OK, WARN, FAIL = Health.OK, Health.WARN, Health.FAIL
ME = doorpi.our_name()


def told(findings) -> list[tuple[Health, str]]:
    return [(finding.health, finding.words) for finding in findings]


# -- lights

ON_A_PI = "on a Pi: sudo apt-get install python3-lgpio"
SEE_PINS = "sudo apt-get install gpiod; gpioinfo shows which program has the pin"

PINS = "green on GPIO 23, red on GPIO 22"


class WatchedFactory(MockFactory):
    """Pins in memory that note what they showed."""

    def __init__(self) -> None:
        super().__init__(pin_class=WatchedPin)
        self.now = {"GPIO23": 0, "GPIO22": 0}
        self.history: list[tuple[int, int]] = []


class WatchedPin(MockPin):
    def _change_state(self, value):
        if changed := super()._change_state(value):
            self.factory.now[self.info.name] = int(value)
            self.factory.history.append(tuple(self.factory.now.values()))
        return changed


@pytest.fixture
def pins(monkeypatch, tmp_path):
    """A board of its own for gpiozero, and a /dev that lists none."""
    factory = WatchedFactory()
    monkeypatch.setattr(Device, "pin_factory", factory)
    monkeypatch.setattr(doorpi, "DEV", tmp_path)
    monkeypatch.setattr(doorpi, "LAMP_TEST", "1x GRA")  # 50 ms each
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    return factory


def lights(runs=False) -> list[Finding]:
    return list(doorpi.diagnose_lights(LedsConfig(), runs))


TRIED = Finding(
    OK,
    "lights",
    f"{PINS}: do you see green, red, both?",
    "if not: long leg to the pin, 330 ohm to ground; [leds] active_high",
)


def test_the_lights_are_tried_one_after_the_other_and_both(pins):
    assert lights() == [TRIED]
    green, red, both, dark = (1, 0), (0, 1), (1, 1), (0, 0)
    settled = [now for now, then in pairwise([*pins.history, None]) if then != now]
    seen = iter(settled)  # the two are set one after the other
    assert all(look in seen for look in (green, red, both, dark))
    assert pins.history[-1] == dark


def test_the_lamp_test_shows_each_for_half_a_second():
    frames = list(doorpi.parse_pattern(doorpi.LAMP_TEST).frames())

    assert frames == [((1, 0), 0.5), ((0, 1), 0.5), ((1, 1), 0.5)]


def test_an_interrupted_lamp_test_leaves_them_dark(pins, monkeypatch):
    def ctrl_c(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ctrl_c)

    with pytest.raises(KeyboardInterrupt):
        lights()

    assert pins.now == {"GPIO23": 0, "GPIO22": 0}
    assert pins.history


def test_the_lights_of_a_running_door_are_left_alone(pins):
    assert lights(runs=True) == [
        Finding(
            WARN,
            "lights",
            f"{PINS}: in use by the running door, so not tested",
            "to test it, stop the door first: sudo systemctl stop doorpi",
        )
    ]
    assert pins.pins == {}


@pytest.mark.parametrize(
    ("trouble", "words", "do"),
    [
        (no_library, f"{PINS}: Unable to load any default pin factory!; the door works without lights", ON_A_PI),
        (misspelt_library, f"{PINS}: Unable to find pin factory 'lgpioo'; the door works without lights", ON_A_PI),
        (busy_pin, f"{PINS}: 'GPIO busy'\\n; the door works without lights", SEE_PINS),
    ],
    ids=["no-library", "misspelt", "busy"],
)  # fmt: skip
def test_lights_that_cannot_be_had_are_told_with_what_to_do(
    pins, monkeypatch, trouble, words, do
):
    Device.pin_factory = None
    trouble(monkeypatch)

    assert lights() == [Finding(WARN, "lights", words, do)]


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


def way(url: str, trusted: str = "", clock=None) -> list[Finding]:
    clock = clock or FakeClock()
    dialer = doorpi.Dialer(url, trusted, clock)
    with contextlib.closing(dialer):
        return list(doorpi.diagnose_connection("lock", dialer, clock))


def test_name_connection_and_tls_are_timed_and_nothing_is_asked(serve, ca, trusted):
    until = datetime(2027, 1, 3, tzinfo=UTC)
    server = serve(certificate=ca.issue_cert("127.0.0.1", not_after=until))

    reached, certificate = way(server.url, trusted)

    assert (reached.health, reached.do) == (OK, "")
    assert re.fullmatch(
        r"127\.0\.0\.1: name \d+ ms, connect \d+ ms, TLS \d+ ms", reached.words
    )
    assert certificate == Finding(
        OK, "lock", "certificate by Good CA, valid until 2027-01-03"
    )
    assert server.requests == []


def test_a_bridge_without_tls_is_told_so(serve):
    (reached,) = way(serve().url)

    assert reached.health is OK
    assert reached.words.endswith(" ms, no TLS")


def test_a_certificate_that_ends_soon_is_warned_of(serve, ca, trusted):
    until = NOON.astimezone(UTC) + timedelta(days=20, hours=23)
    server = serve(certificate=ca.issue_cert("127.0.0.1", not_after=until))

    _, certificate = way(server.url, trusted)

    words = f"certificate by Good CA, valid until {until:%Y-%m-%d}"
    do = "the server's owner must renew it before; a cloud does so by itself"
    assert certificate == Finding(WARN, "lock", words, do)


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
        "is base_url right? a WiFi that wants a sign-in answers for others",
    ),
    "another authority": (
        lambda ca: trustme.CA(organization_name="Hotel").issue_cert("127.0.0.1"),
        "unable to get local issuer certificate",
        doorpi.NO_ISSUER,
    ),
}


@pytest.mark.parametrize(
    ("certificate", "words", "do"), CERTIFICATES.values(), ids=CERTIFICATES
)
def test_a_certificate_that_is_not_trusted_is_told_with_why(
    serve, ca, trusted, certificate, words, do
):
    server = serve(certificate=certificate(ca))

    (finding,) = way(server.url, trusted)

    step = r"127\.0\.0\.1: name \d+ ms, connect \d+ ms, TLS: "
    assert re.fullmatch(step + words, finding.words)
    assert (finding.health, finding.do) == (FAIL, do)
    assert server.requests == []


def test_a_certificate_made_wrongly_is_told_without_guessing(serve):
    home, use = HomeMade(), ExtendedKeyUsageOID.CLIENT_AUTH
    server = serve(certificate=home.issue_cert("127.0.0.1", use=use))

    (finding,) = way(server.url, home.pem.decode())

    assert " ms, TLS: " in finding.words
    do = "the server's owner must have it made again, without that"
    assert (finding.health, finding.do) == (FAIL, do)


def test_an_authority_that_nobody_named_is_told_with_ca_file(serve, ca):
    (finding,) = way(serve(certificate=ca.issue_cert("127.0.0.1")).url)

    assert finding.health is FAIL
    assert finding.do == doorpi.NO_ISSUER


OTHER_ENDS = {
    "speaks no TLS": (lambda wire: wire.send(b"HTTP/1.1 400 No\r\n\r\n"), "TLS: "),
    "hangs": (Wire.hang, "TLS: no answer"),
    "drips": (lambda wire: wire.drip(b"\x16\x03\x03\x40\x00"), "TLS: no answer"),
    "hangs up": (lambda wire: None, "TLS: "),
}


@pytest.mark.parametrize(("how", "words"), OTHER_ENDS.values(), ids=OTHER_ENDS)
def test_something_else_that_answers_is_told_in_time(
    serve, trusted, monkeypatch, how, words
):
    monkeypatch.setattr(doorpi, "DIAL_S", 0.2)
    server = serve(how)

    watch = Stopwatch()
    (finding,) = way(f"https://127.0.0.1:{server.port}", trusted)

    assert watch.own_s < 1.0
    assert f" ms, {words}" in finding.words
    assert (finding.health, finding.do) == (FAIL, doorpi.OTHER_END)


def test_a_bundle_that_is_none_is_named(serve):
    server = serve()

    (finding,) = way(f"https://127.0.0.1:{server.port}", "not PEM")

    assert finding.health is FAIL
    assert ": trust: " in finding.words
    assert finding.do == "is ca_file a PEM file?"


def test_a_port_where_nobody_listens_is_told():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    (finding,) = way(f"http://127.0.0.1:{port}")

    assert finding.health is FAIL
    assert finding.words.endswith(" ms, connect: 127.0.0.1: connection refused")
    assert finding.do == "is the port in base_url right, and is it switched on?"


def test_a_name_that_nobody_knows_is_told(monkeypatch):
    def unknown(*args, **hints):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    words = "lock.example: name: its name cannot be looked up (no network, or no DNS)"
    assert way("https://lock.example") == [Finding(FAIL, "lock", words, doorpi.NETWORK)]


def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *args, **hints: answer.wait(30) and []
    )
    monkeypatch.setattr(doorpi, "DIAL_S", 0.1)

    (finding,) = way("http://lock.example")

    answer.set()
    assert finding.words == "lock.example: name: no answer"
    assert (finding.health, finding.do) == (FAIL, doorpi.NETWORK)


def test_a_way_that_is_slow_is_warned_of(serve, monkeypatch):
    monkeypatch.setattr(doorpi, "SLOW_S", 0.0)

    (finding,) = way(serve().url)

    assert (finding.health, finding.do) == (WARN, doorpi.SLOW_NETWORK)


def test_an_address_that_swallows_everything_is_warned_of(serve, monkeypatch):
    """IPv6 that leads nowhere, before an IPv4 that works."""
    server = serve()
    monkeypatch.setattr(doorpi.Dialer, "hasty_s", 0.2)
    with swallowing_address() as hole:
        kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
        addresses = [(*kind, hole), (*kind, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **hints: addresses)

        (finding,) = way("http://lock.example")

    assert finding.words.endswith(" ms, no TLS; no answer from 127.0.0.1")
    assert (finding.health, finding.do) == (WARN, doorpi.DEAD_ADDRESS)


def test_a_computer_without_ipv6_is_told_what_the_other_addresses_said(monkeypatch):
    """Its kernel refuses the socket already (97: address family not supported)."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    kind = socket.SOCK_STREAM, 0, ""
    addresses = [
        (12345, *kind, ("2001:db8::1", port)),
        (socket.AF_INET, *kind, ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **hints: addresses)

    (finding,) = way("http://lock.example")

    assert finding.words.endswith(
        " ms, connect: 2001:db8::1: address family not supported by protocol;"
        " 127.0.0.1: connection refused"
    )
    assert finding.do == "is the port in base_url right, and is it switched on?"


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
            findings = doorpi.diagnose_lock("lock", access, lock, control, clock)
            return cloud, [*findings][1:]

        yield ask


@pytest.mark.parametrize("kind", DRIVERS)
def test_a_lock_is_asked_once_and_never_moved(asked, kind):
    cloud, (status,) = asked(kind)

    assert status.health is OK
    assert status.words.startswith("locked")
    assert re.search(r"; it took \d+ ms$", status.words)
    assert (cloud.received, cloud.bolt.moved) == ([], [])
    assert len(cloud.requests) == 1


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("fault", ["401", "html", "503", "hang-before", "drip"])
def test_a_lock_that_cannot_be_asked_fails_with_what_to_do(asked, kind, fault):
    cloud, findings = asked(kind, fault=fault)

    is_busy = (kind, fault) == ("nuki-bridge", "503")  # its word for that
    assert findings[-1].health is (WARN if is_busy else FAIL)
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
def test_each_trouble_with_the_lock_has_what_to_do(asked, trouble, health, words, do):
    cloud, findings = asked("sesame-mini", **trouble)

    assert (findings[-1].health, findings[-1].do) == (health, do)
    assert findings[-1].words.startswith(words)
    assert cloud.bolt.moved == []


def test_of_the_clock_is_spoken_where_it_is_not_set_alone(asked, clock):
    clock.set = False

    _, (*_, status) = asked("sesame-mini", fault="401")

    assert (status.health, status.do) == (FAIL, doorpi.WRONG_TIME)


def test_a_lock_whose_owner_forbids_it_is_a_matter_of_its_app(asked):
    _, (*_, status) = asked("sesame-mini", fault="low-battery-refused")

    assert (status.health, status.do) == (FAIL, doorpi.IN_ITS_APP)


def test_a_jammed_lock_fails(asked):
    _, (status,) = asked("tedee", shown="jammed")

    assert status.health is FAIL
    assert status.words.startswith("not known (")
    assert status.do == "look at the door, and turn the lock once by hand"


def test_the_last_calls_of_a_month_are_left_to_the_door(asked):
    cloud, findings = asked("sesame-mini", calls_per_month=100, used=97)

    words = "status not asked: 97 of this month's 100 calls are used (97 %)"
    assert [(f.health, f.words) for f in findings] == [(WARN, words)]
    assert cloud.requests == []


@pytest.mark.parametrize("kind", DRIVERS)
def test_the_question_goes_over_the_connection_that_was_looked_at(asked, kind):
    """A bridge takes but one, and falls silent when they come too fast."""
    cloud, _ = asked(kind)

    assert cloud.connections == 1


def relay(clock) -> list[tuple[Health, str]]:
    access = LockAccess(kind="relay")
    lock = doorpi.Relay(access, clock)
    with contextlib.closing(lock):
        control = doorpi.LockControl(lock, access, FakeStore(), clock)
        return told(doorpi.diagnose_lock("lock", access, lock, control, clock))


def test_a_relay_is_told_with_its_pin_and_never_switched(pins, clock):
    assert relay(clock) == [(OK, "relay on GPIO 17: at rest, which is locked")]
    assert pins.history == []


def test_a_relay_whose_pin_cannot_be_had_fails(pins, clock, monkeypatch):
    busy_pin(monkeypatch)

    ((health, words),) = relay(clock)

    assert health is FAIL
    assert words.startswith("GPIO 17 cannot be used: 'GPIO busy'")


# -- clock

SHOWS = "2026-11-18 12:00:00 JST (UTC+0900)"
TILL_JUNE = card_of(valid_until=datetime(2027, 6, 1, tzinfo=JST).date())
CLOCKS = {
    "set": (True, [TILL_JUNE], {}, OK, f"{SHOWS}, synchronised"),
    "not set, and nobody has dates": (False, [card_of()], {}, WARN, f"{SHOWS}, not synchronised"),
    "not set, and somebody has": (False, [TILL_JUNE], {}, FAIL, f"{SHOWS}, not synchronised: cards with dates or hours are refused"),
    "not set, and it is trusted": (False, [TILL_JUNE], {"require_synced_clock": False}, WARN, f"{SHOWS}, not synchronised"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("is_set", "cards", "door", "health", "words"), CLOCKS.values(), ids=CLOCKS
)
def test_a_clock_that_is_not_set_fails_when_somebody_waits_for_it(
    clock, state, is_set, cards, door, health, words
):
    clock.set = is_set

    found = doorpi.diagnose_clock(clock, config_of(*cards, **door), state)

    assert told(found) == [(health, words)]


@pytest.mark.parametrize(
    ("changes", "health"),
    [({}, WARN), ({"schedule": "office"}, FAIL)],
    ids=["plain", "hours"],
)
def test_cards_of_the_database_may_wait_for_the_clock_too(
    clock, state, changes, health
):
    clock.set = False
    state.people.add_card(card_of(**changes), NOON)

    (finding,) = doorpi.diagnose_clock(clock, config_of(), state)

    assert finding.health is health


def test_a_trusted_clock_that_is_older_than_the_log_keeps_dates_out(clock, state):
    clock.set = False
    state.events.record(
        Event(at=NOON, uid=KEN, holder="Ken Sato", reason=Reason.EXPIRED)
    )
    clock.at = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    config = config_of(TILL_JUNE, require_synced_clock=False)

    (finding,) = doorpi.diagnose_clock(clock, config, state)

    assert finding.health is FAIL
    assert finding.words.endswith(
        "not synchronised: cards with dates or hours are refused"
    )


def test_hours_on_a_clock_that_nobody_told_where_it_is_are_warned_of(clock, state):
    clock.at = NOON.astimezone(UTC)
    hours = doorpi.parse_config(
        '[lock]\nkind = "relay"\n[[schedule]]\nname = "x"\ntimes = ["Mon 08:00-09:00"]'
    )

    (finding,) = doorpi.diagnose_clock(clock, hours, state)

    assert (finding.health, finding.do) == (
        WARN,
        "if you are elsewhere: sudo timedatectl set-timezone Asia/Tokyo",
    )


# -- disk

GB = 1e9


def disk(free: float, flag: int = 0):
    return SimpleNamespace(f_frsize=1, f_bavail=free, f_blocks=2 * GB, f_flag=flag)


DISKS = {
    "room": (disk(1.5 * GB), OK, "1,500 MB free of 2,000 MB"),
    "less than 200 MB": (disk(199e6), WARN, "199 MB free of 2,000 MB"),
    "less than 20 MB": (disk(19e6), FAIL, "19 MB free of 2,000 MB"),
}


@pytest.mark.parametrize(("found", "health", "words"), DISKS.values(), ids=DISKS)
def test_a_disk_without_room_is_told(tmp_path, monkeypatch, found, health, words):
    monkeypatch.setattr(os, "statvfs", lambda path: found)

    (finding,) = doorpi.diagnose_disk(tmp_path)

    assert (finding.health, finding.words) == (health, f"{tmp_path}: {words}")
    assert finding.do == ("" if health is OK else doorpi.MAKE_ROOM)


def test_a_disk_that_became_read_only_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: disk(GB, flag=os.ST_RDONLY))

    (finding,) = doorpi.diagnose_disk(tmp_path)

    words = f"{tmp_path} is on a disk that is read-only"
    assert (finding.health, finding.words) == (FAIL, words)


def test_a_folder_is_judged_by_the_rights_of_who_runs_the_door(powerless):
    powerless.chmod(0o555)

    (finding,) = doorpi.diagnose_disk(powerless)

    words = f"{doorpi.our_name()} may not write into {powerless}"
    assert (finding.health, finding.words) == (FAIL, words)


def test_a_folder_that_is_not_there_yet_is_no_failure(tmp_path):
    (finding,) = doorpi.diagnose_disk(tmp_path / "state")

    assert finding.health is WARN
    assert finding.do == "sudo systemctl start doorpi"


# -- databases


@pytest.fixture
def state(tmp_path):
    """A store of its own, with an event, whose files nobody else has open."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = SqliteStore(folder / "doorpi.db", busy_s=5.0)
    store.events.begin(Event(at=NOON, uid=KEN, holder="Ken", reason=Reason.NOT_FOUND))
    yield store
    store.close()


def database(path: Path, version: int = 2) -> list[Finding]:
    return list(doorpi.diagnose_database(path, version))


def content(folder: Path) -> dict[str, bytes]:
    """Every file, but for SQLite's own notes of who reads."""
    files = [file for file in folder.iterdir() if not file.name.endswith("-shm")]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_both_files_are_looked_at_without_being_touched(state, is_open):
    state.people.add_card(card_of(), NOON)
    if not is_open:
        state.close()
    names = set(state.events.path.parent.iterdir())
    before = content(state.events.path.parent)

    log, cards = database(state.events.path), database(state.people.path, version=2)

    for (finding,), path in ((log, state.events.path), (cards, state.people.path)):
        assert finding == Finding(OK, "database", f"{path}: intact, schema 2")
    assert set(state.events.path.parent.iterdir()) == names
    assert content(state.events.path.parent) == before


def test_diagnose_database_reads_the_wal_that_a_killed_door_left(state, tmp_path):
    """kill -9, and a power cut: the -shm is of memory, and may be gone."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in state.events.path.parent.glob("doorpi.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy)
    assert (copy / "doorpi.db-wal").stat().st_size
    before = content(copy)

    ((health, words),) = told(database(copy / "doorpi.db"))

    assert health is OK
    assert words.endswith(": intact, schema 2")
    assert content(copy) == before


def test_nothing_stored_yet_is_no_failure_and_makes_no_file(tmp_path):
    path = tmp_path / "none" / "doorpi.db"

    words = f"{path}: nothing is stored yet"
    assert database(path) == [Finding(OK, "database", words)]
    assert not path.parent.exists()


def with_a_page_of_noise(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096)


def overwritten(path: Path) -> None:
    path.write_bytes(b"The sky above the port" * 500)


def emptied_beside_its_wal(path: Path) -> None:
    path.with_name("doorpi.db-wal").write_bytes(b"x" * 4096)
    path.unlink()


@pytest.mark.parametrize(
    "spoil", [with_a_page_of_noise, overwritten, emptied_beside_its_wal]
)
def test_a_broken_database_fails_with_what_to_do(state, spoil):
    state.close()
    spoil(state.events.path)
    before = content(state.events.path.parent)

    (finding,) = database(state.events.path)

    assert finding.health is FAIL
    assert finding.words.startswith(f"{state.events.path} is broken: ")
    assert finding.do.startswith(f"copy {state.events.path.parent} elsewhere; ")
    assert content(state.events.path.parent) == before


def test_a_link_in_a_databases_place_is_named_and_not_followed(state, tmp_path):
    state.events.path.unlink()
    state.events.path.symlink_to(tmp_path / "nowhere")

    (finding,) = database(state.events.path)

    assert finding.health is FAIL
    assert "doorpi.db is a symbolic link, which is not followed" in finding.words
    assert finding.do.endswith(f"ls -l {state.events.path.parent}")


def test_a_database_of_a_newer_program_is_worth_a_word(state):
    with contextlib.closing(sqlite3.connect(state.events.path)) as db:
        db.execute("PRAGMA user_version = 3")

    (finding,) = database(state.events.path)

    assert finding.health is WARN
    assert finding.words.endswith(": intact, schema 3, of a newer version of DoorPi")
    assert finding.do == "install that version again"


def test_a_database_that_may_not_be_read_fails(powerless):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = powerless / "doorpi.db"
    path.touch(mode=0o000)

    (finding,) = database(path)

    assert finding.health is FAIL
    assert finding.words.startswith(f"{path} cannot be read: ")


def test_files_that_were_set_aside_are_warned_of_once_each(state):
    for name in ("", "-wal"):
        Path(f"{state.events.path}{name}.broken-20261101T080000Z").touch()
    Path(f"{state.events.path}.broken-20261109T080000Z").touch()

    aside, whole = database(state.events.path)

    words = f"{state.events.path} was broken and set aside: 20261101T080000Z, 20261109T080000Z"
    assert (aside.health, aside.words) == (WARN, words)
    assert f"sudo rm {state.events.path}*.broken-*" in aside.do
    assert whole.health is OK


# -- files


@pytest.fixture
def own_files(tmp_path):
    """Settings and a state folder with a database, open to nobody else."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)
    settings, log = tmp_path / "doorpi.toml", folder / "doorpi.db"
    for file in (settings, log):
        file.touch()
        file.chmod(0o640)
    return settings, folder, log


@contextlib.contextmanager
def open_way_to(path: Path) -> Iterator[None]:
    """The folders of the tests are their owner's alone: let everybody through."""
    shut = [f for f in path.parents if not f.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in shut}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o011)
    yield
    for folder, mode in modes.items():
        folder.chmod(mode)


def files(settings: Path, folder: Path) -> list[Finding]:
    return list(doorpi.diagnose_files([settings], [settings], folder))


def test_files_of_the_owner_alone_are_fine(own_files):
    settings, folder, _ = own_files

    words = f"{settings} and {folder}: not readable by other users; {ME} has access"
    assert files(settings, folder) == [Finding(OK, "files", words)]


@pytest.mark.parametrize(
    ("mode", "health", "can"),
    [(0o644, WARN, "read"), (0o666, FAIL, "changed")],
    ids=["read", "write"],
)
@pytest.mark.parametrize("which", [0, 2], ids=["settings", "log"])
def test_what_everybody_can_read_or_write_is_told_with_the_line_that_ends_it(
    own_files, mode, health, can, which
):
    settings, folder, log = own_files
    path = own_files[which]
    path.chmod(mode)

    with open_way_to(log):
        found = files(settings, folder)

    chmod = "sudo chmod" if path == settings else f"sudo -u {ME} chmod"
    words, do = f"{path} can be {can} by everybody", f"{chmod} o-rwx {path}"
    assert found == [Finding(health, "files", words, do)]


def test_no_advice_is_a_trap_that_the_service_has_laid(own_files):
    """Root would do as it says: with a file that a link leads to, or with a name."""
    settings, folder, log = own_files
    elsewhere = folder.parent / "elsewhere"
    elsewhere.touch()
    elsewhere.chmod(0o604)
    log.unlink()
    log.symlink_to(elsewhere)
    (folder / "; reboot; .db").touch()
    (folder / "; reboot; .db").chmod(0o604)

    with open_way_to(folder / "x"):
        ((words, do),) = ((f.words, f.do) for f in files(settings, folder))

    assert words.endswith("; reboot; .db can be read by everybody")
    assert shlex.split(do) == [
        "sudo", "-u", ME, "chmod", "o-rwx", f"{folder}/; reboot; .db",
    ]  # fmt: skip


def test_a_file_in_a_folder_that_nobody_may_enter_is_nobodys(own_files):
    settings, folder, log = own_files
    log.chmod(0o666)

    assert [finding.health for finding in files(settings, folder)] == [OK]


def test_what_the_service_may_not_use_fails(powerless):
    """Files that root made: the door would not start, or not log."""
    settings, folder, log = (
        powerless / name for name in ("door", "state", "state/a.db")
    )
    folder.mkdir()
    for file in (settings, log):
        file.touch(mode=0o000)
    me = doorpi.our_name()

    found = files(settings, folder)

    assert found == [
        Finding(
            FAIL, "files", f"the service (user {me}) cannot read {settings}",
            f"sudo chgrp {me} {settings}; sudo chmod g+r {settings}",
        ),
        Finding(
            FAIL, "files", f"the service (user {me}) cannot write {log}",
            f"sudo chown -hR {me}: {folder}; sudo -u {me} chmod -R u+rwX {folder}",
        ),
    ]  # fmt: skip


def test_a_folder_that_the_service_may_not_enter_is_not_opened_to_it(powerless):
    settings = powerless / "private" / "doorpi.toml"
    settings.parent.mkdir(mode=0o600)

    ((_, do),) = doorpi.unreadable([settings])

    assert do == (
        f"put it into a folder that {doorpi.our_name()} may enter: namei -l {settings}"
    )


# -- backup

DAY = timedelta(days=1)
BACKUPS = {
    "nothing in the database": (None, None, OK, "everybody is in doorpi.toml: keep a copy of it elsewhere"),
    "never": (NOON - DAY, None, WARN, "the list was changed on 2026-11-17, and was never backed up"),
    "before the last change": (NOON - 2 * DAY, NOON - 12 * DAY, WARN, "the list was changed on 2026-11-16, after its last backup on 2026-11-06"),
    "after it": (NOON - 12 * DAY, NOON - DAY / 2, OK, "the list was changed on 2026-11-06, and backed up on 2026-11-18"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "backup", "health", "words"), BACKUPS.values(), ids=BACKUPS
)
def test_a_list_that_was_changed_after_its_backup_is_warned_of(
    state, changed, backup, health, words
):
    if changed:
        state.people.add_card(card_of(), changed)
    if backup:
        state.events.keep(Notes({"backup": doorpi.utc_text(backup)}))

    (finding,) = doorpi.diagnose_list(state, NOON)

    do = "" if health is OK else doorpi.BACK_UP
    assert finding == Finding(health, "backup", words, do)


def test_a_list_that_was_lost_is_not_called_everybody_in_the_file(state):
    broken = state.people.path.with_name("cards.db.broken-20261118T030000Z")
    broken.touch()

    (finding,) = doorpi.diagnose_list(state, NOON)

    words = f"the database's list was lost; what was left of it: {broken}"
    assert (finding.health, finding.words) == (FAIL, words)


def copy_is_gone(copy: Path) -> None:
    copy.unlink()


def copy_is_broken(copy: Path) -> None:
    overwritten(copy)


def copy_is_older(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("UPDATE marks SET value = '1' WHERE name = 'changes'")


COPIES = {
    copy_is_gone: "no copy could replace a lost list: there is none",
    copy_is_broken: "no copy could replace a lost list: file is not a database",
    copy_is_older: "{copy} is not a copy of this list",
}


@pytest.mark.parametrize(
    ("harm", "words"), COPIES.items(), ids=lambda c: getattr(c, "__name__", "")
)
def test_a_copy_that_could_not_take_the_lists_place_is_warned_of(state, harm, words):
    for day in range(3):
        state.people.change_cards([card_of(holder=f"Ken {day}")], [], NOON)
    state.close()
    copy = state.people.copy
    harm(copy)

    (finding,) = doorpi.diagnose_copy(state.people)

    do = f"sudo rm -f {copy}; sudo systemctl restart doorpi: it makes a new one"
    assert finding == Finding(WARN, "backup", words.format(copy=copy), do)


def test_a_copy_that_could_is_well_and_a_door_without_a_list_needs_none(state):
    assert told(doorpi.diagnose_copy(state.people)) == []
    state.people.change_cards([card_of()], [], NOON)

    words = f"{state.people.copy} has what the list has"
    assert told(doorpi.diagnose_copy(state.people)) == [(OK, words)]


def test_a_list_too_large_for_a_copy_is_told(state, monkeypatch):
    state.people.add_card(card_of(), NOON)
    monkeypatch.setattr(doorpi.SqlitePeople, "copied_up_to", 1)

    (finding,) = doorpi.diagnose_copy(state.people)

    words = f"{state.people.path} is too large for a copy beside it"
    assert finding == Finding(WARN, "backup", words, doorpi.BACK_UP)


def test_a_list_that_cannot_be_read_leaves_the_backup_unknown(state):
    overwritten(state.people.path)

    (finding,) = doorpi.survived("backup", doorpi.diagnose_list(state, NOON))

    assert finding.health is WARN
    assert finding.words.startswith(f"not known: {state.people.path}: ")
    assert finding.do == "see database"


# -- the verb


@pytest.fixture
def says(tmp_path, radio, cloud, capsys, pins, monkeypatch):
    """Run `doctor` on a door that is well but for what ``settings`` add: the exit code
    and the lines."""
    monkeypatch.setattr(doorpi, "kernel_says_synchronised", lambda: True)

    def doctor(*options: str, **settings):
        path = write_config(tmp_path, cloud, radio.device, **settings)
        path.chmod(0o640)
        (tmp_path / "state").mkdir(exist_ok=True)
        code = main(["--config", str(path), "doctor", *options])
        out, err = capsys.readouterr()
        assert err == ""
        return code, out.splitlines()

    return doctor


def test_a_door_that_is_well_is_told_line_by_line(says, tmp_path, cloud):
    code, lines = says()

    state = tmp_path / "state"
    assert code == 0
    fits = [
        rf"ok    settings  {tmp_path}/doorpi\.toml: no problems",
        r"ok    reader    .*",
        r"ok    reader    read test: 10 attempts, .*",
        rf"ok    lights    {PINS}: do you see green, red, both\?",
        r" {16}-> if not: long leg to the pin, 330 ohm to ground; \[leds\] active_high",
        r"ok    clock     20\d\d-.* \(UTC.*\), synchronised",
        rf"(ok  |warn)  disk      {state}: [\d,]+ MB free of [\d,]+ MB",
        rf"ok    database  {state}/doorpi\.db: nothing is stored yet",
        rf"ok    database  {state}/cards\.db: nothing is stored yet",
        rf"ok    files     {tmp_path}/doorpi\.toml and {state}: not readable by other users; {ME} has access",
        r"ok    backup    everybody is in doorpi\.toml: keep a copy of it elsewhere",
        r"ok    lock      127\.0\.0\.1: name \d+ ms, connect \d+ ms, no TLS",
        r"ok    lock      locked, it answers, battery 80 %; it took \d+ ms",
    ]
    lines = [line for line in lines if doorpi.MAKE_ROOM not in line]
    pairs = zip(fits, lines, strict=True)
    assert [line for fit, line in pairs if not re.fullmatch(fit, line)] == []


def test_a_virtual_reader_is_left_to_the_door_that_runs(says, tmp_path):
    """Each answer would go to the other: looks of a second each, and a lost card."""
    (tmp_path / "state").mkdir()
    with doorpi.only_door(tmp_path / "state"):
        _, lines = says()

    (line,) = [line for line in lines if "reader" in line[:16]]
    assert ": in use by the running door, so not tested" in line


def test_the_question_to_the_lock_counts_for_its_month(says, tmp_path):
    says(lock="calls_per_month = 1000")

    month = f"calls sesame-mini {datetime.now(UTC).astimezone():%Y-%m}"
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        assert store.events.recall(month) == "1"


def test_lock_and_fallback_have_lines_of_their_own(says, cloud):
    cloud.fail_always("401")

    code, lines = says(more='[fallback]\nkind = "relay"')

    assert code == 1
    assert "fail  lock      HTTP 401: the key is not accepted" in lines
    assert lines[-1] == "ok    fallback  relay on GPIO 17: at rest, which is locked"


def test_the_pins_of_a_running_door_are_left_alone(says, tmp_path, pins):
    (tmp_path / "state").mkdir()
    with doorpi.only_door(tmp_path / "state"):
        code, lines = says(more='[fallback]\nkind = "relay"')

    assert code == 0
    words = f"{PINS}: in use by the running door, so not tested"
    assert f"warn  lights    {words}" in lines
    in_use = "relay on GPIO 17: in use by the running door, so not tested"
    assert f"warn  fallback  {in_use}" in lines
    assert pins.pins == {}


def test_what_is_still_the_examples_is_not_asked(tmp_path, capsys, pins, monkeypatch):
    example = Path(doorpi.__file__).with_name("doorpi.toml")
    path = tmp_path / "doorpi.toml"
    shutil.copy(example, path)
    monkeypatch.setattr(doorpi, "diagnose_reader", lambda *_: iter(()))

    code = main(["--config", str(path), "doctor"])

    assert code == 1
    lines = capsys.readouterr().out.splitlines()
    words = "lock.device_id, lock.api_key, lock.secret_key: still the example's"
    assert f"fail  lock      {words}" in lines
    assert lines[1].startswith('warn  settings  card 1 ("Ken Sato"), card 2')


def test_a_backup_that_the_store_remembers_is_told(says, tmp_path, clock):
    (tmp_path / "state").mkdir()
    now = datetime.now(UTC)
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        store.people.add_card(card_of(), now - 3 * DAY)
        store.events.keep(Notes({"backup": doorpi.utc_text(now - DAY)}))

    _, lines = says(cards="")

    changed, backup = ((now - days * DAY).astimezone().date() for days in (3, 1))
    words = f"the list was changed on {changed}, and backed up on {backup}"
    assert f"ok    backup    {words}" in lines


def test_trouble_in_one_place_does_not_end_the_others(says, monkeypatch):
    def broken(folder):
        yield Finding(OK, "disk", "so far")
        raise RuntimeError("a bug\x1b[31m nobody thought of")

    monkeypatch.setattr(doorpi, "diagnose_disk", broken)

    code, lines = says()

    failed = "doctor itself failed: RuntimeError: a bug\\x1b[31m nobody thought of"
    assert code == 1
    assert f"fail  disk      {failed}" in lines
    assert lines[-1].startswith("ok    lock ")


def test_text_from_outside_does_not_reach_the_terminal(says, monkeypatch):
    def loud(folder):
        yield Finding(WARN, "disk", "\x1b[2Jgone", "\rdo")

    monkeypatch.setattr(doorpi, "diagnose_disk", loud)

    _, lines = says()

    assert "warn  disk      \\x1b[2Jgone" in lines
    assert "                -> \\rdo" in lines


def test_ctrl_c_ends_it_quietly(says, pins, monkeypatch):
    def ctrl_c(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", ctrl_c)

    code, lines = says()

    assert code == 130
    assert f"ok    lights    {PINS}: do you see green, red, both?" in lines
    assert pins.now == {"GPIO23": 0, "GPIO22": 0}


def test_json_tells_the_same_one_object_a_line(says):
    code, lines = says("--json")

    findings = [json.loads(line) for line in lines]
    assert code == 0
    assert {tuple(finding) for finding in findings} == {
        ("health", "subject", "words", "do")
    }
    assert {finding["subject"] for finding in findings} == {
        "settings", "reader", "lights", "clock", "disk", "database", "files", "backup",
        "lock",
    }  # fmt: skip


def test_a_lockdown_that_somebody_forgot_is_reported(says, tmp_path):
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        store.people.lock_down("owner")
        _, locked = says()
        store.people.lock_down("")
    _, lifted = says()

    do = "                -> sudo doorpi lockdown off"
    assert (do in locked, do in lifted) == (True, False)
