"""The files of systemd/: what can be known of them without a computer to install on.

tests/tools/appliance.sh installs them for real.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

import doorpi
from tests.helpers.processes import ROOT, wait_for

SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "doorpi.service"
CLOCK_UNIT = SYSTEMD / "doorpi-clock.service"
ONLINE_UNIT = SYSTEMD / "doorpi-online.service"
ONLINE_PATH = SYSTEMD / "doorpi-online.path"
UNITS = [UNIT, CLOCK_UNIT, ONLINE_UNIT]
#: Of several doors on one computer, with the unit that each is a template of.
TEMPLATES = {
    SYSTEMD / each.name.replace(".", "@."): each
    for each in (UNIT, ONLINE_UNIT, ONLINE_PATH)
}
RULES = SYSTEMD / "60-doorpi.rules"
SCRIPTS = [
    SYSTEMD / "install.sh",
    SYSTEMD / "uninstall.sh",
    ROOT / "tests/tools/appliance.sh",
]
PYTHON = "/usr/bin/python3"  # the system's own
LONGEST_REQUEST_S = 22  # the last retry of one request to the lock, to its deadline


def lines_of(path: Path) -> list[str]:
    """Without comments and empty lines."""
    stripped = (line.strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def settings(unit: Path = UNIT) -> dict[str, list[str]]:
    """The unit's keys; none of ours is in two sections."""
    found: dict[str, list[str]] = {}
    for line in lines_of(unit):
        if not line.startswith("["):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this computer")
    return found


def said_by(*command: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, timeout=50, cwd="/"
    )
    return done.returncode, done.stdout + done.stderr


################################################################################
# The unit
################################################################################


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "Type": ["notify"],
        "NotifyAccess": ["main"],
        "ExecReload": ["/bin/kill -HUP $MAINPID"],
        "Restart": ["always"],
        "RestartPreventExitStatus": [str(doorpi.EX_CONFIG)],
        "StartLimitIntervalSec": ["0"],  # it never gives up
        "User": ["doorpi"],
        "Group": ["doorpi"],
        "UMask": ["0077"],
        "StateDirectory": ["doorpi"],
        "StateDirectoryMode": ["0700"],
        "LimitCORE": ["0"],  # its memory holds the lock's keys
        "NoNewPrivileges": ["yes"],
        "CapabilityBoundingSet": [""],
        "ProtectSystem": ["strict"],
        "ReadOnlyPaths": ["/run"],  # the clock's marker is not the door's to write
        "DevicePolicy": ["closed"],
        "WantedBy": ["multi-user.target"],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_unit_says(key, values):
    assert settings()[key] == values


def test_the_watchdog_has_patience_for_the_longest_request():
    patience_s = int(settings()["WatchdogSec"][0])

    assert 3 * LONGEST_REQUEST_S < patience_s <= 120


def test_the_program_has_time_to_stop_and_to_start():
    assert 2 < int(settings()["TimeoutStopSec"][0]) <= 15
    assert 1 <= int(settings()["RestartSec"][0]) <= 10


def test_the_unit_starts_the_installed_folder_with_a_command_line_that_parses():
    (command,) = settings()["ExecStart"]
    python, *arguments = shlex.split(command)
    folder = arguments.index(str(doorpi.INSTALLED))
    verb = arguments[folder + 1 :]

    args = doorpi.make_parser().parse_args(verb)

    assert python == PYTHON
    assert arguments[:folder] == ["-I", "-X", "faulthandler"]
    assert verb == ["--config", str(doorpi.IN_ETC), "run"]
    assert doorpi.find_config(args.config, {}) == doorpi.IN_ETC


def test_the_installer_waits_for_a_new_version_as_long_as_systemd_does():
    patience_s = int(settings()["TimeoutStartSec"][0])
    (expression,) = re.findall(
        r"ready_within_s=\$\(sed -n '(.*)' \"\$source/systemd/doorpi.service\"\)",
        (SYSTEMD / "install.sh").read_text("utf-8"),
    )

    assert patience_s >= 60
    assert said_by("sed", "-n", expression, UNIT) == (0, f"{patience_s}\n")


