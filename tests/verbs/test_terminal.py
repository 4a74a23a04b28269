"""Each verb on a terminal and piped: the same words and exit code, and nothing in them
that a terminal obeys but colours."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import shutil
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

import doorpi
from doorpi import Event, Notes, Reason, Result, SqliteStore, Uid, main
from tests.helpers.processes import KEN_CARD, write_config
from tests.helpers.values import replace
from tests.helpers.world import card_of

GUEST = Uid("0123AB07")
HOSTILE = 'Jo "\x1b[31m\u202e\x07\r\n=1+1 <Guest> \u5b89\u500d'
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WHEN = r"in \d+ ms|as of \d+ s|\d+ s ago|Nov \d+:\d+"  # of each call its own
AT = datetime(2026, 11, 18, 3, tzinfo=UTC)

# fmt: off
VERBS = {
    # what is typed                          exit code
    "check":                                 0,
    "cards":                                 0,
    "cards --json":                          0,
    "cards --toml":                          0,
    "allow Mika --uid 01020304":             0,
    "allow Mika --uid 08020304":             1,
    "revoke 0123AB07":                       0,
    "revoke nobody":                         1,
    "import list.csv --dry-run":             0,
    "import nothing.csv":                    1,
    "why 0123AB07":                          0,
    "why Nobody":                            1,
    "log":                                   0,
    "log --json":                            0,
    "log --csv":                             0,
    "log --denied":                          0,
    "log --verify":                          0,
    "log --chart --since 2026-11-01":        0,
    "status":                                0,
    "lock":                                  0,
    "unlock":                                0,
    "lockdown on":                           0,
    "legend":                                0,
    "legend --svg":                          0,
}
# fmt: on


@pytest.fixture
def office(tmp_path, cloud, monkeypatch) -> Path:
    """People and events whose names come from outside."""
    cloud.motor_s = 0.05
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    config = write_config(tmp_path, cloud, "udp:127.0.0.1:9", cards=KEN_CARD)
    (tmp_path / "list.csv").write_text("uid,name\n01:02:03:05,=1+1\n")
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        store.people.add_card(card_of(GUEST, HOSTILE), AT)
        event = Event(at=AT, uid=GUEST, holder=HOSTILE, reason=Reason.GRANTED)
        begun = store.events.begin(event)
        store.events.finish(
            replace(
                event, id=begun, result=Result.UNLOCKED, latency_ms=5, detail=HOSTILE
            )
        )
        store.events.begin(replace(event, reason=Reason.EXPIRED))
        presented = {Uid("01020305"): 1.0}
        store.events.keep(Notes({"unknown": doorpi.unknown_text(presented, "boot-1")}))
    return config


def piped(args: list[str], monkeypatch) -> tuple[int, str]:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="")
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", out)
        code = main(args)
    out.seek(0)
    return code, out.read()


def on_a_terminal(args: list[str], monkeypatch) -> tuple[int, str]:
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"there is no terminal here: {error}")
    heard: list[bytes] = []

    def listen() -> None:
        with contextlib.suppress(OSError):  # its end, once the other side is closed
            while data := os.read(master, 65536):
                heard.append(data)

    listener = threading.Thread(target=listen)
    listener.start()
    with (
        os.fdopen(slave, "w", encoding="utf-8") as out,
        monkeypatch.context() as patched,
    ):
        patched.setattr("sys.stdout", out)
        code = main(args)
    listener.join(10)
    os.close(master)
    return code, b"".join(heard).decode()


@pytest.mark.parametrize(("typed", "code"), VERBS.items(), ids=VERBS)
def test_verbs_print_the_same_on_a_terminal_and_piped(office, monkeypatch, typed, code):
    args = ["--config", str(office), *typed.split()]
    state, before = office.parent / "state", office.parent / "before"
    shutil.copytree(state, before)
    answers = []
    for ask in (piped, on_a_terminal):
        shutil.rmtree(state)
        shutil.copytree(before, state)
        answers.append(ask(args, monkeypatch))

    (pipe_code, pipe), (terminal_code, terminal) = answers
    assert (pipe_code, terminal_code) == (code, code)
    pipe, terminal = (re.sub("\r*\n", "\n", text) for text in (pipe, terminal))
    terminal = COLOUR.sub("", terminal)
    assert re.sub(WHEN, "", terminal) == re.sub(WHEN, "", pipe)
    for text in (pipe, terminal):  # a spreadsheet needs the BOM
        shown = text.removeprefix("\ufeff") if "--csv" in args else text
        assert doorpi.is_visible(shown.replace("\n", ""))


def test_cards_toml_on_a_full_disk_is_no_backup(office, monkeypatch, capsys):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", full)
        code = main(["--config", str(office), "cards", "--toml"])

    assert code == 1
    error = capsys.readouterr().err
    assert error == "no space left: the output is not complete\n"
    with contextlib.closing(SqliteStore(office.parent / "state/doorpi.db")) as store:
        assert store.events.recall("backup") is None


def test_log_on_a_full_disk_fails(office, monkeypatch, capsys):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", full)
        code = main(["--config", str(office), "log"])

    assert code == 1
    error = capsys.readouterr().err
    assert error == "no space left: the output is not complete\n"


@pytest.mark.parametrize("typed", ["log", "legend", "cards --toml"])
def test_verbs_work_with_a_closed_output(office, monkeypatch, capsys, typed):
    monkeypatch.setattr("sys.stdout", None)

    code = main(["--config", str(office), *typed.split()])

    sys.stdout.close()
    assert (code, capsys.readouterr().err) == (0, "")
