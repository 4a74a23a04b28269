"""doorpi.toml: its settings, and the exact words of every problem."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import doorpi
from doorpi import (
    LOCK_KINDS,
    MEANINGS,
    PICTURES,
    TABLES,
    Config,
    ConfigError,
    Credential,
    DoorConfig,
    DoorwayConfig,
    LedsConfig,
    LockAccess,
    LockConfig,
    LogConfig,
    Origin,
    Pattern,
    ReaderConfig,
    Role,
    Schedule,
    Secret,
    Signal,
    Span,
    Uid,
    doubtful_settings,
    parse_config,
    parse_pattern,
    parse_span,
    read_config,
    udp_address,
)

KEY, SECRET = "hush-9f3c-4d1e", "00112233445566778899aabbccddeeff"
LOCK = f"""
[lock]
device_id = "11200000-0000-4000-8000-000000000000"
api_key = "{KEY}"
secret_key = "{SECRET}"
"""
CARD = '[[card]]\nuid = "04:A1:B2:C3"\nholder = "Ken"\n'
SCHEDULE = '[[schedule]]\nname = "office"\ntimes = ["Mon-Fri 08:00-20:00"]\n'


def problems(text: str) -> list[str]:
    """What is wrong with ``text``, which gets a good [lock] if it has none."""
    with pytest.raises(ConfigError) as refused:
        parse_config(text if "[lock]" in text else LOCK + text)

    assert str(refused.value) == "\n".join(refused.value.problems)
    return list(refused.value.problems)


# -- valid settings


def test_parse_config_fills_in_every_default():
    config = parse_config(LOCK)

    assert config == Config(
        door=DoorConfig(
            name="Door",
            on_tap="toggle",
            on_unknown="nothing",
            passback_s=0.0,
            state_dir="",
            require_synced_clock=True,
        ),
        readers=(ReaderConfig(device="usb", poll_s=0.1, rearm_s=0.5, virtual=False),),
        lock=LockConfig(
            kind="sesame",
            device_id="11200000-0000-4000-8000-000000000000",
            api_key=Secret(KEY),
            secret_key=Secret(SECRET),
            base_url="",
            ca_file="",
            unlock_window_s=10.0,
            confirm_s=30.0,
            relock_after_s=0.0,
        ),
        leds=LedsConfig(green_gpio=23, red_gpio=22, active_high=True),
        log=LogConfig(keep_days=365),
        patterns={sign: parse_pattern(PICTURES[sign]) for sign in Signal},
        schedules={},
        cards={},
    )


FULL = """
[door]
name = "佐藤　オフィス"
on_tap = "unlock"
on_unknown = "lock"
passback_s = 5
state_dir = "/srv/doorpi"
require_synced_clock = false

[reader]
device = "udp:127.0.0.1:54321"
poll_s = 0.25
rearm_s = 1
virtual = true

[lock]
kind = "sesame-mini"
device_id = "11200000-0000-4000-8000-000000000000"
api_key = { file = "sesame.key" }
base_url = "http://127.0.0.1:8000/public"
ca_file = "lan.pem"
unlock_window_s = 20
confirm_s = 60
relock_after_s = 30

[leds]
green_gpio = 0
red_gpio = 27
active_high = false

[doorway]
contact_gpio = 5
exit_button_gpio = 6
buzzer_gpio = 12
buzzer_hz = 2000
quiet = ["22:00-07:00", "Sat, Sun 20:00-24:00"]
held_open_s = 30

[signals]
ready = "* G........."
unlocked = "20x G"

[log]
keep_days = 30

[[schedule]]
name = "nights"
times = ["Mon-Fri 08:00-20:00", "sat, SUN 22:00-2:00", " Fri - Mon  0:00 - 24:00 "]
closed = [2026-12-31, 2027-01-01]

[[card]]
uid = "1.35.171.7"
holder = " Ken Sato "
enabled = false
valid_from = 2026-12-01
valid_until = 2026-12-01
schedule = "nights"
role = "master"

