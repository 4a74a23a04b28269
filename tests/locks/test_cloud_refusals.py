"""Which "no" of a vendor's cloud lets the fallback open the door, for each real driver."""

from __future__ import annotations

import pytest

from doorpi import Command, LockAccess, LockConfig
from tests.fakes.cloud import answers, lives
from tests.fakes.locks import DRIVERS, driver_of
from tests.fakes.switchbot import says
from tests.helpers.values import replace
from tests.helpers.world import KEN, FakeLock, card_of, config_of

MANY = 100
CONFIG = replace(
    config_of(card_of()),
    lock=LockConfig(kind="sesame-mini"),
    fallback=LockAccess(kind="tedee"),
)


@pytest.fixture
def second(world) -> FakeLock:
    world.fallback = FakeLock(world.clock)
    return world.fallback


TOO_MANY = says(190, "Too Many Requests")
PORTAL = answers(302, b"", "Location: http://wifi.example/login")
#: What a vendor's cloud says, at which stage, and whether the second lock opens.
VENDORS = [
    ("tedee", "status", answers(401), True),
    ("tedee", "status", answers(404), True),
    ("tedee", "status", PORTAL, True),
    ("tedee", "status", answers(200, b"<html>Sign in to the WiFi</html>"), True),
    ("tedee", "command", answers(400, b'{"errorMessages":["no bridge"]}'), True),
    ("tedee", "command", answers(429, b"", "Retry-After: 1800"), True),
    ("tedee", "command", PORTAL, True),
    ("tedee", "command", answers(200, b"<html>Sign in to the WiFi</html>"), False),
    ("tedee", "command", answers(500), False),
    ("tedee", "status", answers(403, b'{"errorMessages":["No share."]}'), False),
    ("tedee", "status", lives(shown="jammed"), False),
    ("tedee", "command", lives(jams=1), False),
    ("switchbot", "status", TOO_MANY, True),
    ("switchbot", "command", TOO_MANY, True),
    ("switchbot", "command", says(190, "Requests reached the daily limit"), True),
    ("switchbot", "command", says(190, "not support device type"), True),
    ("switchbot", "command", says(160, "unsupported"), True),
    ("switchbot", "command", says(190, "Device internal error"), False),
    ("switchbot", "command", says(161, "device offline"), False),
    ("switchbot", "command", says(300, "?"), False),
    ("switchbot", "status", lives(shown="jammed"), False),
    ("sesame", "command", answers(403, b'{"message":"Forbidden"}'), True),
    ("sesame", "command", answers(404), True),
    ("sesame-mini", "command", answers(401), True),
    ("sesame-mini", "command", answers(403), True),
    ("sesame-mini", "command", answers(400, b'{"error":"LOW_BATTERY"}'), False),
    ("sesame-mini", "command", answers(400, b'{"error":"DEVICE_IS_BUSY 35"}'), False),
    ("nuki-bridge", "command", answers(401), True),
    ("nuki-bridge", "command", answers(503), False),
    ("nuki-web", "command", answers(401), True),
    ("nuki-web", "command", answers(423), False),
]


@pytest.mark.parametrize(("kind", "stage", "fault", "is_freed"), VENDORS)
def test_the_second_opens_after_a_no_of_the_vendors_cloud(
    world, second, kind, stage, fault, is_freed
):
    cloud = DRIVERS[kind](world.clock)
    cloud.faults = {"words": fault}
    cloud.fail("words", at=stage, times=MANY)
    world.lock = driver_of(cloud)

    world.tap(KEN, config=CONFIG)

    assert [command for _, command in second.sent] == [Command.UNLOCK] * is_freed
    assert all(at - 1000 < 10 for at, _ in second.sent)
    world.lock.close()
    cloud.close()


def test_a_cloud_that_has_no_time_for_us_is_asked_once_more_at_most(world, second):
    cloud = DRIVERS["switchbot"](world.clock)
    cloud.faults = {"too-many": TOO_MANY}
    cloud.fail("too-many", times=MANY)
    world.lock = driver_of(cloud)

    world.tap(KEN, config=CONFIG)

    assert len(cloud.requests) == 1
    assert [at for at, _ in second.sent] == [1000.0]
    world.lock.close()
    cloud.close()
