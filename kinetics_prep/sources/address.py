"""Addresses of videos: templates with the id in them, redirections, and how an address may be written down."""

import functools
import re
import string
import urllib.parse
from collections.abc import Iterable, Iterator

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadAddress, BadOption

FIELDS = ("id", "start", "end", "split", "label")

HIDDEN = "***"
"""Shown in place of each secret."""

_LONG = 16
"""Characters of a value that may be a secret, whatever its name: ids of YouTube have 11."""

_LEAST = 6
"""Characters of a secret that is searched in a text; a shorter one may be a word of it."""

_DEEPEST = 3
"""How often an address may be in a value of another; what is deeper is hidden. Servers choose what they redirect to."""

_TELLING_NAME = re.compile(
    r"token|secret|passw|passcode|passphrase|credential|signature|session|policy|bearer|jwt|hmac|cookie"
    r"|auth(?!or(?:s|$|[-_.]))|key(?:$|[-_.]|id|pair)|accessid|(?:^|[-_.])(?:sig|sign|signed|sas|pass|pwd|pw|otp)(?:$|[-_.])",
    re.IGNORECASE,
)
_FIELD = re.compile(r"\{[^{}]*\}")

# Of a whole address, and of addresses in a text, which end before a space. What follows a ";" is another parameter if
# there is a "=" in it.
_USER = re.compile(r"(?:(?<=://)|(?<=^//))[^/?#]*@")
_USER_IN_TEXT = re.compile(r"(?<=://)[^/?#\s]*@")
_PARAMETER = re.compile(
    r"(?P<mark>[?&;#])(?P<name>[^=&;#?]+)"
    r"(?:=(?P<value>(?:\{[^{}]*\}|[^&#;])*(?:;[^&#;=]*(?=[&#;]|\Z))*))?"
)
_PARAMETER_IN_TEXT = re.compile(r"(?P<mark>[?&;#])(?P<name>[^=&;#?\s]+)(?:=(?P<value>[^&#\s]*))?")
_END_IN_TEXT = re.compile(r"['\")>\],.:]*\Z")


def without_secrets(address: str) -> str:
    """An address, or what follows --videos, as it may be written down or shown.

    User and password are hidden, and the value of each parameter whose name tells of a secret, such as `token` or
    `X-Amz-Signature`, or that has 16 characters or more and no field such as {id} in it.
    """
    return _hidden(address, 0)


def without_secrets_in(text: str, addresses: Iterable[str] = ()) -> str:
    """A text, such as a library's message, without the secrets of the addresses that it quotes.

    Args:
      addresses: whose secrets are hidden wherever they are in the text.
    """
    text = _USER_IN_TEXT.sub(f"{HIDDEN}@", without_secret_words(text, addresses))
    return _PARAMETER_IN_TEXT.sub(_without_secret_in_text, text)


