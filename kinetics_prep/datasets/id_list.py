"""Lists of bare video ids, one a line, that pick rows out of other annotation files: Mini-Kinetics-200 is one, of
Kinetics-400. What is behind an id on its line is not read.
"""

from pathlib import Path

from kinetics_prep.datasets import lines
from kinetics_prep.datasets.rows import Row
from kinetics_prep.errors import BadAnnotations, MalformedRow


def selected(path: Path, rows: list[Row]) -> list[Row]:
    """Of some rows those whose video is in a list, and a row that cannot be used for each id that none of them has.

    Rows that cannot be read have no id, and are left out.

    Raises:
      BadAnnotations: if the list holds no id.
      OSError: if it cannot be read.
    """
    wanted, unusable = {}, []
    for number, line in lines.numbered(path):
        try:
            wanted.setdefault(lines.text_of(line).split()[0], number)
        except MalformedRow as error:
            unusable.append(Row(path.name, number, error=lines.located(path, number, error)))
    if not wanted and not unusable:
        raise BadAnnotations(f"{path} holds no id")
    chosen = [row for row in rows if row.annotation and row.annotation.media_id in wanted]
    found = {row.annotation.media_id for row in chosen}
    for media_id, number in wanted.items():
        if media_id not in found:
            error = MalformedRow(f"{media_id!r:.220} is in none of the annotation files")
            unusable.append(Row(path.name, number, error=lines.located(path, number, error)))
    return chosen + unusable