def test_the_unit_waits_neither_for_the_network_nor_for_the_clock():
    ordering = ("After", "Before", "Requires", "BindsTo", "Requisite", "PartOf")

    assert [key for key in ordering if key in settings()] == []
    assert settings()["Wants"] == [CLOCK_UNIT.name]


def test_nothing_is_active_that_fails_when_it_is_missing():
    """A credential, a file of variables or a group that is not there keeps a unit from
    starting."""
    keys = ("LoadCredential", "LoadCredentialEncrypted", "EnvironmentFile")
    keys += ("SupplementaryGroups", "ReadWritePaths", "BindPaths")

    assert [key for key in keys if key in settings()] == []


def test_lgpio_has_a_writable_place_that_is_not_the_sd_card():
    assert settings()["RuntimeDirectory"] == ["doorpi"]
    assert settings()["WorkingDirectory"] == ["/run/doorpi"]
    assert "LG_WD=/run/doorpi" in settings()["Environment"]


def test_the_inbox_is_in_memory_where_verbs_find_it_and_a_restart_leaves_it():
    (state,) = settings()["StateDirectory"]
    assert settings()["RuntimeDirectory"] == [state]
    assert doorpi.inbox_files(Path("/var/lib", state))[0].parent == Path("/run", state)
    for unit in (UNIT, ONLINE_UNIT):  # what one of them removes is gone for the other
        assert settings(unit)["RuntimeDirectoryPreserve"] == ["yes"]


def test_the_devices_are_readers_scanners_and_pins():
    devices = {value.split()[0] for value in settings()["DeviceAllow"]}

    assert {device for device in devices if device.startswith("char-")} == {
        "char-gpiochip", "char-usb_device", "char-ttyS", "char-ttyAMA", "char-ttyUSB",
        "char-ttyACM", "char-input",
    }  # fmt: skip
    # Serial adapters by number (Linux's devices.txt), for drivers that load later.
    assert {device for device in devices if not device.startswith("char-")} == {
        f"/dev/char/{major}:{minor}" for major in (188, 166) for minor in (0, 1)
    }
    # Keyboards are only read: the door types nothing, and grabbing needs no more.
    assert "char-input r" in settings()["DeviceAllow"]


@pytest.mark.parametrize(
    "unit", [*UNITS, ONLINE_PATH, *TEMPLATES], ids=lambda unit: unit.name
)
def test_systemd_has_no_complaint_about_a_unit(unit, tmp_path):
    for each in (*UNITS, ONLINE_PATH, *TEMPLATES):
        text = each.read_text("utf-8").replace(PYTHON, "/bin/true")
        (tmp_path / each.name.replace("@.", "@lab.")).write_text(text, "utf-8")

    name = tmp_path / unit.name.replace("@.", "@lab.")
    told = said_by(tool("systemd-analyze"), "verify", "--man=no", name)

    assert told == (0, "")


#: What `systemd-analyze security` counts, and the words of the unit that say why.
DOOR_LEFT_OPEN = {
    "PrivateDevices=": "# PrivateDevices ",
    "PrivateNetwork=": "# PrivateNetwork ",
    "RestrictAddressFamilies=~AF_(INET|INET6)": "# PrivateNetwork ",
    "RestrictAddressFamilies=~AF_UNIX": "# AF_UNIX: ",
    "RestrictAddressFamilies=~AF_NETLINK": " Netlink: ",
    "IPAddressDeny=": "# IPAddressDeny ",
    "ProcSubset=": "# ProcSubset=pid ",
    "RootDirectory=/RootImage=": "# RootDirectory ",
    "DeviceAllow=": "# The devices of its readers, scanners and lights.",
}
ONLINE_LEFT_OPEN = {
    "PrivateNetwork=": "# PrivateNetwork ",
    "RestrictAddressFamilies=~AF_(INET|INET6)": "# PrivateNetwork ",
    "RestrictAddressFamilies=~AF_UNIX": "# AF_UNIX: ",
    "RestrictAddressFamilies=~AF_NETLINK": " Netlink: ",
    "IPAddressDeny=": "# IPAddressDeny ",
    "ProcSubset=": "# ProcSubset=pid ",
    "RootDirectory=/RootImage=": "# RootDirectory ",
    "DeviceAllow=": "# DeviceAllow ",
}
CLOCK_LEFT_OPEN = {
    "ProtectClock=": "# ProtectClock ",
    "SystemCallFilter=~@clock": "# It only asks; setting ",
    "SystemCallFilter=~@privileged": "# It only asks; setting ",
    "RootDirectory=/RootImage=": "# RootDirectory ",
}


