"""Annotation formats. A format is one file here and one row in `DATASETS`; the tests find it by its row.

Each is a module with `read(path, default_split) -> Iterator[Row]`, one `Row` for every annotation
in the file, readable or not.
"""

from kinetics_prep.datasets import kinetics_csv
from kinetics_prep.datasets.rows import Row

DATASETS = {
    "kinetics-csv": kinetics_csv,
}

__all__ = ["DATASETS", "Row"]
