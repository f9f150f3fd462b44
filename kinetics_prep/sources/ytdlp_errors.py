"""What yt-dlp says went wrong -> the reason that the ledger gives.

yt-dlp has few classes of errors; most of what a site has to say is in the words. So `SAYINGS` is a table of what sites
and yt-dlp are known to say, and the first row that matches decides. A class counts before the words where it leaves
nothing open, a status after them: a site may answer 403 and explain.

Both sides of the talk are strangers. Words are cut before they are looked at, and no pattern repeats without bounds.
"""

import re
from collections.abc import Iterator, Sequence

from kinetics_prep import errors
from kinetics_prep.errors import ClipError

LONGEST_MESSAGE = 500
"""Characters that the ledger gets to read."""

_LONGEST_TEXT = 2000
_MOST_CAUSES = 20

NEEDS_JAVASCRIPT = "this site needs a JavaScript runtime: install deno 2.3 or node 22, or newer ones"
NEEDS_UPDATE = "the site has changed: pip install --upgrade 'yt-dlp[default]'"


def _row(kind: type[ClipError], phrases: str) -> tuple[re.Pattern, type[ClipError]]:
    """A row of the table below: phrases, between them bars with spaces around, or ends of lines."""
    words = (phrase.strip() for phrase in re.split(r" \| |\n", phrases))
    return re.compile("|".join(filter(None, words))), kind


# Of text in lower case, with straight apostrophes, single spaces, and without addresses. The order counts: what is said
# of the country comes before what is said of copyright, since a video "blocked in your country on copyright grounds" is
# there for others; "Private video. Sign in if ..." is private.
SAYINGS = (
    _row(errors.Network, r"tunnel connection failed | connect(?:ion)? to proxy | socks\d? proxy"),
    _row(
        errors.Truncated,
        r"""
        \d bytes read\b | downloaded \d+ bytes, expected | content too short | did not get any data
        downloaded file is empty | fragment \d+ not found | incompleteread
        """,
    ),
    _row(
        errors.BotCheck,
        r"""
        you're not a (?:ro)?bot | captcha | anti-bot | your ip is likely being blocked | unusual traffic
        you(?:'re| are) (?:a )?human
        """,
    ),
    _row(errors.RateLimited, r"rate[- ]?limit | too many requests | content isn't available, try again later"),
    _row(
        errors.NotYet,
        r"""
        live event will begin | premier(?:es?|ing) (?:in|on|at|will|soon|shortly) | processing this video
        check back later | not currently live | is not live | stream is offline | ^offline\.?$ | is upcoming
        (?:has not|hasn't|have not) (?:yet )?(?:started|begun|premiered|aired|been released) | not yet aired
        will be available (?:in|on|at|from|soon) | waiting for .{1,40} to go live
        """,
    ),
    _row(
        errors.Terminated,
        r"""
        (?:account|channel)\b.{0,60}\b(?:terminated|closed|suspended|banned) | closed their .{0,20}account
        (?:user|uploader) .{0,30}\b(?:suspended|banned|terminated) | account .{0,30}\bdeleted
        """,
    ),
    _row(
        errors.Geo,
        r"""
        \bin your (?:country|region|location|area)
        (?:from|to|for|at) your (?:current )?(?:country|region|location) | \bgeo[- ]?(?:restrict|block|graphic)
        country domain | unavailable for legal reasons
        outside (?:of )?(?:the )?(?:your )?(?:country|region|us\b|uk\b|united|eu\b|europe)
        """,
    ),
    _row(errors.Drm, r"\bdrm\b | widevine | fairplay | playready"),
    _row(errors.Copyright, r"copyright"),
    _row(
        errors.MembersOnly,
        r"""
        members?[- ](?:only|first) | members on level | channel's members | join this (?:youtube )?channel
        \bpremium\b | requires? (?:a )?(?:payment|purchase|subscription) | payment required | paywall
        \b(?:subscribers|patrons)\b | \b(?:must|need to|have to) (?:pay|buy|rent|purchase|subscribe)\b
        \bpaid (?:video|content|members?|account)
        """,
    ),
    _row(
        errors.AgeRestricted,
        r"""
        confirm your age | \bage[- ]?(?:restrict|verif|gate|limit|check) | inappropriate for some
        identified by the .{1,30} community as inappropriate | mature (?:content|audience) | adults? only
        """,
    ),
    _row(
        errors.Private,
        r"""
        \bprivate (?:video|account|profile|content|post|album|playlist|channel)
        \b(?:is|are|was|been|made|to|it|as) private\b | privacy settings
        """,
    ),
    _row(
        errors.Policy,
        r"""
        \bviolat(?:es?|ed|ing|ions?)\b | terms of (?:service|use) | community (?:guidelines|standards|rules)
        hate speech | nudity | \bspam\b | legal (?:complaint|request|reasons|order) | court order
        government request | removed by (?:the )?(?:moderat|site|admin)
        """,
    ),
    _row(
        errors.Removed,
        r"""
        (?:removed|deleted|taken down) by (?:the |its )?(?:uploader|user|owner|author|creator)
        (?:uploader|user|owner|author|creator) (?:has )?(?:removed|deleted)
        \b(?:been|was|is|video) (?:removed|deleted|taken down)\b | no longer exists
        """,
    ),
    _row(
        errors.LoginRequired,
        r"""
        sign[- ]?in\b | \blog[- ]?(?:ged[- ])?in\b | registered users | \bpassword\b | authenticat(?:e|ion)
        \baccount (?:is )?required | requires? an account
        """,
    ),
    _row(
        errors.WrongContent,
        r"""
        unsupported url: | no video could be found | there(?:'s| is) no video | no media found
        is unusual and will be skipped
        """,
    ),
    _row(
        errors.NoFormat,
        r"""
        requested format is not available | no video formats | only images are available | needs to be reloaded
        not available on this (?:app|device) | ffmpeg could not be found | impersonat(?:e|ion)
        unsupported features | partially downloaded | video partially
        """,
    ),
    _row(
        errors.NotFound,
        r"""
        does(?: not|n't) exist | \b(?:video|page|clip|post|media) (?:was )?not found | no such video
        incomplete .{1,30} id\b | could(?: not|n't) be found
        """,
    ),
    _row(
        errors.BadAddress,
        r"""
        redirect loop | too many redirects | exceeded \d+ redirects | is not a valid url | invalid url
        no suitable extractor | unsupported url scheme | unable to handle request | urls are disabled
        """,
    ),
    _row(
        errors.ServerError,
        r"""
        technical difficulties | something went wrong | internal (?:server )?error | (?:an|unknown) error occurred
        temporarily unavailable | try again later | service unavailable | \bmaintenance\b
        """,
    ),
    _row(
        errors.Unavailable,
        r"""
        \bunavailable\b | \b(?:not|isn't|longer|aren't) (?:\w{1,12} )?available\b | live event has ended
        playback on other websites
        """,
    ),
    _row(
        errors.Network,
        r"""
        \btimed?[- ]?out\b | connection (?:refused|reset|aborted|closed|broken|error)
        (?:temporary failure in )?name (?:resolution|or service) | failed to resolve | getaddrinfo
        network is unreachable | no route to host | remote end closed | \bssl\b | certificate verify
        network error
        """,
    ),
)