def without_secret_words(text: str, addresses: Iterable[str]) -> str:
    """A text without the secrets of some addresses, wherever they are in it."""
    for secret in sorted({secret for address in addresses for secret in _secrets(address)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _hidden(address: str, depth: int) -> str:
    """The same, of an address that is in a value of another, which is in one of another, `depth` times."""
    return _PARAMETER.sub(functools.partial(_without_secret, depth), _USER.sub(f"{HIDDEN}@", address))


def _without_secret(depth: int, parameter: re.Match[str]) -> str:
    mark, name, value = parameter.group("mark", "name", "value")
    if value is None:  # no "="
        return f"{mark}{HIDDEN}" if mark in "?&" and _is_long(name) else parameter[0]
    if not value.strip("=") and _is_long(name):  # it ends in "=", as base64 does
        return f"{mark}{HIDDEN}"
    if not value or value == HIDDEN:
        return parameter[0]
    if depth == _DEEPEST or _TELLING_NAME.search(urllib.parse.unquote(name)) or _is_long(value):
        return f"{mark}{name}={HIDDEN}"
    unquoted = urllib.parse.unquote(value)
    if unquoted != value and _hidden(unquoted, depth + 1) != unquoted:  # an address, quoted once more
        return f"{mark}{name}={HIDDEN}"
    return f"{mark}{name}={_hidden(value, depth + 1)}"  # it may be an address


def _without_secret_in_text(parameter: re.Match[str]) -> str:
    end = _END_IN_TEXT.search(parameter[0])
    rest = end[0] if end else ""
    return _hidden(parameter[0].removesuffix(rest), 0) + rest


def _is_long(value: str) -> bool:
    return len(value) >= _LONG and not _FIELD.search(value)


def _secrets(address: str, depth: int = 0) -> Iterator[str]:
    """The secrets in an address, each as it is and unquoted."""
    parts = [user.removesuffix("@") for user in _USER.findall(address)]
    for parameter in _PARAMETER.finditer(address):
        if _without_secret(depth, parameter) != parameter[0]:
            value = parameter["name"] if parameter["value"] is None else parameter["value"]
            parts.append(value)
            if depth < _DEEPEST:
                yield from _secrets(value, depth + 1)
    for part in parts:
        for secret in (part, *part.split(":", 1)):
            yield from (word for word in (secret, urllib.parse.unquote(secret)) if len(word) >= _LEAST)


def is_http(text: str) -> bool:
    """Whether a text begins like an http(s) address."""
    return text.startswith(("http://", "https://"))


def redirected(address: str, target: str) -> str:
    """The address that a redirection leads to.

    Args:
      address: the one that was requested.
      target: the header Location, which may be relative.

    Raises:
      BadAddress: if it is no http(s) address.
    """
    try:
        joined = urllib.parse.urljoin(address, target)
        if is_http(joined) and urllib.parse.urlsplit(joined).hostname:
            return joined
    except ValueError:
        pass
    raise BadAddress(f"{without_secrets(address)} leads to {without_secrets(target)!r:.200}")


class AddressTemplate:
    """A template for the addresses of videos, such as `https://mirror.example/{id}_{start:06d}_{end:06d}.mp4`.

    Raises:
      BadOption: if there is no {id} in it, a field other than `FIELDS`, or no host.
    """

    def __init__(self, template: str):
        self.template, self._shown_template = template, without_secrets(template)
        self._names = names = _field_names(template)
        if "id" not in names or not set(names) <= set(FIELDS):
            raise BadOption(
                f"--videos {self._shown_template!r}: expected {{id}} in it, and no field but {', '.join(FIELDS)}"
            )
        try:
            self.host = urllib.parse.urlsplit(self._format(template, "x", 0, 10, "train", "x")).hostname or ""
        except (ValueError, IndexError, KeyError) as error:
            why = without_secrets_in(str(error), (template,))
            raise BadOption(f"--videos {self._shown_template!r} is not a template: {why}") from None
        if not self.host:
            raise BadOption(f"--videos {self._shown_template!r}: there is no host in it")

    @property
    def has_start(self) -> bool:
        """Whether an address says where the clip begins, and so means the clip itself."""
        return "start" in self._names

    def address(self, row: PlannedRow) -> str:
        """The address of a row's video.

        Raises:
          BadAddress: if a field of the template does not fit the row.
        """
        return self._filled(self.template, row)

    def shown(self, row: PlannedRow) -> str:
        """The same as it may be written down or shown, without secrets.

        The template's secrets are hidden, and not the row's own values, however long they are.

        Raises:
          BadAddress: as by `address`.
        """
        return self._filled(self._shown_template, row)

    def _filled(self, template: str, row: PlannedRow) -> str:
        try:
            return self._format(template, row.media_id, row.start_seconds, row.end_seconds, row.split, row.label)
        except ValueError as error:
            times = f"start {row.start_seconds} and end {row.end_seconds}"
            raise BadAddress(f"{self._shown_template} does not fit {times}: {error}", attempts=0) from None

    def _format(
        self,
        template: str,
        media_id: str,
        start_seconds: float,
        end_seconds: float | None,
        split: str,
        label: str | None,
    ) -> str:
        """The template with these values, each quoted for a URL."""
        if end_seconds is None and "end" in self._names:
            raise ValueError("the row is a whole video")
        end_seconds = 0 if end_seconds is None else end_seconds  # not in the template
        start, end = (int(value) if float(value).is_integer() else value for value in (start_seconds, end_seconds))
        id_, split, label = (urllib.parse.quote(word or "", safe="") for word in (media_id, split, label))
        return template.format(id=id_, start=start, end=end, split=split, label=label)


def _field_names(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise BadOption(f"--videos {without_secrets(template)!r} is not a template: {error}") from None