[[card]]
uid = "04:a9:3c:71:5e:d2:84"
holder = "鈴木　一郎"
"""

KEN = Uid("0123AB07")
ICHIRO = Uid("04A93C715ED284")


def test_parse_config_reads_every_setting():
    config = parse_config(FULL)

    assert config == Config(
        door=DoorConfig(
            name="佐藤\u3000オフィス",
            on_tap="unlock",
            on_unknown="lock",
            passback_s=5.0,
            state_dir="/srv/doorpi",
            require_synced_clock=False,
        ),
        readers=(
            ReaderConfig(
                device="udp:127.0.0.1:54321", poll_s=0.25, rearm_s=1.0, virtual=True
            ),
        ),
        lock=LockConfig(
            kind="sesame-mini",
            device_id="11200000-0000-4000-8000-000000000000",
            api_key=Secret(file="sesame.key"),
            base_url="http://127.0.0.1:8000/public",
            ca_file="lan.pem",
            unlock_window_s=20.0,
            confirm_s=60.0,
            relock_after_s=30.0,
        ),
        leds=LedsConfig(green_gpio=0, red_gpio=27, active_high=False),
        doorway=DoorwayConfig(
            contact_gpio=5,
            exit_button_gpio=6,
            buzzer_gpio=12,
            buzzer_hz=2000,
            quiet=("22:00-07:00", "Sat, Sun 20:00-24:00"),
            held_open_s=30.0,
        ),
        log=LogConfig(keep_days=30),
        patterns={sign: parse_pattern(PICTURES[sign]) for sign in Signal}
        | {
            Signal.READY: Pattern("G.........", None),
            Signal.UNLOCKED: Pattern("G", 20),
        },
        schedules={
            "nights": Schedule(
                name="nights",
                spans=(
                    Span(days=frozenset(range(5)), start_min=480, end_min=1200),
                    Span(days=frozenset({5, 6}), start_min=1320, end_min=120),
                    Span(days=frozenset({4, 5, 6, 0}), start_min=0, end_min=1440),
                ),
                closed=frozenset({date(2026, 12, 31), date(2027, 1, 1)}),
                words=(
                    "Mon-Fri 08:00-20:00",
                    "sat, SUN 22:00-2:00",
                    "Fri - Mon  0:00 - 24:00",
                ),
            )
        },
        cards={
            KEN: Credential(
                uid=KEN,
                holder="Ken Sato",
                enabled=False,
                valid_from=date(2026, 12, 1),
                valid_until=date(2026, 12, 1),
                schedule="nights",
                role=Role.MASTER,
                source=Origin.TOML,
            ),
            ICHIRO: Credential(uid=ICHIRO, holder="鈴木\u3000一郎"),
        },
    )


def test_parse_config_reads_a_whole_number_as_seconds():
    passback_s = parse_config(LOCK + "[door]\npassback_s = 5\n").door.passback_s

    assert passback_s == 5.0
    assert type(passback_s) is float


def test_parse_config_accepts_a_byte_order_mark_and_windows_line_ends():
    assert parse_config("\ufeff" + LOCK.replace("\n", "\r\n")) == parse_config(LOCK)


DEVICES = [
    "usb", "usb:054c:06c3", "usb:054C", "usb:001:005", "tty:S0:pn532",
    "tty:AMA0:pn532", "tty:USB0:arygon", "tty:serial0:pn532",
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_reader_device_may_be_any_nfcpy_path(device):
    config = parse_config(f'{LOCK}[reader]\ndevice = "{device}"\n')

    assert config.readers[0].device == device


UUID = "11200000-0000-4000-8000-000000000000"
IDS = {
    "sesame": UUID, "sesame-mini": UUID, "switchbot": "C77C293BEB59",
    "nuki-bridge": "42", "nuki-web": "42", "tedee": "42", "relay": "",
}  # fmt: skip


def lock_with_id(kind, written):
    text = LOCK.replace(UUID, written) + 'base_url = "https://h"\n'
    return parse_config(f'{text}kind = "{kind}"\n').lock


@pytest.mark.parametrize("kind", LOCK_KINDS)
def test_every_kind_of_lock_is_accepted(kind):
    assert lock_with_id(kind, IDS[kind]).kind == kind


WRITTEN = [
    ("switchbot", "C7:7C:29:3B:EB:59", "C77C293BEB59"),
    ("switchbot", "c7-7c-29-3b-eb-59", "C77C293BEB59"),
    ("switchbot", "c77c293beb59", "C77C293BEB59"),
    ("switchbot", "C77C293BEB59 ", "C77C293BEB59"),
    ("tedee", " 33 819", "33819"),
    ("nuki-web", "17918066206 ", "17918066206"),
    (
        "sesame",
        " 4EC0FFEE-0000-4000-8000-00000000BEEF",
        "4EC0FFEE-0000-4000-8000-00000000BEEF",
    ),
    (
        "sesame-mini",
        "4ec0ffee-0000-4000-8000-00000000beef ",
        "4ec0ffee-0000-4000-8000-00000000beef",
    ),
    ("sesame", UUID.replace("-", ""), UUID),  # as it stands in the app's QR code
    ("tedee", "replace-me", "replace-me"),  # check says that it is the example's
    ("nuki-bridge", "replace-me", "replace-me"),
]


@pytest.mark.parametrize(("kind", "written", "device_id"), WRITTEN)
def test_device_id_is_read_as_people_write_it(kind, written, device_id):
    assert lock_with_id(kind, written).device_id == device_id


A_NUKI_ID = "digits only: the app's hex id as a decimal number"
NOT_IDS = [
    ("switchbot", "C77C293BEB5", "12 hex digits: the app's MAC address"),
    ("switchbot", "FRONT", "12 hex digits: the app's MAC address"),
    ("tedee", "10530206-000484", "digits only: the lock's id, not its serial number"),
    ("sesame", "Front", f"the lock's UUID, such as {UUID}, not its name"),
    ("sesame-mini", "ABC1234567", f"the lock's UUID, such as {UUID}, not its name"),
    ("nuki-bridge", "2BFFFE1E", A_NUKI_ID),
    ("nuki-web", "2BFFFE1E", "the Web API's: since Nuki 3.0, 17179869184 + the app's id"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "written", "form"), NOT_IDS)
def test_device_id_of_a_wrong_form_is_refused(kind, written, form):
    with pytest.raises(ConfigError) as caught:
        lock_with_id(kind, written)

    assert str(caught.value) == f"lock.device_id = {written!r}: expected {form}"


def test_device_id_of_the_fallback_is_read_alike():
    second = '[fallback]\nkind = "tedee"\napi_key = "k"\ndevice_id = "42 "\n'

    assert parse_config(LOCK + second).fallback.device_id == "42"


GOOD_URLS = [
    "https://api.example.com/public", "https://192.168.1.20:8443", "HTTPS://Host/a",
    "http://127.0.0.1:8080", "http://127.8.8.8", "http://localhost/x", "http://[::1]:80/x",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD_URLS)
def test_base_url_may_be_https_or_loopback(url):
    assert parse_config(f'{LOCK}base_url = "{url}"\n').lock.base_url == url


BRIDGE = '[lock]\nkind = "nuki-bridge"\napi_key = "k"\ndevice_id = "42"\n'
BRIDGE_URLS = [
    "http://192.168.1.50:8080", "http://10.0.0.9", "http://[fd00::1]:8080",
    "http://nuki.local:8080", "http://127.0.0.1:80", "https://nuki.example.com",
]  # fmt: skip


@pytest.mark.parametrize("url", BRIDGE_URLS)
def test_base_url_of_a_nuki_bridge_may_be_http(url):
    assert parse_config(f'{BRIDGE}base_url = "{url}"\n').lock.base_url == url


# -- the words of every problem

FLOAT_MEANT = "(longest time between two polls)"
DATE = "expected a date such as 2026-12-01, without quotes and without a time"
LIMIT = "expected 2026-12-01 or 2026-12-01 18:00:00, without quotes"
TEXT = "expected text in quotes"

UNKNOWN_KEYS = {
    "a misspelt section": ("[dor]\n", "dor: unknown key; did you mean 'door'?"),
    "a section in capitals": ("[DOOR]\n", "DOOR: unknown key; did you mean 'door'?"),
    "cards": ("[[cards]]\n", "cards: unknown key; did you mean 'card'?"),
    "an alien section": ("[modbus]\n", "modbus: unknown key"),
    "a key before any section": ("zzz = 1\n", "zzz: unknown key"),
    "a misspelt key": ('[door]\non_tab = "unlock"', "door.on_tab: unknown key; did you mean 'on_tap'?"),
    "a key in capitals": ("[reader]\nPOLL_S = 1", "reader.POLL_S: unknown key; did you mean 'poll_s'?"),
    "an alien key": ("[door]\nzzz = 1", "door.zzz: unknown key"),
    "an empty key": ('[door]\n"" = 1', "door.: unknown key"),
    "a key that reorders": ('[door]\n"a\\u202eb" = 1', "door.a\\u202eb: unknown key"),
    "an endless key": (f"[door]\n{'k' * 99} = 1", f"door.{'k' * 57}...: unknown key"),
    "a card's misspelt key": (CARD + "hodler = 1", "card 1 (\"Ken\").hodler: unknown key; did you mean 'holder'?"),
    "a schedule's alien key": (SCHEDULE + "zzz = 1", 'schedule 1 ("office").zzz: unknown key'),
    "a misspelt signal": ('[signals]\nunlokked = "1x G"', "signals.unlokked: unknown key; did you mean 'unlocked'?"),
    "an alien signal": ('[signals]\nzzz = "1x G"', "signals.zzz: unknown key"),
    "a signal that is no signal": ('[signals]\nopened = "1x G"', "signals.opened: unknown key"),
    "a signal with _": ('[signals]\nreader_lost = "* R."', "signals.reader_lost: unknown key; did you mean 'reader-lost'?"),
}  # fmt: skip

VALUES = {
    "a number for text": ("[door]\nname = 5", f"door.name = 5: {TEXT} (what messages call the door)"),
    "a bool for a whole number": ("[leds]\ngreen_gpio = true", "leds.green_gpio = true: expected a whole number (BCM number of the green LED's pin)"),
    "a bool for a number": ("[reader]\npoll_s = false", f"reader.poll_s = false: expected a number {FLOAT_MEANT}"),
    "a number for a bool": ("[reader]\nvirtual = 1", "reader.virtual = 1: expected true or false (allow a udp: device, which anybody can control)"),
    "text for a bool": ('[leds]\nactive_high = "false"', "leds.active_high = 'false': expected true or false (false if the LEDs light when the pin is low)"),
    "a fraction for a whole number": ("[log]\nkeep_days = 30.0", "log.keep_days = 30.0: expected a whole number (days to keep events)"),
    "text for a number": ('[reader]\npoll_s = "0.1"', f"reader.poll_s = '0.1': expected a number {FLOAT_MEANT}"),
    "a list for a number": ("[reader]\npoll_s = [1]", f"reader.poll_s = [...]: expected a number {FLOAT_MEANT}"),
    "a table for a number": ("[reader]\npoll_s = {a = 1}", f"reader.poll_s = {{...}}: expected a number {FLOAT_MEANT}"),
    "a date for a number": ("[reader]\npoll_s = 2026-12-01", f"reader.poll_s = 2026-12-01: expected a number {FLOAT_MEANT}"),
    "too little": ("[reader]\npoll_s = 0", f"reader.poll_s = 0: must be 0.01 to 2 {FLOAT_MEANT}"),
    "too much": ("[reader]\npoll_s = 2.1", f"reader.poll_s = 2.1: must be 0.01 to 2 {FLOAT_MEANT}"),
    "nan": ("[reader]\npoll_s = nan", f"reader.poll_s = nan: must be 0.01 to 2 {FLOAT_MEANT}"),
    "inf": ("[reader]\npoll_s = inf", f"reader.poll_s = inf: must be 0.01 to 2 {FLOAT_MEANT}"),
    "-inf": ("[reader]\npoll_s = -inf", f"reader.poll_s = -inf: must be 0.01 to 2 {FLOAT_MEANT}"),
    "beyond any float": (f"[reader]\npoll_s = 1{'0' * 400}", f"reader.poll_s = (a very long number): must be 0.01 to 2 {FLOAT_MEANT}"),
    "beyond what Python writes": (f"[leds]\nred_gpio = 0x{'f' * 5000}", "leds.red_gpio = (a very long number): must be 0 to 27 (BCM number of the red LED's pin)"),
    "less than a pin": ("[leds]\nred_gpio = -1", "leds.red_gpio = -1: must be 0 to 27 (BCM number of the red LED's pin)"),
    "no pin": ("[leds]\nred_gpio = 28", "leds.red_gpio = 28: must be 0 to 27 (BCM number of the red LED's pin)"),
    "a day and a second": ("[door]\npassback_s = 86401", "door.passback_s = 86401: must be 0 to 86400 (seconds before a card works again)"),
    "no such choice": ('[door]\non_tap = "open"', "door.on_tap = 'open': must be one of toggle, unlock (what a card does)"),
    "an empty choice": ('[door]\non_tap = ""', "door.on_tap = '': must be one of toggle, unlock (what a card does)"),
    "a choice in capitals": ('[door]\non_unknown = "Lock"', "door.on_unknown = 'Lock': must be one of nothing, unlock, lock; did you mean 'lock'? (a tap in an unknown state)"),
    "a line end": ('[door]\nname = "a\\nb"', "door.name = 'a\\nb': contains an invisible character (what messages call the door)"),
    "right to left": ('[door]\nname = "a\\u202eb"', "door.name = 'a\\u202eb': contains an invisible character (what messages call the door)"),
    "endless text": (f'[door]\non_tap = "{"x" * 99}"', f"door.on_tap = '{'x' * 56}...: must be one of toggle, unlock (what a card does)"),
    "both lights on a pin": ("[leds]\ngreen_gpio = 5\nred_gpio = 5", "leds.red_gpio = 5: leds.green_gpio has this pin"),
    "red on green's default": ("[leds]\nred_gpio = 23", "leds.red_gpio = 23: leds.green_gpio has this pin"),
    "a relay on a light's pin": ('[lock]\nkind = "relay"\nrelay_gpio = 23', "lock.relay_gpio = 23: leds.green_gpio has this pin"),
    "a contact on a light's pin": ("[doorway]\ncontact_gpio = 23", "doorway.contact_gpio = 23: leds.green_gpio has this pin"),
    "a button on the relay's pin": ('[lock]\nkind = "relay"\n[doorway]\nexit_button_gpio = 17', "lock.relay_gpio = 17: doorway.exit_button_gpio has this pin"),
    "a buzzer on the contact's pin": ("[doorway]\ncontact_gpio = 5\nbuzzer_gpio = 5", "doorway.buzzer_gpio = 5: doorway.contact_gpio has this pin"),
    "a button on the reader's port": ('[reader]\ndevice = "tty:S0:pn532"\n[doorway]\nexit_button_gpio = 15', "doorway.exit_button_gpio = 15: the reader's serial port has this pin"),
    "a contact on no pin": ("[doorway]\ncontact_gpio = 28", "doorway.contact_gpio = 28: must be -1 to 27 (BCM number of the contact's pin; -1: none)"),
    "quiet hours that are none": ('[doorway]\nquiet = ["22-07"]', "doorway.quiet 1 = '22-07': expected days and hours, as in \"Mon-Fri 08:00-20:00\""),
    "two relays on a pin": ('[lock]\nkind = "relay"\n[fallback]\nkind = "relay"', "fallback.relay_gpio = 17: lock.relay_gpio has this pin"),
}  # fmt: skip

SHAPES = {
    "a value for a section": ("door = 5", "door: expected a table, [door]"),
    "a value for cards": ("card = 5", "card: expected [[card]], with two brackets"),
    "a value among cards": ('card = ["Ken"]', "card 1: expected a table, [[card]]"),
    "a value for a fallback": ("fallback = 5", "fallback: expected a table, [fallback]"),
    "a list for signals": ("signals = []", "signals: expected a table, [signals]"),
}  # fmt: skip

VIRTUAL = "with a udp: device, anybody on the network could present any card"
NO_READER = "expected usb, usb:054c:06c3, tty:S0:pn532 or udp:HOST:PORT"
IS_PATH = "(nfcpy path of the reader)"

TWO = '[[reader]]\nname = "entrance"\ndevice = "{}"\n[[reader]]\nname = "{}"\ndevice = "{}"\n{}'


def two_readers(one="tty:S0:pn532", name="exit", two="usb", more="") -> str:
    return TWO.format(one, name, two, more)


SAME_DEVICE = "may be the device of another reader"

READERS = {
    "two of a name": (two_readers(name="entrance"), 'reader 2 ("entrance").name = \'entrance\': reader 1 ("entrance") has it, too'),
    "one of two without a name": ('[[reader]]\nname = "in"\n[[reader]]\ndevice = "tty:S0:pn532"', "reader 2.name: missing (each of several readers needs a name)"),
    "a scanner's name": (two_readers(more='[[scanner]]\nname = "exit"\ndevice = "/dev/ttyACM0"'), "scanner 1 (\"exit\").name = 'exit': reader 2 (\"exit\") has it, too"),
    "two on a port": (two_readers(two="tty:S0:arygon"), f"reader 2 (\"exit\").device = 'tty:S0:arygon': {SAME_DEVICE}"),
    "any of USB and one of a model": (two_readers(one="usb:054c:06c3"), f"reader 2 (\"exit\").device = 'usb': {SAME_DEVICE}"),
    "a model of a maker": (two_readers(one="usb:054c", two="usb:054c:06c3"), f"reader 2 (\"exit\").device = 'usb:054c:06c3': {SAME_DEVICE}"),
    "no way": (two_readers(more='direction = "up"'), "reader 2 (\"exit\").direction = 'up': must be one of , in, out (where it leads)"),
    "lights of its own on the door's pins": (two_readers(more="leds = { green_gpio = 23, red_gpio = 5 }"), 'reader 2 ("exit").leds.green_gpio = 23: leds.green_gpio has this pin'),
    "lights of its own with half of the pins": (two_readers(more="leds = { green_gpio = 5 }"), 'reader 2 ("exit").leds.red_gpio = 22: leds.red_gpio has this pin'),
    "lights without a table": (two_readers(more="leds = 5"), "reader 2 (\"exit\").leds = 5: expected a table: { KEY = VALUE } (pins of lights that it has alone)"),
    "a slip in its lights": (two_readers(more="leds = { gren_gpio = 5, red_gpio = 6 }"), "reader 2 (\"exit\").leds.gren_gpio: unknown key; did you mean 'green_gpio'?"),
    "a reset pin of two": (two_readers(more="reset_gpio = 22"), 'reader 2 ("exit").reset_gpio = 22: leds.red_gpio has this pin'),
    "a reader among several that is none": (two_readers(two="USB"), f"reader 2 (\"exit\").device = 'USB': {NO_READER} {IS_PATH}"),
    "types of the second": (two_readers(more='types = ["B"]'), 'reader 2 ("exit").types 1 = \'B\': must be one of A, F'),
    "virtual by mistake": ('[reader]\ndevice = "udp:127.0.0.1:54321"', f"reader.virtual = false: {VIRTUAL}"),
    "udp without a port": ('[reader]\nvirtual = true\ndevice = "udp:localhost"', f"reader.device = 'udp:localhost': {NO_READER} {IS_PATH}"),
    "udp alone": ('[reader]\nvirtual = true\ndevice = "udp"', f"reader.device = 'udp': {NO_READER} {IS_PATH}"),
    "no such port": ('[reader]\nvirtual = true\ndevice = "udp:127.0.0.1:65536"', f"reader.device = 'udp:127.0.0.1:65536': {NO_READER} {IS_PATH}"),
    "port 0": ('[reader]\nvirtual = true\ndevice = "udp:127.0.0.1:0"', f"reader.device = 'udp:127.0.0.1:0': {NO_READER} {IS_PATH}"),
    "nothing": ('[reader]\ndevice = ""', f"reader.device = '': {NO_READER} {IS_PATH}"),
    "a device file": ('[reader]\ndevice = "/dev/ttyS0"', f"reader.device = '/dev/ttyS0': {NO_READER}; for a PN532 there: tty:S0:pn532 {IS_PATH}"),
    "a USB adapter's file": ('[reader]\ndevice = "/dev/ttyUSB0"', f"reader.device = '/dev/ttyUSB0': {NO_READER}; for a PN532 there: tty:USB0:pn532 {IS_PATH}"),
    "a chip nobody knows": ('[reader]\ndevice = "tty:S0:pn999"', f"reader.device = 'tty:S0:pn999': {NO_READER} {IS_PATH}"),
    "tty without a chip": ('[reader]\ndevice = "tty:S0"', f"reader.device = 'tty:S0': {NO_READER} {IS_PATH}"),
    "usb with half an id": ('[reader]\ndevice = "usb:54c"', f"reader.device = 'usb:54c': {NO_READER} {IS_PATH}"),
    "a reader in capitals": ('[reader]\ndevice = "USB"', f"reader.device = 'USB': {NO_READER} {IS_PATH}"),
}  # fmt: skip

NEEDED = '[lock]\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = "k"\nsecret_key = '
NOT_SHOWN = '(not shown): expected text in quotes, or { file = "NAME" }'
AN_API_KEY = "(the vendor's API key)"
VISIBLE = "may hold only visible ASCII, and no space at its ends"
URL = "lock.base_url: expected https://HOST/PATH, and nothing more"

LOCKS = {
    "no such lock": (LOCK + 'kind = "sesami"', f"lock.kind = 'sesami': must be one of {', '.join(LOCK_KINDS)}; did you mean 'sesame'? (which lock)"),
    "a lock as its vendor writes it": (LOCK + 'kind = "SwitchBot"', f"lock.kind = 'SwitchBot': must be one of {', '.join(LOCK_KINDS)}; did you mean 'switchbot'? (which lock)"),
    "no id": ('[lock]\nkind = "sesame-mini"\napi_key = "k"', "lock.device_id: missing; 'sesame-mini' needs it (the lock's id at its vendor)"),
    "no key": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"', "lock.api_key: missing; 'sesame-mini' needs it (the vendor's API key)"),
    "no secret": ('[lock]\napi_key = "k"\ndevice_id = "11200000-0000-4000-8000-000000000000"', "lock.secret_key: missing; 'sesame' needs it (sesame: 32 hex digits; switchbot: secret)"),
    "a short secret": (NEEDED + '"00112233"', "lock.secret_key = (not shown): expected 32 hex digits"),
    "a secret that is not hex": (NEEDED + f'"{"x" * 32}"', "lock.secret_key = (not shown): expected 32 hex digits"),
    "a number for a secret": (NEEDED + "12345678", f"lock.secret_key = {NOT_SHOWN} (sesame: 32 hex digits; switchbot: secret)"),
    "an empty secret": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = ""', f"lock.api_key = (not shown): empty {AN_API_KEY}"),
    "a key with a line end": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = "a\\n"', f"lock.api_key = (not shown): {VISIBLE} {AN_API_KEY}"),
    "a key in Japanese": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = "鍵"', f"lock.api_key = (not shown): {VISIBLE} {AN_API_KEY}"),
    "a key's file and more": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = { file = "f", mode = 1 }', f"lock.api_key = {NOT_SHOWN} {AN_API_KEY}"),
    "a key's file without a name": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = { file = "" }', f"lock.api_key = {NOT_SHOWN} {AN_API_KEY}"),
    "a key's path": ('[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = { path = "f" }', f"lock.api_key = {NOT_SHOWN} {AN_API_KEY}"),
    "http": (LOCK + 'base_url = "http://api.example.com"', "lock.base_url: http would send the key unencrypted; use https"),
    "http to a name like ours": (LOCK + 'base_url = "http://localhost.example.com"', "lock.base_url: http would send the key unencrypted; use https"),
    "http to the network": (LOCK + 'base_url = "http://192.168.1.20:8080"', "lock.base_url: http would send the key unencrypted; use https"),
    "another protocol": (LOCK + 'base_url = "ftp://api.example.com"', URL),
    "no protocol": (LOCK + 'base_url = "api.example.com"', URL),
    "no host": (LOCK + 'base_url = "https:///public"', URL),
    "a blank": (LOCK + 'base_url = "https://api.example.com /x"', URL),
    "a port beyond": (LOCK + 'base_url = "https://h:65536"', URL),
    "half a bracket": (LOCK + 'base_url = "https://[::1"', URL),
    "a name and password": (LOCK + f'base_url = "https://me:{KEY}@h"', URL),
    "a query": (LOCK + f'base_url = "https://h/x?token={KEY}"', URL),
    "an empty query": (LOCK + 'base_url = "https://h/x?"', URL),
    "a fragment": (LOCK + 'base_url = "https://h/x#"', URL),
    "no SwitchBot secret": ('[lock]\nkind = "switchbot"\napi_key = "k"\ndevice_id = "C77C293BEB59"', "lock.secret_key: missing; 'switchbot' needs it (sesame: 32 hex digits; switchbot: secret)"),
    "no Tedee key": ('[lock]\nkind = "tedee"\ndevice_id = "42"', "lock.api_key: missing; 'tedee' needs it (the vendor's API key)"),
    "no bridge": (BRIDGE, "lock.base_url: missing; 'nuki-bridge' needs it (address of the API; not needed for a cloud)"),
    "http to Nuki's cloud": ('[lock]\nkind = "nuki-web"\napi_key = "k"\ndevice_id = "42"\nbase_url = "http://192.168.1.50"', "lock.base_url: http would send the key unencrypted; use https"),
    "a fallback without a key": (LOCK + '[fallback]\nkind = "tedee"\ndevice_id = "42"', "fallback.api_key: missing; 'tedee' needs it (the vendor's API key)"),
    "a fallback's http": (LOCK + '[fallback]\nkind = "tedee"\ndevice_id = "42"\napi_key = "k"\nbase_url = "http://h"', "fallback.base_url: http would send the key unencrypted; use https"),
    "a window of the fallback's": (LOCK + '[fallback]\nkind = "relay"\nunlock_window_s = 5', "fallback.unlock_window_s: belongs in [lock]"),
}  # fmt: skip

KEN_WAS = 'card 1 ("Ken")'
DATED = CARD + "valid_from"
RANDOM = doorpi.RANDOM_WORDS

PERSON = '[[person]]\nname = "Ken"\ncards = '
CARDS_OF_KEN = 'person 1 ("Ken"), cards'

CARDS = {
    "no holder": ('[[card]]\nuid = "04A1B2C3"', "card 1.holder: missing (who carries it)"),
    "a blank holder": ('[[card]]\nuid = "04A1B2C3"\nholder = "  "', 'card 1 ("  ").holder: empty (who carries it)'),
    "a holder in a list": ('[[card]]\nuid = "04A1B2C3"\nholder = ["Ken"]', f"card 1.holder = [...]: {TEXT} (who carries it)"),
    "no UID": ('[[card]]\nholder = "Ken"', f"{KEN_WAS}.uid: missing (the card's UID)"),
    "an empty UID": ('[[card]]\nholder = "Ken"\nuid = ""', f"{KEN_WAS}.uid: empty (the card's UID)"),
    "a UID without quotes": ('[[card]]\nholder = "Ken"\nuid = 12345678', f"{KEN_WAS}.uid = 12345678: {TEXT} (the card's UID)"),
    "no UID at all": ('[[card]]\nholder = "Ken"\nuid = "front door"', f"{KEN_WAS}.uid = 'front door': not a UID: two hex digits per byte, such as 04:A1:B2:C3"),
    "a UID of 3 bytes": ('[[card]]\nholder = "Ken"\nuid = "04:A1:B2"', f"{KEN_WAS}.uid = '04:A1:B2': a UID has 4, 7, 8 or 10 bytes, not 3"),
    "3 bytes of a UID": ('[[card]]\nholder = "Ken"\nuid = "8804A3C6"', f"{KEN_WAS}.uid = '8804A3C6': only 3 bytes of a 7-byte card (a UID of 4 bytes never begins with 88, or 136 in decimal): tap the card here instead"),
    "a random UID": ('[[card]]\nholder = "Ken"\nuid = "08:A1:B2:C3"', f"{KEN_WAS}.uid = '08:A1:B2:C3': {RANDOM}"),
    "a random UID, dotted": ('[[card]]\nholder = "Ken"\nuid = "8.1.2.3"', f"{KEN_WAS}.uid = '8.1.2.3': {RANDOM}"),
    "one UID twice": (f'{CARD}[[card]]\nuid = "04-a1-b2-c3"\nholder = "Jo"', 'card 2 ("Jo").uid = \'04:A1:B2:C3\': card 1 ("Ken") has it, too'),
    "one UID in two notations": (f'{CARD}[[card]]\nuid = "4.161.178.195"\nholder = "Jo"', 'card 2 ("Jo").uid = \'04:A1:B2:C3\': card 1 ("Ken") has it, too'),
    "no such role": (CARD + 'role = "admin"', f"{KEN_WAS}.role = 'admin': must be one of holder, master (a master enrols cards)"),
    "a quoted date": (DATED + ' = "2026-12-01"', f"{KEN_WAS}.valid_from = '2026-12-01': {LIMIT} (first day, such as 2026-12-01)"),
    "limits that change places": (DATED + " = 2026-12-01 18:00:00\nvalid_until = 2026-12-01 08:00:00", f"{KEN_WAS}.valid_until = 2026-12-01 08:00:00: before valid_from (2026-12-01 18:00:00), so the card would never work"),
    "a date and a zone": (DATED + " = 2026-12-01T08:00:00+09:00", f"{KEN_WAS}.valid_from = 2026-12-01 08:00:00+09:00: {LIMIT} (first day, such as 2026-12-01)"),
    "a time only": (DATED + " = 08:00:00", f"{KEN_WAS}.valid_from = 08:00:00: {LIMIT} (first day, such as 2026-12-01)"),
    "a year": (DATED + " = 2026", f"{KEN_WAS}.valid_from = 2026: {LIMIT} (first day, such as 2026-12-01)"),
    "dates the wrong way round": (DATED + " = 2026-12-02\nvalid_until = 2026-12-01", f"{KEN_WAS}.valid_until = 2026-12-01: before valid_from (2026-12-02), so the card would never work"),
    "a schedule nobody wrote": (CARD + 'schedule = "zzz"', f"{KEN_WAS}.schedule = 'zzz': no [[schedule]] has this name"),
    "a misspelt schedule": (f'{SCHEDULE}{CARD}schedule = "ofice"', f"{KEN_WAS}.schedule = 'ofice': no [[schedule]] has this name; did you mean 'office'?"),
    "a person without a name": ('[[person]]\ncards = ["04A1B2C3"]', "person 1.name: missing (who it is)"),
    "a person without cards": ('[[person]]\nname = "Ken"', 'person 1 ("Ken").cards: missing (UIDs such as "04:A1:B2:C3")'),
    "no cards at all": (PERSON + "[]", 'person 1 ("Ken").cards: empty (UIDs such as "04:A1:B2:C3")'),
    "cards without a list": (PERSON + '"04A1B2C3"', "person 1 (\"Ken\").cards = '04A1B2C3': put it in brackets: ['04A1B2C3'] (UIDs such as \"04:A1:B2:C3\")"),
    "a number among cards": (PERSON + '["04A1B2C3", 5]', f"{CARDS_OF_KEN} 2.uid = 5: {TEXT} (the card's UID)"),
    "an alien key of a person's card": (PERSON + '[{ uid = "04A1B2C3", zzz = 1 }]', f"{CARDS_OF_KEN} 1.zzz: unknown key"),
    "a person's card without a UID": (PERSON + '[{ proof = "ntag424" }]', f"{CARDS_OF_KEN} 1.uid: missing (the card's UID)"),
    "a generation before the first": (PERSON + '[{ uid = "04A1B2C3", generation = 0 }]', f"{CARDS_OF_KEN} 1.generation = 0: must be 1 to 255 (of the keys of a secure card)"),
    "a person's phone": (PERSON + '["08A1B2C3"]', f"{CARDS_OF_KEN} 1.uid = '08A1B2C3': {RANDOM}"),
    "an empty UID among cards": (PERSON + '["04A1B2C3", ""]', f"{CARDS_OF_KEN} 2.uid: empty (the card's UID)"),
    "a person's phone in a table": (PERSON + '[{ uid = "08A1B2C3" }]', f"{CARDS_OF_KEN} 1.uid = '08A1B2C3': {RANDOM}"),
    "a card twice in a person": (PERSON + '["04A1B2C3", "04:a1:b2:c3"]', f"{CARDS_OF_KEN} 2.uid = '04:A1:B2:C3': {CARDS_OF_KEN} 1 has it, too"),
    "a card of somebody else": (CARD + PERSON + '["04A1B2C3"]', f"{CARDS_OF_KEN} 1.uid = '04:A1:B2:C3': {KEN_WAS} has it, too"),
    "a person's schedule nobody wrote": (PERSON + '["04A1B2C3"]\nschedule = "zzz"', "person 1 (\"Ken\").schedule = 'zzz': no [[schedule]] has this name"),
    "a person's dates": (PERSON + '["04A1B2C3"]\nvalid_from = 2026-12-02\nvalid_until = 2026-12-01', 'person 1 ("Ken").valid_until = 2026-12-01: before valid_from (2026-12-02), so the card would never work'),
    "a person's holder": (PERSON + '["04A1B2C3"]\nholder = "Ken"', "person 1 (\"Ken\").holder: unknown key; did you mean 'name'?"),
    "an endless holder": (f'[[card]]\nuid = "04A1B2C3"\nholder = "{"K" * 201}"', f"card 1 (\"{'K' * 37}...\").holder = '{'K' * 56}...: must be 0 to 200 characters (who carries it)"),
    "a holder that reorders": ('[[card]]\nuid = "04A1B2C3"\nholder = "K\\u202en"', 'card 1 ("K\\u202en").holder = \'K\\u202en\': contains an invisible character (who carries it)'),
}  # fmt: skip

OFFICE = 'schedule 1 ("office")'
TIMES = '[[schedule]]\nname = "office"\ntimes = '
RELAY = '[lock]\nkind = "relay"\n'
OPEN = "[[open]]\ntimes = "
DAYS = 'days are Mon Tue Wed Thu Fri Sat Sun, as in "Mon-Fri"'
HOURS = 'expected days and hours, as in "Mon-Fri 08:00-20:00"'
MINUS = "write a plain - (minus) between days and between hours"
CLOCK = "a time of day is 00:00 to 23:59; an end may be 24:00"

SPANS = {
    "days only": ("Mon-Fri", HOURS),
    "hours only": ("08:00-20:00", HOURS),
    "nothing": ("", HOURS),
    "one time": ("Mon 08:00", HOURS),
    "hours without minutes": ("Mon 8-20", HOURS),
    "am and pm": ("Mon 8:00am-8:00pm", HOURS),
    "seconds": ("Mon 08:00:00-20:00:00", HOURS),
    "a long dash": ("Mon\u2013Fri 08:00\u201320:00", MINUS),
    "a minus of mathematics": ("Mon 08:00\u221220:00", MINUS),
    "more after it": ("Mon 08:00-20:00, Tue 08:00-20:00", HOURS),
    "digits of another script": ("Mon \u0660\u0668:00-20:00", HOURS),
    "a day's whole name": ("Monday 08:00-20:00", DAYS),
    "a day in Japanese": ("Mo-Fr 08:00-20:00", DAYS),
    "half a range": ("Mon- 08:00-20:00", DAYS),
    "the other half": ("-Fri 08:00-20:00", DAYS),
    "a range of three": ("Mon-Wed-Fri 08:00-20:00", DAYS),
    "a comma too many": ("Mon,,Tue 08:00-20:00", DAYS),
    "25 hours": ("Mon 08:00-25:00", CLOCK),
    "just after 24:00": ("Mon 08:00-24:01", CLOCK),
    "from 24:00": ("Mon 24:00-08:00", CLOCK),
    "60 minutes": ("Mon 08:60-20:00", CLOCK),
    "60 minutes at the end": ("Mon 08:00-19:60", CLOCK),
    "no time at all": ("Mon 08:00-08:00", "start and end are equal; a whole day is 00:00-24:00"),
}  # fmt: skip

SCHEDULES = {
    "no name": ('[[schedule]]\ntimes = ["Mon 08:00-20:00"]', "schedule 1.name: missing (what cards call it)"),
    "a number for a name": ('[[schedule]]\nname = 5\ntimes = ["Mon 08:00-20:00"]', f"schedule 1.name = 5: {TEXT} (what cards call it)"),
    "no times": ('[[schedule]]\nname = "office"', f'{OFFICE}.times: missing (spans such as "Mon-Fri 08:00-20:00")'),
    "empty times": (TIMES + "[]", f'{OFFICE}.times: empty (spans such as "Mon-Fri 08:00-20:00")'),
    "times without a list": (TIMES + '"Mon 08:00-20:00"', f"{OFFICE}.times = 'Mon 08:00-20:00': put it in brackets: ['Mon 08:00-20:00'] (spans such as \"Mon-Fri 08:00-20:00\")"),
    "a number among times": (TIMES + '["Mon 08:00-20:00", 8]', f"{OFFICE}.times 2 = 8: {TEXT}"),
    "a long number there": (f"{TIMES}[0x{'f' * 5000}]", f"{OFFICE}.times 1 = (a very long number): {TEXT}"),
    "a quoted closed day": (SCHEDULE + 'closed = ["2026-12-31"]', f"{OFFICE}.closed 1 = '2026-12-31': {DATE}"),
    "open hours of a strike": (RELAY + OPEN + '["Mon 09:00-18:00"]', "open: a relay opens for a moment only, and cannot keep the door open"),
    "open hours with a name": (OPEN + '["Mon 09:00-18:00"]\nname = "office"', "open 1 (\"office\").name: belongs in [[schedule]] or [door] or [reader]"),
    "open hours of no day": (OPEN + '["Funday 09:00-18:00"]', f"open 1.times 1 = 'Funday 09:00-18:00': {DAYS}"),
    "open hours without hours": ("[[open]]\nneeds_first = true", "open 1.times: missing (spans such as \"Mon-Fri 08:00-20:00\")"),
    "a closed time": (SCHEDULE + "closed = [2026-12-30, 2026-12-31T00:00:00]", f"{OFFICE}.closed 2 = 2026-12-31 00:00:00: {DATE}"),
    "one closed day, no list": (SCHEDULE + "closed = 2026-12-31", f"{OFFICE}.closed = 2026-12-31: put it in brackets: [2026-12-31] (dates without hours)"),
    "two of one name": (SCHEDULE + SCHEDULE, f"schedule 2 (\"office\").name = 'office': {OFFICE} has it, too"),
} | {
    f"span: {name}": (f'{TIMES}["{span}"]', f"{OFFICE}.times 1 = {span!r}: {words}")
    for name, (span, words) in SPANS.items()
}  # fmt: skip

NO_PICTURE = 'not a picture such as "6x GGGGG....." or "* G...."'

IS_LOCKED = f"({MEANINGS[Signal.LOCKED]})"

SIGNALS = {
    "a number for a picture": ("[signals]\nlocked = 6", f"signals.locked = 6: {TEXT} ({MEANINGS[Signal.LOCKED]})"),
    "no picture": ('[signals]\nlocked = "GGG"', f"signals.locked = 'GGG': {NO_PICTURE} {IS_LOCKED}"),
    "too long": ('[signals]\nlocked = "1201x G"', f"signals.locked = '1201x G': a picture plays at least once, and for 60 s at most {IS_LOCKED}"),
    "never": ('[signals]\nlocked = "0x G"', f"signals.locked = '0x G': a picture plays at least once, and for 60 s at most {IS_LOCKED}"),
    "no end where one is due": ('[signals]\nlocked = "* G"', f"signals.locked = '* G': this signal must end (start with 6x) {IS_LOCKED}"),
    "an end where none is due": ('[signals]\nready = "6x G"', "signals.ready = '6x G': this signal must repeat (start with *) (ready for a card)"),
}  # fmt: skip

A_BELONGING = {
    "a lock's key in [door]": ("[door]\nrelay_gpio = 17", "door.relay_gpio: belongs in [lock]"),
    "a lock's key after the cards": (CARD + "relock_after_s = 5", 'card 1 ("Ken").relock_after_s: belongs in [lock]'),
    "a key of two tables": ("[reader]\nactive_high = true", "reader.active_high: belongs in [leds] or [lock]"),
    "a key before its table": ("keep_days = 5\n", "keep_days: belongs in [log]"),
    "a card's key in [door]": ("[door]\nvalid_until = 2026-12-01", "door.valid_until: belongs in [[card]]"),
    "a lock's secret in [door]": (f'[door]\nsecret_key = "{KEY}"', "door.secret_key: belongs in [lock]"),
    "a card's name": (CARD + 'name = "Ken"', "card 1 (\"Ken\").name: unknown key; did you mean 'holder'?"),
    "a schedule's holder": (SCHEDULE + 'holder = "x"', "schedule 1 (\"x\").holder: unknown key; did you mean 'name'?"),
}  # fmt: skip

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "key": UNKNOWN_KEYS, "value": VALUES, "shape": SHAPES, "reader": READERS,
        "lock": LOCKS, "card": CARDS, "schedule": SCHEDULES, "signals": SIGNALS,
        "table": A_BELONGING,
    }.items()
    for name, case in cases.items()
}  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), CASES.values(), ids=CASES)
def test_mistake_is_reported_once_with_its_place_value_and_reason(text, problem):
    before_sections = LOCK if re.match(r"\w+ =", text) else ""

    assert problems(text + before_sections) == [problem]


BOOL = "write true or false, in small letters"
QUOTES = 'write straight quotes: "'
DAY = "write dates as year-month-day: 2026-11-30"
NO_DAY = "there is no such day"
TEXTS = 'write text in quotes: "..."'
QUOTE = "this quotation mark has no partner"
BRACKET = "this bracket is never closed"
LIST = "write [[card]] for each card, with two brackets, alone on its line"
ONCE = "write [door] once, with single brackets, alone on its line"
#: A table, a line of it as owners type it with ^ before what is wrong, and the cure.
SYNTAX = {
    "no": ("[door]", "require_synced_clock = ^no", BOOL),
    "yes": ("[reader]", "virtual = ^yes  # to try it", BOOL),
    "off": ("[leds]", "active_high = ^Off", BOOL),
    "True": ("[reader]", "virtual = ^True", BOOL),
    "FALSE": ("[leds]", "active_high = ^FALSE", BOOL),
    "curly quotes": ("[door]", "name = ^“Office”", QUOTES),
    "German quotes": ("[door]", "name = ^„Office“", QUOTES),
    "single curly quotes": ("[door]", "name = ^\u2018Office\u2019", QUOTES),
    "a curly quote at the end": ("[door]", 'name = "Office^”', QUOTES),
    "a curly quote in a list": ("[[schedule]]", "times = [^“Mon 08:00-20:00”]", QUOTES),
    "a German day": ("[[card]]", "valid_until = ^30.11.2026", DAY),
    "an American day": ("[[card]]", "valid_until = ^11/30/2026", DAY),
    "slashes in a day": ("[[card]]", "valid_until = ^2026/11/30", DAY),
    "a short day": ("[[card]]", "valid_until = ^2026-1-5", DAY),
    "a German day in a list": ("[[schedule]]", "closed = [^24.12.2026]", DAY),
    "30 February": ("[[card]]", "valid_from = ^2026-02-30", NO_DAY),
    "month 13": ("[[schedule]]", "closed = [2026-12-31, ^2026-13-01]", NO_DAY),
    "a decimal comma": ("[door]", "passback_s = 3^,0", "write a decimal point: 3.5"),
    "a unit": ("[reader]", "poll_s = 0.1 ^s", "write the number without a unit"),
    "none": ("[[card]]", "schedule = ^None", TEXTS),
    "no quotes": ("[door]", "name = ^Office 4F", TEXTS),
    "a kind without quotes": ("[lock]", "kind = ^switchbot", TEXTS),
    "a UID without quotes": ("[[card]]", "uid = ^04:A1:B2:C3", TEXTS),
    "a UID of digits without quotes": ("[[card]]", "uid = ^0412345678", TEXTS),
    "a dotted UID without quotes": ("[[card]]", "uid = ^4.161.178.195", TEXTS),
    "a small dotted UID without quotes": ("[[card]]", "uid = ^1.35.71.7", TEXTS),
    "hours without quotes": ("[[schedule]]", "times = [^Mon-Fri 08:00-20:00]", TEXTS),
    "no closing quote": ("[door]", 'name = ^"Office', QUOTE),
    "an apostrophe and no closing quote": ("[door]", 'name = ^"Ken\u2019s', QUOTE),
    "no closing single quote": ("[door]", "name = ^'Office", QUOTE),
    "three quotes without an end": ("[door]", 'name = ""^"Office', QUOTE),
    "no opening quote": ("[door]", 'name = Office^"', QUOTE),
    "no closing bracket": ("[[schedule]]", 'times = ^["Mon 08:00-20:00"', BRACKET),
    "a time without seconds": ("[[card]]", "valid_until = 2026-12-01 ^18:00", "write a time of day with seconds: 18:00:00"),
    "no comma": ("[[schedule]]", 'times = ["Mon 08:00-20:00"^ "Tue 08:00-20:00"]', "a comma is missing"),
    "no equals": ("[door]", '^name "Office"', "= is missing after the key"),
    "a key alone": ("[door]", "^name", "= is missing after the key"),
    "a colon": ("[door]", 'name^: "Office"', "write = in place of :"),
    "no value": ("[door]", "name ^=", "the value after = is missing"),
    "nobody knows what": ("[door]", "name = ^?", TEXTS),
}  # fmt: skip


@pytest.mark.parametrize(("table", "typed", "cure"), SYNTAX.values(), ids=SYNTAX)
def test_invalid_toml_is_shown_with_a_caret_and_its_cure(table, typed, cure):
    lock = "" if table == "[lock]" else RELAY
    line = typed.replace("^", "")

    reported = problems(f"{lock}\n{table}\n{line}\n[log]\nkeep_days = 9\n")

    number = 5 if lock else 3
    column = len(doorpi.escaped(typed.partition("^")[0]))
    shown = f"    {doorpi.escaped(line)}\n    {' ' * column}^"
    assert f"line {number}: {cure}\n{shown}" in reported
    assert [each for each in reported if each.startswith("line ")] == [
        f"line {number}: {cure}\n{shown}"
    ]
    key = re.match(r"\w+", line)
    assert not key or f".{key[0]}: missing" not in "".join(reported)  # it is there


#: Lines that only Python's parser explains; ^ is where it stopped.
OTHERS = {
    "no digit before a point": ("[reader]", "poll_s = ^.5"),
    "quotes inside of quotes": ("[door]", 'name = "the "^big" door"'),
    "a semicolon at the end": ("[door]", 'name = "Office"^;'),
    "no opening bracket": ("[[schedule]]", 'times = "Mon 08:00-20:00"^]'),
}


@pytest.mark.parametrize(("table", "typed"), OTHERS.values(), ids=OTHERS)
def test_other_invalid_toml_is_shown_with_a_caret_and_pythons_words(table, typed):
    line = typed.replace("^", "")

    words, *shown = problems(f"{RELAY}{table}\n{line}\n")[0].split("\n")

    assert words.startswith("line 4: not valid TOML: ")
    assert shown == [f"    {line}", f"    {' ' * typed.index('^')}^"]


HEADERS = {
    "a bracket short": ("[[card]", LIST),
    "a bracket missing in front": ("[card]]", LIST),
    "no closing bracket": ("[door", ONCE),
    "no name": ("[", "write [NAME] once, with single brackets, alone on its line"),
}


@pytest.mark.parametrize(("header", "cure"), HEADERS.values(), ids=HEADERS)
def test_a_header_with_wrong_brackets_is_reported_and_its_table_is_judged(header, cure):
    cards = CARD.removeprefix("[[card]]\n") if "card" in header else ""

    reported = problems(f"{RELAY}{header}\n{cards}zzz = 1\n")

    where = 'card 1 ("Ken")' if cards else "door"
    judged = [f"{where}.zzz: unknown key"]
    judged = judged if header != "[" else []  # nobody knows whose key it is
    assert reported == [f"line 3: {cure}\n    {header}\n    ^", *judged]


def test_a_single_card_with_one_bracket_is_one_mistake():
    assert problems(CARD.replace("[[card]]", "[card]")) == [
        "card: expected [[card]], with two brackets"
    ]


@pytest.mark.parametrize("first", ["[card]", "[[card]]"])
def test_cards_with_one_bracket_are_one_mistake(first):
    keys = CARD.removeprefix("[[card]]\n")
    others = "".join(f"[card]\n{keys.replace('C3', n)}" for n in ("C4", "C5"))

    reported = problems(f"{RELAY}{first}\n{keys}{others}")

    line = 3 if first == "[card]" else 6
    assert reported == [f"line {line}: {LIST}\n    [card]\n    ^"]


TWICE = {
    "a reader alone beside several": (
        '[reader]\npoll_s = 0.2\n[[reader]]\nname = "exit"\n',
        "line 3: write [[reader]] for each reader, with two brackets, alone on its line\n    [reader]\n    ^",
    ),
    "a key": (
        '[door]\nname = "a"\n\nname = "b"\n',
        'line 6: name is set twice, first in line 4\n    name = "b"\n    ^',
    ),
    "a section": (
        '[door]\nname = "a"\n[log]\n[door]\non_tap = "unlock"\n',
        f"line 6: {ONCE}\n    [door]\n    ^",
    ),
    "a card without a header": (
        CARD + 'uid = "04:A1:B2:C4"\nholder = "Jo"\n',
        'line 6: uid is set twice, first in line 4 (each card begins with [[card]])\n    uid = "04:A1:B2:C4"\n    ^',
    ),
}


@pytest.mark.parametrize(("text", "problem"), TWICE.values(), ids=TWICE)
def test_duplicate_is_reported_once(text, problem):
    reported = problems(RELAY + text)

    assert [each for each in reported if each.startswith("line ")] == [problem]


TOO_MUCH = {
    "an endless number": f"[door]\npassback_s = {'9' * 5000}\n",
    "endless brackets": f"[door]\nname = {'[' * 5000}{']' * 5000}\n",
}


@pytest.mark.parametrize("text", TOO_MUCH.values(), ids=TOO_MUCH)
def test_limits_of_python_are_reported_with_the_line(text):
    (reported,) = problems(RELAY + text)

    assert reported.startswith(
        "line 4: a number is too long, or brackets nest too deeply"
    )


def test_two_statements_that_contradict_each_other_are_reported_with_the_line():
    (reported,) = problems(RELAY + "[log]\nkeep_days = 9\n[log.keep_days.x]\n")

    assert reported.startswith("not valid TOML: ")
    assert "line 5" in reported


def test_five_mistakes_of_five_kinds_are_reported_each_once():
    text = """
        [lock]
        kind = "relay"
        hold_s = 3,0
        [reader]
        poll_s = 99
        [[schedule]]
        name = “office”
        times = ["Mon 08:00-20:00",
            "Tue 08:00-20:00"
        [[card]]
        uid = "04:A1:B2:C3"
        holder = "Ken"
        enabled = no
        [[card]]
        uid = "04:A1:B2:C4"
        holder = "Jo"
        schedule = "office"
        hodler = "Jo"
    """

    assert [each.splitlines()[0] for each in problems(text)] == [
        "line 4: write a decimal point: 3.5",
        f"line 8: {QUOTES}",
        f"line 9: {BRACKET}",
        f"line 14: {BOOL}",
        f"reader.poll_s = 99: must be 0.01 to 2 {FLOAT_MEANT}",
        "card 2 (\"Jo\").hodler: unknown key; did you mean 'holder'?",
    ]


def only_settings(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda line: change(line) if "=" in line else line


#: Slips of the finger, each on every line of FULL on which it changes anything.
SLIPS: dict[str, Callable[[str], str]] = {
    "a colon": lambda line: line.replace(" =", ":", 1),
    "no equals": lambda line: line.replace(" =", "", 1),
    "no closing quote": lambda line: "".join(line.rsplit('"', 1)),
    "no opening quote": lambda line: line.replace('"', "", 1),
    "curly quotes": lambda line: re.sub('"(.*?)"', "\u201c\\1\u201d", line),
    "no quotes": lambda line: line.replace('"', ""),
    "True and False": lambda line: line.replace("= t", "= T").replace("= f", "= F"),
    "yes and no": lambda line: line.replace("= true", "= yes").replace("= false", "= no"),
    "a German day": lambda line: re.sub(r"(\d{4})-(\d\d)-(\d\d)\b", r"\3.\2.\1", line),
    "a decimal comma": lambda line: re.sub(r"= (\d+)(\.\d+)?$", r"= \1,5", line),
    "a closing bracket less": lambda line: "".join(line.rsplit("]", 1)),
    "an opening bracket less": only_settings(lambda line: line.replace("[", "", 1)),
    "one bracket for two": lambda line: re.sub(r"^\[\[(.*)\]\]$", r"[\1]", line),
    "two brackets for one": lambda line: re.sub(r"^(\[(?!reader)\w+\])$", r"[\1]", line),
    "a semicolon": only_settings("{};".format),
    "no value": only_settings(lambda line: line.split("=")[0] + "="),
    "twice": only_settings("{0}\n{0}".format),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_on_any_line_is_one_problem_in_that_line(slip):
    lines = FULL.split("\n")
    changed = [(at, slip(line)) for at, line in enumerate(lines) if slip(line) != line]
    assert changed

    for at, line in changed:
        found = outcome("\n".join([*lines[:at], line, *lines[at + 1 :]]))

        assert isinstance(found, ConfigError), line
        line_number = f"line {at + 1 + line.count(chr(10))}"
        table = line.strip("[]")  # with wrong brackets it may be valid TOML
        (reported,) = found.problems
        assert reported.split(":")[0] in (line_number, table), line


def test_the_caret_is_below_its_column_also_in_japanese():
    (wide,) = problems(f'{RELAY}[door]\nname = "門" x\n')

    assert wide.splitlines()[1:] == ['    name = "門" x', "    " + " " * 12 + "^"]


def test_a_file_without_a_lock_has_one_problem():
    with pytest.raises(ConfigError) as refused:
        parse_config("[door]\n")

    assert refused.value.problems == (
        "lock: missing (which lock, and how to reach it)",
    )


def test_all_problems_are_reported_at_once():
    text = f"""
        modbus = "red"
        [door]
        on_tab = "unlock"
        passback_s = -1
        [reader]
        device = "udp:127.0.0.1"
        [lock]
        kind = "sesame-mini"
        api_ky = "{KEY}"
        base_url = "http://h"
        [leds]
        red_gpio = true
        green_gpio = 22
        [signals]
        ready = "1x G"
        [log]
        keep_days = 0
        [[schedule]]
        name = "office"
        times = ["Mon", "Tue 08:00-20:00"]
        [[card]]
        uid = "04A1B2C3"
        [[card]]
        uid = "04:A1:B2:C3"
        holder = "Jo"
        schedule = "offise"
        valid_until = "2026-12-01"
    """

    assert problems(text) == [
        "modbus: unknown key",
        "door.on_tab: unknown key; did you mean 'on_tap'?",
        "door.passback_s = -1: must be 0 to 86400 (seconds before a card works again)",
        "lock.api_ky: unknown key; did you mean 'api_key'?",
        "leds.red_gpio = true: expected a whole number (BCM number of the red LED's pin)",
        "log.keep_days = 0: must be 1 to 36500 (days to keep events)",
        "signals.ready = '1x G': this signal must repeat (start with *) (ready for a card)",
        f"schedule 1 (\"office\").times 1 = 'Mon': {HOURS}",
        f"reader.device = 'udp:127.0.0.1': {NO_READER} {IS_PATH}",
        "card 1.holder: missing (who carries it)",
        f"card 2 (\"Jo\").valid_until = '2026-12-01': {LIMIT} (last day, such as 2027-03-31)",
        "card 2 (\"Jo\").schedule = 'offise': no [[schedule]] has this name; did you mean 'office'?",
        "card 2 (\"Jo\").uid = '04:A1:B2:C3': card 1 has it, too",
        "lock.device_id: missing; 'sesame-mini' needs it (the lock's id at its vendor)",
        "lock.base_url: http would send the key unencrypted; use https",
    ]


def test_the_third_card_of_one_uid_names_the_first_too():
    text = "".join(f'[[card]]\nuid = "04A1B2C3"\nholder = "{h}"\n' for h in "abc")

    assert problems(text) == [
        'card 2 ("b").uid = \'04:A1:B2:C3\': card 1 ("a") has it, too',
        'card 3 ("c").uid = \'04:A1:B2:C3\': card 1 ("a") has it, too',
    ]


def test_a_card_whose_schedule_is_broken_does_not_complain_of_it():
    text = f'{TIMES}["Monday"]\n{CARD}schedule = "office"\n'

    assert problems(text) == [f"{OFFICE}.times 1 = 'Monday': {HOURS}"]


# -- people with several cards

KENS = """
[[person]]
name = "Ken Sato"
cards = ["04:A1:B2:C3:D4:E5:80", "1.35.171.7", { uid = "04:A1:B2:C4" }]
schedule = "office"
valid_until = 2027-03-31
role = "master"
"""
KENS_UIDS = ("04A1B2C3D4E580", "0123AB07", "04A1B2C4")


def test_a_person_has_several_cards_with_the_same_limits():
    config = parse_config(LOCK + SCHEDULE + KENS + CARD.replace('"Ken"', '"Jo"'))

    ken = tuple(
        Credential(
            uid=Uid(uid), holder="Ken Sato", valid_until=date(2027, 3, 31),
            schedule="office", role=Role.MASTER,
        )
        for uid in KENS_UIDS
    )  # fmt: skip
    jo = Credential(uid=Uid("04A1B2C3"), holder="Jo")
    assert config.cards == {card.uid: card for card in (jo, *ken)}


def test_a_secure_card_has_its_proof_and_generation():
    """Of a person, or in a table of its own; beside one that only has a UID."""
    both = (
        'cards = ["04A1B2C3", { uid = "04A1B2C4", proof = "ntag424", generation = 2 }]'
    )
    person = f'[[person]]\nname = "Ken"\n{both}\n'
    card = '[[card]]\nuid = "04A1B2C5"\nholder = "Jo"\nproof = "desfire"\n'

    cards = parse_config(LOCK + person + card).cards.values()

    assert {
        each.uid: (each.proof, each.generation, each.enabled) for each in cards
    } == {
        "04A1B2C3": ("", 1, True),
        "04A1B2C4": ("ntag424", 2, True),
        "04A1B2C5": ("desfire", 1, True),
    }


def test_a_card_with_an_unknown_proof_is_listed_and_opens_nothing():
    """A copy of its number would, if the word was only left out."""
    both = 'cards = ["04A1B2C3", { uid = "04A1B2C4", proof = "of another time" }]'
    config = parse_config(f'{LOCK}[[person]]\nname = "Ken"\n{both}\n')

    plain, proven = config.cards.values()

    assert (plain.enabled, plain.refused) == (True, "")
    assert (proven.enabled, proven.proof) == (False, "of another time")
    assert proven.refused == (
        "it must prove itself ('of another time'), and this program cannot ask it to"
    )


def test_a_person_that_is_still_the_examples_opens_nothing():
    config = parse_config(
        LOCK + KENS.replace("04:A1:B2:C4", "replace-me").replace('"office"', '""')
    )

    assert [*config.cards] == [*KENS_UIDS[:2]]
    assert config.examples == ('person 1 ("Ken Sato"), cards 3',)


def test_entry_with_a_mistake_refuses_its_cards():
    text = LOCK + SCHEDULE + CARD + KENS.replace("04:A1:B2:C4", "08:01:02:03")

    with pytest.raises(ConfigError) as refused:
        parse_config(text)

    cards = refused.value.rest.cards
    assert {uid: card.enabled for uid, card in cards.items()} == {
        "04A1B2C3": True,
        KENS_UIDS[0]: False,
        KENS_UIDS[1]: False,
    }
    assert {card.refused for card in cards.values()} == {"", doorpi.FLAWED}


def test_entry_with_unknown_keys_refuses_its_card():
    """Left out, it would open by its number if the database had it as well."""
    newer = CARD + 'proof = "ntag424"\nescort = "Jo"\n'

    with pytest.raises(ConfigError) as refused:
        parse_config(LOCK + newer)

    (card,) = refused.value.rest.cards.values()
    assert card.enabled is False


# -- secrets stay secret

LEAKS = {
    "a misspelt key": f'[lock]\napi_ky = "{KEY}"',
    "a misspelt section": f'[lok]\napi_key = "{KEY}"',
    "no section at all": f'api_key = "{KEY}"',
    "in a list": f'[lock]\napi_key = ["{KEY}"]',
    "in the wrong table": f'[lock]\napi_key = {{ text = "{KEY}" }}',
    "with a file": f'[lock]\napi_key = {{ file = "f", text = "{KEY}" }}',
    "with an invisible mark": f'[lock]\napi_key = "{KEY}\\u200b"',
    "a level too deep": f'[lock.device_id]\napi_key = "{KEY}"',
    "another level": f'[[card]]\nholder = {{ api_key = "{KEY}" }}',
    "lists of lists": f'[door]\nname = [["{KEY}"]]',
    "as the secret": f'[lock]\nsecret_key = "{KEY}"',
    "in an address": f'[lock]\nbase_url = "https://u:{KEY}@h/"',
    "in a query": f'[lock]\nbase_url = "https://h/?token={KEY}"',
    "in a broken address": f'[lock]\nbase_url = "https://[{KEY}"',
    "without a closing quote": f'[lock]\napi_key = "{KEY}\n',
    "without quotes": f"[lock]\napi_key = {KEY}\n",
    "with a colon": f"[lock]\napi_key: {KEY}\n",
    "misspelt and without quotes": f"[lock]\napi_ky = {KEY}\n",
    "beside another key": f'[lock]\nkind = "relay" api_key = "{KEY}"\n',
    "beside its header": f'[lock] api_key = "{KEY}"\n',
    "alone on its line": f"[lock]\napi_key =\n{KEY}\n",
    "in curly quotes": f"[lock]\napi_key = “{KEY}”\n",
    "in a table without an end": f'[lock]\napi_key = {{ text = "{KEY}"\n',
    "in an address without quotes": f"[lock]\nbase_url = https://h/?token={KEY}\n",
    "in a comment": f"[door]\nname = Office # api_key {KEY}\n",
    "in a webhook without quotes": f"[[notify]]\nurl = hooks.example.org/{KEY}\n",
    "after a user": f'[[authority]]\nuser = "door:{KEY}"\n',
    "after a user without quotes": f"[[authority]]\nuser = door:{KEY}\n",
    "twice": f'[lock]\napi_key = "{KEY}"\napi_key = "{KEY}"\n',
}  # fmt: skip


@pytest.mark.parametrize("text", LEAKS.values(), ids=LEAKS)
def test_no_problem_shows_a_secret(text):
    with pytest.raises(ConfigError) as refused:
        parse_config(text)

    assert refused.value.problems
    assert KEY not in f"{refused.value!s}{refused.value!r}{refused.value.__cause__!r}"


def test_no_configuration_shows_a_secret():
    config = parse_config(LOCK)

    shown = f"{config} {config!r} {config.lock} {config.lock.api_key} {config.lock!r}"

    assert config.lock.api_key.text == KEY  # so it is there
    assert KEY not in shown
    assert SECRET not in shown


def test_a_secret_says_whether_it_is_there():
    assert (bool(Secret()), bool(Secret("k")), bool(Secret(file="f"))) == (
        False, True, True,
    )  # fmt: skip


def test_invisible_marks_around_pasted_text_are_removed():
    text = LOCK + CARD.replace('"Ken"', '"\ufeffKen\u00a0Sato\u200f "')

    assert [card.holder for card in parse_config(text).cards.values()] == ["Ken Sato"]


# -- settings that have no effect


def test_useful_settings_have_no_note():
    config = parse_config(f"{LOCK}relock_after_s = 30\n[log]\nkeep_days = 30\n")

    assert list(doubtful_settings(config)) == []


FOREVER = "door.on_tap = 'unlock' without relock_after_s: the door stays unlocked"
NO_KEY = "proof.door_key: missing, so no secure card opens the door"
LEAVES = "door.passback_s: with an 'out' and no 'in', it keeps out whoever has left"
READERS = """\
[[reader]]
name = "street"
device = "tty:S0:pn532"
{}[[reader]]
name = "garden"
device = "usb"
direction = "out"
"""
NOTED = {
    "open for ever": (LOCK + '[door]\non_tap = "unlock"\n', FOREVER),
    "a relay shuts by itself": ('[lock]\nkind = "relay"\n[door]\non_tap = "unlock"\n', None),
    "open, and locked again": (LOCK + 'relock_after_s = 60\n[door]\non_tap = "unlock"\n', None),
    "an exit alone, and passback": (LOCK + READERS.format("") + "[door]\npassback_s = 9\n", LEAVES),
    "both ways, and passback": (LOCK + READERS.format('direction = "in"\n') + "[door]\npassback_s = 9\n", None),
    "a secure card without a key": (LOCK + CARD + 'proof = "ntag424"\n', NO_KEY),
    "nothing but secure cards, without a key": (LOCK + '[proof]\nuid_only = "refuse"\n', NO_KEY),
    "a secure card and its key": (LOCK + CARD + 'proof = "ntag424"\n[proof]\ndoor_key = { file = "door.key" }\n', None),
    "a tap that locks after all": (LOCK + 'relock_after_s = 60\n[door]\non_tap = "unlock"\non_unknown = "lock"\n', "door.on_unknown = 'lock': a tap may lock, in spite of on_tap = 'unlock'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "note"), NOTED.values(), ids=NOTED)
def test_doubtful_settings_have_a_note(text, note):
    assert list(doubtful_settings(parse_config(text))) == ([note] if note else [])


def test_a_uid_of_digits_only_is_reported_unless_it_is_written_with_colons():
    """Many cards have a number printed on them; the UID is another."""
    uids = ("07730211", "07:73:02:12", "0773021A")
    written = "".join(CARD.replace("04:A1:B2:C3", uid) for uid in uids)

    assert list(doubtful_settings(parse_config(LOCK + written))) == [
        f'card 1 ("Ken").uid: {doorpi.NUMBER_WORDS}'
    ]


def test_defaults_have_no_note():
    assert list(doubtful_settings(parse_config(LOCK + CARD))) == []


# -- small readers

ADDRESSES = {
    "udp:127.0.0.1:54321": ("127.0.0.1", 54321),
    "udp:localhost:1": ("localhost", 1),
    "udp:host:65535": ("host", 65535),
    "udp:host:65536": None,
    "udp:host:0": None,
    "udp:host": None,
    "udp::54321": None,
    "udp:host:54321/x": None,
    "usb": None,
}


@pytest.mark.parametrize(("path", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_a_virtual_readers_address_is_read(path, address):
    assert udp_address(path) == address


@given(
    st.frozensets(st.sampled_from(doorpi.DAYS), min_size=1),
    st.integers(0, 1439),
    st.integers(0, 1440),
)
def test_every_span_is_read_as_written(days, start, end):
    text = f"{','.join(sorted(days))} {start // 60:02}:{start % 60:02}-{end // 60}:{end % 60:02}"
    if start == end:
        end = (end + 1) % 1440
        text = re.sub(r"\d+:\d+$", f"{end // 60:02}:{end % 60:02}", text)

    span = parse_span(text)

    assert {doorpi.DAYS[day] for day in span.days} == days
    assert (span.start_min, span.end_min) == (start, end)


# -- hostile input

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
scalars = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        ["", "usb", "udp:h:1", "sesame", "08010203", "04A1B2C3", "Mon 08:00-20:00",
         "office", "* G", "6x R.", "http://h", "https://[", "unlock", "master"]
    ),
    st.integers(),
    st.integers(10**300, 10**320),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(timezones=st.none() | ZONES),
    st.times(),
)  # fmt: skip
known_keys = sorted(
    {key for table in TABLES.values() for key in table}
    | {*TABLES, "file", "proof"}
    | {str(sign) for sign in Signal}
)  # fmt: skip
keys = st.sampled_from(known_keys) | st.text("abc_\u202e é", max_size=9)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=6,
)


def toml_of(value: object) -> str:
    """Any value in TOML: tables inline, so that it fits everywhere."""
    if isinstance(value, dict):
        pairs = (f"{toml_of(key)} = {toml_of(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON writes what is beyond 16 bits as a pair
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return repr(value)


ONCE_EACH = [name for name in TABLES if name not in (*doorpi.LISTS, "signals")]


def table_of(name: str) -> st.SearchStrategy:
    """Tables with anything under the known keys, and some unknown ones."""
    known = st.sampled_from([*TABLES[name]])
    return st.dictionaries(known | keys, values, max_size=4)


documents = st.one_of(
    st.dictionaries(keys, values, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={name: table_of(name) | values for name in ONCE_EACH}
        | {"signals": st.dictionaries(st.sampled_from(list(Signal)), values) | values}
        | {
            name: st.lists(table_of(name) | values, max_size=2) | values
            for name in doorpi.LISTS
        },
    ),
)


def outcome(text: str) -> Config | ConfigError:
    try:
        return parse_config(text)
    except ConfigError as error:
        return error


@given(documents)
def test_any_document_is_a_configuration_or_a_config_error(document):
    text = "\n".join(f"{toml_of(k)} = {toml_of(v)}" for k, v in document.items())

    found = outcome(text)

    if isinstance(found, ConfigError):
        assert found.problems
        assert all(map(doorpi.is_visible, str(found).split("\n")))
    else:
        assert all(map(doorpi.is_visible, doubtful_settings(found)))


KEYS = [(name, key) for name, table in TABLES.items() for key in table]


@pytest.mark.parametrize(("name", "key"), KEYS, ids=str)
def test_no_setting_takes_a_value_of_a_wrong_kind(name, key):
    """Each key meets each kind of value; only ConfigError comes of it."""
    header = f"[[{name}]]" if name in doorpi.LISTS else f"[{name}]"
    odd = ["nan", "inf", "-inf", "1e999", "0x" + "f" * 5000, "9" * 400, "-1", "[]", "[[]]",
           "[[[nan]]]", "{}", "{ file = 1 }", "07:32:00", "1979-05-27T07:32:00-07:00",
           "0001-01-01", "9999-12-31", '"\\u0000"', '"\\u202e"', "'''\n\n'''", "{ a.b.c = 1 }"]  # fmt: skip

    found = [outcome(f"{header}\n{key} = {value}\n") for value in odd]

    assert {type(each) for each in found} == {ConfigError}


@given(st.text(max_size=50))
def test_any_text_is_a_configuration_or_a_config_error(text):
    with pytest.raises(ConfigError):  # without a lock there is no configuration
        parse_config(text)


LINES = st.sampled_from(
    ["[lock]", "[[card]]", "[card]", "[a.b]", "[lock.api_key]", "[a", "a = 1", "b.c = 2",
     'uid = "1', "times = [", '"Mon",', "]", '"""', "uid = no", "= 1", "lock = 5", "card = {}",
     "a.b = {c = 1}", "[[lock]]", "[[a.b]]", "'x' = 1", "\u00a4 = 1", "[]", "{", "#", "\u2028"]
)  # fmt: skip


