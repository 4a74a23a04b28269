"""Every driver and the cloud that plays its vendor: a new one is a row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import doorpi
from doorpi import LockConfig, Secret
from tests.fakes.cloud import FakeCloud
from tests.fakes.nuki import FakeBridge, FakeNukiWeb
from tests.fakes.sesame import FakeSesame
from tests.fakes.sesame_mini import FakeSesameMini
from tests.fakes.switchbot import FakeSwitchBot
from tests.fakes.tedee import FakeTedee
from tests.helpers.world import FakeClock, Taps

DRIVERS: dict[str, type[FakeCloud]] = {
    "sesame": FakeSesame,
    "sesame-mini": FakeSesameMini,
    "switchbot": FakeSwitchBot,
    "nuki-bridge": FakeBridge,
    "nuki-web": FakeNukiWeb,
    "tedee": FakeTedee,
}


class Words(dict):
    """What a driver keeps on disk, in memory."""

    def recall(self, name: str) -> str | None:
        return self.get(name)

    def keep(self, name: str, text: str) -> None:
        self[name] = text


def access_to(cloud: FakeCloud, **changes) -> LockConfig:
    """What the owner writes under [lock] for ``cloud``."""
    kind = next(kind for kind, fake in DRIVERS.items() if type(cloud) is fake)
    told = {
        key: Secret(text) if key.endswith("_key") else text
        for key, text in cloud.credentials.items()
    }
    return LockConfig(**{"kind": kind, "base_url": cloud.base_url} | told | changes)


def driver_of(cloud: FakeCloud, driver=None, **changes):
    """DoorPi's driver for what ``cloud`` plays, on its clock; or another one."""
    access = access_to(cloud, **changes)
    return (driver or doorpi.LOCKS[access.kind])(access, cloud.clock, Words())


@contextlib.contextmanager
def taps_at(kind: str, clock: FakeClock, **changes) -> Iterator[Taps]:
    """DoorPi's driver of ``kind`` at the cloud that plays its vendor."""
    with (
        contextlib.closing(DRIVERS[kind](clock)) as cloud,
        contextlib.closing(driver_of(cloud, **changes)) as lock,
    ):
        yield Taps(clock, cloud, lock)
