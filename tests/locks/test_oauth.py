"""A lock with OAuth: what a driver needs for it beside its protocol, over real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import doorpi
from doorpi import AuthError, DriverStateFile, LockState, NotSent, Result
from tests.fakes import oauth
from tests.fakes.locks import Words
from tests.fakes.oauth import FIRST, FakeOAuth, FakeTokens, OAuthLock, access_of
from tests.helpers.processes import environment
from tests.helpers.world import Taps


class Vendor:
    """Both hosts of the vendor, and doors at its lock."""

    def __init__(self, clock, stack: contextlib.ExitStack) -> None:
        self.clock = clock
        self._stack = stack
        self.tokens = FakeTokens(clock)
        stack.callback(self.tokens.close)
        self.cloud = FakeOAuth(clock, self.tokens)
        stack.callback(self.cloud.close)

    def access(self, refresh_token: str = FIRST) -> doorpi.LockAccess:
        return access_of(self.cloud.base_url, self.tokens.base_url, refresh_token)

    def lock(self, words) -> OAuthLock:
        lock = OAuthLock(self.access(), self.clock, words)
        self._stack.callback(lock.close)
        return lock

    def status(self, lock: OAuthLock) -> LockState:
        return lock.status(self.clock.monotonic() + 5).state


@pytest.fixture
def vendor(clock):
    with contextlib.ExitStack() as stack:
        yield Vendor(clock, stack)


def test_token_is_renewed_within_the_question_that_got_a_401(vendor):
    lock = vendor.lock(Words())

    assert vendor.status(lock) is LockState.LOCKED
    assert vendor.cloud.asked == ["GET /locks/7"] * 2
    assert vendor.tokens.asked == ["POST /token"]
    assert lock.calls == 3  # those to the token's host as well
    assert [each.dialer.host for each in lock.apis] == ["127.0.0.1", "localhost"]


def test_token_that_expires_before_the_command_is_renewed(vendor):
    words = Words()
    taps = Taps(vendor.clock, vendor.cloud, vendor.lock(words))
    vendor.status(taps.lock)

    def expire():
        vendor.cloud.has_expired = True
        vendor.cloud.before_answer = lambda: None

    vendor.cloud.before_answer = expire
    outcome = taps.tap()

    assert outcome.result is Result.UNLOCKED
    assert [command for _, command in vendor.cloud.received] == ["unlock"]
    assert vendor.tokens.number == 2


def test_token_on_disk_is_used_after_a_restart(vendor, tmp_path):
    for _ in range(3):
        words = DriverStateFile(tmp_path / "lock.words", vendor.access())
        lock = vendor.lock(words)
        vendor.cloud.has_expired = True
        assert vendor.status(lock) is LockState.LOCKED
        lock.close()

    assert vendor.tokens.number == 3
    assert not vendor.tokens.is_locked_out


@pytest.mark.realtime
def test_token_on_disk_survives_a_kill_before_the_next_call(vendor, tmp_path):
    argv = [sys.executable, oauth.__file__]
    argv += [vendor.cloud.base_url, vendor.tokens.base_url, str(tmp_path)]

    def door() -> subprocess.Popen[str]:
        return subprocess.Popen(
            argv, env=environment(), stdout=subprocess.PIPE, text=True
        )

    with door() as killed:
        vendor.cloud.before_answer = lambda: os.kill(killed.pid, signal.SIGKILL)
        assert killed.wait(30) == -signal.SIGKILL
    vendor.cloud.before_answer = lambda: None
    vendor.cloud.has_expired = True
    with door() as restarted:
        said, _ = restarted.communicate(timeout=30)

    assert said == "locked\n"
    assert vendor.tokens.number == 2
    assert not vendor.tokens.is_locked_out


def test_token_of_another_process_is_used(vendor, tmp_path):
    """`doctor` beside the door: each reads what the other has kept."""
    path = tmp_path / "lock.words"
    locks = [vendor.lock(DriverStateFile(path, vendor.access())) for _ in range(2)]

    for lock in (*locks, *locks):
        vendor.status(lock)

    assert vendor.tokens.number == 1


def test_token_on_disk_is_ignored_after_new_settings(vendor, tmp_path):
    path = tmp_path / "lock.words"
    vendor.status(vendor.lock(DriverStateFile(path, vendor.access())))

    words = DriverStateFile(path, vendor.access("refresh-token-9999"))

    assert words.recall("tokens") is None


def test_refresh_token_refused_is_an_auth_error_without_secrets(vendor):
    lock = vendor.lock(Words())
    vendor.tokens.is_locked_out = True

    with pytest.raises(AuthError) as caught:
        vendor.status(lock)

    assert str(caught.value) == "HTTP 400 invalid_grant: sign in again"
    assert FIRST not in lock._tokens.redact(f"{FIRST} is used up")


def test_token_that_is_new_is_redacted(vendor):
    lock = vendor.lock(Words())
    vendor.status(lock)

    for api in lock.apis:
        told = api.redact(f"{vendor.tokens.access} refresh-token-0001 {FIRST}")
        assert told == "*** *** ***"


@pytest.mark.parametrize("fault", ["cut-before", "cut-after", "500-before", "html"])
def test_token_that_cannot_be_renewed_is_not_sent(vendor, fault):
    lock = vendor.lock(Words())
    vendor.tokens.fail(fault)

    with pytest.raises(NotSent, match=r"^no new token: "):
        vendor.status(lock)

    assert vendor.cloud.asked == ["GET /locks/7"]
    assert vendor.tokens.asked == ["POST /token"]


# -- the words on disk


@pytest.fixture
def words(tmp_path):
    return DriverStateFile(tmp_path / "lock.words", doorpi.LockAccess(device_id="1"))


def test_state_file_is_readable_by_its_owner_only(words, tmp_path):
    words.keep("token", "s3cret")

    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert words.recall("token") == "s3cret"


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"made_from": 1}', b"{"])
def test_state_file_that_is_unreadable_counts_as_empty(words, tmp_path, content):
    (tmp_path / "lock.words").write_bytes(content)

    assert words.recall("token") is None
    words.keep("token", "new")
    assert words.recall("token") == "new"


def test_state_that_cannot_be_written_is_logged_and_kept_in_memory(
    words, monkeypatch, caplog
):
    def refuse(path, text, readers=()):
        raise OSError(28, "No space left on device")

    words.keep("other", "kept")
    with monkeypatch.context() as full:
        full.setattr(doorpi, "write_whole", refuse)
        words.keep("token", "new")

    (record,) = caplog.records
    assert "lock.words: No space left on device" in record.getMessage()
    assert "new" not in record.getMessage().split(": ")[0]
    assert [words.recall(name) for name in ("token", "other")] == ["new", "kept"]
    words.keep("third", "x")  # and with it what is still missing
    assert Path(words._path).read_text().count("new") == 1
