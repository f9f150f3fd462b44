"""Addresses of videos: templates with the id in them, redirections, and how an address may be written down."""

import re
import string
import urllib.parse

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadAddress, BadOption

FIELDS = ("id", "start", "end", "split", "label")


def without_password(address: str) -> str:
    """An address, or what follows --videos, without the user name and password in it."""
    return re.sub(r"(?:(?<=://)|(?<=^//))[^/?#]*@", "", address)


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
    raise BadAddress(f"{without_password(address)} leads to {without_password(target)!r:.200}")


class AddressTemplate:
    """A template for the addresses of videos, such as `https://mirror.example/{id}_{start:06d}_{end:06d}.mp4`.

    Raises:
      BadOption: if there is no {id} in it, a field other than `FIELDS`, or no host.
    """

    def __init__(self, template: str):
        self.template = template
        self._names = names = _field_names(template)
        if "id" not in names or not set(names) <= set(FIELDS):
            raise BadOption(
                f"--videos {without_password(template)!r}: expected {{id}} in it, and no field but {', '.join(FIELDS)}"
            )
        try:
            self.host = urllib.parse.urlsplit(self._format("x", 0, 10, "train", "x")).hostname or ""
        except (ValueError, IndexError, KeyError) as error:
            raise BadOption(f"--videos {without_password(template)!r} is not a template: {error}") from None
        if not self.host:
            raise BadOption(f"--videos {without_password(template)!r}: there is no host in it")

    @property
    def has_start(self) -> bool:
        """Whether an address says where the clip begins, and so means the clip itself."""
        return "start" in self._names

    def address(self, row: PlannedRow) -> str:
        """The address of a row's video.

        Raises:
          BadAddress: if a field of the template does not fit the row.
        """
        try:
            return self._format(row.media_id, row.start_seconds, row.end_seconds, row.split, row.label)
        except ValueError as error:
            times = f"start {row.start_seconds} and end {row.end_seconds}"
            raise BadAddress(f"{without_password(self.template)} does not fit {times}: {error}", attempts=0) from None

    def _format(
        self, media_id: str, start_seconds: float, end_seconds: float | None, split: str, label: str | None
    ) -> str:
        """The address for these values, each quoted for a URL."""
        if end_seconds is None and "end" in self._names:
            raise ValueError("the row is a whole video")
        end_seconds = 0 if end_seconds is None else end_seconds  # not in the template
        start, end = (int(value) if float(value).is_integer() else value for value in (start_seconds, end_seconds))
        id_, split, label = (urllib.parse.quote(word or "", safe="") for word in (media_id, split, label))
        return self.template.format(id=id_, start=start, end=end, split=split, label=label)


def _field_names(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise BadOption(f"--videos {without_password(template)!r} is not a template: {error}") from None
