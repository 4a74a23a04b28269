"""What holds for every driver that speaks to a vendor's cloud."""

from __future__ import annotations

import socket

import pytest
from fake_locks import DRIVERS, driver_of

from doorpi import NotSent

ADDRESSES = {
    "sesame": "https://app.candyhouse.co/api",
    "sesame-mini": "https://api.candyhouse.co/public",
    "switchbot": "https://api.switch-bot.com/v1.1",
    "nuki-web": "https://api.nuki.io",
    "tedee": "https://api.tedee.com/api/v1.32",
}


def test_every_driver_but_a_bridge_has_an_address():
    assert set(ADDRESSES) == set(DRIVERS) - {
        "nuki-bridge"
    }  # its owner tells where it is


@pytest.mark.parametrize(("kind", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_the_vendors_address_is_the_default(clock, monkeypatch, kind, address):
    def refuse(host, port, **hints):
        raise socket.gaierror(f"{host}:{port}")

    cloud = DRIVERS[kind](clock)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)  # a test asks no real server
    lock = driver_of(cloud, base_url="")

    with pytest.raises(NotSent) as caught:
        lock.status(clock.monotonic() + 5)

    assert str(caught.value) == (
        f"cannot reach {address.split('/')[2]}:"
        " its name cannot be looked up (no network, or no DNS)"
    )
    assert lock.base_url == address
    lock.close()
    cloud.close()
