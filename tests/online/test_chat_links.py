"""`allow NAME --chat`: a link that puts whoever opens it first on the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import pytest

import doorpi
from doorpi import Origin, Uid, parse_limit
from tests.fakes.telegram import NAME
from tests.helpers.chat import KEN, STRANGER, ChatRoom, nothing_telling
from tests.helpers.office import Said, verbs_on

USER = Uid(f"telegram:{STRANGER}")


@pytest.fixture
def room(tmp_path, caplog) -> Iterator[ChatRoom]:
    room = ChatRoom(tmp_path)
    room.step()  # the bot's name is known
    with nothing_telling(caplog):
        yield room
        room.close()


@pytest.fixture
def verb(room, capsys, monkeypatch) -> Callable[..., Said]:
    monkeypatch.setenv("USER", "nobi")
    return verbs_on(room.folder / "doorpi.toml", capsys)


def code_in(said: Said) -> str:
    (link,) = said.out
    before, _, code = link.partition("?start=")
    assert before == f"https://t.me/{NAME}"
    return code


def test_a_link_that_nobody_would_hear_about_says_so(room, verb):
    assert "doorpi-online" in verb("allow", "Jo Guest", "--chat").err[-1]

    with doorpi.only_door(room.folder / "online"):
        assert "doorpi-online" not in verb("allow", "Jo Guest", "--chat").err[-1]


def test_whoever_opens_the_link_is_on_the_list_and_enters(room, verb):
    said = verb("allow", "Jo Guest", "--chat")

    welcome = room.hear(STRANGER, f"/start {code_in(said)}")

    assert "within" in said.err[0] or "minutes" in said.err[0]
    assert welcome[0].startswith("Office 4F: welcome, Jo Guest\n")
    assert room.stores.people.find(USER).holder == "Jo Guest"
    assert room.hear(STRANGER, "/open") == ["Office 4F: unlocked"]
    assert [request.identifier for request in room.asked] == [USER]


def test_the_link_gives_its_limits(room, verb):
    said = verb(
        "allow", "Jo Guest", "--chat", "--schedule", "never",
        "--from", "2026-01-01", "--until", "2199-12-31 18:00",
    )  # fmt: skip

    room.hear(STRANGER, f"/start {code_in(said)}")

    card = room.stores.people.find(USER)
    assert (card.valid_until, card.schedule) == (
        parse_limit("2199-12-31 18:00"),
        "never",
    )
    assert card.valid_from == date(2026, 1, 1)
    assert card.source is Origin.DB


def test_the_log_says_who_was_put_on_the_list_and_by_whom(room, verb):
    room.hear(STRANGER, f"/start {code_in(verb('allow', 'Jo Guest', '--chat'))}")

    (event,) = room.stores.events.latest(1)
    assert (event.reason, event.source, event.holder, event.uid) == (
        "allow", "command", "Jo Guest", USER
    )  # fmt: skip
    assert event.detail.startswith("by nobi")


def test_a_link_works_once(room, verb):
    code = code_in(verb("allow", "Jo Guest", "--chat"))
    room.hear(STRANGER, f"/start {code}")

    (second,) = room.hear(98, f"/start {code}")
    (known,) = room.hear(KEN, f"/start {code}")

    assert "not on the list" in second
    assert "link has expired" in known
    assert room.stores.people.find(Uid("telegram:98")) is None


@pytest.mark.parametrize(("after_s", "works"), [(590, True), (601, False)])
def test_a_link_works_for_ten_minutes(room, verb, after_s, works):
    code = code_in(verb("allow", "Jo Guest", "--chat"))
    room.clock.ahead_s = after_s
    date = int(room.clock.now().timestamp())

    room.hear(STRANGER, f"/start {code}", date=date)

    assert (room.stores.people.find(USER) is not None) is works


@pytest.mark.parametrize("code", ["x", "0" * 22, "A" * 64, "'; --"])
def test_a_guessed_code_is_a_strangers(room, verb, code):
    verb("allow", "Jo Guest", "--chat")

    (answer,) = room.hear(STRANGER, f"/start {code}")

    assert "not on the list" in answer
    assert room.stores.people.find(USER) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"forward_origin": {"type": "user"}},
        {"chat": {"id": -5, "type": "group"}},
        {"date": 1_700_000_000},
    ],
    ids=repr,
)
def test_a_code_that_was_not_just_written_is_not_taken_and_still_works(
    room, verb, changes
):
    code = code_in(verb("allow", "Jo Guest", "--chat"))

    room.hear(STRANGER, f"/start {code}", **changes)
    assert room.stores.people.find(USER) is None

    room.hear(STRANGER, f"/start {code}")
    assert room.stores.people.find(USER).holder == "Jo Guest"


def test_the_code_is_nowhere_on_disk(room, verb):
    code = code_in(verb("allow", "Jo Guest", "--chat"))

    files = [file for file in room.folder.rglob("*") if file.is_file()]

    assert len(code) == 22
    assert not any(code.encode() in file.read_bytes() for file in files)


def test_whoever_is_revoked_after_the_link_was_made_does_not_come_back_by_it(
    room, verb
):
    verb("allow", "Jo Guest", "--uid", "D3C2B1A0")
    code = code_in(verb("allow", "Jo Guest", "--chat"))
    verb("revoke", "Jo Guest")

    (answer,) = room.hear(STRANGER, f"/start {code}")

    assert "link has expired" in answer
    assert room.stores.people.find(USER) is None
    assert room.stores.people.block_on(USER, "Jo Guest")


def test_revoke_ends_what_a_link_gave(room, verb):
    room.hear(STRANGER, f"/start {code_in(verb('allow', 'Jo Guest', '--chat'))}")

    verb("revoke", "Jo Guest")

    assert "not-enabled" in room.hear(STRANGER, "/status")[0]


def test_somebody_of_the_settings_file_stays_who_they_are_there(room, verb):
    (answer,) = room.hear(KEN, f"/start {code_in(verb('allow', 'Other', '--chat'))}")

    assert "link has expired" in answer
    assert room.stores.people.find(doorpi.chat_user(KEN)) is None


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--schedule", "nver"), "did you mean 'never'"),
        (("--until", "2020-01-01"), "has passed"),
        (("--uid", "D3C2B1A0"), "--uid"),
    ],
)
def test_a_link_that_would_never_work_is_not_made(room, verb, args, word):
    said = verb("allow", "Jo Guest", "--chat", *args)

    assert said.code in (1, 2)
    assert word in "\n".join(said.err)
    assert said.out == []


def test_a_link_needs_a_chat_whose_bot_is_known(room, verb):
    room.store.change({doorpi.BOT_NAME: None})
    assert "doorpi-online" in verb("allow", "Jo Guest", "--chat").err[0]

    settings = (room.folder / "doorpi.toml").read_text().partition("[telegram]")[0]
    (room.folder / "doorpi.toml").write_text(settings)
    assert "[telegram]" in verb("allow", "Jo Guest", "--chat").err[0]


def test_on_a_terminal_the_link_is_drawn_as_well(room, verb, monkeypatch):
    plain = verb("allow", "Jo Guest", "--chat").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    link, *picture = verb("allow", "Jo Guest", "--chat").out

    assert len(plain) == 1
    assert "\n".join(picture).strip() == doorpi.drawn(link).strip()
