"""`doctor`, the reader: what is plugged in, what holds it, our rights to it, and a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory

import doorpi
from doorpi import Finding, Health, ReaderConfig, ReaderLost, main
from tests.fakes.cards import card
from tests.helpers.processes import DoorProcess, environment, write_config

OK, WARN, FAIL = Health.OK, Health.WARN, Health.FAIL

# nfcpy looks at a port with open() and leaves the file to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


class Computer:
    """A /sys, /dev and /proc of our own, for readers that nobody has here."""

    def __init__(self, root: Path) -> None:
        self.sys, self.dev, self.proc = root / "sys", root / "dev", root / "proc"
        for folder in (self.sys, self.dev, self.proc):
            folder.mkdir()
        self._numbers = iter(range(2, 99))

    def plug_in(self, usb_id: str, *, driver: str = "", mode: int = 0o660) -> Path:
        """A device on bus 1; its node in /dev."""
        vendor, product = usb_id.split(":")
        number = next(self._numbers)
        device = self.sys / f"1-{number}"
        interface = device / f"1-{number}:1.0"
        interface.mkdir(parents=True)
        (self.sys / interface.name).mkdir()  # a link to it, and no device
        if driver:
            module = self.sys.parent / "drivers" / driver
            module.mkdir(parents=True, exist_ok=True)
            (interface / "driver").symlink_to(module)
        facts = {
            "idVendor": vendor,
            "idProduct": product,
            "busnum": 1,
            "devnum": number,
        }
        for name, value in facts.items():
            (device / name).write_text(f"{value}\n")
        node = self.dev / f"bus/usb/001/{number:03d}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        node.chmod(mode)
        return node

    def findings(self, device: str, runs: bool = False) -> list[Finding]:
        config = doorpi.Config(readers=(ReaderConfig(device=device, virtual=True),))
        return list(doorpi.diagnose_readers(config, runs))


@pytest.fixture
def computer(tmp_path, monkeypatch):
    computer = Computer(tmp_path)
    monkeypatch.setattr(doorpi, "USB_DEVICES", computer.sys)
    monkeypatch.setattr(doorpi, "DEV", computer.dev)
    monkeypatch.setattr(doorpi, "PROC", computer.proc)
    monkeypatch.setattr(doorpi, "_reader_test", lambda config: [TRIED])
    return computer


TRIED = Finding(OK, "tried")


# -- USB


@pytest.mark.parametrize("usb_id", doorpi.USB_READERS)
def test_diagnose_reader_names_each_reader_that_nfcpy_drives(computer, usb_id):
    node = computer.plug_in(usb_id)

    finding, tried = computer.findings("usb")

    assert finding.words.startswith(f"{doorpi.USB_READERS[usb_id]} ({usb_id})")
    assert str(node) in finding.words or usb_id == doorpi.DEAF_READER
    assert tried == TRIED


def test_each_of_several_readers_is_tested_by_its_name(computer):
    computer.plug_in("054c:06c3")
    readers = (
        ReaderConfig(name="entrance", device="usb"),
        ReaderConfig(name="exit", device="tty:S9:pn532"),
    )

    found = doorpi.diagnose_readers(doorpi.Config(readers=readers), runs=False)

    assert [each.words.split(" ")[:2] for each in found] == [
        ["entrance:", "Sony"], ["entrance:", "tried"], ["exit:", f"{computer.dev}/ttyS9"],
    ]  # fmt: skip


def test_usb_readers_are_those_of_nfcpy():
    from nfc.clf.device import usb_device_map

    ids = {f"{vendor:04x}:{product:04x}" for vendor, product in usb_device_map}
    assert ids == set(doorpi.USB_READERS)


def test_diagnose_reader_ignores_other_usb_devices(computer):
    computer.plug_in("1d6b:0002", driver="hub")
    computer.plug_in("046d:c31c", driver="usbhid")

    assert len(computer.findings("tty:S9:pn532")) == 1


def test_diagnose_reader_fails_where_nothing_is_plugged_in(computer):
    (finding,) = computer.findings("usb")

    assert (finding.health, finding.words) == (FAIL, "no reader is plugged in")
    assert "Sony RC-S380/S" in finding.do


@pytest.mark.parametrize("module", ["port100", "pn533_usb"])
def test_diagnose_reader_names_the_kernel_module_that_holds_it(computer, module):
    computer.plug_in("054c:06c3", driver=module)

    assert computer.findings("usb") == [
        Finding(
            FAIL,
            f"Sony RC-S380/P (054c:06c3) is held by the kernel module {module}",
            f"sudo modprobe -r {module}; and for good: echo blacklist {module}"
            " | sudo tee -a /etc/modprobe.d/doorpi.conf",
        )
    ]


def test_diagnose_reader_takes_usbfs_for_no_kernel_module(computer):
    """libusb's claim shows as one of a driver: usbfs."""
    node = computer.plug_in("054c:06c3", driver="usbfs")

    words = f"Sony RC-S380/P (054c:06c3) at {node}"
    assert computer.findings("usb") == [Finding(OK, words), TRIED]


