"""The code of a guest pass: short, signed, and no bit of it may change."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import doorpi
from doorpi import PassCode, sign_pass, verify_pass
from tests.helpers.stopwatch import Stopwatch

KEY = Ed25519PrivateKey.from_private_bytes(32 * b"k")
OTHER = Ed25519PrivateKey.from_private_bytes(32 * b"o")
CODE = PassCode("ABCDEFG2", datetime(2026, 12, 1, 18, 0, tzinfo=UTC), is_once=False)
TEXT = sign_pass(CODE, KEY)


@pytest.mark.parametrize("is_once", [False, True])
def test_verify_pass_reads_what_sign_pass_wrote(is_once):
    code = CODE._replace(is_once=is_once)

    assert verify_pass(sign_pass(code, KEY), KEY.public_key()) == code


def test_the_code_fits_into_a_small_qr_code():
    assert len(TEXT) == 127
    assert set(TEXT) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:")  # alphanumeric


def test_no_character_of_a_pass_may_change():
    for at, char in enumerate(TEXT):
        for other in {"A", "B", "7", "a", chr(ord(char) ^ 1)} - {char}:
            changed = TEXT[:at] + other + TEXT[at + 1 :]
            assert verify_pass(changed, KEY.public_key()) is None, (at, other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DOORPI:",
        TEXT[:-1],
        TEXT + "A",
        TEXT[7:],
        TEXT.lower(),
        f"x{TEXT}",
        2 * TEXT,
    ],
)
def test_nothing_else_is_a_pass(text):
    assert verify_pass(text, KEY.public_key()) is None


def test_a_pass_of_another_door_is_none():
    assert verify_pass(sign_pass(CODE, OTHER), KEY.public_key()) is None


def test_a_later_version_is_none_of_ours(monkeypatch):
    body = "\x02" + TEXT[8:]
    assert verify_pass("DOORPI:" + body, KEY.public_key()) is None


@pytest.mark.realtime
def test_a_pass_is_verified_within_20_ms():
    verify_pass(TEXT, KEY.public_key())
    watch = Stopwatch()

    for _ in range(10):
        assert verify_pass(TEXT, KEY.public_key())

    assert not watch.is_past(10 * 0.02)


def test_the_end_is_kept_to_the_second():
    late = CODE._replace(ends=datetime(2100, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    assert verify_pass(sign_pass(late, KEY), KEY.public_key()) == late


def test_two_first_passes_at_the_same_moment_share_one_key(tmp_path, monkeypatch):
    """Another process makes the key after this one has looked for it."""
    path, write = tmp_path / "pass.key", doorpi.write_whole

    def late(file, text):
        monkeypatch.undo()
        doorpi.signing_key(path)
        write(file, text)

    monkeypatch.setattr(doorpi, "write_whole", late)
    mine = doorpi.signing_key(path)

    assert mine.private_bytes_raw() == doorpi.signing_key(path).private_bytes_raw()
    assert [file.name for file in tmp_path.iterdir()] == ["pass.key"]


def test_without_its_library_no_pass_is_verified_and_the_door_goes_on(
    tmp_path, monkeypatch, caplog
):
    doorpi.signing_key(tmp_path / "pass.key")
    monkeypatch.setitem(sys.modules, doorpi.ED25519.rpartition(".")[0], None)

    assert doorpi.pass_in(tmp_path / "pass.key", TEXT) is None
    assert "no guest pass can be verified" in caplog.text
