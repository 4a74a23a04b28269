"""WebApi and Dialer against servers that really misbehave, over real sockets.

Every call ends by its deadline, with the class that says whether the request may have
had its effect, and leaves no thread and no file behind.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import math
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

import doorpi
from doorpi import (
    HttpError,
    HttpMaybeSent,
    HttpNotSent,
    HttpUnreadable,
    Reply,
    SystemClock,
    WebApi,
)
from tests.fakes.cloud import ends_with_reset
from tests.fakes.locks import Words
from tests.helpers.processes import environment, open_files, wait_for
from tests.helpers.stopwatch import Stopwatch
from tests.helpers.wire import (
    OK,
    HomeMade,
    RawServer,
    Wire,
    answers,
    served_by,
    swallowing_address,
)
from tests.helpers.world import FakeClock, FakeLock, control_of

SLACK_S = 0.3
KEY = "s3cret-key"


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
def api() -> Iterator[Callable[..., WebApi]]:
    """Makes APIs: ``api(server or url, clock=..., trusted=...)``."""
    with contextlib.ExitStack() as stack:

        def make(server, clock=None, trusted=""):
            made = WebApi(
                server if isinstance(server, str) else server.url,
                headers={"Authorization": KEY},
                secrets=[KEY, ""],
                trusted=trusted,
                clock=clock or SystemClock(),
            )
            stack.callback(made.dialer.close)
            return made

        yield make


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(ca) -> str:
    return ca.cert_pem.bytes().decode()


@pytest.fixture(scope="module")
def tls(ca) -> ssl.SSLContext:
    return served_by(ca.issue_cert("127.0.0.1", "lock.example"))


def ask(api: WebApi, method="GET", within_s=2.0, send_within_s=60.0) -> Reply:
    now = SystemClock().monotonic()
    is_command = method == "POST" or send_within_s < within_s
    return api.call(
        method,
        "/x",
        by=now + within_s,
        send_by=now + send_within_s if is_command else math.inf,
        body={"command": "unlock"} if method == "POST" else None,
    )


def failure(api: WebApi, method="GET", within_s=2.0, send_within_s=60.0) -> str:
    """The class and words of the HttpError, in time: by ``within_s`` and no later."""
    watch = Stopwatch()
    with pytest.raises(HttpError) as caught:
        ask(api, method, within_s, send_within_s)
    assert watch.own_s < min(within_s, send_within_s) + SLACK_S
    return f"{type(caught.value).__name__.removeprefix('Http')}: {caught.value}"


def dialling() -> int:
    """How many threads open connections just now."""
    return sum(thread.name == "dial" for thread in threading.enumerate())


def ready(api: WebApi, server: RawServer, connections: int = 1) -> None:
    """Open a connection ahead and wait for it."""
    api.dialer.keep_ready()
    wait_for(lambda: server.connections == connections and not dialling())
    api.dialer.keep_ready()


# -- the wire of a plain call


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_call_sends_the_expected_request(raw, api, tls, trusted, secure):
    server = raw(tls=tls if secure else None)

    reply = ask(api(server, trusted=trusted), "POST")

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    request, *headers = head.decode().split("\r\n")
    assert reply == Reply(200, b"{}")
    assert request == "POST /x HTTP/1.1"
    assert body == b'{"command": "unlock"}'
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Authorization: s3cret-key",
        "Content-Length: 21",
        "Content-Type: application/json",
        f"Host: 127.0.0.1:{server.port}",
        f"User-Agent: DoorPi/{doorpi.__version__}",
    ]


@pytest.mark.parametrize(
    ("base_url", "secure", "port", "host"),
    [
        ("http://lock.example", False, 80, "lock.example"),
        ("http://lock.example:80", False, 80, "lock.example"),
        ("http://lock.example:443", False, 443, "lock.example:443"),
        ("https://lock.example", True, 443, "lock.example"),
        ("https://lock.example:443", True, 443, "lock.example"),
        ("https://lock.example:8443", True, 8443, "lock.example:8443"),
        ("https://LOCK.example", True, 443, "lock.example"),
        ("http://[::1]:8080", False, 8080, "[::1]:8080"),
        ("http://xn--trklinke-65a.example", False, 80, "xn--trklinke-65a.example"),
        ("http://türklinke.example", False, 80, "xn--trklinke-65a.example"),
        ("http://lock.example/a/../b", False, 80, "lock.example"),
    ],
)
def test_call_host_header_has_the_port_unless_it_is_the_default(
    raw, api, tls, trusted, monkeypatch, base_url, secure, port, host
):
    server = raw(tls=tls if secure else None)
    looked_up = lead_to(server, monkeypatch)

    reply = ask(api(base_url, trusted=trusted))

    assert reply.status == 200
    assert re.findall(rb"(?i)\r\nhost: (.*)\r\n", server.requests[0]) == [host.encode()]
    assert [asked_port for _, asked_port in looked_up] == [port]


def lead_to(server, monkeypatch) -> list[tuple[str, int]]:
    """Make every name lead to ``server``; what was looked up.  Its real address is the
    one thing of a vendor that a test must not use."""
    looked_up = []

    def look_up(host, port, **hints):
        looked_up.append((host, port))
        address = "127.0.0.1", server.port
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return looked_up


def test_call_ignores_proxies_and_netrc_of_the_environment(
    raw, api, monkeypatch, tmp_path
):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    for name, value in {
        "HOME": str(tmp_path),
        "NETRC": str(netrc),
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "socks5://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "CURL_CA_BUNDLE": str(tmp_path / "none.pem"),
    }.items():
        monkeypatch.setenv(name, value)
    server = raw()

    reply = ask(api(server))

    assert reply.status == 200
    assert b"Authorization: s3cret-key\r\n" in server.requests[0]


def test_tls_ignores_a_bundle_named_in_the_environment(
    raw, api, tls, ca, monkeypatch, tmp_path
):
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    server = raw(tls=tls)

    assert failure(api(server)).startswith("NotSent: cannot reach 127.0.0.1: TLS: ")


def test_call_keeps_no_cookies(raw, api):
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    server = raw(answers(cookie))
    caller = api(server)

    ask(caller)
    ask(caller)

    assert b"ookie" not in server.requests[1]


def test_call_follows_no_redirect(raw, api):
    elsewhere = raw()
    server = raw(
        answers(
            f"HTTP/1.1 307 X\r\nLocation: {elsewhere.url}/\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
    )

    reply = ask(api(server), "POST")

    assert reply == Reply(307, b"")
    assert len(server.requests) == 1
    assert elsewhere.connections == 0


def test_redact_hides_secrets_and_control_characters(api):
    caller = api("http://127.0.0.1:1")

    assert caller.redact(f"bad key {KEY}\n\x1b[31m") == r"bad key ***\n\x1b[31m"


def test_reply_words_are_redacted(raw, api):
    body = f'{{"message": "no {KEY} here."}}'.encode()
    length = f"Retry-After: 7\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    caller = api(raw(answers(b"HTTP/1.1 429 X\r\n" + length + body)))

    outcome = ask(caller)

    assert outcome.words == "HTTP 429 no *** here"
    known = outcome.status, outcome.said, outcome.after_s
    assert known == (429, "no *** here.", 7.0)
    assert not outcome.is_accepted


def test_call_sends_a_form(raw, api):
    server = raw()
    caller = api(server)

    caller.call(
        "POST", "/token", by=SystemClock().monotonic() + 2,
        body={"grant_type": "refresh_token", "code": "a b&c=é"}, is_form=True,
    )  # fmt: skip

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"Content-Type: application/x-www-form-urlencoded\r\n" in head
    assert body == b"grant_type=refresh_token&code=a+b%26c%3D%C3%A9"


SPELLINGS = {
    "plain": lambda text: text,
    "upper": str.upper,
    "lower": str.lower,
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "url": lambda text: quote(text, safe=""),
    # Without the end, which depends on what follows in the secret.
    "base64": lambda text: base64.b64encode(
        text[: len(text) // 3 * 3].encode()
    ).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(
        text[: len(text) // 3 * 3].encode()
    ).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=30)
@given(
    secret=st.text("".join(map(chr, range(33, 127))), min_size=8, max_size=60),
    data=st.data(),
)
def test_redacted_hides_every_part_of_a_secret_in_every_spelling(
    spelling, secret, data
):
    start = data.draw(st.integers(0, len(secret) - 8))
    end = data.draw(st.integers(start + 8, len(secret)))
    echo = SPELLINGS[spelling](secret[start:end])

    shown = doorpi.redacted(f"bad key \u2039{echo}\u203a!", [secret, ""])

    pieces = {echo[at : at + 8] for at in range(len(echo) - 7)}
    assert not [piece for piece in pieces if piece in shown]
    assert shown.startswith("bad key \u2039")
    assert shown.endswith("\u203a!")


@given(
    st.text(
        st.characters(exclude_characters=KEY + KEY.upper() + "0123456789%+/\0"),
        max_size=1000,
    )
)
def test_redacted_leaves_other_text_unchanged(text):
    assert doorpi.redacted(text, [KEY]) == text


def test_redacted_hides_a_short_secret():
    assert doorpi.redacted("the PIN ab12 is wrong", ["Ab12"]) == "the PIN *** is wrong"


def test_redact_hides_the_secrets_of_the_request(raw, api):
    caller = api(raw())
    by = SystemClock().monotonic() + 2
    caller.call(
        "GET", "/x?code=0123456789", by=by,
        headers=lambda: {"sign": "abcdefghij"}, secrets=["0123456789"],
    )  # fmt: skip

    assert caller.redact("wrong: abcdefghij 0123456789") == "wrong: *** ***"


# -- servers that misbehave after the request was read


def after_request(misbehave: Callable[[Wire], object]) -> Callable[[Wire], None]:
    def serve(wire: Wire) -> None:
        while wire.request():
            misbehave(wire)

    return serve


HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH_9 = HEAD + b"Content-Length: 9\r\n\r\n"
LENGTH_9999 = HEAD + b"Content-Length: 9999\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def partly(first: bytes, then: Callable[[Wire], object]) -> Callable[[Wire], None]:
    def misbehave(wire: Wire) -> None:
        wire.send(first)
        then(wire)

    return misbehave


NEVER_DONE = {
    "hang": lambda wire: wire.hang(),
    "hang-in-headers": partly(HEAD, Wire.hang),
    "hang-in-body": partly(LENGTH_9 + b"{", Wire.hang),
    "drip-in-status-line": lambda wire: wire.drip(b"HTTP/1.1 200 OK"),
    "drip-in-headers": partly(HEAD, lambda wire: wire.drip(b"X-A: aaaa")),
    "drip-in-body": partly(
        HEAD + b"Content-Length: 900\r\n\r\n", lambda wire: wire.drip(b"  ")
    ),
    "drip-in-chunk-size": partly(CHUNKED, lambda wire: wire.drip(b"0")),
    "drip-in-chunk": partly(CHUNKED + b"ff\r\n", lambda wire: wire.drip(b" ")),
    "drip-in-trailer": partly(CHUNKED + b"0\r\n", lambda wire: wire.drip(b"X: a")),
    "continue-now-and-then": lambda wire: [
        wire.drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.001)
    ],
}


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("case", NEVER_DONE)
def test_call_ends_in_time_when_the_answer_never_ends(
    raw, api, tls, trusted, case, secure
):
    server = raw(after_request(NEVER_DONE[case]), tls if secure else None)
    caller = api(server, trusted=trusted)
    ready(caller, server)

    outcome = failure(caller, "POST", within_s=0.25)

    assert outcome == "MaybeSent: 127.0.0.1 did not answer in time"
    wait_for(lambda: server.requests)
    assert server.connections == len(server.requests) == 1


INCOMPLETE = "MaybeSent: no complete answer from 127.0.0.1"
TOO_LONG = "Unreadable: HTTP 200 with an answer of more than 64 kB"

BROKEN = {
    "continue-for-ever": (
        lambda wire: wire.flood(b"HTTP/1.1 100 Continue\r\n\r\n"),
        INCOMPLETE,
    ),
    "early-hints-for-ever": (
        lambda wire: wire.flood(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        INCOMPLETE,
    ),
    "headers-of-60-kB": (
        partly(
            HEAD, lambda wire: wire.flood(b"Set-Cookie: " + b"a=b; " * 12000 + b"\r\n")
        ),
        INCOMPLETE,
    ),
    "endless-headers": (
        partly(HEAD, lambda wire: wire.flood(b"X-Header: value\r\n")),
        INCOMPLETE,
    ),
    "endless-header-line": (
        partly(HEAD, lambda wire: wire.flood(b"x" * 4096)),
        INCOMPLETE,
    ),
    "endless-status-line": (
        lambda wire: wire.flood(b"HTTP/1.1 200 " * 400),
        INCOMPLETE,
    ),
    "endless-chunks": (
        partly(CHUNKED, lambda wire: wire.flood(b"400\r\n" + b" " * 1024 + b"\r\n")),
        TOO_LONG,
    ),
    "endless-body": (
        partly(HEAD + b"\r\n", lambda wire: wire.flood(b"[" * 4096)),
        TOO_LONG,
    ),
    "huge-body": (
        partly(
            HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
            lambda wire: wire.flood(b"[" * 4096),
        ),
        TOO_LONG,
    ),
    "one-byte-too-many": (
        partly(
            HEAD + b"Content-Length: 65537\r\n\r\n",
            lambda wire: wire.send(b"[" * 65537),
        ),
        TOO_LONG,
    ),
    "short-body": (
        partly(LENGTH_9 + b"{}", lambda wire: wire.sock.shutdown(socket.SHUT_WR)),
        INCOMPLETE,
    ),
    "chunk-size-not-hex": (
        lambda wire: wire.send(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
        INCOMPLETE,
    ),
    "chunk-size-negative": (
        lambda wire: wire.send(CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n"),
        INCOMPLETE,
    ),
    "chunk-cut": (
        partly(CHUNKED + b"9\r\n{}", lambda wire: wire.sock.shutdown(socket.SHUT_WR)),
        INCOMPLETE,
    ),
    "no-http": (
        lambda wire: wire.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        INCOMPLETE,
    ),
    "nulls": (
        lambda wire: wire.send(b"\0" * 200 + b"\n"),
        INCOMPLETE,
    ),
    "odd-version": (
        lambda wire: wire.send(b"HTTP/9.9 200 OK\r\n\r\n"),
        INCOMPLETE,
    ),
    "odd-status": (
        lambda wire: wire.send(b"HTTP/1.1 two OK\r\n\r\n"),
        INCOMPLETE,
    ),
    "two-lengths": (
        lambda wire: wire.send(HEAD + b"Content-Length: 2, 3\r\n\r\n{}"),
        INCOMPLETE,
    ),
    "cut": (lambda wire: wire.sock.close(), INCOMPLETE),
    "reset": (Wire.reset, INCOMPLETE),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("case", BROKEN)
def test_call_fails_at_once_on_a_broken_answer(raw, api, case, method):
    misbehave, expected = BROKEN[case]
    server = raw(after_request(misbehave))
    watch = Stopwatch()

    outcome = failure(api(server), method)

    assert watch.own_s < 1.0
    assert outcome == expected
    assert (
        len(server.requests) == 1
    )  # a fresh connection is not suspected of being dead


READ = {
    "64-KiB": (
        HEAD + b"Content-Length: 65536\r\n\r\n" + b"[" * 65536,
        Reply(200, b"[" * 65536),
    ),
    "gzip-though-not-asked": (
        HEAD
        + b"Content-Encoding: gzip\r\nContent-Length: "
        + f"{len(gzip.compress(b'{}'))}\r\n\r\n".encode()
        + gzip.compress(b"{}"),
        Reply(200, gzip.compress(b"{}")),
    ),
    "no-body": (b"HTTP/1.1 204 No\r\n\r\n", Reply(204, b"")),
    "chunked": (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", Reply(200, b"{}")),
    "continue-once": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Reply(200, b"{}")),
    "several-interim-answers": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\n" + OK,
        Reply(200, b"{}"),
    ),
    "retry-after": (
        b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
        Reply(429, b"", 7.0),
    ),
    "http-1.0-without-a-length": (b"HTTP/1.0 200 OK\r\n\r\n{}", Reply(200, b"{}")),
    "odd-length": (
        HEAD + b"Connection: close\r\nContent-Length: many\r\n\r\n{}",
        Reply(200, b"{}"),
    ),
    "odd-header": (
        HEAD + b"no colon\r\nX\xff: \xfe\r\nContent-Length: 2\r\n\r\n{}",
        Reply(200, b"{}"),
    ),
}


@pytest.mark.filterwarnings("ignore:.*header.*")
@pytest.mark.parametrize("case", READ)
def test_call_returns_what_can_be_read(raw, api, case):
    data, expected = READ[case]

    def serve(wire: Wire) -> None:
        wire.request()
        wire.send(data)

    if case == "odd-header":  # the parser stops there, so the body's length is unknown
        reply = ask(api(raw(serve)))
        assert reply.status == 200
    else:
        assert ask(api(raw(serve))) == expected


def test_reply_json_is_not_unpacked(raw, api):
    packed = gzip.compress(b'{"locked":true}')
    head = f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    reply = ask(api(raw(answers(HEAD + head + packed))))

    with pytest.raises(
        HttpUnreadable, match=r"^HTTP 200 with an answer that is not JSON$"
    ):
        reply.json(dict)


def pieces_of_http() -> st.SearchStrategy[bytes]:
    return st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 500 X\r\n", b"HTTP/1.1 101 S\r\n",
                    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 4\r\n",
                    b"Content-Length: -1\r\n", b"Content-Length: \r\n", b"\r\n", b"\r\n\r\n",
                    b"-1\r\n", b"-5\r\n", b"5;x=y\r\n", b"0\r\n", b"{}", b":", b"\r",
                    b"Retry-After: \xb2\r\n", b"Content-Encoding: gzip\r\n", b"\x1f\x8b",
                    b"Connection: close\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"Location: //[\r\n", b"Set-Cookie: a=b; Max-Age=x\r\n",
                ]
            ),
            st.binary(max_size=8),
        ),
        max_size=8,
    ).map(b"".join)  # fmt: skip


def test_call_raises_only_http_errors_whatever_is_answered(raw, api):
    answer = b""

    def serve(wire: Wire) -> None:
        if wire.request():
            wire.send(answer)

    caller = api(raw(serve))

    @settings(max_examples=250, deadline=None, database=None)
    @given(pieces_of_http(), st.booleans())
    def holds(drawn: bytes, with_head: bool) -> None:
        nonlocal answer
        answer = (HEAD if with_head else b"") + drawn
        try:
            reply = ask(caller)
            assert isinstance(reply.json(dict), dict)
        except (HttpMaybeSent, HttpUnreadable):
            pass

    holds()


# -- no connection


def test_call_to_a_closed_port_is_not_sent(api):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    outcome = failure(api(f"http://127.0.0.1:{port}"))

    assert outcome == "NotSent: cannot reach 127.0.0.1: connection refused"


def test_call_to_a_silent_host_is_not_sent(api):
    """A listener with a full backlog drops what comes next, as a dead host does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())

        outcome = failure(
            api(f"http://127.0.0.1:{listener.getsockname()[1]}"), within_s=0.25
        )

    assert outcome == "NotSent: cannot reach 127.0.0.1: no answer yet"