# Classes by name, so that no version of yt-dlp has to be imported to ask. Those that leave nothing open:
_DECISIVE = {
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
_LAST_RESORTS = {
    "HTTPException": errors.Network,
    "_UnsafeExtensionError": errors.WrongContent,
    "RequestError": errors.BadAddress,  # what no handler of requests takes, such as file: or ftp:
}

_BY_STATUS = {
    **dict.fromkeys((404, 410), errors.NotFound),
    **dict.fromkeys((401, 403, 407), errors.Forbidden),
    **dict.fromkeys((408, 425), errors.Network),
    402: errors.MembersOnly,
    416: errors.Truncated,
    429: errors.RateLimited,
    451: errors.Geo,
}

# An error that tells so little may have been explained in a warning before it, by one of these.
_VAGUE = (errors.NoFormat, errors.Unavailable, errors.Internal)
_EXPLAIN = (errors.BotCheck, errors.RateLimited, errors.Drm, errors.MembersOnly, errors.AgeRestricted)
_NO_JAVASCRIPT = re.compile(r"javascript runtime|js runtime|challenge solving|signature solving")

_STATUS = re.compile(r"HTTP Error (\d{3})\b")
_PREFIX = re.compile(r"^(?:ERROR: ?)?\s*(?:\[[\w:+. -]{1,40}\] )?")
_COLOUR = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}\x07?")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,10}://\S{1,2000}", re.IGNORECASE)
# The words after a status are the server's choice.
_REASON_PHRASE = re.compile(r"http error \d{3}: [^;()]{0,80}")
# From here on it is about yt-dlp: its own flags, where to report.
_ADVICE = re.compile(
    r"[;,.]?\s{0,9}(?:please report this issue on|Use --|See  ?https://github\.com/yt-dlp|You might want to use a VPN"
    r"|It is recommended to use `-t|Confirm you are on the latest).{0,2000}",
    re.IGNORECASE | re.DOTALL,
)
_SECRETS = (
    (re.compile(r"://[^/@\s]{1,1000}@"), "://"),
    (re.compile(r"\b(?:set-)?cookie2?\b['\"]?:[^\n]{0,2000}", re.IGNORECASE), "cookie: (not shown)"),
    (re.compile(r"\b((?:proxy-)?authorization\b['\"]?:)[^\n]{0,2000}", re.IGNORECASE), r"\1 (not shown)"),
    (re.compile(r"(?<![\w:/.\]])/(?:[^\s/:'\"()<>]{1,255}/){1,60}[^\s/:'\"()<>]{0,255}"), "(a local file)"),
    (re.compile(r"\b[A-Za-z]:\\[^\s'\"]{1,1000}"), "(a local file)"),
)