DOOR_EXPOSURE = 13  # in tenths


def test_the_page_on_security_has_the_exposure():
    page = (ROOT / "tests" / "docs" / "security.md").read_text("utf-8")

    assert f"rates its exposure at {DOOR_EXPOSURE / 10} " in page


@pytest.mark.parametrize(
    ("path", "left_open", "exposure"),
    [
        (UNIT, DOOR_LEFT_OPEN, DOOR_EXPOSURE),
        (CLOCK_UNIT, CLOCK_LEFT_OPEN, 5),
        (ONLINE_UNIT, ONLINE_LEFT_OPEN, 11),
    ],
    ids=["door", "clock", "online"],
)
def test_a_sandbox_is_as_tight_as_it_can_be_and_says_why_not_tighter(
    path, left_open, exposure
):
    command = (tool("systemd-analyze"), "security", "--offline=true", "--no-pager")

    code, told = said_by(*command, "--json=short", f"--threshold={exposure}", path)

    rows = json.loads(told[: told.rindex("]") + 1])
    counted = {row["name"] for row in rows if float(row["exposure"] or 0) > 0}
    assert counted == set(left_open)
    assert code == 0
    unit = path.read_text("utf-8")
    assert [words for words in left_open.values() if words not in unit] == []


@pytest.mark.parametrize(
    ("template", "unit"), TEMPLATES.items(), ids=lambda path: path.name
)
def test_each_of_several_doors_has_the_sandbox_of_one_and_folders_of_its_own(
    template, unit
):
    own = {
        str(doorpi.IN_ETC): "/etc/doorpi/%i.toml",
        "Directory=doorpi": "Directory=doorpi-%i",
        "/run/doorpi": "/run/doorpi-%i",
        "After=doorpi.service": "After=doorpi@%i.service",
    }

    def of_instance(line: str) -> str:
        for one, many in own.items():
            line = line.replace(one, many)
        return line + ": %i" * line.startswith("Description=")

    assert lines_of(template) == [*map(of_instance, lines_of(unit))]


def test_the_program_finds_the_folders_of_each_of_several_doors():
    path = Path("/etc/doorpi/lab.toml")
    (of_service,) = settings(SYSTEMD / "doorpi@.service")["StateDirectory"]
    state = Path("/var/lib", of_service.replace("%i", "lab"))

    for given in (str(state), "/var/lib/doorpi"):  # of the service, and of the command
        found = next(doorpi.state_folders("", path, {"STATE_DIRECTORY": given}))
        assert found == state
    assert doorpi.service_of(path, "doorpi-online") == "doorpi-online@lab"
    assert doorpi.service_of(doorpi.IN_ETC, "doorpi") == "doorpi"


################################################################################
# The unit that asks for the clock
################################################################################


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "After": ["doorpi.service"],  # and not the other way round
        "Type": ["simple"],  # a oneshot would hold up the boot
        "Restart": ["always"],
        "StartLimitIntervalSec": ["0"],
        "User": ["doorpi"],
        "ReadOnlyPaths": ["/run"],
        "RuntimeDirectoryMode": ["0755"],
        "RuntimeDirectoryPreserve": ["yes"],
        "CapabilityBoundingSet": [""],
        "PrivateNetwork": ["yes"],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_clocks_unit_says(key, values):
    assert settings(CLOCK_UNIT)[key] == values


def test_the_clocks_unit_writes_where_the_program_looks():
    directory = settings(CLOCK_UNIT)["RuntimeDirectory"]

    assert [f"/run/{name}/set" for name in directory] == [str(doorpi.CLOCK_MARKER)]


