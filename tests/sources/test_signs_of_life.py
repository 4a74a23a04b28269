"""What the running door leaves for other processes: its troubles, and that it works."""

from __future__ import annotations

import os
import time

import pytest

import doorpi
from doorpi import door_started, only_door, publish_troubles, published_troubles

LOST = {"reader-lost": "usb: 健 gone"}


def test_troubles_can_be_read_while_the_door_runs(tmp_path):
    publish_troubles(tmp_path, 12.5, LOST)

    assert (published_troubles(tmp_path), door_started(tmp_path)) == (None, None)
    with only_door(tmp_path):
        assert (published_troubles(tmp_path), door_started(tmp_path)) == (LOST, 12.5)


def test_a_door_that_gives_no_sign_of_life_does_not_work(tmp_path):
    """It hangs, though it still holds its directory."""
    publish_troubles(tmp_path, 12.5, LOST)
    now = time.monotonic()
    with only_door(tmp_path):
        for age_s, answer in (
            (doorpi.LIFELESS_S - 10, LOST),
            (doorpi.LIFELESS_S, None),
        ):
            os.utime(tmp_path / "troubles.json", (now - age_s, now - age_s))
            assert published_troubles(tmp_path) == answer
        publish_troubles(tmp_path, 12.5, LOST)
        assert published_troubles(tmp_path) == LOST


def test_a_sign_of_life_writes_nothing_but_its_time(tmp_path):
    publish_troubles(tmp_path, 12.5, LOST)
    before = (tmp_path / "troubles.json").stat()
    os.utime(tmp_path / "troubles.json", (0, 0))

    publish_troubles(tmp_path, 12.5, LOST)

    after = (tmp_path / "troubles.json").stat()
    assert after.st_ino == before.st_ino
    assert abs(after.st_mtime - time.monotonic()) < 10  # not of the clock on the wall


@pytest.mark.parametrize("left", [b"", b"\xff", b"[]", b"{", b'{"reader-lost": "x"}'])
def test_a_file_that_makes_no_sense_is_no_trouble(tmp_path, left):
    (tmp_path / "troubles.json").write_bytes(left)

    with only_door(tmp_path):
        assert (published_troubles(tmp_path), door_started(tmp_path)) == ({}, None)
        publish_troubles(tmp_path, 12.5, LOST)
        assert published_troubles(tmp_path) == LOST
