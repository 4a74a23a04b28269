"""`doorpi online` as a process: what its service manager, its owner and servers see."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import doorpi
from doorpi import Health, OnlineStore, Result, SqliteStore, only_door
from tests.helpers.processes import OnlineProcess, doorpi_says, sockets_of, wait_for
from tests.helpers.stores import INTENT, record
from tests.helpers.values import replace
from tests.helpers.wire import RawServer, Wire, answers

RELAY = '[door]\nname = "Front"\n[lock]\nkind = "relay"\n'


@pytest.fixture
def server() -> Iterator[Callable[..., RawServer]]:
    with contextlib.ExitStack() as stack:

        def start(serve=None) -> RawServer:
            made = RawServer(serve or answers())
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(tmp_path / "state" / "doorpi.db")) as store:
        yield store


def notify(server: RawServer | str, name: str = "ops", more: str = "") -> str:
    url = server if isinstance(server, str) else server.url
    return (
        f'[[notify]]\nname = "{name}"\nurl = "{url}/x"\n'
        f'events = ["fault", "changed"]\n{more}\n'
    )


def written(folder: Path, *tables: str) -> Path:
    path = folder / "doorpi.toml"
    path.write_text(RELAY + "".join(tables))
    return path


def fails(store: SqliteStore, detail: str = "") -> None:
    """Somebody was not let in, and now it is in the log."""
    record(
        store,
        replace(INTENT, at=datetime.now(UTC)),
        result=Result.REFUSED,
        detail=detail,
    )


def bodies(server: RawServer) -> list[dict]:
    return [json.loads(each.partition(b"\r\n\r\n")[2]) for each in server.requests]


def working(online: OnlineProcess, *names: str) -> OnlineProcess:
    """Wait until these services are well."""
    for name in names:
        online.until(lambda name=name: f"{name}: ok" in online.status, f"{name}: ok")
    return online


def test_nothing_is_configured(tmp_path):
    said = doorpi_says("--config", str(written(tmp_path)), "online")

    assert said.returncode == 0
    assert "nothing to do" in said.stdout
    assert not (tmp_path / "state" / "online.db").exists()


def test_notice_arrives_once_over_restarts(tmp_path, server, store):
    receiver = server()
    config = written(tmp_path, notify(receiver))
    with OnlineProcess(config) as online:
        working(online.until_ready(), "notify ops")
        assert sockets_of(online.pid)["tcp"] == []
        fails(store)
        online.until(lambda: receiver.requests, "the notice")
        online.until(lambda: not json.loads(state(store))["lines"], "its confirmation")
        online.process.kill()
    store.events.record(replace(INTENT, result=Result.UNLOCKED))
    with OnlineProcess(config) as online:
        working(online.until_ready(), "notify ops")
        code, took_s = online.stop()

    assert (code, took_s < 2) == (0, True)
    (message,) = bodies(receiver)
    assert message["door"] == "Front"
    assert [notice["notice"] for notice in message["notices"]] == ["fault"]


def state(store: SqliteStore) -> str:
    path = store.events.path.with_name("online.db")
    with contextlib.closing(OnlineStore(path, busy_s=5)) as own:
        return own.recall("notices notify ops") or "{}"


def test_stop_ends_a_call_that_hangs_within_2_s(tmp_path, server, store):
    hanging = server(lambda wire: (wire.request(), wire.hang()))
    with OnlineProcess(written(tmp_path, notify(hanging))) as online:
        working(online.until_ready(), "notify ops")
        fails(store)
        online.until(lambda: hanging.requests, "the call")

        code, took_s = online.stop()

    assert code == 0
    assert took_s < 2


def test_second_one_on_the_same_folder_refuses(tmp_path, server):
    config = written(tmp_path, notify(server()))
    with OnlineProcess(config) as online:
        online.until_ready()

        said = doorpi_says("--config", str(config), "online")

    assert said.returncode == 1
    assert "doorpi-online" in said.stderr


def test_door_may_work_in_the_same_folder(tmp_path, server):
    config = written(tmp_path, notify(server()))
    with only_door(tmp_path / "state"), OnlineProcess(config) as online:
        working(online.until_ready(), "notify ops")


def test_edits_are_followed_and_others_go_on(tmp_path, server, store):
    """A table that did not change keeps its connection; a bad edit changes nothing."""
    slow, good, other = server(hold), server(), server()
    config = written(tmp_path, notify(slow, "slow"), notify(good, "good"))
    with OnlineProcess(config) as online:
        working(online.until_ready(), "notify slow", "notify good")
        fails(store)
        online.until(lambda: slow.requests and good.requests, "both calls")

        written(tmp_path, notify(slow, "slow"), "[[notify]]\nnmae = 7\n")
        online.until(lambda: "has 3 problems" in online.journal, "the problems")
        written(tmp_path, notify(slow, "slow"), notify(other, "other"))
        working(online, "notify other")
        fails(store, "second")
        online.until(lambda: other.requests, "the notice to the new one")
        assert slow.connections == 1
        assert len(good.requests) == 1
        written(tmp_path)
        code = wait_for(lambda: online.process.poll() is not None and [0], "the end")

    assert code
    assert online.process.returncode == 0
    assert "nothing to do" in online.journal


def hold(wire: Wire) -> None:
    wire.request()
    wire.hang()


def test_secret_that_cannot_be_read_stops_its_table_alone(tmp_path, server, store):
    first, second = server(), server()
    token = 'token = { file = "ops.key" }'
    config = written(tmp_path, notify(first, "first", token), notify(second, "second"))
    with OnlineProcess(config) as online:
        working(online.until_ready(), "notify second")
        online.until(lambda: "ops.key cannot be read" in online.status, "the reason")

        (tmp_path / "ops.key").write_text("tk_7\n")
        working(online, "notify first")
        fails(store)
        online.until(lambda: first.requests and second.requests, "both notices")

    assert b"Authorization: Bearer tk_7\r\n" in first.requests[0]
    assert "tk_7" not in online.journal


def test_server_in_trouble_is_reported_and_hurts_no_other(tmp_path, server, store):
    wrong = server(answers(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n"))
    good = server()
    config = written(tmp_path, notify(wrong, "wrong"), notify(good, "good"))
    with OnlineProcess(config) as online:
        working(online.until_ready(), "notify wrong", "notify good")
        fails(store)
        online.until(lambda: good.requests, "the notice")
        online.until(
            lambda: "notify wrong: 127.0.0.1: HTTP 401" in online.status, "401"
        )
        settings = doorpi.read_config(config, {}, ())
        found = [*doorpi.diagnose_online(settings, tmp_path / "state")]

    states = [(each.health, each.words) for each in found]
    assert "is its token right?" in [each.do for each in found]
    wrong, good = sorted(states, key=lambda each: "good" in each[1])
    assert wrong[0] is Health.WARN
    assert re.match("notify wrong: .*HTTP 401.*, since 20", wrong[1])
    assert good[0] is Health.OK


def test_database_that_is_broken_is_set_aside(tmp_path, server, store):
    receiver = server()
    config = written(tmp_path, notify(receiver))
    fails(store)
    (tmp_path / "state" / "online.db").write_bytes(b"this is no database" * 400)
    with OnlineProcess(config) as online:
        working(online.until_ready(), "notify ops")
        fails(store)
        online.until(lambda: receiver.requests, "the notice")

    assert "online.db was broken" in online.journal


def test_it_is_small_with_everything_on(tmp_path, server, store):
    receivers = [server() for _ in range(3)]
    tables = [notify(each, f"n{i}") for i, each in enumerate(receivers)]
    chat = f'[telegram]\ntoken = "1:x"\nbase_url = "{receivers[0].url}"\n'
    lists = f'[[list]]\nurl = "{receivers[1].url}/list.csv"\n'
    # What compiles a module needs more; an installed one was compiled before.
    cache = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": None}
    doorpi_says("--version", **cache)
    with OnlineProcess(written(tmp_path, *tables, chat, lists), **cache) as online:
        working(online.until_ready(), "notify n1", "notify n2")
        fails(store)
        online.until(lambda: all(each.requests for each in receivers), "the calls")

        assert resident_mb(online.pid) < 45


def resident_mb(pid: int) -> float:
    (kb,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(kb) / 1024
