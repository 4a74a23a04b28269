"""What a webhook, ntfy and Telegram get over the wire, and what their answers lead to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from doorpi import (
    LOG_FIELDS,
    NOTICES,
    ONLINE,
    Config,
    ConfigError,
    Health,
    NamedFiles,
    Notices,
    NotifyConfig,
    Result,
    Secret,
    SystemClock,
    TelegramConfig,
    Unavailable,
    diagnose_online,
    diagnose_table,
    notify_service,
    online_tables,
    parse_config,
    read_config,
    telegram_services,
)
from tests.helpers.stores import INTENT
from tests.helpers.values import replace
from tests.helpers.wire import OK, RawServer, answers

TOKEN = "123456:the-token-of-the-bot"


@pytest.fixture
def server() -> Iterator[Callable[..., RawServer]]:
    with contextlib.ExitStack() as stack:

        def start(*parts: bytes) -> RawServer:
            made = RawServer(answers(*parts))
            stack.callback(made.close)
            return made

        yield start


def fails(context) -> None:
    """Somebody was not let in."""
    at = context.clock.now()
    event = replace(INTENT, at=at, result=Result.REFUSED, detail="jammed at 東")
    context.events.record(event)


def noticed(context, service, server) -> tuple[str, dict[str, str], bytes]:
    """The first line, the headers and the body of the one request that a fault makes."""
    with contextlib.closing(service):
        service.step()
        fails(context)
        context.clock.advance(1)
        service.step()
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def notify(server, **values: object) -> NotifyConfig:
    url = Secret(f"{server.url}/hook/secret-path?key=4711")
    given = {"url": url, "events": ("fault",), "token": Secret("tk_secret"), **values}
    return NotifyConfig(**given)


def test_webhook_gets_the_event_as_json(context, server):
    receiver = server()
    service = notify_service("notify 1", notify(receiver), context)

    first, headers, body = noticed(context, service, receiver)

    assert first == "POST /hook/secret-path?key=4711 HTTP/1.1"
    assert headers["Authorization"] == "Bearer tk_secret"
    assert headers["Content-Type"] == "application/json"
    message = json.loads(body)
    (notice,) = message.pop("notices")
    assert message == {"door": "Front", "more": 0}
    event = notice.pop("event")
    assert notice == {
        "notice": "fault",
        "at": event["at"],
        "words": "Door not opened: Ken Sato: refused (jammed at 東)",
    }
    assert tuple(event) == LOG_FIELDS
    assert (event["result"], event["detail"]) == ("refused", "jammed at 東")


@pytest.mark.parametrize(
    ("door", "title"), [("Front", "Front"), ("正面", "=?UTF-8?B?5q2j6Z2i?=")]
)
def test_ntfy_gets_words_and_headers(context, server, door, title):
    receiver = server()
    context.config = Config(door=replace_name(context.config.door, door))
    table = notify(receiver, kind="ntfy", token=Secret(), language="ja")
    service = notify_service("notify 1", table, context)

    first, headers, body = noticed(context, service, receiver)

    assert first.startswith("POST /hook/secret-path")
    assert headers["Title"] == title
    assert (headers["Priority"], headers["Tags"]) == ("4", "warning")
    assert "Authorization" not in headers
    assert body.decode().endswith(
        "開けられませんでした: Ken Sato: 錠が拒否しました (jammed at 東)"
    )


def replace_name(door, name):
    return door._replace(name=name)


RESULT = b'{"ok":true,"result":{"message_id":1}}'
SENT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(RESULT), RESULT)


def telegram(server, **notify: object) -> TelegramConfig:
    return TelegramConfig(token=Secret(TOKEN), base_url=server.url, notify=notify)


def notices_of(table: TelegramConfig, context) -> list[Notices]:
    made = telegram_services("telegram", table, context)
    return [service for service in made if isinstance(service, Notices)]


@pytest.mark.parametrize("chat", ["4711", "-1001234567890"])
def test_telegram_gets_a_message(context, server, chat):
    receiver = server(SENT)
    table = telegram(receiver, **{chat: ["fault"]})
    (service,) = notices_of(table, context)

    first, _, body = noticed(context, service, receiver)

    assert service.name == f"telegram {chat}"
    assert first == f"POST /bot{TOKEN}/sendMessage HTTP/1.1"
    message = json.loads(body)
    assert message["chat_id"] == int(chat)
    assert message["text"].startswith("Front\n")
    assert message["text"].endswith("Ken Sato: refused (jammed at 東)")
    assert message["protect_content"] is True
    assert "parse_mode" not in message


def test_each_chat_gets_what_it_asked_for(context, server):
    receiver = server(SENT)
    table = telegram(receiver, **{"1": ["changed"], "2": "fault", "3": ["fault"]})
    services = notices_of(table, context)
    for service in services:
        service.step()

    fails(context)
    for service in services:
        context.clock.advance(1)
        service.step()
    services[0].close()  # they share the bot

    asked = [json.loads(r.partition(b"\r\n\r\n")[2]) for r in receiver.requests]
    assert [message["chat_id"] for message in asked] == [2, 3]


def refusal(status: int, description: str = "", head: str = "") -> bytes:
    words = {"ok": False, "error_code": status, "description": description}
    body = json.dumps(words).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    return head.encode() + body


REFUSALS = {
    # name: (the answer, least and most seconds until the next try)
    "blocked": (refusal(403, description="Forbidden: bot was blocked"), 600, 600),
    "token-wrong": (refusal(401, description="Unauthorized"), 600, 600),
    "busy": (refusal(429, head="Retry-After: 35\r\n"), 35, 35),
    "broken": (refusal(502), 0, 0),
    "not-ok": (OK, 0, 0),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_telegram_that_refuses_is_left_alone(context, server, case):
    answer, least_s, most_s = REFUSALS[case]
    table = telegram(server(answer), **{"4711": ["fault"]})
    (service,) = notices_of(table, context)
    service.step()
    fails(context)

    with pytest.raises(Unavailable) as caught:
        service.step()
    service.close()

    assert least_s <= caught.value.after_s <= most_s
    assert TOKEN[:12] not in str(caught.value)


def test_address_and_token_are_never_shown(context, server):
    said = b'{"error":"no /hook/secret-path for tk_secret"}'
    receiver = server(b"HTTP/1.1 404 X\r\nContent-Length: 46\r\n\r\n" + said)
    service = notify_service("notify 1", notify(receiver), context)
    service.step()
    fails(context)

    with pytest.raises(Unavailable) as caught:
        service.step()
    service.close()

    assert "404" in str(caught.value)
    assert not {"secret"} & {*str(caught.value).replace("_", "-").split("-")}
    assert "secret" not in str(caught.value)


# -- what doctor says


@pytest.mark.parametrize(
    ("answer", "health", "words"),
    [
        (b'{"ok":true,"result":{"username":"front_bot"}}', Health.OK, "@front_bot"),
        (b'{"ok":true,"result":[]}', Health.FAIL, "without a result"),
        (None, Health.FAIL, "is telegram.token right?"),
    ],
    ids=["right", "odd", "wrong"],
)
def test_doctor_tries_the_token_and_sends_nobody_a_notice(
    server, tmp_path, answer, health, words
):
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer or b"")
    bot, hook = server(whole + answer if answer else refusal(401)), server()
    path = tmp_path / "doorpi.toml"
    chat = f'[telegram]\ntoken = "{TOKEN}"\nbase_url = "{bot.url}"\n'
    missing = '[[notify]]\nurl = { file = "none" }\nevents = ["fault"]\n'
    text = settings('["fault"]').replace("https://x.example", hook.url)
    path.write_text(f"{text}\n{missing}{chat}")
    config, files = read_config(path, {}, ()), NamedFiles(path, {}, ONLINE)

    about = {}
    for where, table in online_tables(config, files).items():
        *_, about[where] = diagnose_table(where, table, tmp_path, SystemClock())

    (found,) = diagnose_online(config, tmp_path)
    assert found.health is Health.FAIL
    assert "systemctl start doorpi-online" in found.do
    assert (about["telegram"].health, words in about["telegram"].words) == (
        health,
        True,
    )
    assert ("BotFather" in about["telegram"].do) is (answer is None)
    assert about["notify 1"].health is Health.OK
    assert "none cannot be read" in about["notify 2"].words
    assert [each.split()[1] for each in bot.requests] == [f"/bot{TOKEN}/getMe".encode()]
    assert hook.requests == []


# -- settings


def settings(events: str) -> str:
    table = f'[[notify]]\nurl = "https://x.example"\nevents = {events}'
    return f'[lock]\nkind = "relay"\n{table}'


def test_settings_give_each_receiver_a_name_of_its_own():
    """By which its bookmark is found again."""
    table = settings('["fault"]').replace("url", 'name = "ops"\nurl')

    with pytest.raises(ConfigError, match="has it, too"):
        parse_config(table + table[table.index("[[notify]]") :].join("\n\n"))


def test_settings_may_name_every_notice():
    assert parse_config(settings(str(list(NOTICES)))).online


@pytest.mark.parametrize(
    ("events", "words"),
    [('["fualt"]', "did you mean 'fault'"), ("[7]", "7: expected text")],
)
def test_settings_name_no_other_notice(events, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(settings(events))
