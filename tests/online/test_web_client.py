"""WebClient, which is WebApi with a connection for each call, against servers that
really misbehave: every call ends by its deadline, with the right exception."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import trustme

from doorpi import CallRate, Reply, SystemClock, Unavailable, WebClient
from tests.helpers.processes import open_files, wait_for
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.wire import RawServer, Wire, answers, served_by, swallowing_address
from tests.helpers.world import FakeClock
from tests.locks.test_http import BROKEN, NEVER_DONE, after_request

TOKEN = "123:token-of-the-bot"
PATH = f"/bot{TOKEN}/getMe"


@pytest.fixture
def raw() -> Iterator[Callable[..., RawServer]]:
    """Starts raw servers: ``raw(serve, tls=None)``."""
    with contextlib.ExitStack() as stack:

        def start(serve=None, tls=None):
            server = RawServer(serve or answers(), tls)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def client() -> Iterator[Callable[..., WebClient]]:
    """Makes clients: ``client(server or url, rate=None)``."""
    with contextlib.ExitStack() as stack:

        def make(server, rate=None):
            url = server if isinstance(server, str) else server.url
            made = WebClient(
                url, SystemClock(), {"X-Own": "1"}, secrets=[TOKEN], rate=rate
            )
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(ca):
    return served_by(ca.issue_cert("127.0.0.1"))


def trusting(client: WebClient, ca: trustme.CA) -> WebClient:
    client.dialer.trusted = ca.cert_pem.bytes().decode()
    return client


def failure(client: WebClient, method="POST", within_s=2.0, **options) -> Unavailable:
    """What a call raises, in time, with neither its path nor a secret in the text."""
    watch = Stopwatch()
    with pytest.raises(Unavailable) as caught:
        client.call(method, PATH, within_s=within_s, **options)
    assert watch.own_s < within_s + 0.3
    assert not {"bot123", TOKEN[:10], "getMe"} & set(str(caught.value).split("/"))
    assert TOKEN not in repr(caught.value)
    return caught.value


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("content", [{"a": "é"}, b"words", None], ids=type)
def test_call_sends_the_expected_request(raw, client, ca, tls, secure, content):
    server = raw(tls=tls if secure else None)

    caller = trusting(client(f"{server.url}/base/"), ca)
    reply = caller.call("POST", PATH, content, headers={"Title": "Door"})

    assert reply == Reply(200, b"{}")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert first == f"POST /base{PATH} HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["x-own"] == "1"
    assert headers["title"] == "door"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("doorpi/")
    if isinstance(content, dict):
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == content
    else:
        assert body == (content or b"")


def test_call_ignores_the_environment(raw, client, monkeypatch, tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    for name, value in {
        "HOME": str(tmp_path),
        "NETRC": str(netrc),
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "socks5://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": str(tmp_path / "none.pem"),
    }.items():
        monkeypatch.setenv(name, value)
    server = raw()

    client(server).call("GET", "/x")

    assert b"uthorization" not in server.requests[0]


def test_call_keeps_no_cookie_and_no_connection(raw, client):
    server = raw(answers(answer("200 OK", b"{}", "Set-Cookie: a=b; Path=/")))
    caller = client(server)

    for _ in range(2):
        caller.call("GET", "/x")

    assert b"ookie" not in server.requests[1]
    wait_for(lambda: server.closed == server.connections == 2)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_call_follows_no_redirect(raw, client, status):
    elsewhere = raw()
    moved = answer(f"{status} X", b"", f"Location: {elsewhere.url}/")

    error = failure(client(raw(answers(moved))))

    assert error.reply.status == status
    assert elsewhere.connections == 0


ERRORS = {
    # name: the answer, its status, how long to wait, words of the error
    "said": (
        "401 X",
        b'{"ok":false,"description":"Unauthorized"}',
        401,
        600,
        "HTTP 401",
    ),
    "token": ("400 X", b'{"error":"no %s"}' % TOKEN.encode(), 400, 600, r"\*\*\*"),
    "later": ("429 X", b"{}", 429, 7, "HTTP 429"),
    "much-later": ("503 X", b"{}", 503, 3600, "HTTP 503"),
    "date": ("503 X", b"{}", 503, 0, "HTTP 503"),
    "not-json": ("500 X", b"<html>", 500, 0, "HTTP 500"),
}
RETRY_AFTER = {
    "later": "7",
    "much-later": "99999999",
    "date": "Wed, 21 Oct 2026 07:28:00 GMT",
}


@pytest.mark.parametrize("case", ERRORS)
def test_call_raises_for_an_error(raw, client, case):
    line, body, status, after_s, words = ERRORS[case]
    later = [f"Retry-After: {RETRY_AFTER[case]}"] if case in RETRY_AFTER else []

    error = failure(client(raw(answers(answer(line, body, *later)))))

    assert error.reply.status == status
    assert error.reply.body == body
    assert error.after_s == after_s
    assert not error.is_unsent
    with pytest.raises(Unavailable, match=words):
        raise error


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("case", NEVER_DONE)
def test_call_ends_in_time_when_the_answer_never_ends(
    raw, client, ca, tls, case, secure
):
    server = raw(after_request(NEVER_DONE[case]), tls if secure else None)

    error = failure(trusting(client(server), ca), within_s=0.25)

    assert (str(error), error.is_unsent) == ("127.0.0.1 did not answer in time", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize("case", BROKEN)
def test_call_fails_at_once_on_a_broken_answer(raw, client, case):
    misbehave, expected = BROKEN[case]
    server = raw(after_request(misbehave))
    watch = Stopwatch()

    error = failure(client(server))

    assert watch.own_s < 1.0
    assert not error.is_unsent
    assert expected.endswith(str(error))
    assert len(server.requests) == 1


def test_call_reads_as_much_as_is_allowed(raw, client):
    server = raw(answers(answer("200 OK", b"[" * 200_000)))

    assert len(client(server).call("GET", "/x", max_body=200_000).body) == 200_000
    assert "more than" in str(failure(client(server), max_body=199_999))


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":2}', b'{"a":NaN}', b"[]", b"", b"<html>", b"[" * 9999]
)
def test_json_takes_only_an_exact_object(raw, client, body):
    server = raw(answers(answer("200 OK", body)))

    with pytest.raises(Unavailable) as caught:
        client(server).json(dict, "GET", "/x")

    assert caught.value.reply.body == body


def test_call_that_cannot_connect_is_unsent(raw, client, caplog):
    with swallowing_address() as (host, port):
        assert failure(client(f"http://{host}:{port}"), within_s=0.3).is_unsent
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(client(f"http://127.0.0.1:{port}")).is_unsent
    assert caplog.messages == []  # the caller reports it


def test_call_trusts_no_certificate_of_a_stranger(raw, client, tls):
    server = raw(tls=tls)

    assert "TLS" in str(failure(client(server)))
    assert server.requests == []


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_close_ends_a_call_under_way_and_later_ones(raw, client, ca, tls, secure):
    server = raw(after_request(Wire.hang), tls if secure else None)
    caller, outcome = trusting(client(server), ca), []

    def call() -> None:
        outcome.append(failure(caller, within_s=20.0))

    thread = threading.Thread(target=call)
    thread.start()
    wait_for(lambda: server.requests)
    watch = Stopwatch()

    caller.close()
    thread.join(5)

    assert watch.own_s < 1.0
    assert len(outcome) == 1
    assert failure(caller).is_unsent
    assert server.connections == 1


def test_calls_leave_nothing_behind(raw, client):
    server = raw()
    good, bad = client(server), client("http://127.0.0.1:1")
    good.call("GET", "/x")
    failure(bad)
    gc.collect()
    files = open_files()

    for _ in range(50):
        good.call("GET", "/x")
        failure(bad)

    wait_for(lambda: server.open == 0)
    wait_for(lambda: open_files() <= files)


def test_calls_keep_to_their_rate(raw):
    clock, server = FakeClock(), raw()
    client = WebClient(server.url, clock, rate=CallRate(20))
    called_at = []

    for _ in range(70):
        client.call("GET", "/x")
        called_at.append(clock.t)

    assert all(b - a >= 60.0 for a, b in zip(called_at, called_at[20:], strict=False))
    assert called_at[-1] - called_at[0] <= 183
    client.close()
    with pytest.raises(Unavailable):  # at once
        client.call("GET", "/x")
