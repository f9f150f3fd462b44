"""Lists of video ids, one per line, that pick rows out of annotation files: Mini-Kinetics-200 is such a list.

The rest of a line, behind the id, is not read.
"""

from collections.abc import Iterator
from pathlib import Path

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
