"""Root trusts nothing in the service's folder: its verbs act there as the owner.

Each verb runs in a child of its own, which gives root up for good.
"""

from __future__ import annotations

import importlib
import os
import pwd
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

import doorpi
from tests.helpers.processes import wait_for

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can act as somebody else"
)

#: A developer's Python may be in a folder that nobody else may enter.
for module in (
    "ctypes.util",
    "encodings.ascii",
    "gpiozero",
    "grp",
    "nfc.clf",
    "tomli_w",
):
    importlib.import_module(module)

SERVICE = 64001  # nobody of this computer
KEN, MIKA = "04B0C1D2E3F405", "04F0E1D2C3B4A5"
SETTINGS = f"""
[reader]
device = "udp:127.0.0.1:9"
virtual = true
[lock]
kind = "sesame-mini"
device_id = "11200416-0103-0701-2300-0f0500080e0e"
api_key = {{ file = "lock.key" }}
base_url = "http://127.0.0.1:9"
unlock_window_s = 1.0
[[card]]
uid = "{KEN}"
holder = "Ken Sato"
"""
VERBS = (
    ("lockdown", "on"), ("allow", "Mika Mori", "--uid", MIKA), ("cards",),
    ("revoke", MIKA), ("why", KEN), ("log",), ("log", "--verify"), ("check",),
    ("import", "LIST"),
)  # fmt: skip
SLOW_VERBS = ("status",), ("unlock",), ("doctor",)  # they wait for a lock and a reader


class Office(NamedTuple):
    """A folder of root's with settings, a key of root's alone, and ``state``, which is
    the service's; beside it what must not change."""

    settings: Path
    state: Path
    outside: Path

    def does(self, *argv: str) -> tuple[int, str]:
        """The exit code of a verb that root runs, and all that it prints."""
        argv = tuple(str(self.settings.with_name("list.csv")) if a == "LIST" else a for a in argv)  # fmt: skip
        said = self.settings.with_name("said")
        child = begin(
            lambda: doorpi.main(["--config", str(self.settings), *argv]), said
        )
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), said.read_text("utf-8")

    def untouched(self) -> dict[str, tuple[object, ...]]:
        """All that there is outside of the service's folder."""
        return {
            path.name: (path.read_bytes(), *path.lstat()[:6], path.lstat().st_mtime_ns)
            for path in self.outside.iterdir()
        }