@given(st.lists(LINES | st.text("[]{}=\"'#,.a1 \\\r\t¤", max_size=9), max_size=9))
def test_any_lines_are_a_configuration_or_problems_that_can_be_seen(lines):
    found = outcome("\n".join(lines))

    assert isinstance(found, ConfigError)
    assert found.problems
    assert all(map(doorpi.is_visible, str(found).split("\n")))


# -- the file itself, and the files it names


def write(folder: Path, text: str, **files: str) -> Path:
    for name, content in files.items():
        (folder / name).write_text(content)
    path = folder / "doorpi.toml"
    path.write_text(text, encoding="utf-8")
    return path


BY_FILE = '[lock]\nkind = "sesame-mini"\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = { file = "key" }\n'


def test_a_secret_is_read_from_the_file_beside_the_configuration(tmp_path):
    config = read_config(write(tmp_path, BY_FILE, key=f"{KEY}\n"), {})

    assert config.lock.api_key == Secret(KEY, "key")
    assert KEY not in str(config)


def test_a_fallbacks_secret_is_read_from_its_file_as_well(tmp_path):
    text = LOCK + BY_FILE.replace("[lock]", "[fallback]")

    config = read_config(write(tmp_path, text, key=f"{KEY}\n"), {})

    assert config.fallback == LockAccess(
        kind="sesame-mini",
        device_id="11200000-0000-4000-8000-000000000000",
        api_key=Secret(KEY, "key"),
    )


