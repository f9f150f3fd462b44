"""Durations, sizes and rates in words, as people read them."""

import math


def format_duration(seconds: float) -> str:
    """Returns the two largest units that matter: 45 s, 3 min 05 s, 2 h 10 min, 5 d 3 h."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"a duration must be finite and not negative, is {seconds}")
    minutes, s = divmod(round(seconds), 60)
    hours, min_ = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{hours} h {min_:02} min"
    return f"{minutes} min {s:02} s" if minutes else f"{s} s"


def format_bytes(n: float) -> str:
    """Returns a size in units of 1000, as disks are sold and clouds bill: 999 B, 1.5 kB, 2.0 TB."""
    if n < 0:
        raise ValueError(f"a size must not be negative, is {n}")
    if n < 1000:
        return f"{n:.0f} B"
    units, power = ("kB", "MB", "GB", "TB", "PB"), 1
    while power < len(units) and round(n / 1000**power, 1) >= 1000:
        power += 1
    return f"{n / 1000**power:.1f} {units[power - 1]}"


def format_rate(clips_per_second: float) -> str:
    """Returns a speed such as 3.2 clips/s, or per hour where that would read as nearly none."""
    if clips_per_second < 0.1:
        return f"{clips_per_second * 3600:.1f} clips/h"
    return f"{clips_per_second:.1f} clips/s"
