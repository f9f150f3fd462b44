"""Messages of yt-dlp, for comparison with phrases and for the ledger.

They quote sites and annotations, both of which are hostile. So a text is cut before it is searched, and no pattern
repeats without bounds.
"""

import re

from kinetics_prep.sources.address import without_secrets_in

LONGEST_MESSAGE = 500
"""Characters of a message in the ledger."""

LONGEST_TEXT = 2000
"""Characters of a text that are searched."""

PREFIX = re.compile(r"^(?:ERROR: ?)?\s*(?:\[[\w:+. -]{1,40}\] )?")
_COLOUR = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}\x07?")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,10}://\S{1,2000}", re.IGNORECASE)
# The server chooses the words after a status.
_REASON_PHRASE = re.compile(r"http error \d{3}: [^;()]{0,80}")
# What follows is yt-dlp's advice on its own flags, and where to report errors.
_ADVICE = re.compile(
    r"[;,.]?\s{0,9}(?:please report this issue on|Use --|See  ?https://github\.com/yt-dlp|You might want to use a VPN"
    r"|It is recommended to use `-t|Confirm you are on the latest).{0,2000}",
    re.IGNORECASE | re.DOTALL,
)
_SECRETS = (
    (re.compile(r"\b(?:set-)?cookie2?\b['\"]?:[^\n]{0,2000}", re.IGNORECASE), "cookie: (not shown)"),
    (re.compile(r"\b((?:proxy-)?authorization\b['\"]?:)[^\n]{0,2000}", re.IGNORECASE), r"\1 (not shown)"),
    (re.compile(r"(?<![\w:/.\]])/(?:[^\s/:'\"()<>]{1,255}/){1,60}[^\s/:'\"()<>]{0,255}"), "(a local file)"),
    (re.compile(r"\b[A-Za-z]:\\[^\s'\"]{1,1000}"), "(a local file)"),
)


def plain(text: str) -> str:
    """A text as the patterns of `ytdlp_phrases` expect it, without words chosen by a server or an annotation."""
    text = without_controls(text[:LONGEST_TEXT]).replace("\u2019", "'").replace("\u2018", "'")
    text = _ADDRESS.sub("", _ADVICE.sub("", text)).lower()
    return " ".join(_REASON_PHRASE.sub(" ", text).split())


def tidy(text: str, hint: str | None = None) -> str:
    """A text for the ledger: one line, without colours, advice on flags that are not ours, secrets and local paths.

    Args:
      hint: what the user can do; added at the end, whole.
    """
    text = without_secrets_in(_ADVICE.sub("", without_controls(text[:LONGEST_TEXT])))
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split()).strip(" .;,") or "no word of explanation"
    room = LONGEST_MESSAGE - len(f"; {hint}" if hint else "")
    text = text if len(text) <= room else text[: room - 1] + "\u2026"
    return f"{text}; {hint}" if hint else text


def without_controls(text: str) -> str:
    """A text without colours, and with a space for each character that cannot be printed."""
    text = _COLOUR.sub("", text)
    return "".join(" " if not letter.isprintable() else letter for letter in text)