def test_call_to_a_host_that_never_reads_is_maybe_sent(api):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = failure(
            api(f"http://127.0.0.1:{listener.getsockname()[1]}"), within_s=0.25
        )

    assert outcome == "MaybeSent: 127.0.0.1 did not answer in time"


@pytest.mark.parametrize(
    ("serve", "within_s", "why"),
    [
        (Wire.hang, 0.3, "no answer yet"),
        (lambda wire: wire.drip(b"\x16\x03\x03\x40\x00"), 0.3, "no answer yet"),
        (lambda wire: wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 3, "TLS: "),
        (lambda wire: wire.sock.recv(1), 3, ""),
    ],
    ids=["never-answers", "drips", "garbage", "cut"],
)
def test_tls_that_fails_means_not_sent(raw, api, trusted, serve, within_s, why):
    server = raw(serve)  # speaks no TLS
    caller = api(f"https://127.0.0.1:{server.port}", trusted=trusted)
    watch = Stopwatch()

    outcome = failure(caller, "POST", within_s)

    assert watch.own_s < 1.0
    assert outcome.startswith(f"NotSent: cannot reach 127.0.0.1: {why}")
    assert server.requests == []


def expired(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert(
        "127.0.0.1",
        not_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_after=datetime(2020, 2, 1, tzinfo=UTC),
    )


UNTRUSTED = {
    "unknown-authority": (
        lambda ca: trustme.CA().issue_cert("127.0.0.1"),
        "unable to get local issuer certificate",
    ),
    "other-host": (lambda ca: ca.issue_cert("elsewhere.example"), "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    "expired": (expired, "certificate has expired (is the clock right?)"),
}  # fmt: skip


@pytest.mark.parametrize(("certificate", "words"), UNTRUSTED.values(), ids=UNTRUSTED)
def test_tls_refuses_a_wrong_certificate(raw, api, ca, trusted, certificate, words):
    server = raw(tls=served_by(certificate(ca)))

    outcome = failure(api(server, trusted=trusted), "POST")

    assert outcome == f"NotSent: cannot reach 127.0.0.1: TLS: {words}"
    assert server.requests == []


@pytest.fixture
def python_3_13(monkeypatch):
    """What its ssl.create_default_context() sets more than that of Python 3.11."""
    plain = ssl.create_default_context

    def create(**arguments):
        context = plain(**arguments)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)
    return create


@pytest.mark.usefixtures("python_3_13")
def test_tls_trusts_a_home_made_authority_on_each_python(raw, api):
    home = HomeMade()
    server = raw(tls=served_by(home.issue_cert("127.0.0.1")))

    assert ask(api(server, trusted=home.pem.decode()), "POST").status == 200


def test_tls_of_python_3_13_alone_refuses_a_home_made_authority(
    raw, tmp_path, python_3_13
):
    home = HomeMade()
    (trusted := tmp_path / "home.pem").write_bytes(home.pem)
    server = raw(tls=served_by(home.issue_cert("127.0.0.1")))
    strict = python_3_13(cafile=str(trusted))

    with (
        socket.create_connection(("127.0.0.1", server.port)) as line,
        pytest.raises(ssl.SSLCertVerificationError) as error,
    ):
        strict.wrap_socket(line, server_hostname="127.0.0.1")

    assert error.value.verify_code in doorpi.MADE_WRONGLY


@pytest.mark.usefixtures("python_3_13")
@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda home: HomeMade().issue_cert("127.0.0.1"), "certificate signature failure"),
        (lambda home: home.issue_cert("127.0.0.2"), "IP address mismatch, "),
        (lambda home: home.issue_cert("127.0.0.1", -1), "certificate has expired "),
        (lambda home: home.issue_cert("127.0.0.1", 3), "certificate is not yet valid "),
    ],
    ids=["another authority's", "another's name", "expired", "of the future"],
)  # fmt: skip
def test_tls_trusts_a_home_made_authority_for_its_own_certificates_only(
    raw, api, of, words
):
    home = HomeMade()
    server = raw(tls=served_by(of(home)))

    outcome = failure(api(server, trusted=home.pem.decode()), "POST")

    assert outcome.startswith(f"NotSent: cannot reach 127.0.0.1: TLS: {words}")
    assert server.requests == []


