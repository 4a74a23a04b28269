"""Changed copies of values, whatever kind of class they are."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


def replace(value: T, **changes: object) -> T:
    """A copy of ``value`` with ``changes``: of doorpi's values, or of a dataclass, as
    those of the fakes are."""
    changeable: Any = value
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(changeable, **changes)
    return changeable._replace(**changes)
