"""The pages on authorities, guest passes and scanners are held to the program."""

from __future__ import annotations

import contextlib
import inspect
import re
import shlex
import subprocess
import tomllib
from datetime import UTC, datetime

import pytest

import doorpi
from doorpi import DigitalId, Reason, ScannerSource, SerialScanner, Uid
from tests.fakes.authorities import (
    API_KEY,
    PASSWORD,
    USER,
    FakeCarontePass,
    FakeDigitalId,
)
from tests.fakes.live_cloud import RealTime
from tests.helpers.asking import Asking, secret
from tests.repo.test_readme import (
    OFFICE,
    PAGES,
    README,
    ROOT,
    block_of,
    blocks,
    chapter,
    page,
    rows,
    spans,
)

AUTHORITIES, PASSES = page("authorities"), page("passes")
KINDS = {"carontepass": "## CarontePass", "digital-id": "## Digital ID"}


def example(text: str, heading: str) -> str:
    """The settings that a chapter shows."""
    shown = re.findall(r"^```toml\n(.*?)^```$", chapter(text, heading), re.S | re.M)
    return "\n".join(shown)


# -- settings


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        *((AUTHORITIES, heading) for heading in KINDS.values()),
        (PASSES, "## The scanner"),
    ],
    ids=[*KINDS, "scanner"],
)
def test_an_example_is_valid(text, heading, tmp_path, capsys):
    settings = tmp_path / "doorpi.toml"
    settings.write_text(f"{OFFICE}\n{example(text, heading)}", encoding="utf-8")
    for name in ("caronte.key", "digital-id.key"):
        (tmp_path / name).write_text("a key\n", encoding="ascii")

    code = doorpi.main(["--config", str(settings), "check"])

    assert (code, capsys.readouterr().err) == (0, "")


def test_the_examples_have_every_setting_and_its_default():
    wanted = {"authority": doorpi.AuthorityConfig(), "scanner": doorpi.ScannerConfig()}
    shown: dict[str, set[str]] = {"authority": set(), "scanner": set()}
    texts = [example(AUTHORITIES, heading) for heading in KINDS.values()]
    for text in [*texts, example(PASSES, "## The scanner")]:
        for table, entries in tomllib.loads(text).items():
            for key, value in entries[0].items():
                shown[table].add(key)
                if key not in ("kind", "plain_http", "device_id", "authority"):
                    default = dict(wanted[table].items())[key]
                    assert value == default or default in ("", (), doorpi.Secret())

    assert shown["authority"] | {"ca_file"} == doorpi.AuthorityConfig.keys.keys()
    assert shown["scanner"] == doorpi.ScannerConfig.keys.keys()
    assert "`ca_file`" in AUTHORITIES
    assert KINDS.keys() == doorpi.AUTHORITIES.keys()


def test_every_spelling_of_a_uid_is_shown():
    head, *table = re.findall(r"^\| (`?[\w -]*`?) \| ([\w.: ]+) \| ([\w.: ]+) \|",
                              chapter(AUTHORITIES, "## CarontePass"), re.M)  # fmt: skip
    uids = [Uid(text.replace(":", "")) for text in head[1:]]
    written = {row[0].strip("`"): row[1:] for row in table}

    assert written.keys() == set(doorpi.UID_FORMATS)
    for form, said in written.items():
        assert [*said] == [doorpi.spelled(uid, form) for uid in uids]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (AUTHORITIES, "waits `answer_s` ({answer_s:g} seconds)"),
        (AUTHORITIES, "the unlock window of {lock.unlock_window_s:g} seconds"),
        (AUTHORITIES, "opens for `trust_for_s`, a day (0: never)"),
        (AUTHORITIES, "is refused here for {replay_min:g} minutes (`replayed`)"),
        (PASSES, "read again within {same_s:g} seconds"),
        (PASSES, "or {silence_ms:g} ms of silence"),
        (PASSES, "{baud} baud, 8N1"),
        (PASSES, "used again within {backoff_s:g} seconds of being plugged in"),
        (PASSES, "while `doctor` waits for {doctor_s:g} seconds"),
        (PASSES, "The text has {characters} characters"),
    ],
)
def test_a_figure_is_the_programs(text, words):
    key = doorpi.importlib.import_module(doorpi.ED25519).Ed25519PrivateKey.generate()
    code = doorpi.PassCode("4FV73LMZ", datetime(2028, 12, 1, 18, tzinfo=UTC))
    waits = inspect.signature(doorpi.diagnose_scanner).parameters["wait_s"].default

    said = words.format(
        answer_s=doorpi.AuthorityConfig().answer_s,
        lock=doorpi.LockConfig(),
        replay_min=DigitalId.replay_s / 60,
        same_s=ScannerSource.same_s,
        silence_ms=SerialScanner.silence_s * 1000,
        baud=doorpi.ScannerConfig().baud,
        backoff_s=ScannerSource.backoff_s[1],
        doctor_s=waits,
        characters=len(doorpi.sign_pass(code, key)),
    )

    assert said in text
    assert doorpi.AuthorityConfig().trust_for_s == 24 * 3600


# -- reasons, options, files


def named_in_first_cells(text: str) -> set[str]:
    return {span for row in rows(text) for span in spans(row[0])}


