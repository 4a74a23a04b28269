"""`doorpi backup` and `restore`: from one Pi to a new one."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest

import doorpi
from doorpi import Change, Origin, SqliteStore, main, parse_config, signing_key
from tests.helpers.world import KEN, MIKA, NOON, STRANGER, card_of

KEY = "sesame-api-key-0001"
SECRET = "0123456789abcdef0123456789ABCDEF"
CONFIG = f"""
[door]
name = "Office 4F"
state_dir = "state"
require_synced_clock = false
[lock]
kind = "sesame"
device_id = "11200000-0000-4000-8000-000000000001"
api_key = "{KEY}"   # from the portal
secret_key = {{ file = "sesame.key" }}
[telegram]
token = '12345:chat-token'
[[notify]]
url = "https://hooks.example.org/T0/secret-path"
events = ["fault"]
[[card]]
uid = "{KEN}"
holder = "Ken Sato"
"""
SECRETS = (KEY, SECRET, "chat-token", "secret-path")


class Pi:
    """A folder with settings and state."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.settings = folder, folder / "doorpi.toml"

    def says(self, *typed: str) -> int:
        return main(["--config", str(self.settings), *map(str, typed)])

    def store(self) -> contextlib.AbstractContextManager[SqliteStore]:
        return contextlib.closing(SqliteStore(self.folder / "state" / "doorpi.db"))

    def holders(self) -> list[str]:
        with self.store() as store:
            return [card.holder for card in store.people.cards()]


@pytest.fixture
def old(tmp_path):
    pi = Pi(tmp_path / "old")
    pi.settings.write_text(CONFIG)
    (pi.folder / "sesame.key").write_text(f"{SECRET}\n")
    with pi.store() as store:
        store.people.add_card(card_of(MIKA, "Mika Mori", source=Origin.DB), NOON)
        store.people.lock_down("2026 by somebody")
    signing_key(pi.folder / "state" / "pass.key")
    return pi


@pytest.fixture
def new(tmp_path):
    pi = Pi(tmp_path / "new")
    pi.settings.write_text('[lock]\nkind = "relay"\n')
    return pi


@pytest.fixture
def file(tmp_path):
    return tmp_path / "door.json"


def test_a_new_pi_has_the_settings_and_people_of_the_old_one(old, new, file, capsys):
    assert old.says("backup", file, "--with-secrets") == doorpi.EX_OK
    assert file.stat().st_mode & 0o777 == 0o600

    assert new.says("restore", file) == doorpi.EX_OK

    assert new.settings.read_text() == CONFIG
    before = new.settings.with_name("doorpi.toml.before-restore")
    assert before.read_text() == '[lock]\nkind = "relay"\n'
    assert (new.folder / "sesame.key").read_text() == f"{SECRET}\n"
    key, copy = ((pi.folder / "state" / "pass.key").read_text() for pi in (old, new))
    assert key == copy
    assert new.holders() == ["Mika Mori"]
    with new.store() as store:
        assert store.people.locked_down()
        (event,) = store.events.read()
    assert event.reason is Change.IMPORT
    assert "restored from a backup" in event.detail
    assert "still missing" not in capsys.readouterr().out


def test_a_backup_holds_no_secret_unless_asked_and_the_restored_pi_lists_what_is_missing(
    old, new, file, capsys
):
    assert old.says("backup", file) == doorpi.EX_OK
    text = file.read_text()
    pass_key = (old.folder / "state" / "pass.key").read_text().strip()
    for secret in (*SECRETS, pass_key):
        assert secret not in text
        assert base64.b64encode(secret.encode()).decode() not in text

    assert new.says("restore", file) == doorpi.EX_OK

    said = capsys.readouterr().out
    assert "lock.api_key" in said
    assert "sesame.key" in said
    assert "# from the portal" in new.settings.read_text()
    assert parse_config(new.settings.read_text()).lock.device_id.endswith("0001")


def test_a_backup_may_go_to_standard_output(old, capsys):
    assert old.says("backup", "-") == doorpi.EX_OK

    assert json.loads(capsys.readouterr().out)["doorpi"] == doorpi.__version__


def test_a_backup_that_fails_leaves_the_one_before(old, file, capsys):
    assert old.says("backup", file, "--with-secrets") == doorpi.EX_OK
    before = file.read_text()
    (old.folder / "state" / "cards.db").write_bytes(b"no database" * 1000)

    assert old.says("backup", file) == doorpi.EX_FAILED
    assert file.read_text() == before

    (old.folder / "state" / "cards.db").unlink()
    file.write_text(before * 2)
    assert old.says("backup", file) == doorpi.EX_OK
    assert json.loads(file.read_text())["people"]  # with nothing behind it


def test_a_backup_counts_for_doctor(old, file):
    old.says("backup", file)

    with old.store() as store:
        assert store.events.recall("backup")