def test_the_clocks_unit_calls_a_function_that_keeps_the_marker(tmp_path):
    """What it becomes is a small program, which imports no DoorPi."""
    (command,) = settings(CLOCK_UNIT)["ExecStart"]
    python, *arguments, code = shlex.split(command)
    marker = tmp_path / "set"
    fake = tmp_path / "fake.py"  # the kernel's answer is this computer's own
    fake.write_text("def kernel_says_synchronised():\n    return True\n")
    here = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]"
    world = (
        f"{here}; import doorpi, fake, pathlib;"
        " doorpi.kernel_says_synchronised = fake.kernel_says_synchronised;"
        f" doorpi.CLOCK_MARKER = pathlib.Path({str(marker)!r})"
    )

    with subprocess.Popen([sys.executable, *arguments, f"{world}; {code}"]) as clock:
        try:
            wait_for(lambda: marker.exists() or clock.poll() is not None, "the marker")
            maps = Path(f"/proc/{clock.pid}/maps").read_text("utf-8")
        finally:
            clock.kill()

    assert (python, arguments) == (PYTHON, ["-I", "-c"])
    assert f"sys.path.insert(0, '{doorpi.INSTALLED}')" in code
    assert marker.stat().st_mode & 0o777 == 0o644
    ahead_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(float(marker.read_text("ascii")) - ahead_s) < 1.0
    assert "_sqlite3" not in maps


################################################################################
# The unit of what works beside the door
################################################################################


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "After": ["doorpi.service"],  # and not the other way round
        "Type": ["notify"],
        "Restart": ["on-failure"],
        "StartLimitIntervalSec": ["0"],
        "RestartPreventExitStatus": [str(doorpi.EX_CONFIG)],
        "User": ["doorpi"],
        "UMask": ["0077"],
        "StateDirectory": ["doorpi"],
        "RuntimeDirectory": ["doorpi"],
        "ReadOnlyPaths": ["/run"],
        "Nice": ["10"],
        "MemoryMax": ["200M"],
        "PrivateDevices": ["yes"],
        "CapabilityBoundingSet": [""],
        "WantedBy": ["multi-user.target"],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_online_unit_says(key, values):
    assert settings(ONLINE_UNIT)[key] == values


def test_the_online_unit_starts_like_the_door():
    (door,), (online,) = settings()["ExecStart"], settings(ONLINE_UNIT)["ExecStart"]

    assert online == re.sub("run$", "online", door)
    assert 2 < int(settings(ONLINE_UNIT)["TimeoutStopSec"][0]) <= 15
    assert settings(ONLINE_PATH)["PathChanged"] == [str(doorpi.IN_ETC)]


@pytest.mark.parametrize(
    ("text", "is_started"),
    [
        *((f"[{name}]", True) for name in doorpi.ONLINE),
        *((f"[[{name}]]  # one", True) for name in doorpi.ONLINE),
        ('  [ "telegram" ]', True),
        ("[[telegram.user]]", True),
        ('telegram.token = "x"', True),
        ("telegram = { token = 'x' }", True),
        ("#[telegram]", False),
        ("# [telegram]", False),
        ('name = "[telegram]"', False),
        ("[listed]", False),
        ("", False),
    ],
    ids=str,
)
def test_the_online_unit_is_started_only_with_one_of_its_tables(
    text, is_started, tmp_path
):
    (command,) = settings(ONLINE_UNIT)["ExecCondition"]
    path = tmp_path / "doorpi.toml"
    path.write_text(f'[lock]\nkind = "relay"\n{text}\n', "utf-8")
    # systemd reads the same quotes and escapes as a shell here.
    *words, settings_path = shlex.split(command)

    assert settings_path == str(doorpi.IN_ETC)
    assert said_by(*words, path) == (0 if is_started else 1, "")


def test_the_shipped_settings_do_not_start_the_online_unit():
    (command,) = settings(ONLINE_UNIT)["ExecCondition"]

    assert said_by(*shlex.split(command)[:-1], ROOT / "doorpi.toml")[0] == 1