@pytest.mark.parametrize("where", ["lock", "fallback"])
def test_missing_files_of_a_lock_are_reported(tmp_path, where):
    text = BY_FILE.replace("[lock]", f"[{where}]") + 'ca_file = "bridge.pem"\n'
    path = write(tmp_path, text if where == "lock" else LOCK + text)

    with pytest.raises(ConfigError) as refused:
        read_config(path, {})

    why = "cannot be read: no such file or directory"
    assert refused.value.problems == (
        f"{where}.api_key: {tmp_path}/key {why}",
        f"{where}.ca_file: {tmp_path}/bridge.pem {why}",
    )


def test_systemds_credentials_come_first(tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "key").write_text("from systemd")
    path = write(tmp_path, BY_FILE, key="from beside")

    config = read_config(path, {"CREDENTIALS_DIRECTORY": str(credentials)})

    assert config.lock.api_key.text == "from systemd"


STATE_DIRS = {
    "reported": (
        '[door]\nstate_dir = "/srv/d"\n',
        {"STATE_DIRECTORY": "/var/lib/d"},
        "/srv/d",
    ),
    "systemd's": ("", {"STATE_DIRECTORY": "/var/lib/d:/var/lib/e"}, "/var/lib/d"),
    "beside the file": ("", {}, "{here}/state"),
    "reported, beside the file": ('[door]\nstate_dir = "x"\n', {}, "{here}/x"),
}


