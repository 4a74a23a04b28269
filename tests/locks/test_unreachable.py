"""A lock whose cloud cannot be reached: known from the connection, shown, and healed."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

import doorpi
from doorpi import LockAccess, LockConfig, Result, Signal
from tests.fakes.locks import DRIVERS, driver_of
from tests.helpers.processes import wait_for
from tests.helpers.values import replace
from tests.helpers.world import KEN, FakeLock, World, card_of, config_of


@pytest.fixture
def port():
    """Where nobody listens yet."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


@pytest.fixture
def at_port(clock, port):
    """Drivers of any kind, whose clouds are all at ``port``."""
    with contextlib.ExitStack() as cleanup:

        def make(kind: str):
            cloud = cleanup.enter_context(contextlib.closing(DRIVERS[kind](clock)))
            lock = driver_of(cloud, base_url=f"http://127.0.0.1:{port}")
            cleanup.callback(lock.close)
            return lock

        yield make


def dialling() -> bool:
    return any(thread.name == "dial" for thread in threading.enumerate())


def idle(lock, clock, seconds: int) -> None:
    """What the door does with the lock while nobody is there."""
    for _ in range(seconds):
        lock.keep_ready()
        wait_for(lambda: not dialling(), "the end of a try")
        clock.advance(1.0)
    lock.keep_ready()


KEEP_ONE = [kind for kind in DRIVERS if kind != "nuki-bridge"]


@pytest.mark.parametrize("kind", KEEP_ONE)
def test_trouble_after_a_minute_without_a_connection(at_port, clock, port, kind):
    lock = at_port(kind)

    idle(lock, clock, 59)
    assert lock.trouble() == ""
    idle(lock, clock, 2)
    assert lock.trouble() == "no connection to 127.0.0.1 for 60 s"
    assert lock.calls == 0

    with contextlib.closing(socket.create_server(("127.0.0.1", port))):
        idle(lock, clock, 61)
        assert lock.trouble() == ""


def test_trouble_is_unknown_for_a_kind_without_a_kept_connection(at_port, clock):
    bridge, now = at_port("nuki-bridge"), clock.monotonic()
    with pytest.raises(doorpi.NotSent):
        bridge.status(now + 1.0)
    idle(bridge, clock, 90)

    assert bridge.trouble() == ""
    assert doorpi.Relay(LockConfig(kind="relay", relay_gpio=17), clock).trouble() == ""


def test_trouble_when_the_name_service_never_answers(at_port, clock, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: over.wait(20) and [])
    lock = at_port("tedee")

    lock.keep_ready()
    clock.advance(61.0)

    assert lock.trouble() == "no connection to 127.0.0.1 for 60 s"
    over.set()


# -- the door

WORDS = "no connection to cloud.example.org for 60 s"


@pytest.fixture
def idler():
    """A door that has looked for a card once, with nobody there."""
    world = World()
    world.fallback = FakeLock(world.clock)
    access = LockAccess(kind="relay")
    door = world.door(replace(config_of(card_of()), fallback=access))

    def look():
        world.clock.advance(10.0)
        door.step()
        while not door.is_idle:
            door.step()
        return world

    return look


def test_light_and_log_show_the_trouble_once_until_it_ends(idler, caplog):
    world = idler()
    assert world.lights.standing is Signal.READY
    world.lock.unreachable = WORDS

    for _ in range(3):
        idler()

    assert world.lights.standing is Signal.LOCK_UNREACHABLE
    assert world.supervisor.said == [f"status: lock: {WORDS}"]
    assert [record.getMessage() for record in caplog.records] == [f"lock: {WORDS}"]

    world.lock.unreachable = ""
    idler()
    assert world.lights.standing is Signal.READY
    assert world.supervisor.said[-1] == "status: ready"


def test_light_stays_after_a_tap_that_the_fallback_served(idler):
    world = idler()
    world.lock.unreachable = WORDS
    world.lock.statuses = [doorpi.NotSent("cannot reach it")] * 9
    idler()
    shown_before = len(world.lights.shown)

    world.reader.shows = [KEN]
    idler()
    for _ in range(5):
        idler()

    (event,) = world.store.events.values()
    assert event.result is Result.UNLOCKED
    assert "moved by the fallback" in event.detail
    shown = world.lights.shown[shown_before:]
    assert all(Signal.READY not in signals for _, signals in shown)
    assert world.lights.standing is Signal.LOCK_UNREACHABLE


def test_light_shows_an_unreachable_fallback(idler):
    world = idler()
    assert world.fallback
    world.fallback.unreachable = WORDS

    idler()

    assert world.lights.standing is Signal.LOCK_UNREACHABLE
    assert world.supervisor.said == [f"status: fallback: {WORDS}"]
