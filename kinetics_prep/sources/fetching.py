"""Fetching: from where videos are got, and how politely. Crosses process borders."""

import dataclasses

from kinetics_prep.errors import BadOption

YOUTUBE_HOST = "www.youtube.com"

YOUTUBE_PER_SECOND = 300 / 3600
"""More than about 300 videos an hour, and YouTube asks whether one is a robot."""


@dataclasses.dataclass(frozen=True)
class Politeness:
    """How often a host may be asked, and what to do when it will not be asked any more."""

    rates: tuple[tuple[str, float], ...] = ()
    """(host, requests per second); the host "" stands for every other one."""
    connections: int = 4
    """To one host at a time."""
    rest_seconds: float = 0.0
    """A connection rests for that long after each request, give or take a half."""
    attempts: int = 3
    """Of one video, where failure may be passing."""
    backoff_seconds: float = 1.0
    """Before the second attempt, about; twice as long before each further one."""
    pause_seconds: float = 60.0
    """How long a host is left alone when it says that it is asked too often; twice as long each further time."""
    patience_seconds: float = 900.0
    """A longer pause is not waited for: rows are refused until it is over."""
    failures_in_a_row: int = 12
    """After so many a host counts as down, and is paused too."""

    def __post_init__(self):
        for host, rate in self.rates:
            if not 1e-6 <= rate <= 1e6:
                raise BadOption(f"--rate {host or 'of every host'} is {rate:g} a second, expected a positive number")
        for name, least, most in (("connections", 1, 1000), ("attempts", 1, 100)):
            if not least <= getattr(self, name) <= most:
                raise BadOption(f"--{name} is {getattr(self, name)}, expected {least} to {most}")
        for name in ("rest_seconds", "backoff_seconds", "pause_seconds", "patience_seconds"):
            if not 0 <= getattr(self, name) < 1e7:
                raise BadOption(f"{name} is {getattr(self, name)}, expected 0 s or more")

    def per_second(self, host: str) -> float | None:
        """Requests per second that a host may get; None for as many as it answers."""
        defaults = {YOUTUBE_HOST: YOUTUBE_PER_SECOND}
        rates = dict(self.rates)
        return rates.get(host, defaults.get(host, rates.get("")))


@dataclasses.dataclass(frozen=True)
class Fetching:
    """Where videos are looked for, and how."""

    videos: tuple[str, ...]
    """As after --videos, in the order in which they are tried."""
    cache: str | None = None
    """A folder in which what was downloaded stays."""
    politeness: Politeness = Politeness()
    cookies: str | None = None
    """A file of cookies in Netscape's format."""
    proxy: str | None = None
    silence_seconds: float = 60.0
    """A server that says nothing for so long has failed."""
    largest_bytes: int = 8 << 30
    """A larger file is not downloaded."""
    short_side: int = 256
    """The least that a video should have, where a site has it in several sizes, px."""
    ask_again: tuple[str, ...] = ()
    """Reasons for which a source that had refused a video before is asked for it once more."""

    def __post_init__(self):
        if not 1 << 10 <= self.largest_bytes <= 1 << 50:
            raise BadOption(f"--largest is {self.largest_bytes} bytes, expected at least 1 kB")