def test_diagnose_reader_gives_the_udev_rule(computer, powerless, monkeypatch):
    node = powerless / "node"
    node.touch(mode=0o400)
    device = ("054c:06c3", node, "")
    monkeypatch.setattr(doorpi, "usb_devices", lambda: [device])
    monkeypatch.setattr(doorpi, "PROC", powerless)

    (finding,) = computer.findings("usb")

    user = doorpi.our_name()
    words = f"Sony RC-S380/P (054c:06c3): {user} has no right to use {node}"
    assert finding.words == words
    assert (
        'SUBSYSTEM=="usb", ATTRS{idVendor}=="054c", ATTRS{idProduct}=="06c3",'
        ' GROUP="plugdev", MODE="0660"'
    ) in finding.do


@pytest.mark.parametrize(
    ("usb_id", "words"),
    [
        ("054c:0dc8", "Sony RC-S300 (054c:0dc8) is not supported"),
        ("072f:2200", "ACS ACR122U (072f:2200): known to stop responding"),
    ],
)
def test_diagnose_reader_warns_of_readers_better_not_bought(computer, usb_id, words):
    computer.plug_in(usb_id)

    finding = computer.findings("usb")[0]

    assert finding.health is WARN
    assert finding.words.startswith(words)
    assert finding.do


@pytest.mark.parametrize(
    ("path", "full"),
    [
        ("usb", "usb:04e6:5591"),
        ("usb:054C", "usb:054c:06c3"),
        ("usb:072f", "usb:072f"),
        ("usb:054c:06c1", "usb:054c:06c1"),
        ("usb:001:004", "usb:001:004"),
        ("tty:S0:pn532", "tty:S0:pn532"),
    ],
)
def test_usb_path_names_vendor_and_product(computer, path, full):
    computer.plug_in("04e6:5591")
    computer.plug_in("054c:0dc8")
    computer.plug_in("054c:06c3")

    assert doorpi.usb_path(path) == full


def test_diagnose_reader_tests_it_where_sys_is_missing(computer):
    """No word of it, then: the reader is tried."""
    computer.sys.rmdir()

    assert computer.findings("usb") == [TRIED]


@pytest.mark.parametrize("device", ["tty:S0:pn532", "usb:054c:06c1"])
def test_diagnose_reader_ignores_the_trouble_of_another(computer, device):
    computer.plug_in("054c:06c1")
    computer.plug_in("054c:06c3", driver="port100")
    (computer.dev / "ttyS0").touch()

    findings = computer.findings(device)

    assert [finding.health for finding in findings] == [OK, OK]


# -- serial


def test_diagnose_reader_lists_the_ports_that_exist(computer):
    (computer.dev / "ttyUSB0").touch()

    (finding,) = computer.findings("tty:S0:pn532")

    assert (finding.health, finding.words) == (
        FAIL,
        f"{computer.dev}/ttyS0 does not exist",
    )
    assert finding.do.startswith(f"there are: {computer.dev}/ttyUSB0; ")
    assert "raspi-config" in finding.do


def test_diagnose_reader_fails_on_the_port_of_the_console(computer):
    (computer.dev / "ttyS0").touch()
    (computer.dev / "serial0").symlink_to("ttyS0")
    (computer.proc / "consoles").write_text(
        "ttyS0                -W- (EC  p a)    4:64\ntty0    -WU (E  p  )    4:7\n"
    )

    (finding,) = computer.findings("tty:serial0:pn532")

    assert finding.words == f"Linux has its console on {computer.dev}/serial0"
    assert "raspi-config" in finding.do


def test_diagnose_reader_tests_it_on_a_good_port(computer):
    (computer.dev / "ttyS0").touch()

    assert computer.findings("tty:S0:pn532") == [
        Finding(OK, f"{computer.dev}/ttyS0 may be used"),
        TRIED,
    ]


def test_diagnose_reader_does_not_disturb_a_running_door(computer):
    (computer.dev / "ttyS0").touch()

    assert computer.findings("tty:S0:pn532", runs=True)[1:] == [
        Finding(
            WARN,
            "tty:S0:pn532: in use by the running door, so not tested",
            "to test it, stop the door first: sudo systemctl stop doorpi",
        )
    ]


# -- the verb


@pytest.fixture
def says(tmp_path, capsys, monkeypatch):
    """Run `doctor` on a file that names ``device``: exit code and lines."""
    monkeypatch.setattr(Device, "pin_factory", MockFactory())

    def doctor(device: str, *options: str) -> tuple[int, list[str]]:
        path = tmp_path / "doorpi.toml"
        path.write_text(f"""
            [reader]
            device = "{device}"
            virtual = true
            [lock]
            kind = "relay"
        """)
        code = main(["--config", str(path), "doctor", *options])
        return code, capsys.readouterr().out.splitlines()

    return doctor


