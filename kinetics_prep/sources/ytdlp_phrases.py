"""Phrases that sites and yt-dlp are known to use -> the reason that the ledger gives.

yt-dlp has few classes of errors; the words of the site say more. No pattern repeats without bounds, since the text is
hostile.
"""

import re

from kinetics_prep import errors
from kinetics_prep.errors import ClipError


def _row(kind: type[ClipError], phrases: str) -> tuple[re.Pattern, type[ClipError]]:
    """A row of the table below: regular expressions, separated by " | " or by ends of lines."""
    patterns = (phrase.strip() for phrase in re.split(r" \| |\n", phrases))
    return re.compile("|".join(filter(None, patterns))), kind


# The patterns are for text from `ytdlp_messages.plain`: lower case, straight apostrophes, single spaces, no addresses.
# The order counts: phrases about the country come before those about copyright, since a video "blocked in your country
# on copyright grounds" can be watched elsewhere; "Private video. Sign in if ..." is private.
PHRASES = (
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


def reason_in(plain_text: str) -> type[ClipError] | None:
    """The reason of the first row of the table that has a phrase in a text; None if no row has.

    Args:
      plain_text: from `ytdlp_messages.plain`.
    """
    return next((kind for pattern, kind in PHRASES if pattern.search(plain_text)), None)
