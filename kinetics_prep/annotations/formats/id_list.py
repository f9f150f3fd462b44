"""Lists of video ids, one per line, that pick rows out of annotation files: Mini-Kinetics-200 is such a list.

The rest of a line, behind the id, is not read.
"""

from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import breaks_lines
from kinetics_prep.annotations.formats import lines
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow


def read(path: Path) -> Iterator[tuple[str | None, UnreadableRow]]:
    """Yields each id of a list with the row that reports it as missing, for `RowStore.keep`.

    For a line that cannot be read, yields None with the row that says why.

    Raises:
      BadAnnotations: if the list holds no id.
      OSError: if the list cannot be read.
    """
    is_empty = True
    for number, line in lines.numbered(path):
        is_empty = False
        media_id = None
        try:
            words = lines.decode(line).split()
            if not words:  # only spaces that Unicode knows and ASCII does not
                raise MalformedRow("there is no id on this line")
            media_id = words[0]
            error = MalformedRow(f"{media_id!r:.220} is in none of the annotation files")
        except MalformedRow as unreadable:
            error = unreadable
        yield media_id, UnreadableRow(path.name, number, lines.located(path, number, error))
    if is_empty:
        raise BadAnnotations(f"{path} holds no id")


LONGEST_ID = 255
"""Characters of an id of a video or a clip."""


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a list of ids of videos or clips, each without the space around it.

    Raises:
      BadAnnotations: if the list holds no id, or a line that cannot begin with one; the message names file and line.
      OSError: if the list cannot be read.
    """
    found = []
    for number, line in lines.numbered(path):
        try:
            found.append(_expect_id(lines.decode(line).strip()))
        except MalformedRow as error:
            raise BadAnnotations(str(lines.located(path, number, error))) from None
    if not found:
        raise BadAnnotations(f"{path} holds no id")
    return tuple(found)


def _expect_id(line: str) -> str:
    """Returns a line that begins with an id.

    Raises:
      MalformedRow: if it does not.
    """
    if breaks_lines(line.replace("\t", " ")) or not line:
        raise MalformedRow(f"expected an id of a video or a clip, got {line!r:.100}")
    first = line.split()[0]
    if len(first) > LONGEST_ID:
        raise MalformedRow(f"an id of {len(first)} characters, expected {LONGEST_ID} at most")
    return line
