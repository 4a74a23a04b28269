"""Telegram's Bot API over real sockets: long polls that really wait, one poll at a time,
a message a second to a chat, and faults by name.

As api.telegram.org answers; source: tdlib/telegram-bot-api 10.0, and the Bot FAQ.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.fakes.cloud import Reply
from tests.helpers.wire import RawServer, Wire

TOKEN = "123456789:AAfake-token-of-the-tests-000000000"
NAME = "office4f_bot"
TERMINATED = (
    "Conflict: terminated by other getUpdates request; make sure that only one bot"
    " instance is running"
)
WEBHOOK = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to"
    " delete the webhook first"
)


def no(status: int, words: str, **parameters: object) -> Reply:
    answer: dict[str, Any] = {"ok": False, "error_code": status, "description": words}
    if parameters:
        answer["parameters"] = parameters
    headers = tuple(f"Retry-After: {s}" for s in parameters.values())
    return Reply(status, json.dumps(answer).encode(), headers)


@dataclass(frozen=True)
class Fault:
    """``acts``: the call has its effect.  ``reply`` None is the right answer; ``how`` it
    comes: whole, cut (nothing, or half of it, and the end), hang or drip."""

    acts: bool = False
    reply: Reply | None = None
    how: str = "whole"


FAULTS: dict[str, Fault] = {
    "400": Fault(reply=no(400, "Bad Request: message text is empty")),
    "401": Fault(reply=no(401, "Unauthorized")),
    "403": Fault(reply=no(403, "Forbidden: bot was blocked by the user")),
    "404": Fault(reply=no(404, "Not Found")),
    "409": Fault(reply=no(409, TERMINATED)),
    "421": Fault(reply=no(421, "Misdirected Request")),
    "429": Fault(reply=no(429, "Too Many Requests: retry after 1", retry_after=1)),
    "429-long": Fault(
        reply=no(429, "Too Many Requests: retry after 40", retry_after=40)
    ),
    "500": Fault(reply=no(500, "Internal Server Error")),
    "500-after": Fault(acts=True, reply=no(500, "Internal Server Error")),
    "502": Fault(reply=Reply(502, b"<html><h1>502 Bad Gateway</h1></html>")),
    "cut-before": Fault(how="cut"),
    "cut-after": Fault(acts=True, how="cut"),
    "cut-inside": Fault(acts=True, how="half"),
    "hang-before": Fault(how="hang"),
    "hang-after": Fault(acts=True, how="hang"),
    "drip": Fault(acts=True, how="drip"),
    "endless": Fault(acts=True, reply=Reply(200, b"[" * 3_000_000)),
    "html": Fault(reply=Reply(200, b"<html>Sign in to the WiFi</html>")),
    "empty": Fault(reply=Reply(200)),
    "list": Fault(reply=Reply(200, b"[]")),
    "not-ok": Fault(reply=Reply(200, b'{"ok":"true","result":true}')),
    "wrong-types": Fault(reply=Reply(200, b'{"ok":true,"result":7,"parameters":[]}')),
    "twice": Fault(reply=Reply(200, b'{"ok":true,"ok":true,"result":[]}')),
    "redirect": Fault(reply=Reply(302, b"", ("Location: http://127.0.0.1:1/other",))),
}
#: After these a message has surely not been sent, and may be sent again.
UNSENT = ("401", "404", "421", "429")


@dataclass
class Call:
    method: str
    values: dict[str, Any]
    at: float = field(default_factory=time.monotonic)


class FakeTelegram:
    """``sent`` are the messages that users have got; ``faults`` happen to the next calls
    of a method, and ``standing`` ones to all of them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.sent: list[Call] = []
        self.faults: dict[str, list[str]] = {}
        self.standing: dict[str, str] = {}
        self.webhook = False
        self.longest_poll_s = 50.0
        self.too_fast = 0
        self.polls = 0  # begun
        self.delivered: dict[int, list[float]] = {}  # when, monotonic, by update
        self._updates: dict[int, dict[str, Any]] = {}  # not confirmed
        self._numbers, self._messages = count(700_000_001), count(1)
        self._changed = threading.Condition()
        self._served: set[str] = set()
        self._last: dict[int, float] = {}
        self.server = RawServer(self._serve)

    @property
    def url(self) -> str:
        return self.server.url

    def close(self) -> None:
        self.server.closing.set()
        with self._changed:
            self._changed.notify_all()
        self.server.close()

    # -- what users do

    def say(self, user: int, text: str, **changes: object) -> int:
        """Somebody writes to the bot; ``changes`` are those of the message."""
        message = {
            "message_id": next(self._messages),
            "from": person(user),
            "chat": {"id": user, "type": "private", "first_name": "Ken"},
            "date": int(time.time()),
            "text": text,
        }
        return self.put({"message": message | changes})

    def press(self, user: int, label: str, **changes: object) -> int:
        """Somebody presses a button of the last message that has it."""
        message, button = next(
            (call, button)
            for call in reversed(self.sent)
            if call.values["chat_id"] == user
            for row in call.values.get("reply_markup", {}).get("inline_keyboard", [])
            for button in row
            if button["text"] == label
        )
        query = {
            "id": f"press-{len(self.calls)}",
            "from": person(user),
            "message": {
                "message_id": message.values["message_id"],
                "chat": {"id": user, "type": "private"},
                "date": int(time.time()),
            },
            "data": button["callback_data"],
        }
        return self.put({"callback_query": query | changes})

    def put(self, update: dict[str, Any]) -> int:
        with self._changed:
            number = next(self._numbers)
            self._updates[number] = {"update_id": number, **update}
            self._changed.notify_all()
        return number

    def texts(self, user: int) -> list[str]:
        return [c.values["text"] for c in self.sent if c.values["chat_id"] == user]

    def made(self, method: str) -> list[dict[str, Any]]:
        return [call.values for call in self.calls if call.method == method]

    # -- the server

    def _serve(self, wire: Wire) -> None:
        request = wire.request()
        if not request:
            return
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        _, bot, method = [*path.split("/", 2), "", ""][:3]
        call = Call(method, json.loads(body or b"{}"))
        with self._changed:
            self.calls.append(call)
            names = self.faults.get(method) or []
            name = names.pop(0) if names else self.standing.get(method, "")
        fault = FAULTS[name] if name else Fault(acts=True)
        reply = fault.reply
        if bot != f"bot{TOKEN}":
            reply = no(401, "Unauthorized")
        elif fault.acts:
            answer = self._answer(wire, call)
            reply = reply or answer
        self._deliver(wire, fault.how, reply or Reply(200))

    def _deliver(self, wire: Wire, how: str, reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} X", *reply.headers, "Connection: keep-alive"]
        lines += [
            f"Content-Length: {len(reply.body)}",
            "Content-Type: application/json",
        ]
        whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body
        if how == "hang":
            wire.hang()
        elif how == "drip":
            wire.drip(whole[:-1], every_s=0.02)
        elif how != "cut":
            wire.send(whole if how == "whole" else whole[: -len(reply.body) // 2])

    def _answer(self, wire: Wire, call: Call) -> Reply:
        answer: Callable[[Wire, dict[str, Any]], object] | None
        answer = getattr(self, f"_do_{call.method}", None)
        if answer is None:
            return no(404, "Not Found")
        with self._changed:
            result = answer(wire, call.values)
        if isinstance(result, Reply):
            return result
        return Reply(200, json.dumps({"ok": True, "result": result}).encode())

    def _do_getMe(self, wire: Wire, values: dict[str, Any]) -> object:  # noqa: N802
        number = int(TOKEN.partition(":")[0])
        return {"id": number, "is_bot": True, "first_name": "Door", "username": NAME}

    def _do_setMyCommands(self, wire: Wire, values: dict[str, Any]) -> object:  # noqa: N802
        assert all(1 <= len(each["description"]) <= 256 for each in values["commands"])
        return True

    def _do_answerCallbackQuery(self, wire: Wire, values: dict[str, Any]) -> object:  # noqa: N802
        return True

    def _do_editMessageReplyMarkup(self, wire: Wire, values: dict[str, Any]) -> object:  # noqa: N802
        for call in self.sent:
            if call.values["message_id"] == values["message_id"]:
                call.values.pop("reply_markup", None)
        return {"message_id": values["message_id"]}

    def _do_sendMessage(self, wire: Wire, values: dict[str, Any]) -> object:  # noqa: N802
        assert 1 <= len(values["text"]) <= 4096
        assert "parse_mode" not in values
        chat, now = values["chat_id"], time.monotonic()
        if now - self._last.get(chat, -9.0) < 0.95:
            self.too_fast += 1
        self._last[chat] = now
        values["message_id"] = next(self._messages)
        self.sent.append(Call("sendMessage", values))
        return {"message_id": values["message_id"], "chat": {"id": chat}}

    def _do_getUpdates(self, wire: Wire, values: dict[str, Any]) -> object:  # noqa: N802
        if self.webhook:
            return no(409, WEBHOOK)
        self.polls += 1
        mine, offset = self.polls, values.get("offset", 0)
        self._changed.notify_all()  # the poll before this one ends
        ends_at = time.monotonic() + min(values.get("timeout", 0), self.longest_poll_s)
        for number in [n for n in self._updates if n < offset]:
            del self._updates[number]
        while not self._updates and time.monotonic() < ends_at:
            self._changed.wait(min(0.5, ends_at - time.monotonic()))
            if self.polls != mine:
                return no(409, TERMINATED)
            if self.server.closing.is_set() or has_gone(wire):
                return []
        given = [*self._updates.values()][: values.get("limit", 100)]
        for update in given:
            times = self.delivered.setdefault(update["update_id"], [])
            times.append(time.monotonic())
        return given


def has_gone(wire: Wire) -> bool:
    """Whether the caller has ended the connection: nobody gets the answer."""
    import select
    import socket

    readable, _, _ = select.select([wire.sock], [], [], 0)
    return bool(readable) and not wire.sock.recv(1, socket.MSG_PEEK)


def person(user: int, **changes: object) -> dict[str, Any]:
    return {"id": user, "is_bot": False, "first_name": "Ken"} | changes