@pytest.mark.parametrize(
    ("text", "environ", "found"), STATE_DIRS.values(), ids=STATE_DIRS
)
def test_state_dir_is_the_settings_or_systemds_or_beside_the_file(
    text, environ, found, tmp_path
):
    config = read_config(write(tmp_path, LOCK + text), environ)

    assert config.door.state_dir == found.format(here=tmp_path)


SESAME = '[lock]\ndevice_id = "11200000-0000-4000-8000-000000000000"\napi_key = "k"\nsecret_key = { file = "key" }\n'

FILES = {
    "no such secret": (BY_FILE, {}, "lock.api_key: {here}/key cannot be read: no such file or directory"),
    "an empty secret": (BY_FILE, {"key": "\n"}, "lock.api_key: {here}/key does not hold one line of plain text"),
    "two lines": (BY_FILE, {"key": f"{KEY}\n{KEY}\n"}, "lock.api_key: {here}/key does not hold one line of plain text"),
    "not plain text": (BY_FILE, {"key": "鍵"}, "lock.api_key: {here}/key does not hold one line of plain text"),
    "a short secret": (SESAME, {"key": "0011"}, "lock.secret_key = (not shown): expected 32 hex digits"),
    "no root in it": (f'{LOCK}ca_file = "lan.pem"', {"lan.pem": "html"}, "lock.ca_file: {here}/lan.pem holds no certificate in PEM"),
    "no such root": (f'{LOCK}ca_file = "lan.pem"', {}, "lock.ca_file: {here}/lan.pem cannot be read: no such file or directory"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "files", "problem"), FILES.values(), ids=FILES)