def begin(work: Callable[[], int], said: Path = Path(os.devnull)) -> int:
    """A child that does ``work``; what it prints goes to the file ``said``."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (open(1, "w", closefd=False), open(2, "w", closefd=False))  # noqa: SIM115  # fmt: skip
        code = work()
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
def office() -> Iterator[Office]:
    root = Path(tempfile.mkdtemp(prefix="doorpi-root-"))
    root.chmod(0o755)
    office = Office(root / "doorpi.toml", root / "state", root / "outside")
    office.settings.write_text(SETTINGS, "utf-8")
    key = root / "lock.key"
    key.write_text("AbCdEfGhIjKlMnOpQrStUvWxYz0123456789ABCD")
    (root / "list.csv").write_text(f"uid,holder\n{MIKA},Mika Mori\n")
    (root / "list.csv").chmod(0o600)
    office.outside.mkdir()
    office.state.mkdir(mode=0o700)
    os.chown(office.state, SERVICE, SERVICE)
    for file in (office.settings, key):
        os.chown(file, 0, SERVICE)
        file.chmod(0o640)
    yield office
    shutil.rmtree(root)


def test_what_root_makes_belongs_to_the_owner_of_the_folder_alone(office):
    for verb in VERBS:
        office.does(*verb)

    made = [*office.state.iterdir()]
    assert {"doorpi.db", "cards.db", "cards.copy"} <= {file.name for file in made}
    facts = {(f.stat().st_uid, f.stat().st_gid, f.stat().st_mode & 0o777) for f in made}
    assert facts == {(SERVICE, SERVICE, 0o600)}


def test_keys_that_root_makes_are_for_the_service_alone(office):
    code, said = office.does("keys", "new")

    assert code == 0, said
    for name in ("door.key", "issuer.key"):
        found = office.settings.with_name(name).stat()
        assert (found.st_uid, found.st_mode & 0o777) == (SERVICE, 0o600)
    table = said[said.index("[proof]") :]
    office.settings.write_text(office.settings.read_text() + table)
    assert office.does("keys", "check")[0] == 0
    assert office.does("keys", "new")[0] == 1  # none is replaced


def test_a_verb_has_all_groups_of_the_owner_and_no_way_back(office):
    nobody = pwd.getpwnam("nobody")
    os.chown(office.state, nobody.pw_uid, 0)
    said = office.settings.with_name("said")

    def become() -> int:
        doorpi.become_owner(office.state)
        print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))
        return 0

    os.waitpid(begin(become, said), 0)

    groups = sorted(os.getgrouplist("nobody", nobody.pw_gid))
    ids = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3, groups
    assert said.read_text() == " ".join(map(str, ids)) + "\n"


#: What the service's user may put in place of its own files, one or all of them.
TRAPS = (
    "doorpi.db", "doorpi.db-wal", "cards.db", "cards.db-wal", "cards.db-journal",
    "cards.copy",
)  # fmt: skip


@pytest.mark.parametrize(
    ("target", "names"),
    [("nologin", TRAPS), *(("roots.db", (name,)) for name in TRAPS)],
)
def test_a_link_leads_no_verb_out_of_the_folder(office, names, target):
    """To a file that is not there yet, or to a database that root alone may open."""
    with closing(sqlite3.connect(office.outside / "roots.db")) as db:
        db.execute("CREATE TABLE secrets (x)")
    (office.outside / "roots.db").chmod(0o600)
    for name in names:
        (office.state / name).symlink_to(office.outside / target)
    before = office.untouched()

    for verb in VERBS if len(names) == 1 else VERBS + SLOW_VERBS:
        code, said = office.does(*verb)
        assert code != 99, said

    assert office.untouched() == before


def test_a_link_that_comes_between_two_steps_leads_nowhere_either(office):
    target = office.outside / "cron"
    before, is_over = office.untouched(), threading.Event()

    def plant() -> None:
        while not is_over.is_set():
            for name in ("cards.copy", "cards.db-journal"):
                try:
                    (office.state / name).symlink_to(target)
                except FileExistsError:
                    (office.state / name).unlink(missing_ok=True)

    planting = threading.Thread(target=plant)
    planting.start()
    for number in range(12):
        office.does("allow", f"Guest {number}", "--uid", f"04{number:012X}")
    is_over.set()
    planting.join()

    assert office.untouched() == before


def test_a_folder_within_the_services_own_is_not_roots_by_a_link(office):
    own = office.settings.with_name("own")
    own.mkdir(mode=0o700)
    os.chown(own, SERVICE, SERVICE)
    (own / "state").symlink_to(office.outside)
    text = f'[door]\nstate_dir = "{own / "state"}"\n{SETTINGS}'
    office.settings.write_text(text, "utf-8")

    for verb in VERBS:
        office.does(*verb)

    assert office.untouched() == {}


@pytest.mark.parametrize(
    ("above", "owner"), [(0, SERVICE), (65534, SERVICE), (SERVICE, None)]
)
def test_the_nearest_owner_who_is_not_root_is_who_root_acts_as(office, above, owner):
    """None: the folder is not there yet, and is made by whoever may."""
    state = office.settings.with_name("above") / "state"
    state.parent.mkdir()
    state.parent.chmod(0o755)  # whatever the umask of who tests
    os.chown(state.parent, above, above)
    if owner is not None:
        state.mkdir(mode=0o700)
        os.chown(state, owner, owner)
    office.settings.write_text(f'[door]\nstate_dir = "{state}"\n{SETTINGS}', "utf-8")

    code, said = office.does("lockdown", "on")

    assert code == 0, said
    assert {f.stat().st_uid for f in (state, *state.iterdir())} == {SERVICE}


def test_settings_with_a_mistake_are_no_way_around(office):
    (office.state / "doorpi.db").symlink_to(office.outside / "nologin")
    office.settings.write_text(SETTINGS + "[bogus]\n", "utf-8")

    for verb in VERBS:
        office.does(*verb)

    assert office.untouched() == {}


def test_nothing_raw_reaches_the_terminal_of_root(office):
    office.does("allow", "Mika Mori", "--uid", MIKA)
    with closing(sqlite3.connect(office.state / "cards.db")) as db:
        for when in ("INSERT", "DELETE"):
            db.execute(
                f"CREATE TRIGGER t{when} BEFORE {when} ON cards BEGIN SELECT"
                " RAISE(ABORT, '\x1b]0;all is well\x07\x1b[2J'); END"
            )
    for file in office.state.iterdir():
        os.chown(file, SERVICE, SERVICE)

    code, said = office.does("allow", "Jo Guest", "--uid", "0123AB07")

    assert code == 1
    assert r"\x1b[2J" in said
    assert [c for c in said if not (c.isprintable() or c == "\n")] == []


def test_the_door_itself_started_by_root_is_the_services(office):
    (office.state / "doorpi.db").symlink_to(office.outside / "nologin")
    door = begin(lambda: doorpi.main(["--config", str(office.settings), "run"]))
    try:
        status = Path(f"/proc/{door}/status")
        wait_for(lambda: f"Uid:\t{SERVICE}\t{SERVICE}" in status.read_text(), "dropped")
    finally:
        os.kill(door, signal.SIGTERM)
        os.waitpid(door, 0)

    assert office.untouched() == {}


def answer_for_ever(state: Path) -> int:
    """A door that only answers, as the service's user."""
    doorpi.become_owner(state)
    clock = doorpi.SystemClock()
    source = doorpi.InboxSource(doorpi.Inbox(state / "inbox.db", clock))
    with doorpi.only_door(state):
        while True:
            if request := source.poll(clock.monotonic()):
                answer = doorpi.Answer(True, [f"{request.wants} by {request.medium}"])
                source.answer(request, answer)
            clock.sleep(0.005)