def test_a_backup_names_the_end_of_the_log(old, file):
    tap = doorpi.Event(NOON, KEN, "Ken Sato", doorpi.Reason.NOT_FOUND)
    with old.store() as store:
        store.events.record(tap)
        head = store.events.head("events")

    old.says("backup", file)

    assert json.loads(file.read_text())["log"]["events"] == list(head)


def test_a_pi_in_use_is_replaced_only_on_demand(old, new, file, capsys):
    old.says("backup", file)
    new.settings.write_text('[door]\nstate_dir = "state"\n[lock]\nkind = "relay"\n')
    with new.store() as store:
        store.people.add_card(card_of(KEN, "Somebody else"), NOON)

    assert new.says("restore", file) == doorpi.EX_FAILED
    assert "--replace" in capsys.readouterr().err
    assert "Office 4F" not in new.settings.read_text()

    assert new.says("restore", file, "--replace") == doorpi.EX_OK
    assert new.holders() == ["Mika Mori"]
    with new.store() as store:
        assert store.people.locked_down()  # and it can be read at all


def test_a_pi_whose_door_has_run_but_met_nobody_is_still_new(old, new, file):
    """The installer starts the door, before there is anything to restore."""
    old.says("backup", file)
    with new.store() as store:
        store.events.tidy()
    assert (new.folder / "state" / "doorpi.db").exists()

    assert new.says("restore", file) == doorpi.EX_OK

    assert new.holders() == ["Mika Mori"]
    assert new.says("restore", file) == doorpi.EX_FAILED  # it is not new any more


def test_a_running_door_is_not_replaced(old, new, file, capsys):
    old.says("backup", file)
    with doorpi.only_door(new.folder / "state"):
        assert new.says("restore", file) == doorpi.EX_FAILED

    assert "running" in capsys.readouterr().err
    assert "Office 4F" not in new.settings.read_text()


def broken_people(known: dict) -> None:
    content = bytearray(base64.b64decode(known["people"]))
    content[4096:8192] = bytes(4096)
    known["people"] = base64.b64encode(content).decode()


SPOILT = {
    "empty": lambda text: "",
    "cut off": lambda text: text[: len(text) // 2],
    "no JSON": lambda text: "[[card]]",
    "a list": lambda text: "[]",
    "an unknown key": lambda text: text.replace('"at"', '"when"', 1),
    "a folder in a name": lambda text: changed(text, state={"../evil": "x"}),
    "settings that are none": lambda text: changed(text, settings="[door"),
    "people that are none": lambda text: changed(text, people="AAAA"),
    "broken people": lambda text: text_with(text, broken_people),
}  # fmt: skip


def text_with(text: str, change) -> str:
    known = json.loads(text)
    change(known)
    return json.dumps(known)


def changed(text: str, **values: object) -> str:
    return text_with(text, lambda known: known.update(values))


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_is_no_whole_backup_changes_nothing(old, new, file, spoil, capsys):
    old.says("backup", file, "--with-secrets")
    file.write_text(spoil(file.read_text()))

    assert new.says("restore", file) == doorpi.EX_FAILED

    assert capsys.readouterr().err
    assert new.settings.read_text() == '[lock]\nkind = "relay"\n'
    assert sorted(p.name for p in new.folder.iterdir()) == ["doorpi.toml"]


def test_a_list_of_a_newer_program_is_put_back_and_used(old, new, file):
    with old.store() as store, store.people._transaction() as db:
        db.execute("PRAGMA user_version = 99")
    old.says("backup", file)

    assert new.says("restore", file) == doorpi.EX_OK

    assert new.holders() == ["Mika Mori"]


def test_without_secrets_knows_every_way_to_write_a_key():
    text = (
        "lock.kind = 'sesame-mini'\nlock.device_id = '11200000-0000-4000-8000-000000000001'\n"
        f'lock."api_key" = """{KEY}"""\n'
    )

    assert KEY not in doorpi.without_secrets(text)


def test_a_restored_pi_counts_as_backed_up(old, new, file, capsys):
    old.says("backup", file, "--with-secrets")
    new.says("restore", file)

    new.says("doctor")

    (line,) = (
        x for x in capsys.readouterr().out.splitlines() if "list was changed" in x
    )
    assert line.startswith("ok")


def test_a_card_that_became_secure_stays_so(old, file, capsys):
    """The backup has it as a plain one, or not at all."""
    old.says("backup", file)
    secure = {"proof": "ntag424", "generation": 2}
    with old.store() as store:
        store.people.add_card(card_of(MIKA, "Mika Mori", **secure), NOON)
        store.people.add_card(card_of(STRANGER, "Jo Guest", **secure), NOON)

    assert old.says("restore", file, "--replace") == doorpi.EX_OK

    with old.store() as store:
        mika, jo = store.people.find(MIKA), store.people.find(STRANGER)
    assert (mika.enabled, mika.proof, mika.generation) == (True, "ntag424", 2)
    assert (jo.enabled, jo.proof) == (False, "ntag424")
