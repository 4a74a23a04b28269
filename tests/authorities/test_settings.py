"""[[authority]] and [[scanner]]: what is refused, and in which words."""

from __future__ import annotations

import pytest

from doorpi import ConfigError, parse_config, setting_changes

LOCK = '[lock]\nkind = "relay"\n'
SPACE = {
    "name": '"space"',
    "kind": '"carontepass"',
    "base_url": '"https://members.example.org"',
    "user": '"door"',
    "password": '"secret-0001"',
}
CARE = {
    "name": '"care"',
    "kind": '"digital-id"',
    "base_url": '"https://id.example.org"',
    "organisations": "[1, 5]",
}
LOBBY = {"name": '"lobby"', "device": '"/dev/scanner"', "authority": '"care"'}


def text_of(name: str, values: dict[str, str]) -> str:
    return f"[[{name}]]\n" + "".join(f"{k} = {v}\n" for k, v in values.items() if v)


def problems_of(*tables: tuple[str, dict[str, str]]) -> list[str]:
    text = LOCK + "".join(text_of(name, values) for name, values in tables)
    try:
        parse_config(text)
    except ConfigError as error:
        return list(error.problems)
    return []


def test_authorities_and_scanners_are_read():
    text = LOCK + text_of("authority", SPACE) + text_of("authority", CARE)
    config = parse_config(text + text_of("scanner", LOBBY))

    space, care = config.authorities
    assert (space.user, space.uid_format, space.trust_for_s) == (
        "door",
        "dotted",
        86400,
    )
    assert (list(care.organisations), care.answer_s) == ([1, 5], 4.0)
    assert config.scanners[0].authority == "care"


def spoilt(key: str, value: str) -> list[str]:
    return problems_of(("authority", {**SPACE, key: value}))


WRONG_SPACE = {
    "http": ("base_url", '"http://10.0.0.5"', "http would send the key unencrypted"),
    "no user": ("user", "", "user: missing"),
    "a colon in the user": ("user", '"a:b"', "has a colon"),
    "no password": ("password", "", "password: missing"),
    "another kind": ("kind", '"caronte"', "must be one of carontepass, digital-id"),
    "another format": ("uid_format", '"dots"', "must be one of dotted"),
    "no schedule of that name": (
        "schedule",
        '"nights"',
        "no [[schedule]] has this name",
    ),
    "no name": ("name", '""', "name: empty"),
    "a path as its name": ("name", '"../x"', "letters, digits, spaces"),
    "too little time": ("answer_s", "0", "must be 0.5 to 30"),
    "a query in the address": ("base_url", '"https://a.example?x=1"', "nothing more"),
    "a user in the address": ("base_url", '"https://u@a.example"', "nothing more"),
    "a key of nobody": ("token", '"x"', "unknown key"),
}


@pytest.mark.parametrize(
    ("key", "value", "words"), WRONG_SPACE.values(), ids=WRONG_SPACE
)
def test_carontepass_is_refused_with(key, value, words):
    found = spoilt(key, value)

    assert len(found) == 1
    assert words in found[0]
    assert "secret-0001" not in found[0]


@pytest.mark.parametrize(
    ("host", "is_good"),
    [
        ("10.0.0.5:8000", True),
        ("192.168.1.2", True),
        ("[fd00::1]", True),
        ("caronte", True),
        ("caronte.local", True),
        ("caronte.lan:8000", True),
        ("members.example.org", False),
        ("8.8.8.8", False),
        ("[2606:4700::1111]", False),
        ("local.example.org", False),
    ],
)
def test_plain_http_is_only_for_the_own_network(host, is_good):
    values = {**SPACE, "base_url": f'"http://{host}"', "plain_http": "true"}

    found = problems_of(("authority", values))

    assert bool(found) is not is_good
    assert all("http is only for your own network" in problem for problem in found)


WRONG_CARE = {
    "no organisations": ({"organisations": ""}, {}, "organisations: missing"),
    "no list": ({"organisations": "1"}, {}, "put it in brackets"),
    "a name of one": ({"organisations": '["us"]'}, {}, "expected a whole number"),
    "0": ({"organisations": "[0]"}, {}, "must be 1 to"),
    "a long location": ({"location": f'"{101 * "x"}"'}, {}, "must be 0 to 100"),
    "not ASCII": ({"location": '"Empfangsräume"'}, {}, "(ASCII)"),
    "no scanner": ({}, {"authority": '""'}, "no [[scanner]] names it"),
    "a scanner of nobody": ({}, {"authority": '"car"'}, "did you mean 'care'?"),
    "a scanner without device": ({}, {"device": ""}, "device: missing"),
    "another kind of scanner": (
        {},
        {"kind": '"usb"'},
        "must be one of serial, keyboard",
    ),
}


@pytest.mark.parametrize(
    ("care", "lobby", "words"), WRONG_CARE.values(), ids=WRONG_CARE
)
def test_digital_id_and_its_scanner_are_refused_with(care, lobby, words):
    found = problems_of(
        ("authority", {**CARE, **care}), ("scanner", {**LOBBY, **lobby})
    )

    assert any(words in problem for problem in found), found


def test_two_of_one_name_are_refused():
    found = problems_of(("authority", SPACE), ("authority", SPACE))

    assert found == [
        'authority 2 ("space").name = \'space\': authority 1 ("space") has it, too'
    ]


def test_an_edit_is_described_without_secrets():
    before = parse_config(LOCK + text_of("authority", SPACE))
    other = {**SPACE, "password": '"secret-0002"', "answer_s": "2.0"}
    after = parse_config(
        LOCK
        + text_of("authority", other)
        + text_of("scanner", {**LOBBY, "authority": ""})
    )

    lines = list(setting_changes(before, after))

    assert "scanner lobby: added (serial)" in lines
    assert "authority space.answer_s: 4.0 -> 2.0" in lines
    assert "authority space.password: changed" in lines
    assert "secret" not in "".join(lines)