################################################################################
# Rules for devices, kernel modules and users
################################################################################


def test_the_rules_list_exactly_the_readers_that_nfcpy_drives():
    pattern = (
        r'ATTR\{idVendor\}=="(\w{4})", ATTR\{idProduct\}=="(\w{4})",'
        r' GROUP="plugdev", MODE="0660"'
    )
    text = RULES.read_text("utf-8")
    rules = [line for line in lines_of(RULES) if line.startswith("ATTR")]
    found = [re.fullmatch(pattern, rule) for rule in rules]

    assert [f"{rule[1]}:{rule[2]}" if rule else rule for rule in found] == [
        *doorpi.USB_READERS
    ]
    named = {
        rule: comment.removeprefix("# ")
        for comment, rule in pairwise(text.splitlines())
        if rule in rules
    }
    assert [named[rule] for rule in rules] == [*doorpi.USB_READERS.values()]


def test_udev_reads_the_rules():
    udevadm = tool("udevadm")
    if said_by(udevadm, "verify", "--help")[0]:
        pytest.skip("this udevadm cannot verify (systemd 254 can)")

    # Of the groups, gpio is Raspberry Pi OS's.
    code, told = said_by(udevadm, "verify", "--resolve-names=never", RULES)

    assert code == 0, told


################################################################################
# The scripts
################################################################################


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_plain_sh(script):
    assert said_by(tool("dash"), "-n", script) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_has_no_complaint(script):
    assert said_by(tool("shellcheck"), script) == (0, "")


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("install.sh --bogus", "[--no-start] [--offline-wheels DIR]"),
        ("install.sh --no-start more", "[--no-start] [--offline-wheels DIR]"),
        ("install.sh --offline-wheels", "[--no-start] [--offline-wheels DIR]"),
        ("uninstall.sh --bogus", "[--purge]"),
        ("uninstall.sh --purge more", "[--purge]"),
    ],
    ids=lambda value: value,
)
def test_wrong_arguments_change_nothing(command, usage):
    """Never as root, should the tests run so: a mistake here would install a door."""
    script, *arguments = command.split()

    with (SYSTEMD / script).open("rb") as text:
        done = subprocess.run(
            ["sh", "-s", "--", *arguments], stdin=text, cwd="/", timeout=50,
            capture_output=True, text=True, check=False,
            user=None if os.geteuid() else 65534,
        )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"usage: sudo sh systemd/{script} {usage}\n"


def test_the_installer_and_the_program_mean_the_same_places():
    """`doctor` tells the owner to look where install.sh put things."""
    install = (SYSTEMD / "install.sh").read_text("utf-8")
    uninstall = (SYSTEMD / "uninstall.sh").read_text("utf-8")

    assert f'60-doorpi.rules" {doorpi.UDEV_RULES}\n' in install
    assert f"settings={doorpi.IN_ETC}\n" in install
    assert doorpi.UDEV_RULES in uninstall
    # What `doctor` says to add is the owner's: not overwritten, and purged at the end.
    assert doorpi.BLACKLIST not in install
    before_purge, _, purged = uninstall.partition('if [ "$purge" = no ]')
    assert f" {doorpi.BLACKLIST}" not in before_purge.split("set -u")[1]
    assert doorpi.BLACKLIST in purged


def test_the_scripts_know_every_file_and_every_unit():
    install = (SYSTEMD / "install.sh").read_text("utf-8")
    uninstall = (SYSTEMD / "uninstall.sh").read_text("utf-8")
    files = {path for path in SYSTEMD.iterdir() if path.suffix != ".sh"}

    units = {path for path in files if path.suffix in (".service", ".path")}
    assert units == {*UNITS, ONLINE_PATH, *TEMPLATES}
    assert [path for path in files if f"systemd/{path.name}" not in install] == []
    assert f"for service in {' '.join(unit.stem for unit in UNITS)}; do" in install
    for unit in (*UNITS, *TEMPLATES):
        assert f" /etc/systemd/system/{unit.name}" in uninstall
    for unit in UNITS:
        assert re.search(rf"systemctl --quiet stop {unit.stem}\b(?!-)", uninstall)


