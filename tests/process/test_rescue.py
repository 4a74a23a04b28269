"""What an owner needs in an emergency works with a broken file and with a full disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import doorpi
from tests.helpers.disk import fill_up, tmpfs
from tests.helpers.processes import write_config

KEN = "04:A9:3C:71:5E:D2:84"
VERBS = (
    ("status",), ("unlock",), ("lock",), ("lockdown", "on"), ("why", KEN),
    ("lockdown", "off"), ("revoke", "Ken Sato"), ("why", KEN), ("log",), ("cards",),
)  # fmt: skip


@pytest.fixture
def config(tmp_path, cloud, radio):
    """The settings of a door that has run with them."""
    cloud.motor_s = 0.05
    path = write_config(tmp_path, cloud, radio.device)
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    doorpi.LastGood(path.read_text("utf-8"), {}, str(path), state).save()
    return path


def outcomes(config: Path) -> list[int]:
    return [doorpi.main(["--config", str(config), *verb]) for verb in VERBS]


SLIPS = {
    "a typo": lambda path: path.write_text("lokc = 1\n" + path.read_text("utf-8")),
    "no TOML": lambda path: path.write_text("x = = 1\n"),
    "missing": Path.unlink,
    "unreadable text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_verbs_work_with_broken_settings(config, cloud, slip, capsys):
    slip(config)

    assert outcomes(config) == [0] * len(VERBS)

    out, err = capsys.readouterr()
    assert err.count("using the last good settings") == len(VERBS)
    assert "Ken Sato (04:A9:3C:71:5E:D2:84) would be denied: locked-down" in out
    assert "would be denied: not-enabled, blocked since" in out
    assert [command for _, command in cloud.commands] == ["unlock", "lock"]


def test_verbs_work_on_a_full_disk(config, cloud, capsys):
    with tmpfs(config.parent / "disk", "size=8m") as disk:
        text = config.read_text("utf-8")
        config.write_text(text.replace("[door]", f'[door]\nstate_dir = "{disk}"'))
        with contextlib.closing(doorpi.SqliteStore(disk / "doorpi.db")) as door:
            door.people.tidy()
            door.people.lock_down("")
        (disk / "cards.copy").unlink()
        fill_up(disk)

        codes = outcomes(config)

    assert codes == [0] * len(VERBS)
    out, _ = capsys.readouterr()
    assert "would be denied: locked-down" in out
    assert "would be denied: not-enabled, blocked since" in out