def test_the_reasons_of_each_source_are_explained():
    reasons = {reason.value for reason in Reason}
    of_digital_id = named_in_first_cells(chapter(AUTHORITIES, "## Digital ID"))
    of_passes = named_in_first_cells(chapter(PASSES, "## A pass")) & reasons

    answers = {reason.value for reason in doorpi.REFUSALS_OF_DIGITAL_ID.values()}
    assert of_digital_id == answers | {Reason.REPLAYED}
    assert of_passes == {"not-active", "expired", "used-up", "not-enabled",
                         "unreadable-code", "clock-not-set"}  # fmt: skip
    assert {"authority-unreachable", "other-organisation"} <= {*spans(AUTHORITIES)}
    assert "`authority-unreachable` in the log" in README


def test_every_option_of_a_pass_is_explained():
    options = {name for name, _ in doorpi.VERBS["pass"][2] if name.startswith("--")}

    assert options <= set(re.findall(r"--\w+", PASSES))
    assert options >= set(re.findall(r"`(--\w+)", chapter(PASSES, "## A pass")))


def test_the_files_are_named():
    assert f"/var/lib/doorpi/{doorpi.PASS_KEY}`" in PASSES
    files = {span for row in rows(page("recovery")) for span in spans(row[0])}
    assert f"/var/lib/doorpi/{doorpi.PASS_KEY}" in files
    assert "/var/lib/doorpi/authority NAME.words" in files


def test_the_groups_for_scanners_are_those_of_the_service():
    users = (ROOT / "systemd" / "sysusers.conf").read_text("utf-8")
    (said,) = (line for line in PASSES.splitlines() if "gives the service" in line)

    groups = re.findall(r"`(\w+)`", said)
    assert groups == ["dialout", "input"]
    assert [group for group in groups if f"m doorpi {group}\n" not in users] == []


# -- transcripts


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "doorpi.toml"
    path.write_text(OFFICE, encoding="utf-8")
    return path


def test_a_pass_is_made_listed_and_revoked_as_shown(settings, capfd):
    commands = re.findall(r"^\$ (?:sudo )?doorpi (pass .+)$", PASSES, re.M)
    shown = "".join(blocks(chapter(PASSES, "## A pass")))
    said, number = "", "--"

    for line in commands:
        args = shlex.split(line.replace("4FV73LMZ", number))
        assert doorpi.main(["--config", str(settings), *args]) == 0
        out, err = capfd.readouterr()
        if "--png" in args:
            (number,) = re.findall(r"--revoke (\w{8})$", err, re.M)
        said += f"$ sudo doorpi {line}\n{(out + err).replace(number, '4FV73LMZ')}"

    assert said == shown
    picture = settings.with_name("jo.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_mode & 0o077 == 0


@pytest.fixture
def servers():
    with contextlib.ExitStack() as closing:
        made = {}
        for kind, fake in (
            ("carontepass", FakeCarontePass),
            ("digital-id", FakeDigitalId),
        ):
            made[kind] = fake(RealTime())
            closing.callback(made[kind].close)
            closing.callback(made[kind].clock.is_over.set)
        yield made


def test_why_says_who_would_be_asked_as_shown(settings, servers, capsys):
    url = servers["carontepass"].base_url
    with settings.open("a", encoding="utf-8") as file:
        file.write(
            f'[[authority]]\nname = "space"\nbase_url = "{url}"\nplain_http = true\n'
            f'user = "{USER}"\npassword = "{PASSWORD}"\n'
        )

    doorpi.main(["--config", str(settings), "why", "01:23:AB:07", "--ask"])

    shown = block_of(AUTHORITIES, "sudo doorpi why 01:23:AB:07")
    assert capsys.readouterr().out == shown
    assert servers["carontepass"].requests == []


def test_what_doctor_says_of_the_servers(servers):
    shown = blocks(chapter(AUTHORITIES, "## When somebody is refused"))[1]
    servers["digital-id"].key = "another"
    keys = {
        "carontepass": {"name": "space", "user": USER, "password": secret(PASSWORD)},
        "digital-id": {"name": "care", "api_key": secret(API_KEY), "organisations": (1,)},
    }  # fmt: skip
    said = ""
    for kind, given in keys.items():
        with contextlib.closing(
            Asking(kind, servers[kind], servers[kind].clock, **given)
        ) as asking:
            *_, last = doorpi.diagnose_authority(asking.authority, asking.clock)
        said += f"{last.health:<5} {given['name']:<9} {last.words}\n"
        said += f"{'':16}-> {last.do}\n" if last.do else ""

    assert said == shown


# -- the installer


@pytest.mark.parametrize("fails", ["segno", "paho-mqtt", "nfcpy"])
def test_only_what_the_door_does_not_need_may_be_missing(fails, tmp_path):
    """install.sh's own function, with a pip that cannot get one library."""
    script = (ROOT / "systemd" / "install.sh").read_text("utf-8")
    (function,) = re.findall(r"^libraries\(\) \{\n.*?^\}\n", script, re.M | re.S)
    (tmp_path / "lib").mkdir()
    program = f"""
wheels=
installed() {{ false; }}
say() {{ echo "$*"; }}
pip_install() {{ case " $* " in *" {fails}"*) return 1 ;; esac; }}
{function}
libraries "$1"
"""
    (tmp_path / "doorpi.py").symlink_to(doorpi.__file__)

    done = subprocess.run(
        ["sh", "-c", program, "sh", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == (fails == "nfcpy")
    assert (f"no {fails}" in done.stdout) == (fails != "nfcpy")


def test_the_pages_say_how_to_get_what_draws_codes():
    named = [
        name for name, text in PAGES.items() if "apt install python3-segno" in text
    ]

    assert named == ["tests/docs/install.md", "tests/docs/passes.md"]
