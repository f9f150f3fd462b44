"""Values of flags: words on the command line -> values, or an error that argparse shows."""

import argparse
from fractions import Fraction
from pathlib import Path

from kinetics_prep.annotations.annotation import SPLITS, parse_split
from kinetics_prep.errors import MalformedRow
from kinetics_prep.storage.local_paths import from_file_url, why_not_local

_UNITS_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def path(text: str) -> Path:
    """A path of this machine; a URL is refused, except `file:///...`."""
    return Path(path_text(text))


def path_text(text: str) -> str:
    """The same as text."""
    text = from_file_url(text)
    if why := why_not_local(text):
        raise argparse.ArgumentTypeError(why)
    return text


def named_path(text: str) -> tuple[str | None, Path]:
    """`NAME=FILE` or `FILE`, as (name or None, path)."""
    name, _, file = text.rpartition("=")
    path_text(text)  # a URL may hold a "="
    return name or None, path(file)


def rate(text: str) -> tuple[str, float]:
    """(host or "", requests per second)."""
    host, _, quantity = text.rpartition("=")
    number, _, unit = quantity.partition("/")
    try:
        return host.lower(), float(number) / _UNITS_SECONDS[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate such as 2/s, 300/h or host=2/s") from None


def split(word: str) -> str:
    """A split, under any usual name."""
    try:
        return parse_split(word)
    except MalformedRow:
        raise argparse.ArgumentTypeError(f"unknown split {word!r}, expected one of {', '.join(SPLITS)}") from None


def words(text: str) -> tuple[str, ...]:
    """A list with commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def indices(text: str) -> tuple[int, ...]:
    """A list of numbers with commas."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1") from None


def fps(text: str) -> Fraction:
    """Frames per second, a number or a fraction."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number or fraction") from None


def share(text: str) -> tuple[float, bool]:
    """(number, whether it is a share of 1)."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of rows nor a share such as 5%")
    return (number / 100, True) if text.endswith("%") else (number, False)
