"""Which of the formats that a site offers for a video is downloaded."""

from collections.abc import Iterable, Iterator
from typing import Any

_PROTOCOLS = frozenset(("http", "https", "m3u8", "m3u8_native", "http_dash_segments", "ism"))
_AUDIO = frozenset(("m4a", "mp3", "opus", "oga", "aac", "flac", "wav", "weba", "wma"))


def choose(formats: Iterable[dict[str, Any]], short_side: int) -> Iterator[dict[str, Any]]:
    """Yields the smallest format whose shorter side has `short_side` px, or else the largest; nothing if there is none.

    Of formats of one size, those without sound are better, then those with fewer bytes.

    Args:
      formats: yt-dlp's descriptions, the worst first.
    """
    with_picture = [(format_, place) for place, format_ in enumerate(formats) if _has_picture(format_)]
    if with_picture:
        yield min(with_picture, key=lambda pair: _rank(pair[0], pair[1], short_side))[0]


def _has_picture(format_: dict[str, Any]) -> bool:
    if format_.get("has_drm") or format_.get("protocol") not in _PROTOCOLS:
        return False
    if format_.get("vcodec") is None:  # unknown, as for a link to a file
        return format_.get("ext") not in _AUDIO | {"mhtml"}
    return format_["vcodec"] != "none" and format_.get("ext") != "mhtml"


def _rank(format_: dict[str, Any], place: int, short_side: int) -> tuple[Any, ...]:
    """Sorts the best format first.

    Args:
      place: in yt-dlp's order, the best last; decides between formats of unknown size.
    """
    side = _shorter_side(format_)
    suits: tuple[int, float]
    if _is_poor(format_) or side is None:
        suits = (3 if _is_poor(format_) else 2, -place)
    else:
        suits = (0, side) if side >= short_side else (1, -side)
    infinite = float("inf")
    has_high_range = (format_.get("dynamic_range") or "SDR") != "SDR"
    size = format_.get("filesize") or format_.get("filesize_approx") or infinite
    has_sound = format_.get("acodec") != "none"
    return *suits, has_high_range, has_sound, format_.get("tbr") or infinite, size, str(format_.get("format_id"))


def _shorter_side(format_: dict[str, Any]) -> float | None:
    """The shorter side, px. Many formats give only the number of lines; then that."""
    width, height = format_.get("width"), format_.get("height")
    return (min(width, height) if width else height) or None if height else None


def _is_poor(format_: dict[str, Any]) -> bool:
    """Whether yt-dlp marks it as damaged, or the site has computed its detail from a smaller picture."""
    return (format_.get("preference") or 0) <= -10 or "upscaled" in str(format_.get("format_note")).lower()