def classify(error: BaseException, said: Sequence[str] = ()) -> ClipError:
    """The refusal that an exception of yt-dlp means.

    Args:
      error: what yt-dlp raised.
      said: its warnings before that, the oldest first.
    """
    chain = tuple(causes(error))
    words = _words(chain)
    kind = (
        _by_class(chain, _DECISIVE)
        or _by_words(_plain(words))
        or _by_status(chain, words)
        or _by_class(chain, _LAST_RESORTS)
        or (errors.Network if _plain(words).startswith("got error:") else errors.Internal)
    )
    if kind in _VAGUE:
        kind = next((found for found in map(_by_warning, said) if found in _EXPLAIN), kind)
    if kind is errors.Internal:
        words = f"{_name_of(chain)}{words}"
    return kind(tidy(words, _hint(kind, words, said)))


def causes(error: BaseException, contexts: bool = False) -> Iterator[BaseException]:
    """An exception and what it says that led to it; with `contexts` also what was being handled when it was raised."""
    seen, waiting = [], [error]
    while waiting and len(seen) < _MOST_CAUSES:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and not any(one is other for other in seen):
            seen.append(one)
            yield one
            waiting += [*_wrapped(one), getattr(one, "cause", None), one.__cause__]
            waiting += [one.__context__] if contexts else []


def _wrapped(error: BaseException) -> list[BaseException]:
    """What a DownloadError is about: the extractor's error, which only its context tells, and the cause of that."""
    if not _is_a(error, "DownloadError"):
        return []
    information = getattr(error, "exc_info", None)
    named = information[1] if isinstance(information, tuple) and len(information) == 3 else None
    wrapped = [error.__context__] if hasattr(error.__context__, "orig_msg") else []
    return wrapped if named is None else [*wrapped, named]


def _is_a(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)


# What happened


def _by_class(chain: Sequence[BaseException], kinds: dict[str, type[ClipError]]) -> type[ClipError] | None:
    return next((kind for error in chain for name, kind in kinds.items() if _is_a(error, name)), None)


def _by_words(plain: str) -> type[ClipError] | None:
    return next((kind for pattern, kind in SAYINGS if pattern.search(plain)), None)


def _by_status(chain: Sequence[BaseException], words: str) -> type[ClipError] | None:
    statuses = [error.status for error in chain if isinstance(getattr(error, "status", None), int)]
    statuses += map(int, _STATUS.findall(words))
    if not statuses:
        return None
    if any(getattr(error, "redirect_loop", False) for error in chain) or 300 <= statuses[0] < 400:
        return errors.BadAddress
    if statuses[0] >= 500:
        return errors.ServerError
    return _BY_STATUS.get(statuses[0], errors.BadAddress if 400 <= statuses[0] < 500 else None)


def _by_warning(text: str) -> type[ClipError] | None:
    return _by_words(_plain(text)) or _by_status((), text[:_LONGEST_TEXT])


def _hint(kind: type[ClipError], words: str, said: Sequence[str]) -> str | None:
    if kind is errors.NoFormat and any(_NO_JAVASCRIPT.search(_plain(text)) for text in (words, *said)):
        return NEEDS_JAVASCRIPT
    return NEEDS_UPDATE if "needs to be reloaded" in words else None


# What was said of it


def _name_of(chain: Sequence[BaseException]) -> str:
    name = type(chain[-1]).__name__
    return "" if name in ("DownloadError", "ExtractorError") else f"{name}: "


def _words(chain: Sequence[BaseException]) -> str:
    """The words of the extractor, if it was one that failed, else those of the outermost error."""
    speaker = next((error for error in chain if hasattr(error, "orig_msg")), chain[0])
    words = _without_controls(str(getattr(speaker, "orig_msg", speaker))[:_LONGEST_TEXT])
    words = _PREFIX.sub("", words, count=1)
    countries = getattr(speaker, "countries", None)
    if countries:
        words += f" Shown in {', '.join(map(str, list(countries)[:20]))}."
    cause = getattr(speaker, "cause", None)
    if isinstance(cause, BaseException) and str(cause)[:100] not in words:
        words += f" ({type(cause).__name__}: {str(cause)[:_LONGEST_TEXT]})"
    return words


def _plain(text: str) -> str:
    """For comparison: as the patterns expect it, and without what a server or an annotation put in."""
    text = _without_controls(text[:_LONGEST_TEXT]).replace("\u2019", "'").replace("\u2018", "'")
    text = _ADDRESS.sub("", _ADVICE.sub("", text)).lower()
    return " ".join(_REASON_PHRASE.sub(" ", text).split())


def tidy(text: str, hint: str | None = None) -> str:
    """For the ledger: one line without colours, advice on flags that are not ours, passwords or local paths."""
    text = _ADVICE.sub("", _without_controls(text[:_LONGEST_TEXT]))
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    text = " ".join(text.split()).strip(" .;,") or "no word of explanation"
    room = LONGEST_MESSAGE - len(f"; {hint}" if hint else "")
    text = text if len(text) <= room else text[: room - 1] + "\u2026"
    return f"{text}; {hint}" if hint else text


def _without_controls(text: str) -> str:
    text = _COLOUR.sub("", text)
    return "".join(" " if not letter.isprintable() else letter for letter in text)
