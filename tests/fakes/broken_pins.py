"""Pins that cannot be had, each in its own way: shared by the tests of the lights and the relay."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory


class LgpioError(Exception):
    """As lgpio has one, which is no other's."""


class FailingFactory(MockFactory):
    def pin(self, name, **details):
        raise LgpioError("'GPIO busy'\n")


class SilentFactory(MockFactory):
    def pin(self, name, **details):
        raise NotImplementedError


def no_library(monkeypatch):
    if Path("/dev/gpiochip0").exists():
        pytest.skip("this computer has GPIO")
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)


def misspelt_library(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "lgpioo")


def busy_pin(monkeypatch):
    monkeypatch.setitem(sys.modules, "lgpio", SimpleNamespace(error=LgpioError))
    Device.pin_factory = FailingFactory()


def silent_failure(monkeypatch):
    Device.pin_factory = SilentFactory()