def test_a_file_that_the_configuration_names_must_be_good(
    text, files, problem, tmp_path
):
    with pytest.raises(ConfigError) as refused:
        read_config(write(tmp_path, text, **files), {})

    assert refused.value.problems == (problem.replace("{here}", str(tmp_path)),)


def test_missing_settings_are_reported(tmp_path):
    with pytest.raises(ConfigError) as refused:
        read_config(tmp_path / "doorpi.toml", {})

    assert refused.value.problems == (f"{tmp_path}/doorpi.toml: no such file",)


UNREADABLE = {
    "not UTF-8": (b'[door]\nname = "B\xfcro"\n', "not UTF-8 text, save it as UTF-8"),
    "UTF-16": ("[door]".encode("utf-16"), "not UTF-8 text, save it as UTF-8"),
    "UTF-16 without a mark": (
        "[door]".encode("utf-16-le"),
        "not UTF-8 text, save it as UTF-8",
    ),
}


@pytest.mark.parametrize(("raw", "why"), UNREADABLE.values(), ids=UNREADABLE)
def test_settings_that_are_not_utf_8_are_reported(raw, why, tmp_path):
    path = tmp_path / "doorpi.toml"
    path.write_bytes(raw)

    with pytest.raises(ConfigError) as refused:
        read_config(path, {})

    assert refused.value.problems == (f"{path}: cannot be read: {why}",)


