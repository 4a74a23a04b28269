"""Secure cards among the verbs: no list and no verb weakens one; keys and their files."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

import doorpi
from doorpi import ConfigError, Origin, SqliteStore
from tests.helpers.values import replace
from tests.helpers.world import KEN, NOON, STRANGER, card_of

CONFIG = """
[lock]
kind = "relay"
[proof]
door_key = { file = "door.key" }
issuer_key = { file = "issuer.key" }
"""
DOOR, ISSUER = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
SECURE = card_of(proof="ntag424", generation=2, source=Origin.DB)
UID = doorpi.format_uid(KEN)


@pytest.fixture
def keys(folder) -> Path:
    """Both key files, as they must be."""
    for name, text in (("door.key", DOOR), ("issuer.key", ISSUER)):
        (folder / name).write_text(f"{text}\n")
        (folder / name).chmod(0o600)
    (folder / "state").mkdir(exist_ok=True)
    return folder


@pytest.fixture
def store(folder):
    store = SqliteStore(folder / "state" / "doorpi.db")
    store.people.add_card(SECURE, NOON)
    yield store
    store.close()


# -- lists

LISTS = {
    "csv": f"uid,holder\n{UID},K. Sato\n",
    "csv with an empty column": f"uid,holder,proof\n{UID},K. Sato,\n",
    "toml": f'[[card]]\nuid = "{UID}"\nholder = "K. Sato"\n',
    "json": json.dumps({"uid": KEN, "holder": "K. Sato", "proof": None}),
    "json of an older program": json.dumps({"uid": KEN, "holder": "K. Sato"}),
    "carontepass": json.dumps(
        [{"code": "4.169.60.113", "kind": "1", "name": "K. Sato"}]
    ),
}


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("replaces", [False, True], ids=["added", "replaced"])
@pytest.mark.parametrize("kind", LISTS)
def test_import_weakens_no_secure_card(store, folder, verb, kind, replaces):
    (folder / "list").write_text(LISTS[kind])

    verb("import", str(folder / "list"), *["--replace"] * replaces)

    kept = store.people.find(KEN)
    assert (kept.proof, kept.generation) == ("ntag424", 2) if kept else replaces


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("form", ["--json", "--toml"])
def test_list_that_was_printed_brings_secure_cards_back(store, folder, verb, form):
    text = "\n".join(verb("people", form).out)
    store.people.change_cards([], [], NOON, wiped=[KEN])
    (folder / "list").write_text(text)

    assert verb("import", str(folder / "list")).code == 0
    assert store.people.find(KEN) == SECURE


@pytest.mark.usefixtures("keys")
def test_allow_weakens_no_secure_card(store, verb):
    assert verb("allow", "K. Sato", "--uid", KEN).code == 0
    assert store.people.find(KEN) == replace(SECURE, holder="K. Sato")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("whom", [KEN, "Ken Sato"])
def test_card_that_was_revoked_is_allowed_as_a_secure_one_without_its_limits(
    store, verb, whom
):
    store.people.add_card(replace(SECURE, valid_until=NOON.date()), NOON)
    assert verb("revoke", whom).code == 0
    assert not store.people.find(KEN).enabled

    assert verb("allow", "Ken Sato", "--uid", KEN).code == 0

    assert store.people.find(KEN) == SECURE
    assert store.people.blocks() == []


@pytest.mark.usefixtures("keys")
def test_list_that_took_a_secure_card_off_cannot_bring_it_back_as_a_plain_one(
    store, folder, verb
):
    anna, ken = (
        f"uid,holder\n{uid},{name}\n"
        for uid, name in ((STRANGER, "Anna"), (KEN, "Ken Sato"))
    )
    (folder / "list").write_text(anna)
    first, second = (
        verb("import", str(folder / "list"), "--replace").out for _ in range(2)
    )
    assert store.people.find(KEN) == replace(SECURE, enabled=False)
    (folder / "list").write_text(ken)
    verb("import", str(folder / "list"))

    assert "1 removed" in first[-2]
    assert "0 removed" in second[-2]
    assert store.people.find(KEN).proof == "ntag424"


@pytest.mark.usefixtures("keys")
def test_proof_of_a_newer_version_is_not_forgotten_by_revoke_and_allow(store, verb):
    store.people.add_card(replace(SECURE, proof="rsa-4096"), NOON)
    verb("revoke", KEN)

    said = verb("allow", "Ken Sato", "--uid", KEN)

    assert (said.code, "newer version" in said.err[0], "revoke" in said.err[0]) == (
        1,
        True,
        False,
    )
    assert not store.people.find(KEN).enabled


@pytest.mark.usefixtures("keys", "store")
def test_people_shows_how_a_card_proves_itself(store, verb):
    store.people.add_card(card_of(STRANGER, "Anna"), NOON)

    head, *rows = verb("people").out
    at = head.index("PROOF")
    assert [row[at:].split()[0] for row in rows] == ["-", "ntag424"]
    found = [json.loads(line) for line in verb("people", "--json").out]
    assert {each["holder"]: each["identifiers"][0]["proof"] for each in found} == {
        "Anna": None,
        "Ken Sato": "ntag424",
    }


@pytest.mark.usefixtures("keys")
def test_people_shows_the_stricter_of_two_entries(store, path, verb):
    with path.open("a") as file:
        file.write(f'[[card]]\nuid = "{UID}"\nholder = "Ken Sato"\n')

    assert "ntag424" in verb("people").out[1]
    (line,) = verb("people", "--json").out
    assert json.loads(line)["identifiers"][0]["proof"] == "ntag424"
    assert "once it has proven itself (ntag424)" in verb("why", KEN).out[0]


@pytest.mark.usefixtures("keys", "store")
def test_new_card_without_proof_is_refused_after_the_migration(path, verb):
    path.write_text(path.read_text() + 'uid_only = "refuse"\n')

    said = verb("allow", "Anna", "--uid", STRANGER)

    assert (said.code, "doorpi issue" in said.err[0]) == (1, True)
    assert verb("allow", "K. Sato", "--uid", KEN).code == 0


# -- key files


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        doorpi.read_config(path, {})
    return [*refused.value.problems]


# fmt: off
WRONG = {
    "missing":          ("door.key",   None,                "cannot be read: no such file"),
    "empty":            ("door.key",   "",                  "does not hold one line"),
    "too short":        ("door.key",   DOOR[:-2],           "32 hex digits"),
    "too long":         ("door.key",   DOOR + "00",         "32 hex digits"),
    "no hex":           ("door.key",   "x" + DOOR[1:],      "32 hex digits"),
    "zeros":            ("door.key",   "0" * 32,            "no key"),
    "all ones":         ("issuer.key", "f" * 32,            "no key"),
    "two lines":        ("issuer.key", f"{ISSUER}\n{DOOR}", "does not hold one line"),
    "the same twice":   ("issuer.key", DOOR.upper(),        "make them different"),
}
# fmt: on


@pytest.mark.parametrize("case", WRONG)
def test_wrong_key_file_is_refused_in_words(keys, path, case):
    name, text, words = WRONG[case]
    if text is None:
        (keys / name).unlink()
    else:
        (keys / name).write_text(text)

    (problem,) = problems(path)

    assert problem.startswith(f"proof.{name.replace('.', '_')}")
    assert words in problem
    assert DOOR not in problem.lower()


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666])
@pytest.mark.parametrize("name", ["door.key", "issuer.key"])
def test_key_file_that_others_can_use_is_refused(keys, path, name, mode):
    (keys / name).chmod(mode)

    (problem,) = problems(path)

    assert f"{name} can be read by others" in problem


def test_key_in_the_settings_themselves_is_refused(keys, path):
    path.write_text(CONFIG.replace('{ file = "door.key" }', f'"{DOOR}"'))

    (problem,) = problems(path)

    assert (problem.startswith("proof.door_key: "), DOOR in problem) == (True, False)


def test_door_needs_no_issuer_key(keys, path, verb):
    (keys / "issuer.key").unlink()

    proof = doorpi.read_config(path, {}).proof

    assert (proof.door_key.text, proof.issuer_key.text) == (DOOR, "")
    assert verb("check").code == 0


def test_key_file_of_systemd_is_found(keys, path, tmp_path):
    handed = tmp_path / "credentials"
    handed.mkdir()
    (keys / "door.key").rename(handed / "door.key")

    config = doorpi.read_config(path, {"CREDENTIALS_DIRECTORY": str(handed)})

    assert config.proof.door_key.text == DOOR


def test_no_copy_of_a_key_is_kept(keys, path, clock):
    settings = doorpi.make_settings(path, {}, doorpi.ProcessSignals(), clock)
    settings.load()
    settings.remember()

    kept = (keys / "state" / doorpi.LAST_GOOD).read_text()
    assert "proof" in kept
    assert DOOR not in kept
    assert ISSUER not in kept


@pytest.mark.parametrize(
    "text", [None, "0" * 32, "short"], ids=["gone", "zeros", "short"]
)
def test_door_that_ran_before_goes_on_without_its_key(keys, path, clock, text):
    """Plain cards open; a secure one cannot be asked, so it stays shut."""
    first = doorpi.make_settings(path, {}, doorpi.ProcessSignals(), clock)
    first.load()
    first.remember()
    (keys / "door.key").unlink()
    if text:
        (keys / "door.key").write_text(text)
        (keys / "door.key").chmod(0o600)

    config = doorpi.make_settings(path, {}, doorpi.ProcessSignals(), clock).load()

    assert not config.proof.door_key
    assert doorpi.proofs_of(config.proof) == ("",)


@pytest.mark.usefixtures("keys", "store")
def test_no_output_shows_a_key(path, verb):
    for args in (
        ("check",),
        ("people",),
        ("people", "--json"),
        ("why", KEN),
        ("doctor",),
    ):
        said = verb(*args)
        text = "\n".join([*said.out, *said.err]).lower()
        assert DOOR not in text
        assert ISSUER not in text
    assert DOOR not in repr(doorpi.read_config(path, {}))


# -- living with them


def proofs(path: Path) -> list[doorpi.Finding]:
    config = doorpi.read_config(path, {})
    with contextlib.closing(doorpi.make_store(config)) as store:
        return [*doorpi.diagnose_proofs(config, store)]


def a_tap(reason: doorpi.Reason, note: str = "") -> doorpi.Event:
    source = "secure-card" if note else "card"
    return doorpi.Event(NOON, KEN, "Ken Sato", reason, source=source, note=note)


@pytest.mark.usefixtures("keys")
def test_doctor_says_nothing_of_proofs_where_there_are_none(path, folder):
    assert proofs(path) == []

    path.write_text(f'{CONFIG}[[card]]\nuid = "{UID}"\nholder = "Ken Sato"\n')
    assert proofs(path) == []


@pytest.mark.usefixtures("keys")
def test_doctor_tells_how_proofs_went(path, store):
    for ms in (61, 93):
        store.events.record(a_tap(doorpi.Reason.GRANTED, f"proven in {ms} ms"))
    store.people.add_card(card_of(STRANGER, "Anna"), NOON)

    good, times, left = proofs(path)

    assert (good.health, "1 secure card" in good.words) == (doorpi.OK, True)
    assert "61 to 93 ms" in times.words
    assert (left.health, "Anna" in left.words) == (doorpi.WARN, True)
    path.write_text(path.read_text() + 'uid_only = "refuse"\n')
    assert proofs(path)[-1].health is doorpi.OK


@pytest.mark.usefixtures("keys")
def test_why_knows_that_the_running_door_has_another_key(store, verb):
    folder = store.events.path.parent
    doorpi.publish_troubles(folder, 0.0, {"door-key": "another key"})

    assert "granted" in verb("why", KEN).out[0]
    with doorpi.only_door(folder):
        assert "proof-unavailable" in verb("why", KEN).out[0]


@pytest.mark.usefixtures("keys")
def test_wrong_proof_stands_out(path, store, verb):
    store.events.record(a_tap(doorpi.Reason.WRONG_PROOF))

    *_, wrong = proofs(path)

    assert (wrong.health, "Ken Sato" in wrong.words) == (doorpi.WARN, True)
    assert any(
        "Ken Sato" in line for line in verb("doctor").out if "wrong proof" in line
    )
    assert "wrong-proof" in verb("log").out[-1]
    chart = "".join(verb("log", "--chart", "--since", "2026-11-01").out)
    assert "1 of them with a wrong proof" in chart


@pytest.mark.usefixtures("keys")
def test_doctor_fails_where_secure_cards_cannot_be_asked(path, store, monkeypatch):
    path.write_text('[lock]\nkind = "relay"\n')
    assert (proofs(path)[0].health, "door_key" in proofs(path)[0].words) == (
        doorpi.FAIL,
        True,
    )

    path.write_text(CONFIG)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.cmac", None)
    assert (proofs(path)[0].health, "cryptography" in proofs(path)[0].words) == (
        doorpi.FAIL,
        True,
    )
