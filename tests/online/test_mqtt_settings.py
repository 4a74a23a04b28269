"""[mqtt]: what is accepted, and what is reported."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

import doorpi
from doorpi import ConfigError, FileTrouble, NamedFiles, parse_config

KEY = base64.b64encode(bytes(32)).decode()
LOCAL = 'host = "127.0.0.1"\ndoor = "front"\n'


def table_of(text: str, name: str = "Door") -> doorpi.MqttConfig:
    door = f'[door]\nname = "{name}"\n[lock]\nkind = "relay"\n[mqtt]\n{text}'
    table = parse_config(door).online["mqtt"]
    assert isinstance(table, doorpi.MqttConfig)
    return table


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (LOCAL, {"port": 8883, "tls": True, "site": "main", "may": {}, "user": ""}),
        (f"{LOCAL}tls = false", {"tls": False}),
        ('host = "192.168.1.5"\ntls = false\npassword = "x"', {"door": "door"}),
        ('host = "fd00::5"\ntls = false\npassword = "x"', {}),
        ('host = "broker.lan"\ntls = false\npassword = "x"', {}),
        ('host = "broker.example.org"\npassword = "x"', {}),
        ('host = "b.example.org"\ncert_file = "a.crt"\nkey_file = "a.key"', {}),
        (f'{LOCAL}list_key = "{KEY}"', {"list_key": KEY}),
        (f'{LOCAL}list_key = "{KEY} {KEY}"', {}),
        (f'{LOCAL}[mqtt.may]\nha = ["unlock"]', {"may": {"ha": ("unlock",)}}),
    ],
)
def test_settings_that_are_right(text, values):
    table = table_of(text)

    assert {key: getattr(table, key) for key in values} == values


@pytest.mark.parametrize(
    ("name", "door"),
    [("Office 4F", "office-4f"), (" Front--Door! ", "front-door"), ("Café", "caf")],
)
def test_the_doors_name_in_topics_is_made_from_its_name(name, door):
    assert table_of('host = "localhost"', name).door == door


#: A part of the settings, and where the problem is.
PROBLEMS = {
    "no host": ("port = 1883", "mqtt.host"),
    "an address with a path": ('host = "mqtt://broker"', "mqtt.host"),
    "a port of the host": ('host = "localhost:1883"', "mqtt.host"),
    "in the open": ('host = "b.example.org"\ntls = false\npassword = "x"', "mqtt.tls"),
    "in the open, by address": (
        'host = "8.8.8.8"\ntls = false\npassword = "x"', "mqtt.tls",
    ),
    "no password": ('host = "192.168.1.5"', "mqtt.password"),
    "a certificate alone": (f'{LOCAL}cert_file = "a"', "mqtt.key_file"),
    "a key alone": (f'{LOCAL}key_file = "a"', "mqtt.cert_file"),
    "a site with a slash": (f'{LOCAL}site = "a/b"', "mqtt.site"),
    "a door in capitals": ('host = "localhost"\ndoor = "Front"', "mqtt.door"),
    "a door with a wildcard": ('host = "localhost"\ndoor = "+"', "mqtt.door"),
    "a short key": (f'{LOCAL}list_key = "{KEY[4:]}"', "mqtt.list_key"),
    "a sender with a slash": (f'{LOCAL}may = {{ "a/b" = ["lock"] }}', "mqtt.may"),
    "every sender": (f'{LOCAL}may = {{ "+" = ["lock"] }}', "mqtt.may"),
    "an unknown order": (f'{LOCAL}may = {{ ha = ["open"] }}', "mqtt.may"),
    "an order without brackets": (f'{LOCAL}may = {{ ha = "unlock" }}', "mqtt.may"),
    "no topics": (f"{LOCAL}topic = 1", "mqtt.topic"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place"), PROBLEMS.values(), ids=PROBLEMS)
def test_settings_that_are_wrong_are_reported_with_their_place(text, place):
    with pytest.raises(ConfigError) as caught:
        table_of(text)

    assert [each.partition(" ")[0].rstrip(":") for each in caught.value.problems] == [
        place
    ]


def test_a_door_whose_name_has_no_latin_letters_needs_one_for_its_topics():
    with pytest.raises(ConfigError, match=r"mqtt\.door"):
        table_of('host = "localhost"', "玄関")


def test_the_password_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        table_of(f'{LOCAL}password = " hush-hush"')

    assert "hush" not in str(caught.value)


def test_certificate_and_key_are_found_beside_the_settings(tmp_path: Path):
    for name, content in (("a.crt", "CERTIFICATE"), ("a.key", "PRIVATE KEY")):
        (tmp_path / name).write_text(f"-----BEGIN {content}-----\n")
    files = NamedFiles(tmp_path / "doorpi.toml", {}, doorpi.ONLINE)
    config = doorpi.Config(
        online={"mqtt": table_of(f'{LOCAL}cert_file = "a.crt"\nkey_file = "a.key"')}
    )

    (table,) = doorpi.online_tables(config, files).values()
    named = dict(doorpi.named_files(config, tmp_path / "x", {}, online=True))
    (tmp_path / "a.key").write_text("hush")
    (trouble,) = doorpi.online_tables(config, files).values()

    assert table.cert_file == str(tmp_path / "a.crt")
    assert named == {
        "mqtt.cert_file": tmp_path / "a.crt", "mqtt.key_file": tmp_path / "a.key",
    }  # fmt: skip
    assert isinstance(trouble, FileTrouble)
    assert "hush" not in str(trouble)