@pytest.mark.parametrize("verb", ["unlock", "lock", "status"])
def test_root_asks_the_running_door_as_the_owner_of_its_inbox(office, verb):
    door = begin(lambda: answer_for_ever(office.state))
    try:
        wait_for((office.state / "inbox.db").exists, "an inbox")
        assert office.does(verb) == (0, f"{verb} by command\n")
    finally:
        os.kill(door, signal.SIGKILL)
        os.waitpid(door, 0)

    facts = {(f.stat().st_uid, f.stat().st_mode) for f in office.state.iterdir()}
    assert {uid for uid, _ in facts} == {SERVICE}


def test_an_inbox_that_is_a_link_leads_nobody_out_of_the_folder(office):
    (office.state / "inbox.db").symlink_to(office.outside / "nologin")
    door = begin(lambda: answer_for_ever(office.state))
    try:
        wait_for(lambda: doorpi.is_running(office.state), "a door")
        code, said = office.does("unlock")
    finally:
        os.kill(door, signal.SIGKILL)
        os.waitpid(door, 0)

    assert code == 1
    assert "is a symbolic link" in said
    assert office.untouched() == {}


@pytest.mark.parametrize("verb", ["unlock", "lock", "status"])
def test_who_may_not_ask_the_door_is_told_so_and_moves_nothing(office, verb):
    for name in ("doorpi.toml", "lock.key"):
        office.settings.with_name(name).chmod(0o644)

    def ask() -> int:
        os.setresgid(SERVICE + 1, SERVICE + 1, SERVICE + 1)
        os.setresuid(SERVICE + 1, SERVICE + 1, SERVICE + 1)
        return doorpi.main(["--config", str(office.settings), verb])

    said = office.settings.with_name("said")
    _, status = os.waitpid(begin(ask, said), 0)

    assert os.waitstatus_to_exitcode(status) == 1
    assert said.read_text() == (
        f"database: {office.state}: Permission denied; use sudo\n"
    )


def test_check_judges_as_the_service_and_says_what_mends_it(office):
    """The README's own way to edit once left a file of root's alone."""
    assert office.does("check")[0] == 0
    who = f"the service (user {SERVICE})"
    for file in ("doorpi.toml", "lock.key"):
        path = office.settings.with_name(file)
        os.chown(path, 0, 0)

        code, said = office.does("check")

        mend = f"sudo chgrp {SERVICE} {path}; sudo chmod g+r {path}"
        assert code == doorpi.EX_CONFIG
        assert f"{who} cannot read {path}; {mend}\n" in said
        os.chown(path, 0, SERVICE)
    office.settings.with_name("lock.key").unlink()
    os.chown(office.settings, 0, 0)
    code, said = office.does("check")
    assert code == doorpi.EX_CONFIG
    assert said.count("cannot read") == 1
    assert "lock.key cannot be read: no such file" in said


def test_check_notes_a_key_of_online_that_the_service_cannot_read(office):
    """The door works without it."""
    path = office.settings.with_name("bot.key")
    path.write_text("1:x\n")
    path.chmod(0o640)
    with office.settings.open("a") as file:
        file.write('\n[telegram]\ntoken = { file = "bot.key" }\n')

    code, said = office.does("check")

    assert code == 0
    assert f"cannot read {path}; sudo chgrp {SERVICE} {path}; sudo chmod" in said

    path.unlink()
    assert f"telegram.token: there is no file {path}" in office.does("check")[1]


def test_check_names_a_database_that_the_service_cannot_write(office):
    office.does("lockdown", "on")
    os.chown(office.state / "cards.db", 0, 0)

    code, said = office.does("check")

    assert code == doorpi.EX_FAILED
    assert f"cannot write {office.state / 'cards.db'}; sudo chown -hR" in said