def test_tls_trusts_a_named_certificate_without_its_authority(raw, api):
    """Whatever its file says beside it, in whatever letters."""
    bridge = HomeMade().issue_cert("127.0.0.1")
    pem = f"# of M\udcfcller\n{bridge.cert_chain_pems[0].bytes().decode()}"
    server = raw(tls=served_by(bridge))

    assert ask(api(server, trusted=pem), "POST").status == 200


def test_tls_trusts_no_authority_that_is_not_named(raw, api, tls):
    assert failure(api(raw(tls=tls))).startswith("NotSent: ")


def test_tls_with_an_invalid_bundle_means_not_sent(raw, api, tls):
    outcome = failure(api(raw(tls=tls), trusted="-----BEGIN CERTIFICATE-----\n"))

    assert outcome.startswith("NotSent: cannot reach 127.0.0.1: ")


def test_dial_tries_the_next_address_after_a_refusal(raw, api, monkeypatch):
    server = raw()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
    kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
    addresses = [(*kind, refusing), (*kind, ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **hints: addresses)

    assert ask(api("http://lock.example")).status == 200


def test_dial_tries_the_next_address_without_ipv6(raw, api, monkeypatch):
    """IPv6 where the kernel has none: there is no socket to begin with."""
    server = raw()
    kind = socket.SOCK_STREAM, 0, ""
    addresses = [
        (12345, *kind, ("2001:db8::1", 1)),
        (socket.AF_INET, *kind, ("127.0.0.1", server.port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **hints: addresses)

    assert ask(api("http://lock.example")).status == 200


def test_dial_tries_the_next_address_after_a_second_of_silence(raw, api, monkeypatch):
    """IPv6 that leads nowhere, before an IPv4 that works."""
    server = raw()
    with swallowing_address() as hole:
        kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
        addresses = [(*kind, hole), (*kind, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **hints: addresses)
        watch = Stopwatch()

        reply = ask(api("http://lock.example"))

    assert watch.wall_s >= 1.0
    assert watch.own_s < 2.5
    assert reply.status == 200


def test_dial_uses_the_last_known_addresses_when_dns_fails(raw, api, monkeypatch):
    server = raw(lambda wire: answers()(wire) if server.connections > 1 else None)
    looked_up = lead_to(server, monkeypatch)
    caller = api("http://lock.example")
    ready(caller, server)  # and it closed at once

    def fail(*args, **hints):
        looked_up.append(("", 0))
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    assert ask(caller).status == 200
    assert looked_up == [("lock.example", 80), ("", 0)]


# -- the name service

# getaddrinfo is the one thing replaced here by name: no server on loopback can make the
# system's resolver hang, and no timeout of ours ends it, which is the point.


class HangingNames:
    """A getaddrinfo that answers when ``answer`` is set."""

    def __init__(self, server: RawServer) -> None:
        self.answer = threading.Event()
        self.calls = 0
        self._address = "127.0.0.1", server.port

    def __call__(self, *args, **hints):
        self.calls += 1
        assert self.answer.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", self._address)]


@pytest.fixture
def hanging(raw, monkeypatch) -> Iterator[HangingNames]:
    names = HangingNames(raw())
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.answer.set()
    wait_for(lambda: not dialling())


def test_dial_uses_one_thread_while_dns_hangs(hanging, api):
    caller = api("http://lock.example")

    for _ in range(10):
        outcome = failure(caller, within_s=0.03)
        assert outcome == "NotSent: cannot reach lock.example: no answer yet"
        caller.dialer.keep_ready()
        assert dialling() == 1

    assert hanging.calls == 1
    hanging.answer.set()
    assert ask(caller).status == 200
    assert hanging.calls == 1


def test_close_does_not_wait_for_dns(hanging, api):
    files = open_files()
    caller = api("http://lock.example")
    caller.dialer.keep_ready()
    watch = Stopwatch()

    caller.dialer.close()

    assert watch.own_s < 0.2
    hanging.answer.set()
    wait_for(lambda: not dialling())
    wait_for(lambda: open_files() <= files, "its connection was closed as well")


def test_dial_fails_when_no_thread_can_be_started(raw, api, monkeypatch):
    def refuse(run, name):
        raise RuntimeError("can't start new thread")

    caller = api(raw())
    with monkeypatch.context() as full:
        full.setattr(doorpi, "start_thread", refuse)
        outcome = failure(caller)

    assert outcome == "NotSent: cannot reach 127.0.0.1: can't start new thread"
    assert ask(caller).status == 200


# -- too late to send


def test_call_sends_nothing_on_a_connection_that_comes_after_send_by(hanging, raw, api):
    server = raw()
    hanging._address = "127.0.0.1", server.port
    caller = api("http://lock.example")

    outcome = failure(caller, "POST", within_s=5, send_within_s=0.15)
    hanging.answer.set()
    wait_for(lambda: server.connections == 1)
    ready(caller, server)

    assert outcome == "NotSent: cannot reach lock.example: no answer yet"
    assert server.received == 0
    assert ask(caller).status == 200  # and the next call has the connection
    assert server.connections == 1


def test_call_sends_nothing_after_a_handshake_longer_than_send_by(
    raw, api, tls, trusted
):
    server = raw(tls=tls)
    relay = raw(relay_to(server.port, after_bytes=0))

    outcome = failure(
        api(f"https://127.0.0.1:{relay.port}", trusted=trusted),
        "POST",
        within_s=5,
        send_within_s=0.2,
    )

    assert outcome == "NotSent: cannot reach 127.0.0.1: no answer yet"
    assert server.requests == []


def test_wait_for_command_opens_the_connection_of_the_command(raw, api, tls, trusted):
    server = raw(tls=tls)
    caller = api(server.url, trusted=trusted)

    caller.dialer.wait_for_command(SystemClock().monotonic() + 5)

    assert server.connections == 1
    assert ask(caller, "POST").status == 200
    assert server.connections == 1


def test_wait_for_command_fails_without_an_answer(raw, api, tls, trusted):
    relay = raw(relay_to(raw(tls=tls).port, after_bytes=0))
    caller = api(f"https://127.0.0.1:{relay.port}", trusted=trusted)

    with pytest.raises(HttpNotSent, match="no answer yet"):
        caller.dialer.wait_for_command(SystemClock().monotonic() + 0.2)


def relay_to(port: int, after_bytes: int) -> Callable[[Wire], None]:
    """A way to the server that carries its answers, after so many, byte by byte."""

    def serve(wire: Wire) -> None:
        with socket.create_connection(("127.0.0.1", port)) as onward:
            onward.settimeout(0.01)
            wire.sock.settimeout(0.01)
            carried = 0
            while not wire.server.closing.is_set():
                with contextlib.suppress(TimeoutError):
                    onward.sendall(wire.sock.recv(65536))
                with contextlib.suppress(TimeoutError):
                    data = onward.recv(65536 if carried < after_bytes else 1)
                    carried += len(data)
                    wire.send(data)

    return serve


def test_call_ends_in_time_when_a_tls_record_drips(raw, api, tls, trusted):
    """Less than a record is nothing to the reader above TLS, however long it takes."""
    server = raw(answers(HEAD + b"X: " + b"x" * 9000 + b"\r\n\r\n"), tls)
    relay = raw(relay_to(server.port, after_bytes=600))
    caller = api(f"https://127.0.0.1:{relay.port}", trusted=trusted)
    caller.dialer.keep_ready()
    wait_for(lambda: not dialling())

    outcome = failure(caller, "POST", within_s=0.4)

    assert outcome == "MaybeSent: 127.0.0.1 did not answer in time"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("within_s", "send_within_s"), [(-1.0, 60.0), (0.0, 60.0), (2.0, -1.0), (2.0, 0.0)]
)
def test_call_sends_nothing_when_it_begins_too_late(
    raw, api, method, within_s, send_within_s
):
    server = raw()
    caller = api(server)
    ready(caller, server)

    with pytest.raises(HttpNotSent, match=r"^too late to send to 127\.0\.0\.1$"):
        ask(caller, method, within_s, send_within_s)

    assert server.received == 0


# -- one connection, opened ahead and kept


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_connection_is_opened_ahead_used_and_kept(raw, api, tls, trusted, secure):
    server = raw(tls=tls if secure else None)
    caller = api(server, trusted=trusted)

    ready(caller, server)
    assert server.received == 0

    for method in ("GET", "POST", "GET", "GET"):
        assert ask(caller, method).status == 200
        caller.dialer.keep_ready()
    assert server.connections == 1
    assert len(server.requests) == 4


def test_keep_ready_does_not_block(hanging, api):
    caller = api("http://lock.example")
    watch = Stopwatch()

    caller.dialer.keep_ready()

    assert watch.own_s < 0.1


@pytest.mark.parametrize(
    "data",
    [OK, b"HTTP/1.1 103 X\r\n\r\n" + OK, CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n",
     b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"],
    ids=["length", "interim", "chunked", "no-content", "error"],
)  # fmt: skip
def test_connection_is_kept_after_a_complete_answer(raw, api, data):
    server = raw(answers(data))
    caller = api(server)

    for _ in range(3):
        ask(caller)

    assert server.connections == 1


def test_keep_ready_replaces_a_connection_that_the_server_closed(raw, api):
    server = raw(one_answer_then_close)
    caller = api(server)

    ask(caller)
    wait_for(lambda: server.open == 0)
    ready(caller, server, connections=2)
    assert len(server.requests) == 1

    assert ask(caller, "POST").status == 200
    assert server.connections == 2


def one_answer_then_close(wire: Wire) -> None:
    wire.request()
    wire.send(OK)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_command_is_not_sent_on_a_connection_that_was_closed(
    raw, api, tls, trusted, secure
):
    server = raw(one_answer_then_close, tls if secure else None)
    caller = api(server, trusted=trusted)

    for _ in range(3):
        assert ask(caller, "POST").status == 200
        wait_for(lambda: server.open == 0)

    assert server.connections == len(server.requests) == 3


def close_at_the_second(wire: Wire) -> None:
    """Close when a second request comes: the caller cannot have seen it before."""
    wire.request()
    wire.send(OK)
    wire.request()


@pytest.mark.parametrize("end", [lambda wire: None, Wire.reset], ids=["fin", "rst"])
def test_question_is_repeated_when_its_connection_was_dead(raw, api, end):
    def serve(wire: Wire) -> None:
        close_at_the_second(wire)
        end(wire)

    server = raw(serve)
    caller = api(server)
    ask(caller)

    assert ask(caller).status == 200
    assert server.connections == 2
    assert len(server.requests) == 3


@pytest.mark.parametrize("method", ["POST", "GET"])  # Nuki's bridge takes both as GET
@pytest.mark.parametrize("end", [lambda wire: None, Wire.reset], ids=["fin", "rst"])
def test_command_is_never_repeated(raw, api, end, method):
    def serve(wire: Wire) -> None:
        close_at_the_second(wire)
        end(wire)

    server = raw(serve)
    caller = api(server)
    ask(caller)

    outcome = failure(caller, method, send_within_s=1.9)

    assert outcome == INCOMPLETE
    assert server.connections == 1
    assert len(server.requests) == 2


def test_connection_that_died_is_not_used_while_dialling(raw, api, monkeypatch):
    server = raw(lambda wire: None)  # closes at once
    caller = api(server)
    ready(caller, server)
    wait_for(lambda: server.open == 0)
    names = HangingNames(server)
    monkeypatch.setattr(socket, "getaddrinfo", names)

    outcome = failure(caller, "POST", within_s=0.1)

    assert outcome == "NotSent: cannot reach 127.0.0.1: no answer yet"
    names.answer.set()
    wait_for(lambda: not dialling())


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
def test_connection_stays_alive_with_session_tickets(raw, api, ca, trusted, version):
    context = served_by(ca.issue_cert("127.0.0.1"))
    context.minimum_version = context.maximum_version = version
    server = raw(tls=context)
    caller = api(server, trusted=trusted)

    ready(caller, server)
    for _ in range(5):
        caller.dialer.keep_ready()
    replies = [ask(caller).status, ask(caller, "POST").status]

    assert replies == [200, 200]
    assert server.connections == 1


def test_connection_with_unrequested_data_is_replaced(raw, api):
    has_spoken = threading.Event()

    def serve(wire: Wire) -> None:
        if server.connections == 1:
            wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"locked":true}')
            has_spoken.set()
            wire.hang()
        answers()(wire)

    server = raw(serve)
    caller = api(server)
    ready(caller, server)
    assert has_spoken.wait(5)

    assert ask(caller) == Reply(200, b"{}")
    assert server.connections == 2


ODD = {
    "second-answer": OK + OK,
    "a-byte": OK + b"x",
    "more-than-its-length": HEAD + b"Content-Length: 0\r\n\r\n{}",
    "after-the-last-chunk": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n" + OK,
    "close": HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
    "http-1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("case", ODD)
def test_connection_is_not_kept_after_an_odd_answer(
    raw, api, tls, trusted, case, secure
):
    server = raw(answers(ODD[case]), tls if secure else None)
    caller = api(server, trusted=trusted)

    statuses = [ask(caller, method).status for method in ("GET", "POST", "GET")]

    assert statuses == [200] * 3
    assert server.connections == 3


def test_connection_with_a_second_answer_is_replaced(raw, api):
    """The second time 20 ms late, when the connection has been put aside."""

    def serve(wire: Wire) -> None:
        for number in itertools.count():
            wire.request()
            answer = HEAD + b"Content-Length: 1\r\n\r\n%d" % number
            wire.send(answer)
            time.sleep(0.02)
            wire.send(answer)

    server = raw(serve)
    caller = api(server)
    ask(caller)
    wait_for(lambda: not caller.dialer._ready.is_alive())

    assert ask(caller).body == b"0"
    assert server.connections == 2


def redials(caller: WebApi, clock: FakeClock, dials: list, settled, count: int):
    """Seconds between the ``dials`` of an idle door to a server that turns it away."""
    dialled_at = []
    while len(dialled_at) < count:
        caller.dialer.keep_ready()
        wait_for(lambda: not dialling() and settled())
        caller.dialer.keep_ready()  # sees what became of it
        if len(dials) > len(dialled_at):
            dialled_at.append(clock.monotonic())
        clock.advance(0.25)
    return [later - earlier for earlier, later in itertools.pairwise(dialled_at)]


def assert_growing(pauses: list[float]) -> None:
    for number, pause in enumerate(pauses):
        longest = min(60.0, 2.0**number)
        assert longest / 2 <= pause <= longest + 0.25


def test_dial_backs_off_from_a_server_that_closes_at_once(raw, api, clock, monkeypatch):
    server = raw(lambda wire: None)
    dials = lead_to(server, monkeypatch)
    caller = api(server, clock)

    pauses = redials(caller, clock, dials, lambda: server.closed == len(dials), count=9)

    assert_growing(pauses)
    assert server.received == 0


def test_dial_backs_off_from_a_server_that_refuses_and_logs_once(
    raw, api, clock, monkeypatch, caplog
):
    server = raw()
    dials = lead_to(server, monkeypatch)
    server.close()

    pauses = redials(api(server, clock), clock, dials, lambda: True, count=9)

    assert_growing(pauses)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot reach 127.0.0.1: connection refused"
    ]


class IdleLimit:
    """A server that closes what was idle for ``limit_s`` of the test's clock."""

    def __init__(self, clock: FakeClock, limit_s: float) -> None:
        self.clock = clock
        self.limit_s = limit_s
        self.closed = 0
        self._looked_at: dict[int, float] = {}  # for each open connection

    def __call__(self, wire: Wire) -> None:
        try:
            self._serve(wire)
        finally:
            self._looked_at.pop(id(wire), None)

    def _serve(self, wire: Wire) -> None:
        idle_since = self.clock.monotonic()
        wire.sock.settimeout(0.002)
        while not wire.server.closing.is_set():
            now = self.clock.monotonic()
            if now - idle_since >= self.limit_s:
                self.closed += 1
                return
            self._looked_at[id(wire)] = now  # and found that it may stay
            with contextlib.suppress(TimeoutError):
                if not wire.request():
                    return
                idle_since = self.clock.monotonic()
                wire.send(OK)

    def is_settled(self, server: RawServer) -> bool:
        """True when it has closed what it had to by now."""
        looked_at = [*self._looked_at.values()]
        has_looked = all(at == self.clock.monotonic() for at in looked_at)
        return has_looked and len(looked_at) == server.open


def idle(caller: WebApi, clock: FakeClock, seconds: int, settled=lambda: True) -> None:
    """Let the door idle, with a look every 3 s."""
    for _ in range(seconds // 3):
        clock.advance(3.0)
        wait_for(settled)
        for _ in range(2):
            caller.dialer.keep_ready()
            wait_for(lambda: not dialling())
        wait_for(settled)


def test_connection_that_idles_is_replaced_once_a_minute(raw, api, clock):
    server = raw()
    caller = api(server, clock)
    ready(caller, server)

    idle(caller, clock, 600)

    assert 10 <= server.connections <= 13
    assert server.received == 0
    wait_for(lambda: server.open == 1, "the old ones are closed")


@pytest.mark.parametrize("asks_first", [False, True], ids=["unused", "used"])
def test_connection_is_renewed_before_the_server_closes_it(
    raw, api, clock, monkeypatch, asks_first
):
    limit = IdleLimit(clock, 30.0)
    server = raw(limit)
    dials = lead_to(server, monkeypatch)
    caller = api("http://lock.example", clock)
    ready(caller, server)
    if asks_first:
        caller.call("GET", "/x", by=clock.monotonic() + 5)

    def settled() -> bool:
        """The server has seen all that the caller opened, and what it closed."""
        is_seen = server.connections == len(dials) and server.open <= 1
        return is_seen and limit.is_settled(server)

    wait_for(settled)
    idle(caller, clock, 72, settled)
    learnt_from, connections = limit.closed, server.connections
    idle(caller, clock, 300, settled)

    assert learnt_from == limit.closed == 2
    assert 10 <= server.connections - connections <= 13


def test_question_uses_the_old_connection_when_dialling_fails(
    raw, api, clock, monkeypatch
):
    server = raw()
    caller = api(server, clock)
    ready(caller, server)
    refused = []

    def refuse(connected, address):
        refused.append(clock.monotonic())
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(doorpi.BoundedSocket, "connect", refuse)
    idle(caller, clock, 300)

    assert 6 <= len(refused) <= 15  # every look would be 83
    now = clock.monotonic()
    assert caller.call("GET", "/x", by=now + 5).status == 200
    assert server.connections == 1
    clock.advance(120)
    with pytest.raises(HttpNotSent, match="connection refused"):
        caller.call("POST", "/x", by=now + 200, send_by=now + 200)
    assert len(server.requests) == 1


# -- a connection that died without a sign


class Forgetful:
    """A router that forgets: what comes on the connections of ``forgotten`` goes
    nowhere, and their ends are never seen."""

    def __init__(self) -> None:
        self.forgotten = 0  # so many connections from the first on

    def __call__(self, wire: Wire) -> None:
        number = wire.server.connections
        while wire.request():
            if number <= self.forgotten:
                wire.hang()
                return
            wire.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(SESAME) + SESAME)


#: What the first Sesame API says, to whatever is asked.
SESAME = b"""{"locked": true, "responsive": true, "task_id": "1",
    "status": "terminated", "successful": true}"""


@pytest.mark.parametrize("usual_s", [0.0, 0.3])
def test_question_is_soon_repeated_when_its_connection_died_silently(raw, api, usual_s):
    router = Forgetful()
    server = raw(router)
    caller = api(server)
    caller.old_s, caller.least_s = 0.05, 0.2
    ask(caller)
    caller._answers_took_s.extend([usual_s] * 9)
    time.sleep(caller.old_s)
    router.forgotten = 1
    watch = Stopwatch()

    assert ask(caller).status == 200

    patience_s = max(caller.least_s, 2 * usual_s)
    assert watch.own_s < patience_s + SLACK_S
    assert watch.wall_s >= patience_s
    assert server.connections == 2
    assert caller.calls == 3


def test_tap_on_a_silently_dead_connection_needs_no_fallback(raw):
    router = Forgetful()
    server = raw(router)
    access = doorpi.LockAccess(
        kind="sesame-mini", base_url=server.url, device_id="1",
        api_key=doorpi.Secret("k"),
    )  # fmt: skip
    clock = SystemClock()
    lock = doorpi.SesameMini(access, clock, Words())
    lock._api.old_s = lock._api.least_s = 0.05
    second = FakeLock(clock)
    control = control_of(lock, clock, fallback=control_of(second, clock))
    doorpi.drive(control.status(clock.monotonic() + 5), clock)
    time.sleep(lock._api.old_s)
    router.forgotten = 1

    steps = control.move(
        doorpi.Move(
            lambda state: doorpi.Command.UNLOCK,
            send_by=clock.monotonic() + 10.0,
            intend=lambda command: None,
        )
    )
    outcome = doorpi.drive(steps, clock)

    assert outcome == doorpi.Outcome(doorpi.Command.UNLOCK, doorpi.Result.UNLOCKED)
    assert second.sent == []
    lines = [request.split(b" ")[0] for request in server.requests]
    assert lines == [b"GET", b"GET", b"GET", b"POST", b"GET"]
    lock.close()


def test_question_is_repeated_when_an_answer_is_slow_once(raw, api):
    def serve(wire: Wire) -> None:
        while wire.request():
            wire.server.closing.wait(0.3)
            wire.send(OK)

    caller = api(raw(serve))
    caller.old_s, caller.least_s, caller.usual_s = 0.0, 0.1, 0.05
    caller.dialer.keep_ready()
    wait_for(lambda: not dialling())

    assert ask(caller).status == 200
    assert ask(caller).status == 200
    assert caller.calls == 3  # by then it is known how long an answer takes


@pytest.mark.parametrize(
    ("method", "after_s", "is_replaced"),
    [
        ("GET", 59.0, False), ("GET", 61.0, True), ("GET", 86400.0, True),
        ("POST", 4.0, False), ("POST", 6.0, True), ("POST", 86400.0, True),
    ],
)  # fmt: skip
def test_connection_that_is_old_is_replaced_before_it_is_used(
    raw, api, clock, method, after_s, is_replaced
):
    """Also when there was no idle moment in between."""
    server = raw()
    caller = api(server, clock)
    caller.call("GET", "/x", by=clock.monotonic() + 5)
    clock.advance(after_s)

    now = clock.monotonic()
    is_command = method == "POST"
    caller.call(method, "/x", by=now + 5, send_by=now + 5 if is_command else math.inf)

    assert server.connections == 1 + is_replaced
    assert len(server.requests) == 2


def test_connection_grows_no_younger_by_waiting_for_it(raw, api, clock):
    server = raw()
    caller = api(server, clock)
    caller.call("GET", "/x", by=clock.monotonic() + 5)
    for _ in range(2):
        clock.advance(4.0)
        caller.dialer.wait_for_command(clock.monotonic() + 5)

    assert server.connections == 2


def test_question_uses_the_old_connection_while_dns_hangs(raw, api, monkeypatch):
    server = raw()
    caller = api(server)
    ask(caller)
    caller.dialer.stale_s = 0.0
    names = HangingNames(server)
    monkeypatch.setattr(socket, "getaddrinfo", names)

    assert ask(caller, within_s=0.4).status == 200
    assert server.connections == 1
    names.answer.set()
    wait_for(lambda: not dialling())


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
@pytest.mark.parametrize("asks_first", [False, True], ids=["unused", "used"])
def test_tls_session_is_resumed(raw, api, ca, trusted, clock, version, asks_first):
    context = served_by(ca.issue_cert("127.0.0.1"))
    context.minimum_version = context.maximum_version = version
    resumed = []

    def serve(wire: Wire) -> None:
        resumed.append(wire.sock.session_reused)
        answers()(wire)

    server = raw(serve, context)
    caller = api(server, clock, trusted)
    ready(caller, server)
    wait_for(lambda: len(resumed) == 1)  # and sent what the next can resume by
    if asks_first:
        caller.call("GET", "/x", by=clock.monotonic() + 5)
    clock.advance(61)
    ready(caller, server, connections=2)
    wait_for(lambda: len(resumed) == 2)
    clock.advance(61)
    ready(caller, server, connections=3)

    wait_for(lambda: len(resumed) == 3)
    assert resumed == [False, True, True]


def test_tls_session_is_not_resumed_after_a_failed_handshake(
    raw, api, ca, trusted, clock
):
    """The session may be what the server does not like."""
    good = served_by(ca.issue_cert("127.0.0.1"))
    resumed = []

    def serve(wire: Wire) -> None:
        resumed.append(wire.sock.session_reused)
        answers()(wire)

    server = raw(serve, good)
    caller = api(server, clock, trusted)
    caller.call("GET", "/x", by=clock.monotonic() + 5)
    for context in (served_by(trustme.CA().issue_cert("127.0.0.1")), good):
        server.tls = context
        clock.advance(61)
        caller.dialer.keep_ready()
        wait_for(lambda: not dialling())
        caller.dialer.keep_ready()

    wait_for(lambda: len(resumed) == 2)
    assert resumed == [False, False]


# -- what is given up is dropped by the kernel


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("end", ["given-up", "hung-up", "closed"])
def test_connection_ends_with_a_reset(raw, api, tls, trusted, secure, end):
    seen = []

    def serve(wire: Wire) -> None:
        wire.request()
        if end != "given-up":
            wire.send(OK)
        with socket.socket(fileno=os.dup(wire.sock.fileno())) as below_tls:
            seen.append(ends_with_reset(below_tls))

    server = raw(serve, tls if secure else None)
    caller = api(server, trusted=trusted)
    ready(caller, server)
    if end == "given-up":
        failure(caller, "POST", within_s=0.1)
    else:
        ask(caller)
        (caller.dialer.hang_up if end == "hung-up" else caller.dialer.close)()

    wait_for(lambda: seen)
    assert seen == [True]


def test_call_does_not_wait_for_the_pause_between_dials(raw, api, clock, monkeypatch):
    server = raw(lambda wire: None)
    dials = lead_to(server, monkeypatch)
    caller = api(server, clock)
    redials(caller, clock, dials, lambda: server.closed == len(dials), count=6)
    server.serve = answers()

    reply = caller.call("GET", "/x", by=clock.monotonic() + 2)

    assert reply.status == 200


def test_close_leaves_no_connection(raw, api):
    server = raw()
    caller = api(server)
    ready(caller, server)
    ask(caller)

    caller.dialer.close()

    wait_for(lambda: server.open == 0)


# -- a worker's thread makes the calls, the main one looks after the connection


class Called(threading.Thread):
    """One call on a thread of its own; ``outcome`` is what came of it."""

    def __init__(self, api: WebApi, method: str) -> None:
        super().__init__()
        self._ask = lambda: ask(api, method, within_s=20.0)
        self.outcome = ""
        self.start()

    def run(self) -> None:
        try:
            self.outcome = str(self._ask().status)
        except HttpError as error:
            self.outcome = f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    ("method", "outcome"),
    [
        ("POST", f"Http{INCOMPLETE}"),
        ("GET", "HttpNotSent: the connection to 127.0.0.1 is closed"),
    ],
)
def test_close_ends_a_call_under_way_with_a_reset(
    raw, api, tls, trusted, secure, method, outcome
):
    seen = []

    def serve(wire: Wire) -> None:
        wire.request()
        with socket.socket(fileno=os.dup(wire.sock.fileno())) as below_tls:
            seen.append(ends_with_reset(below_tls))

    server = raw(serve, tls if secure else None)
    caller = api(server, trusted=trusted)
    ready(caller, server)
    call = Called(caller, method)
    wait_for(lambda: server.requests)
    watch = Stopwatch()

    caller.dialer.close()
    call.join(5)

    assert watch.own_s < 1.0
    assert call.outcome == outcome
    wait_for(lambda: seen)
    assert seen == [True]
    assert server.connections == 1


def test_close_ends_the_wait_for_a_connection(hanging, api):
    caller = api("http://lock.example")
    call = Called(caller, "POST")
    wait_for(dialling)
    watch = Stopwatch()

    caller.dialer.close()
    call.join(5)

    assert watch.own_s < 1.0
    assert call.outcome == "HttpNotSent: the connection to lock.example is closed"


def test_close_is_final(raw, api):
    server = raw()
    caller = api(server)
    ask(caller)

    caller.dialer.close()

    caller.dialer.keep_ready()
    assert failure(caller) == "NotSent: the connection to 127.0.0.1 is closed"
    assert server.connections == 1


def test_keep_ready_opens_no_second_connection_during_a_call(raw, api):
    goes_on = threading.Event()

    def serve(wire: Wire) -> None:
        while wire.request():
            assert goes_on.wait(10)
            wire.send(OK)

    server = raw(serve)
    caller = api(server)
    ready(caller, server)
    call = Called(caller, "GET")
    wait_for(lambda: server.requests)

    for _ in range(50):
        caller.dialer.keep_ready()
        assert caller.dialer.unreachable_for(0.1) == ""
    goes_on.set()
    call.join(5)

    assert call.outcome == "200"
    caller.dialer.keep_ready()
    assert not dialling()
    assert server.connections == 1


@pytest.fixture
def in_quick_turns() -> Iterator[None]:
    """A thread that never waits gives way to the others soon, and so more often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 50)
    yield
    sys.setswitchinterval(before)


@pytest.mark.realtime
def test_keep_ready_on_another_thread_does_not_disturb_calls(raw, api, in_quick_turns):
    """The server ends each connection after the third answer."""

    def serve(wire: Wire) -> None:
        for _ in range(3):
            wire.request()
            wire.send(OK)

    server = raw(serve)
    caller = api(server)
    is_over = threading.Event()

    def look_after() -> None:
        while not is_over.is_set():
            caller.dialer.keep_ready()

    main = threading.Thread(target=look_after)
    main.start()
    statuses = [ask(caller).status for _ in range(300)]
    is_over.set()
    main.join(5)

    assert statuses == [200] * 300
    wait_for(lambda: server.open <= 1)


@pytest.mark.realtime
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_close_at_any_moment_ends_the_calls(raw, tls, trusted, secure):
    """The server ends each connection after the second answer."""

    def serve(wire: Wire) -> None:
        for _ in range(2):
            wire.request()
            time.sleep(0.002)
            wire.send(OK)

    def call_until_closed(caller: WebApi, outcome: list[str]) -> None:
        while not outcome or "closed" not in outcome[-1]:
            try:
                outcome.append(str(ask(caller, "POST").status))
            except HttpError as error:
                outcome.append(str(error))

    server = raw(serve, tls if secure else None)
    for number in range(30):
        caller, outcome = WebApi(server.url, trusted=trusted, clock=SystemClock()), []
        worker = threading.Thread(target=call_until_closed, args=[caller, outcome])
        worker.start()
        watch = Stopwatch()
        while watch.wall_s < number * 0.002:
            caller.dialer.keep_ready()
        caller.dialer.close()
        worker.join(5)

        assert not worker.is_alive()
        late = "127.0.0.1 did not answer in time"  # cut between its head and its body
        assert {*outcome[:-1]} <= {"200", "no complete answer from 127.0.0.1", late}
        assert outcome[-1] == "the connection to 127.0.0.1 is closed"
    wait_for(lambda: server.open == 0)


# -- nothing is left behind


@pytest.mark.parametrize(
    "serve",
    [
        after_request(partly(LENGTH_9999, lambda wire: wire.drip(b" ", 0.005))),
        after_request(Wire.hang),
        after_request(lambda wire: wire.sock.close()),
        after_request(partly(HEAD + b"\r\n", lambda wire: wire.flood(b"[" * 4096))),
        lambda wire: None,
    ],
    ids=["drip", "hang", "cut", "endless", "close-at-once"],
)
def test_call_leaves_no_thread_and_no_file_after_50_failures(raw, api, serve):
    server = raw(serve)
    threads, files = threading.active_count(), open_files()
    caller = api(server)

    for _ in range(50):
        with pytest.raises(HttpError):
            ask(caller, within_s=0.012)
        assert dialling() <= 1

    caller.dialer.close()  # the one connection that stands ready
    wait_for(lambda: threading.active_count() <= threads, "threads are left")
    wait_for(lambda: open_files() <= files, "files are left")


def test_tls_bundle_is_read_once(raw, api, tls, trusted, monkeypatch):
    made, plain = [], ssl.create_default_context
    monkeypatch.setattr(
        ssl, "create_default_context", lambda **by: made.append(by) or plain(**by)
    )
    server = raw(one_answer_then_close, tls)
    caller = api(server, trusted=trusted)
    ask(caller)
    wait_for(lambda: server.open == 0)

    assert ask(caller).status == 200
    assert server.connections == 2
    assert len(made) == 1


# -- what is loaded when

LOADED_LATER = """
import sys, threading, time
import doorpi
clock = doorpi.SystemClock()
lock = doorpi.LOCKS[sys.argv[1]](
    doorpi.LockAccess(
        kind=sys.argv[1], device_id="1", base_url="https://127.0.0.1:9",
        api_key=doorpi.Secret("k"), secret_key=doorpi.Secret("0" * 32),
    ),
    clock,
    None,
)
heavy = {"requests", "urllib3", "http.client", "ssl", "cryptography"}
print(*sorted(heavy & set(sys.modules)))
lock.keep_ready()
for thread in threading.enumerate():
    if thread.name == "dial":
        thread.join()
print(*sorted(heavy & set(sys.modules)))
lock.close()
"""


@pytest.mark.parametrize(
    ("kind", "loaded"),
    [
        ("sesame", "cryptography http.client ssl"),
        ("sesame-mini", "http.client ssl"),
        ("nuki-bridge", "http.client ssl"),
    ],
)
def test_libraries_are_loaded_by_keep_ready(kind, loaded):
    """Also without a network: the first tap must not wait for them."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_LATER, kind],
        env=environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines() == ["", loaded]


def test_libraries_that_are_missing_are_named(raw, clock, caplog):
    server = raw()
    caller = WebApi(server.url, trusted="", clock=clock)
    caller.dialer.modules += ("no_such_package.part",)

    with pytest.raises(HttpNotSent) as caught:
        caller.call("GET", "/x", by=clock.monotonic() + 5)

    missing = (
        "cannot reach 127.0.0.1: No module named 'no_such_package':"
        f" {doorpi.bring_libraries()}"
    )
    assert str(caught.value) == missing
    assert [record.getMessage() for record in caplog.records] == [missing]
    assert server.connections == 0
    caller.dialer.close()


def test_tls_bundle_is_loaded_without_a_network(clock):
    dialer = doorpi.Dialer("https://no-such-host.invalid", "", clock)

    dialer.keep_ready()
    dialer._attempt.done.wait()

    assert dialer.context is not None
    dialer.close()
