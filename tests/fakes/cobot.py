"""Cobot, in the shapes of its own API description: API 1 and API 2 on one server.

It keeps state: members, tokens, plans, passes, bookings and check-ins.  A second check-in on
one Cobot day counts as a guest and takes another pass, as Cobot does.  ``fail_at`` plays a
fault at one kind of call; ``script`` and ``delivery`` are those of FakeCloud.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from doorpi import Command
from tests.fakes.cloud import FAULTS, FakeCloud, Fault, Reply, Request

TOKEN, SPACE, SUBDOMAIN = "cobot-token-0001", "99da6cb66b5e6b39", "my-space"
SCOPES = (
    "checkin_tokens", "read_check_ins", "read_memberships", "read_time_passes",
    "read_bookings", "read_resources", "read_user", "read_spaces", "write_check_ins",
)  # fmt: skip
JSON_API = "application/vnd.api+json"
CALLS = {
    "tokens": "/api/check_in_tokens",
    "token": "/api/check_in_tokens/[^/]+",
    "passes": "/api/time_passes/unused",
    "catalogue": "/api/plans",
    "access-token": "/api/access_tokens/[^/]+",
    "member": "/memberships/[^/]+",
    "current": "/spaces/[^/]+/check_ins/current",
    "members": "/spaces/[^/]+/memberships",
    "plans": "/spaces/[^/]+/membership_plans",
    "bookings": "/spaces/[^/]+/bookings",
    "resources": "/spaces/[^/]+/resources",
    "check-in": "/check_ins",
    "user": "/user",
    "health": "/health",
    "unknown": ".*",
}
ALL_DAY = {"from_hour": 4, "from_minute": 0, "to_hour": 3, "to_minute": 59}
FOUR_HOURS = timedelta(hours=4)


@dataclass
class Member:
    name: str
    confirmed: str | None = "2020-02-01"
    canceled: str | None = None
    email: str = ""


@dataclass
class Plan:
    membership: str
    name: str
    starts: str = "2020-02-01"
    canceled: str | None = None  # the last day
    extras: tuple[str, ...] = ()


@dataclass
class Pass:
    membership: str
    spans: list[dict[str, Any]] = field(default_factory=lambda: [dict(ALL_DAY)])
    expires: str | None = None
    is_used: bool = False


@dataclass
class Booking:
    start: datetime
    end: datetime
    membership: str | None = None
    resource: str = "room-1"
    emails: tuple[str, ...] = ()


class FakeCobot(FakeCloud):
    """``page_size`` is the largest page; ``space`` what GET /user tells of this one.

    What Cobot may do wrong between two calls: ``empty`` and ``halved`` are lists (their
    names as in CALLS) that lack everybody, or half of them; ``torn`` ones end after
    their first page, although more were announced.  ``before_call`` runs ahead of each
    call, with its name.
    """

    def __init__(self, clock) -> None:
        self.members: dict[str, Member] = {}
        self.tokens: dict[str, str] = {}
        self.plans: list[Plan] = []
        self.catalogue: dict[str, bool] = {}  # plans: whether they have time passes
        self.passes: list[Pass] = []
        self.bookings: list[Booking] = []
        self.resources = {"room-1": "Meeting Room", "room-2": "Studio"}
        self.check_ins: list[dict[str, str]] = []
        self.space = {"subdomain": SUBDOMAIN, "timeZone": "UTC", "name": "Space"}
        self.scopes: tuple[str, ...] = SCOPES
        self.token, self.page_size = TOKEN, 200
        self.empty: set[str] = set()
        self.halved: set[str] = set()
        self.torn: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.before_call: Callable[[str], None] = lambda name: None
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        super().__init__(clock)

    def add(self, member_id: str, token: str, plan: str = "Fix Desk", **more) -> Member:
        """A member with a card and a plan."""
        self.members[member_id] = Member(
            more.pop("name", f"Name of {member_id}"), **more
        )
        self.tokens[token] = member_id
        if plan:
            self.plans.append(Plan(member_id, plan))
            self.catalogue.setdefault(plan, False)
        return self.members[member_id]

    def fail_at(self, name: str, *faults: str | Fault) -> None:
        """Play these at the next calls of this name."""
        self._faults[name] += [
            FAULTS[each] if isinstance(each, str) else each for each in faults
        ]

    @property
    def guests(self) -> list[tuple[str, date]]:
        """Members who were checked in more than once on a Cobot day."""
        days = Counter(
            (
                each["membership"],
                (datetime.fromisoformat(each["validFrom"]) - FOUR_HOURS).date(),
            )
            for each in self.check_ins
        )
        return [key for key, count in days.items() if count > 1]

    # -- FakeCloud

    def command_of(self, request: Request) -> Command | None:
        return None

    def call_of(self, request: Request) -> str:
        """The row of CALLS that a request is."""
        path = urlsplit(request.path).path
        return next(name for name, form in CALLS.items() if re.fullmatch(form, path))

    def _reply_to(self, request: Request, stage: str) -> Reply:
        name = self.call_of(request)
        self.calls[name] += 1
        self.before_call(name)
        faults = self._faults[name]
        if not self.script and faults:
            return self._play(faults.pop(0), request)
        return super()._reply_to(request, stage)

    def answer(self, request: Request) -> Reply:
        name = self.call_of(request)
        if name == "health":
            return Reply(204)
        if name == "access-token":
            known = request.path.endswith(f"/{self.token}")
            return answered({"scope": self.scopes}) if known else answered(404, {})
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return answered(401, {"errors": [{"detail": "Invalid access token."}]})
        is_api_1 = urlsplit(request.path).path.startswith("/api/")
        if not is_api_1 and request.headers.get("accept") != JSON_API:
            return answered(406, {})
        needed = {
            "tokens": "checkin_tokens", "token": "checkin_tokens",
            "passes": "read_time_passes", "members": "read_memberships",
            "member": "read_memberships", "plans": "read_memberships",
            "bookings": "read_bookings", "resources": "read_resources",
            "current": "read_check_ins",
            "check-in": "write_check_ins", "user": "read_user",
        }.get(name, "")  # fmt: skip
        if needed and needed not in self.scopes:
            return answered(403, {"errors": [{"detail": f"Scope {needed} missing."}]})
        answer = getattr(self, f"_{name.replace('-', '_')}", None)
        return answer(request) if answer else answered(404, {})

    # -- API 1

    def _list(self, name: str, items: list[Any]) -> list[Any]:
        if name in self.empty:
            return []
        return items[: len(items) // 2] if name in self.halved else items

    def _membership(self, member_id: str) -> dict[str, str]:
        member = self.members.get(member_id)
        return {"id": member_id, "name": member.name if member else ""}

    def _tokens(self, request: Request) -> Reply:
        every = [
            {"token": token, "membership": self._membership(member)}
            for token, member in self.tokens.items()
        ]
        return answered(self._list("tokens", every))

    def _token(self, request: Request) -> Reply:
        token = unquote(request.path.rpartition("/")[2])
        if token not in self.tokens:
            return answered(404, {})
        return answered({"membership": self._membership(self.tokens[token])})

    def _passes(self, request: Request) -> Reply:
        every = [
            {
                "id": f"pass-{number}", "created_at": "2026/01/01 00:00:00 +0000",
                "expires_at": each.expires, "used_at": None, "name": "Day Pass",
                "timespans": "4-3:59", "membership": self._membership(each.membership),
                "parsed_timespans": [{"weekdays": [], **span} for span in each.spans],
            }
            for number, each in enumerate(self.passes)
            if not each.is_used
        ]  # fmt: skip
        return answered(self._list("passes", every))

    def _catalogue(self, request: Request) -> Reply:
        offered = [{"id": "0", "name": "Day Pass", "parsed_timespans": [ALL_DAY]}]
        return answered(
            [
                {"id": name, "name": name, "time_passes": offered if has_passes else []}
                for name, has_passes in self.catalogue.items()
            ]
        )

    # -- API 2

    def _user(self, request: Request) -> Reply:
        return answered(
            {
                "data": {"id": "u1", "type": "users", "attributes": {"email": "x@y.z"}},
                "included": [{"type": "spaces", "id": SPACE, "attributes": self.space}],
            }
        )

    def _paged(self, request: Request, name: str, items: list[Any]) -> Reply:
        items = self._list(name, items)
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        size = min(int(query.get("page[size]", 72)), self.page_size)
        number = int(query.get("page[number]", 1))
        total = max(1, -(-len(items) // size))
        kept = "&".join(
            f"{key}={value}" for key, value in query.items() if key != "page[number]"
        )
        here = f"https://api.cobot.me{parts.path}?{kept}&page[number]="
        following = f"{here}{number + 1}"
        is_last = number >= total or name in self.torn
        return answered(
            {
                "data": items[(number - 1) * size : number * size],
                "links": {
                    "first": f"{here}1",
                    "self": f"{here}{number}",
                    "next": None if is_last else following,
                },
                "meta": {"totalPages": total, "currentPage": number},
            }
        )

    def _as_member(self, member_id: str) -> dict[str, Any]:
        member = self.members[member_id]
        return {
            "id": member_id, "type": "memberships",
            "attributes": {
                "name": member.name, "email": member.email or None, "phone": None,
                "company": None, "photo": None,
                "confirmedAt": member.confirmed, "canceledAt": member.canceled,
            },
            "relationships": {"space": linked("spaces", SPACE)},
        }  # fmt: skip

    def _members(self, request: Request) -> Reply:
        first, last = between(request)
        every = [
            self._as_member(member_id)
            for member_id, each in self.members.items()
            if (each.canceled or "9") >= first and (each.confirmed or "0") <= last
        ]
        return self._paged(request, "members", every)

    def _member(self, request: Request) -> Reply:
        member_id = request.path.rpartition("/")[2]
        if member_id not in self.members:
            return answered(404, {})
        return answered({"data": self._as_member(member_id)})

    def _plans(self, request: Request) -> Reply:
        first, last = between(request)
        price = {"net": "1.0", "gross": "1.0", "currency": "EUR", "taxes": []}
        every = [
            {
                "id": f"plan-{number}", "type": "membershipPlans",
                "attributes": {
                    "accountingCode": None, "cycleDuration": 1, "description": None,
                    "name": plan.name, "startsAt": plan.starts, "pricePerCycle": price,
                    "canceledAt": plan.canceled,
                    "extras": [
                        {"accountingCode": None, "cycleDuration": 1, "name": extra,
                         "pricePerCycle": price}
                        for extra in plan.extras
                    ],
                },
                "relationships": {"membership": linked("memberships", plan.membership)},
            }
            for number, plan in enumerate(self.plans)
            if (plan.canceled or "9") >= first and plan.starts <= last
        ]  # fmt: skip
        return self._paged(request, "plans", every)

    def _bookings(self, request: Request) -> Reply:
        first, last = between(request)
        every = [
            {
                "id": f"booking-{number}", "type": "bookings",
                "attributes": {
                    "from": zulu(each.start), "to": zulu(each.end), "title": None,
                    "attendees": [{"email": email} for email in each.emails],
                },
                "relationships": {
                    "resource": linked("resources", each.resource),
                    "membership": (
                        linked("memberships", each.membership)
                        if each.membership
                        else {"data": None}
                    ),
                },
            }
            for number, each in enumerate(self.bookings)
            if zulu(each.end) > first and zulu(each.start) < last
        ]  # fmt: skip
        return self._paged(request, "bookings", every)

    def _resources(self, request: Request) -> Reply:
        every = [
            {"id": name, "type": "resources", "attributes": {"name": words}}
            for name, words in self.resources.items()
        ]
        return self._paged(request, "resources", every)

    def _now(self) -> datetime:
        return self.clock.now().astimezone(UTC)

    def _current(self, request: Request) -> Reply:
        token = parse_qs(urlsplit(request.path).query)["filter[checkInToken]"][0]
        member, now = self.tokens.get(token), zulu(self._now())
        found = [
            self._as_check_in(each)
            for each in self.check_ins
            if each["membership"] == member and each["validUntil"] > now
        ]
        return answered({"data": found})

    def _as_check_in(self, each: dict[str, str]) -> dict[str, Any]:
        return {
            "id": f"check-in-{self.check_ins.index(each)}", "type": "checkIns",
            "attributes": {key: each[key] for key in ("validFrom", "validUntil")},
            "relationships": {
                "space": linked("spaces", SPACE),
                "membership": linked("memberships", each["membership"]),
            },
        }  # fmt: skip

    def _check_in(self, request: Request) -> Reply:
        """The body must be what the description of create-check-in demands."""
        assert request.headers["content-type"] == JSON_API, request.headers
        token = request.json["data"]["attributes"]["checkInToken"]
        assert request.json == {
            "data": {
                "type": "checkIns",
                "attributes": {"checkInToken": token},
                "relationships": {"space": linked("spaces", SPACE)},
            }
        }
        if token not in self.tokens:
            return answered(404, {})
        member, now = self.tokens[token], self._now()
        unused = [p for p in self.passes if p.membership == member and not p.is_used]
        names = {plan.name for plan in self.plans if plan.membership == member}
        if any(self.catalogue.get(name) for name in names):
            if not unused:
                return answered(422, {"errors": [{"detail": "No time passes left."}]})
            unused[0].is_used = True
        day = (now - FOUR_HOURS).date() + timedelta(days=1)
        until = datetime(day.year, day.month, day.day, 3, 59, 59, tzinfo=UTC)
        self.check_ins.append(
            {"membership": member, "validFrom": zulu(now), "validUntil": zulu(until)}
        )
        return answered(201, {"data": self._as_check_in(self.check_ins[-1])})


def answered(*parts: Any) -> Reply:
    """A body with status 200, or status and body."""
    status, body = parts if len(parts) == 2 else (200, *parts)
    return Reply(status, json.dumps(body).encode(), (f"Content-Type: {JSON_API}",))


def linked(kind: str, name: str) -> dict[str, Any]:
    return {"data": {"id": name, "type": kind}}


def between(request: Request) -> tuple[str, str]:
    """``filter[from]`` and ``filter[to]``, which both have to be there."""
    query = parse_qs(urlsplit(request.path).query)
    return query["filter[from]"][0], query["filter[to]"][0]


def zulu(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
