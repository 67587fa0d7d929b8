"""Parsing what options take: durations, times, keys with values."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta, timezone
from typing import Final

import click

from ..errors import shown

_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}

_SHORTEST_PAUSE: Final = 0.01  # seconds, about what a query takes
_LONGEST_PAUSE: Final = 86_400  # seconds: a day
_DIGITS: Final = 6  # of a number in a duration: 999999d are 2,700 years
_ISO: Final = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.ASCII)


def duration(text: str) -> timedelta:
    """Return a duration such as 90d, 12h or 1d12h, or the same in ISO 8601: P90D, PT12H, P1DT12H."""
    plain = text
    if text[:1] == "P" and (iso := _ISO.fullmatch(text)) is not None and any(iso.groups()):
        plain = "".join(f"{number}{unit}" for number, unit in zip(iso.groups(), "wdhms", strict=True) if number)
    if not re.fullmatch(r"(\d+[smhdw])+", plain, re.ASCII):
        raise click.BadParameter(
            f"{shown(text)} is not a duration such as 90d, 12h, 1d12h or P90D (units: s, m, h, d, w)"
        )
    parts = re.findall(r"(\d+)([smhdw])", plain)
    if any(len(number) > _DIGITS for number, _ in parts):
        raise click.BadParameter(f"{shown(text)} is too long: a number in a duration has at most {_DIGITS} digits")
    try:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        raise click.BadParameter(f"{shown(text)} is longer than a duration can be") from None


def spelled(duration: timedelta) -> str:
    """Return a duration in words, to the second, as ``1 day 12 hours``."""
    hours, seconds = divmod(duration.seconds, 3600)
    numbers = {"day": duration.days, "hour": hours, "minute": seconds // 60, "second": seconds % 60}
    said = [f"{number:,} {unit}{'' if number == 1 else 's'}" for unit, number in numbers.items() if number]
    return " ".join(said) or "0 seconds"


def pause(text: str) -> float:
    """Return a number of seconds from 0.01, about what a query takes, to a day; click's own range takes NaN."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST_PAUSE <= seconds <= _LONGEST_PAUSE:
        raise click.BadParameter(
            f"{shown(text)} is not a number of seconds from {_SHORTEST_PAUSE} to {_LONGEST_PAUSE:,}"
        )
    return seconds


def moment(text: str) -> datetime | int:
    """Return a time: ISO 8601, local if it names no zone, or milliseconds since the epoch as an integer."""
    if re.fullmatch(r"\d{11,18}", text, re.ASCII):  # since 1973: fewer digits are a date, or seconds by mistake
        return int(text)
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time such as 2024-05-31, 2024-05-31T12:00Z or milliseconds since the epoch"
        ) from None
    try:
        return found if found.tzinfo is not None else found.astimezone()
    except (OverflowError, OSError, ValueError):  # the first or last day of the calendar
        return found.replace(tzinfo=timezone.utc)


def key_value(text: str) -> tuple[str, str | int | bool]:
    """Return the key and the value of KEY=TEXT, or of KEY:=JSON, which is for numbers and booleans."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=TEXT or KEY:=JSON")
    if not key.endswith(":"):
        return key, value
    try:
        return key[:-1], json.loads(value)
    except (ValueError, RecursionError):
        raise click.BadParameter(f"{shown(value)} in {key}= is not JSON; for text it is KEY=TEXT") from None