def without_a_writer(path: Path) -> None:
    os.mkfifo(path)


def without_an_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def without_measure(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(doorpi.MOST_BYTES + 1)


ENDLESS = {
    without_a_writer: "not a plain file",
    without_an_end: "not a plain file",
    without_measure: "file too large",
}


@pytest.mark.parametrize(("make", "why"), ENDLESS.items())
def test_endless_files_are_refused(make, why, tmp_path):
    make(tmp_path / "doorpi.toml")
    make(tmp_path / "key")
    by_file = tmp_path / "good.toml"
    by_file.write_text(BY_FILE)

    said = [str(outcome_of(path)) for path in (tmp_path / "doorpi.toml", by_file)]

    assert [each.rpartition(": ")[2] for each in said] == [f"{why}", f"{why}"]


def outcome_of(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        read_config(path, {})
    return refused.value


# -- the example in the repository, held to the code

EXAMPLE = Path(doorpi.__file__).with_name("doorpi.toml").read_text(encoding="utf-8")
LINES = re.findall(r"^(?:\[+(\w+)\]+|(# )?(\w+) = (.*))$", EXAMPLE, re.MULTILINE)


def shown() -> list[tuple[str, str, bool, str]]:
    """Each setting of the example: section, key, commented out?, its TOML."""
    section, found = "", []
    for header, hash_, key, text in LINES:
        section = header or section
        if key:
            found.append((section, key, bool(hash_), text))
    return found


COMMENTED = {f"{s}.{key}": (s, key, text) for s, key, hashed, text in shown() if hashed}


def test_the_example_is_valid():
    config = parse_config(EXAMPLE)

    assert list(doubtful_settings(config)) == []


def test_no_card_of_the_example_opens_anything():
    """It is shown, and installed as it is: whoever reads it could carry its number."""
    config = parse_config(EXAMPLE)

    assert config.cards == {}
    assert config.examples == (
        'card 1 ("Ken Sato")',
        'card 2 ("Jo Guest")',
        'person 1 ("Mika Mori"), cards 1',
    )


def test_a_card_that_is_still_the_examples_is_judged_but_for_its_uid():
    with pytest.raises(ConfigError) as refused:
        parse_config(LOCK + '[[card]]\nuid = "replace-me"\nholder = "Ken"\nrole = "x"')

    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith('card 1 ("Ken").role')


@pytest.mark.parametrize(("section", "key", "text"), COMMENTED.values(), ids=COMMENTED)
def test_a_commented_line_of_the_example_shows_the_default(section, key, text):
    value = tomllib.loads(f"{key} = {text}")[key]
    drawn = section == "signals"

    default = PICTURES[key] if drawn else TABLES[section][key].default
    value = tuple(value) if isinstance(value, list) else value
    default = {**default} if isinstance(default, Mapping) else default

    assert value == default
    assert type(value) is type(default) or section == "signals"


def test_the_example_shows_every_setting_and_no_other():
    settings = {(name, key) for name, table in TABLES.items() for key in table}
    settings -= {
        ("person", key) for key in doorpi.ACCESS_KEYS
    }  # they are as in [[card]]
    settings -= {("signals", key) for key in TABLES["signals"]}  # any, or none
    settings -= {("fallback", key) for key in TABLES["fallback"]}  # as in [lock]
    commented = re.findall(r"^#(?:\[\[?([\w.]+)\]\]?|(\w+) = )", EXAMPLE, re.MULTILINE)
    table, seen = "", set()
    for header, key in commented:
        table = header or table
        seen.add((table, key))
    commented_out = {"authority", "scanner", "proof", "telegram.user", "open"}
    commented_out |= {*doorpi.ONLINE}
    optional = {pair for pair in settings if pair[0] in commented_out}
    assert optional <= seen
    settings -= optional

    assert {(s, key) for s, key, _, _ in shown() if s != "signals"} == settings


def test_the_example_is_valid_with_every_commented_line_put_to_use():
    lines = EXAMPLE.splitlines()
    in_use = [re.sub(r"^# (?=\w+ = )", "", line) for line in lines]

    config = parse_config("\n".join(in_use))

    assert in_use != lines
    assert config == parse_config(EXAMPLE)


def test_the_example_is_valid_with_its_fallback_put_to_use():
    config = parse_config(re.sub(r"^#(?=\S)", "", EXAMPLE, flags=re.MULTILINE))

    assert config.fallback == LockAccess(kind="relay", relay_gpio=17)
    assert [each.kind for each in config.authorities] == ["carontepass", "digital-id"]
    assert [each.authority for each in config.scanners] == ["care"]


def test_every_setting_is_explained():
    unexplained = [(name, key) for name, key in KEYS if not TABLES[name][key].meaning]

    assert unexplained == []


def test_every_default_is_itself_valid():
    """A default outside its own range would be reported as the owner's mistake."""
    wrong = [
        (name, key)
        for name, key in KEYS
        if (setting := TABLES[name][key]).kind in (str, bool, int, float)
        and setting.checked(setting.default) != setting.default
    ]

    assert wrong == []


def test_tables_with_equal_values_are_equal():
    lock = LockConfig(api_key=Secret("a"))

    assert lock == LockConfig(api_key=Secret("a"))
    for other in ({"kind": "relay"}, {"client_id": "a"}, {"trusted": "a certificate"}):
        assert lock != LockConfig(api_key=Secret("a"), **other)
    assert LockAccess() != LockConfig()