def test_doctor_names_and_times_the_reader(radio, says):
    radio.put(card("ntag213", uid="04A93C715ED284"))

    code, lines = says(radio.device)

    assert code == 0
    assert lines[0].startswith("ok    settings  ")
    assert lines[1].startswith("ok    reader    ")
    assert "read test: 10 attempts, " in lines[2]
    assert lines[2].endswith(", and 04:A9:3C:71:5E:D2:84 is there")


def test_doctor_shows_the_firmware_of_a_pn532(chip, says):
    code, lines = says(chip.device)

    assert code == 0
    assert lines[1:3] == [
        f"ok    reader    {chip.path} may be used",
        f"ok    reader    PN532v1.6 at {chip.path}",
    ]
    assert lines[3].endswith(", no card is there")


def test_doctor_fails_on_a_mute_pn532(chip, says):
    chip.mute()

    code, lines = says(chip.device)

    assert code == 1
    assert lines[2] == f"fail  reader    {chip.device}: connection timed out"
    assert lines[3].strip().startswith("-> check the wiring; a PN532: 3.3 V, GND")


def test_doctor_recovers_a_chip_as_the_door_does(chip, says):
    """A program that was killed left it so; nothing is wrong with its plug."""
    chip.baud = 921600

    code, lines = says(chip.device)

    assert code == 0
    assert lines[2] == f"ok    reader    PN532v1.6 at {chip.path}"
    assert chip.baud == 115200


@pytest.mark.realtime  # nfcpy in the door waits 100 ms for the chip, which is played here
def test_doctor_does_not_disturb_a_door_that_it_cannot_see(tmp_path, chip, cloud):
    """It is another one's, or its folder is shut to us; its port is locked."""
    config = write_config(tmp_path, cloud, chip.device)
    blind = (
        "import sys, doorpi; doorpi.is_running = lambda folder: False;"
        "sys.exit(doorpi.main(['--config', sys.argv[1], 'doctor']))"
    )
    with DoorProcess(config) as door:
        door.until_ready()

        said = subprocess.run(
            [sys.executable, "-c", blind, str(config)],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip

        event = door.tap(chip, "04A93C715ED284")
        assert "resolved: " not in door.journal
    lines = said.stdout.splitlines()
    assert said.returncode == 0
    in_use = f"{chip.device}: in use by another program, so not tested"
    do = "to test it, stop the door first: sudo systemctl stop doorpi"
    assert lines[2] == f"warn  reader    {in_use}"
    assert lines[3].strip() == f"-> {do}"
    assert event.result == "unlocked"


def test_doctor_warns_of_a_slow_reader(chip, says, monkeypatch):
    monkeypatch.setattr(doorpi, "SLOW_LOOK_S", 0.1)
    chip.latency_s = 0.04  # of each of the four commands a look; nfcpy waits 0.1 s

    code, lines = says(chip.device)

    assert code == 0
    assert lines[3].startswith("warn  reader    read test: 10 attempts, ")


def test_doctor_is_as_its_page_shows_it(computer, says):
    (computer.dev / "ttyS0").touch()
    (computer.proc / "consoles").write_text("ttyS0  -W- (EC  p a)  4:64\n")
    pages = Path(doorpi.__file__).with_name("tests") / "docs"
    page = (pages / "recovery.md").read_text(encoding="utf-8")

    code, lines = says("tty:S0:pn532")

    shown = "\n".join(lines[1:3]).replace(str(computer.dev), "/dev")
    assert code == 1
    assert shown in page


def test_doctor_fails_on_a_misspelt_path(says):
    code, lines = says("tty:/dev/ttyS0:pn532")

    assert code == 1
    assert lines[0].startswith(
        "fail  settings  reader.device = 'tty:/dev/ttyS0:pn532': expected usb, "
    )


def test_reader_test_goes_by_the_median(monkeypatch):
    waits_s = iter([0, 0, 0, 0.05, *[0] * 9])
    monkeypatch.setattr(doorpi, "SLOW_LOOK_S", 0.04)
    monkeypatch.setattr(doorpi.NfcReader, "sense", lambda self: sleep(next(waits_s)))

    _, timed = doorpi._reader_test(ReaderConfig(device="usb:054c:06c3"))

    assert timed.health is OK


@pytest.mark.parametrize(
    ("why", "health", "do"),
    [
        ("device or resource busy", WARN, "to test it, stop the door first: "),
        ("in use by another program", WARN, "to test it, stop the door first: "),
        ("cannot find a suitable libusb-1.0", FAIL, "sudo apt-get install libusb-"),
        ("connection timed out", FAIL, "check the wiring; "),
    ],
)
def test_reader_test_says_what_to_do(monkeypatch, why, health, do):
    def lost(self):
        raise ReaderLost(f"usb:054c:06c3: {why}")

    monkeypatch.setattr(doorpi.NfcReader, "sense", lost)

    (finding,) = doorpi._reader_test(ReaderConfig(device="usb:054c:06c3"))

    assert finding.health is health
    assert finding.do.startswith(do)
