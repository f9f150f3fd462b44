"""Fetching: where videos are searched, and at which pace. Its values cross process borders."""

import dataclasses

from kinetics_prep.errors import BadOption
from kinetics_prep.storage.local_paths import expect_local

YOUTUBE_HOST = "www.youtube.com"

YOUTUBE_PER_SECOND = 300 / 3600
"""After more than about 300 videos an hour YouTube asks whether the client is a robot."""


@dataclasses.dataclass(frozen=True)
class Politeness:
    """How often a host gets requests, and what happens when it refuses more of them."""

    rates: tuple[tuple[str, float], ...] = ()
    """(host, requests per second); the host "" stands for every other host."""
    connections: int = 4
    """To a host at a time."""
    rest_seconds: float = 0.0
    """How long a connection rests after each request, on average; the length varies by half of it."""
    attempts: int = 3
    """How often a video is requested, if the failure may pass."""
    backoff_seconds: float = 1.0
    """Before the second attempt, about; twice as long before each further attempt."""
    pause_seconds: float = 60.0
    """How long a host gets no requests after it said that there were too many; doubled each further time."""
    patience_seconds: float = 900.0
    """The longest pause that is waited for. During a longer pause rows are refused."""
    failures_in_a_row: int = 12
    """After so many a host counts as down, and is paused too."""

    def __post_init__(self) -> None:
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
        """Requests per second that a host may get; None for no limit."""
        defaults = {YOUTUBE_HOST: YOUTUBE_PER_SECOND}
        rates = dict(self.rates)
        return rates.get(host, defaults.get(host, rates.get("")))


@dataclasses.dataclass(frozen=True)
class Fetching:
    """Where videos are searched, and how."""

    videos: tuple[str, ...]
    """As after --videos, in the order in which they are tried."""
    cache: str | None = None
    """The folder that keeps downloads."""
    politeness: Politeness = Politeness()
    cookies: str | None = None
    """A file of cookies in Netscape's format."""
    proxy: str | None = None
    silence_seconds: float = 60.0
    """A server that sends nothing for so long has failed."""
    largest_bytes: int = 8 << 30
    """A larger file is not downloaded."""
    short_side: int = 256
    """The shorter side that a video should have at least, if a site has it in several sizes, px."""
    ask_again: tuple[str, ...] = ()
    """Reasons of refusals in the cache that are ignored: such videos are requested once more."""

    def __post_init__(self) -> None:
        expect_local("--cache", self.cache)
        expect_local("--cookies", self.cookies)
        if not 1 << 10 <= self.largest_bytes <= 1 << 50:
            raise BadOption(f"--largest is {self.largest_bytes} bytes, expected at least 1 kB")
