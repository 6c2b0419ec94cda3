"""Moments and time zones, as jobs that wait have them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .types import ConversionError, show


def moment(value: Any) -> datetime:
    """A moment from its text, with a time zone where that has one.

    Raises:
        ConversionError: it is none.
    """
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if found.tzinfo is None:
            found.astimezone()  # which a time far from ours has not
        return found
    except (ValueError, OverflowError):
        hint = "Write it as 2026-12-24T18:00, or with its distance from UTC: …+09:00."
        raise ConversionError(f"{show(value)} is no time", hint) from None


def time_zone(name: Any) -> ZoneInfo | None:
    """A time zone by its name; None, that of this computer, where the name is empty.

    Raises:
        ConversionError: there is none of this name here.
    """
    if name in (None, ""):
        return None
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last: it names a folder of them
        hint = "Write one such as UTC or Asia/Seoul."
        raise ConversionError(f"there is no time zone {show(name)} here", hint) from None
