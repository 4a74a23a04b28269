"""Changed copies of doorpi's values, whatever kind of class they are."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

T = TypeVar("T")


def replace(value: T, **changes: object) -> T:
    """A copy of ``value`` with ``changes``: of a NamedTuple, as the values of the
    vocabulary are, or of a dataclass, as the settings' tables are."""
    if isinstance(value, tuple):
        return value._replace(**changes)  # type: ignore[attr-defined]
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
