"""An exception of yt-dlp -> the reason that the ledger gives.

yt-dlp has few classes of errors, and sites say the rest in words. The class decides if it leaves nothing open, then the
words, then the HTTP status: a site may answer 403 and explain why in words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from kinetics_prep import errors
from kinetics_prep.errors import ClipError
from kinetics_prep.sources.ytdlp_messages import LONGEST_TEXT, PREFIX, plain, tidy, without_controls
from kinetics_prep.sources.ytdlp_phrases import reason_in

NEEDS_JAVASCRIPT = "this site needs a JavaScript runtime: install deno 2.3 or node 22, or newer ones"
NEEDS_UPDATE = "the site has changed: pip install --upgrade 'yt-dlp[default]'"

_MOST_CAUSES = 20

# Classes by name, so that yt-dlp need not be imported. Those whose meaning is clear:
_DECISIVE: dict[str, type[ClipError]] = {
    "GeoRestrictedError": errors.Geo,
    "UnsupportedError": errors.WrongContent,
    "UserNotLive": errors.NotYet,
    "ContentTooShortError": errors.Truncated,
    "IncompleteRead": errors.Truncated,
    "TransportError": errors.Network,  # among them those of TLS and of proxies
    "TimeoutError": errors.Network,
    "ConnectionError": errors.Network,
    "gaierror": errors.Network,
}
# Those that count only if neither words nor status say more:
_LAST_RESORTS: dict[str, type[ClipError]] = {
    "HTTPException": errors.Network,
    "_UnsafeExtensionError": errors.WrongContent,
    "RequestError": errors.BadAddress,  # for an address that yt-dlp does not request, such as file: or ftp:
}

_BY_STATUS: dict[int, type[ClipError]] = {
    **dict.fromkeys((404, 410), errors.NotFound),
    **dict.fromkeys((401, 403, 407), errors.Forbidden),
    **dict.fromkeys((408, 425), errors.Network),
    402: errors.MembersOnly,
    416: errors.Truncated,
    429: errors.RateLimited,
    451: errors.Geo,
}

# For a vague reason an earlier warning may give a better one, of these.
_VAGUE = (errors.NoFormat, errors.Unavailable, errors.Internal)
_EXPLANATIONS = (errors.BotCheck, errors.RateLimited, errors.Drm, errors.MembersOnly, errors.AgeRestricted)
_NO_JAVASCRIPT = re.compile(r"javascript runtime|js runtime|challenge solving|signature solving")

_STATUS = re.compile(r"HTTP Error (\d{3})\b")


def classify(error: BaseException, warnings: Sequence[str] = ()) -> ClipError:
    """The refusal that an exception of yt-dlp means.

    Args:
      error: raised by yt-dlp.
      warnings: yt-dlp's warnings before the error, the oldest first.
    """
    chain = tuple(causes(error))
    words = _words(chain)
    kind = (
        _by_class(chain, _DECISIVE)
        or reason_in(plain(words))
        or _by_status(chain, words)
        or _by_class(chain, _LAST_RESORTS)
        or (errors.Network if plain(words).startswith("got error:") else errors.Internal)
    )
    if kind in _VAGUE:
        kind = next((reason for reason in map(_by_warning, warnings) if reason in _EXPLANATIONS), kind)
    if kind is errors.Internal:
        words = f"{_class_name(chain)}{words}"
    return kind(tidy(words, _hint(kind, words, warnings)))


def causes(error: BaseException, contexts: bool = False) -> Iterator[BaseException]:
    """Yields an exception and its causes, each once and at most 20 in all.

    Args:
      contexts: whether the exceptions count too that were being handled when one of these was raised.
    """
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(seen) < _MOST_CAUSES:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and not any(cause is other for other in seen):
            seen.append(cause)
            yield cause
            waiting += [*_wrapped(cause), getattr(cause, "cause", None), cause.__cause__]
            waiting += [cause.__context__] if contexts else []


def _wrapped(error: BaseException) -> list[object]:
    """The errors that a DownloadError wraps: the extractor's, which is only in its context, and the cause of that."""
    if not _is_a(error, "DownloadError"):
        return []
    information = getattr(error, "exc_info", None)
    cause = information[1] if isinstance(information, tuple) and len(information) == 3 else None
    return [error.__context__ if hasattr(error.__context__, "orig_msg") else None, cause]


def _is_a(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)


# Reasons


def _by_class(chain: Sequence[BaseException], kinds: Mapping[str, type[ClipError]]) -> type[ClipError] | None:
    return next((kind for error in chain for name, kind in kinds.items() if _is_a(error, name)), None)


def _by_status(chain: Sequence[BaseException], words: str) -> type[ClipError] | None:
    statuses = [status for error in chain if isinstance(status := getattr(error, "status", None), int)]
    statuses += map(int, _STATUS.findall(words))
    if not statuses:
        return None
    if any(getattr(error, "redirect_loop", False) for error in chain) or 300 <= statuses[0] < 400:
        return errors.BadAddress
    if statuses[0] >= 500:
        return errors.ServerError
    return _BY_STATUS.get(statuses[0], errors.BadAddress if 400 <= statuses[0] < 500 else None)


def _by_warning(text: str) -> type[ClipError] | None:
    return reason_in(plain(text)) or _by_status((), text[:LONGEST_TEXT])


# Messages


def _hint(kind: type[ClipError], words: str, warnings: Sequence[str]) -> str | None:
    if kind is errors.NoFormat and any(_NO_JAVASCRIPT.search(plain(text)) for text in (words, *warnings)):
        return NEEDS_JAVASCRIPT
    return NEEDS_UPDATE if "needs to be reloaded" in words else None


def _class_name(chain: Sequence[BaseException]) -> str:
    """The class of the innermost error, unless it is yt-dlp's most general one."""
    name = type(chain[-1]).__name__
    return "" if name in ("DownloadError", "ExtractorError") else f"{name}: "


def _words(chain: Sequence[BaseException]) -> str:
    """The words of the extractor's error if there is one, else those of the outermost error."""
    speaker = next((error for error in chain if hasattr(error, "orig_msg")), chain[0])
    words = without_controls(str(getattr(speaker, "orig_msg", speaker))[:LONGEST_TEXT])
    words = PREFIX.sub("", words, count=1)
    countries = getattr(speaker, "countries", None)
    if countries:
        words += f" Shown in {', '.join(map(str, list(countries)[:20]))}."
    cause = getattr(speaker, "cause", None)
    if isinstance(cause, BaseException) and str(cause)[:100] not in words:
        words += f" ({type(cause).__name__}: {str(cause)[:LONGEST_TEXT]})"
    return words
