"""The output folder as a whole: made, kept from other runs, cleared of what a killed run left."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator

from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import BadOption
from kinetics_prep.storage.locks import exclusive_folder


@contextlib.contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Makes the folder, keeps other runs out of it, and gives empty scratch space.

    Raises:
      BadOption: if the folder cannot be made or written to.
      OtherRecipe: if another run uses it.
    """
    try:
        layout.output.mkdir(parents=True, exist_ok=True)
        with exclusive_folder(layout.output):
            # Temporary files of a killed run; safe to delete, because we hold the lock.
            shutil.rmtree(layout.scratch, ignore_errors=True)
            layout.scratch.mkdir(parents=True)
            try:
                yield
            finally:
                for folder in (layout.scratch, layout.work):  # only if empty: unfinished work stays
                    with contextlib.suppress(OSError):
                        folder.rmdir()
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadOption(f"--output {layout.output} cannot be written to: {error.filename}: {error.strerror}") from None


def is_unused(layout: Layout) -> bool:
    """Whether nothing has been prepared in the folder yet."""
    return not any(itertools.chain(layout.markers.glob("*"), layout.work.glob("*/*/*")))


def remove_settings(layout: Layout) -> None:
    """Removes recipe, labels and plans. Only for a folder in which nothing has been prepared: see `is_unused`."""
    for path in (layout.recipe, layout.labels, *layout.plans.glob("*")):
        path.unlink(missing_ok=True)
