"""Importing Keras for a command: quietly, and with a clear error where it is missing."""

import contextlib
import os
import sys
from collections.abc import Iterator

from kinetics_prep.errors import MissingTool


def load_keras() -> None:
    """Makes sure that Keras is there, and keeps TensorFlow's messages about its devices off the screen.

    Raises:
      MissingTool: if the extra `train` is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_stderr():
        try:
            import kinetics_prep.models.weights  # noqa: F401
        except ImportError as error:
            raise MissingTool(
                f"models need what the extra `train` brings, and there is no {error.name}: "
                "pip install 'kinetics-prep[train]'"
            ) from None


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Discards what libraries write to standard error below Python, while they are imported."""
    sys.stderr.flush()
    kept, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(devnull)
