"""Lists of bare video ids, one a line, that pick rows out of other annotation files: Mini-Kinetics-200 is one, of
Kinetics-400. What is behind an id on its line is not read.
"""

from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.formats import lines
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow


def read(path: Path) -> Iterator[tuple[str | None, UnreadableRow]]:
    """The ids of a list, and with each the row that stands for it where no annotation file has it.

    Where a line cannot be read there is None, and the row that says why.

    Raises:
      BadAnnotations: if the list holds no id.
      OSError: if it cannot be read.
    """
    found = False
    for number, line in lines.numbered(path):
        found, media_id = True, None
        try:
            words = lines.text_of(line).split()
            if not words:  # a space of Unicode's
                raise MalformedRow("there is no id on this line")
            media_id = words[0]
            error = MalformedRow(f"{media_id!r:.220} is in none of the annotation files")
        except MalformedRow as unreadable:
            error = unreadable
        yield media_id, UnreadableRow(path.name, number, lines.located(path, number, error))
    if not found:
        raise BadAnnotations(f"{path} holds no id")