def test_the_installer_reads_the_programs_own_list_of_what_it_needs():
    (expression,) = re.findall(
        r"sed -n '(.*dependencies.*)' \"\$1/doorpi.py\"",
        (SYSTEMD / "install.sh").read_text("utf-8"),
    )
    source = Path(doorpi.__file__).read_text("utf-8")
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", source)
    assert block
    declared = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))["dependencies"]

    told = said_by("sed", "-n", expression, doorpi.__file__)

    assert told == (0, "".join(f"{requirement}\n" for requirement in declared))


def installers(pattern: str) -> str:
    """The one expression of install.sh that fits."""
    (found,) = re.findall(pattern, (SYSTEMD / "install.sh").read_text("utf-8"))
    return found


@pytest.fixture
def version(tmp_path) -> Path:
    """A version as the installer leaves it, behind the link `current`."""
    folder = tmp_path / "1"
    (folder / "lib").mkdir(parents=True)
    install = (SYSTEMD / "install.sh").read_text("utf-8")
    launcher = install.partition("<<'PYTHON'\n")[2].partition("\nPYTHON\n")[0]
    (folder / "__main__.py").write_text(launcher, "utf-8")
    shutil.copy(doorpi.__file__, folder)
    (tmp_path / "current").symlink_to("1")
    return folder


def test_a_version_is_started_with_its_own_libraries_and_nothing_of_the_callers(
    version, tmp_path, monkeypatch
):
    (version / "lib" / "tomli_w.py").write_text("print('its own')\n", "utf-8")
    (version / "doorpi.py").write_text("import tomli_w\ndef main(): pass\n", "utf-8")
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("doorpi", "tomli_w", "os", "sitecustomize"):
        (trap / f"{name}.py").write_text("print('the trap')\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(trap))

    done = subprocess.run(
        [sys.executable, "-I", "../current"], cwd=trap, text=True, timeout=50,
        capture_output=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "its own\n", "")


def test_a_version_starts_without_compiled_modules(version):
    """As after an upgrade of Python, when nobody may write them there."""
    command = (sys.executable, "-I", "-B", version, "--version")

    assert said_by(*command) == (0, f"DoorPi {doorpi.__version__}\n")


@pytest.mark.parametrize("text", ["import no_such_module", "this is no Python"])
def test_a_version_that_cannot_run_says_so_in_a_line_with_what_mends_it(version, text):
    (version / "doorpi.py").write_text(f"{text}\n", "utf-8")

    code, told = said_by(sys.executable, "-I", version, "run")

    assert code == 1
    assert told.endswith(f": sudo sh {doorpi.INSTALLED}/systemd/install.sh\n")
    assert told.count("\n") == 1


def test_the_installer_names_what_check_says_is_still_the_examples(capsys):
    words = installers(r"to_do=\$\(printf '%s\\n' \"\$report\" \| grep \"(.*)\"\)")

    assert doorpi.main(["--config", str(ROOT / "doorpi.toml"), "check"]) == 0
    assert capsys.readouterr().out.count(words) >= 5


def test_the_installer_heals_the_files_that_check_names(powerless):
    """Keys and settings that were put there by root, for root alone."""
    expression = installers(r"checked \| sed -n '(.*)' \|")
    me, file = doorpi.our_name(), powerless / "a key.pem"
    file.touch(mode=0o000)
    ((words, do),) = doorpi.unreadable([file])
    told = f"  {words}; {do}\n"
    assert "(user doorpi)" in expression

    done = subprocess.run(
        ["sed", "-n", expression.replace("doorpi", me, 1)], input=told, text=True,
        capture_output=True, check=True,
    )  # fmt: skip

    assert done.stdout == f"{file}\n"


def test_this_python_knows_the_units_switches():
    """-I -X faulthandler -m: isolated, so that the caller's folder holds no modules."""
    told = said_by(sys.executable, "-I", "-X", "faulthandler", "-c", "print(1)")

    assert told == (0, "1\n")
