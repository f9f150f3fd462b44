"""Notices for people, shown beside the progress bar."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def notices() -> Iterator[None]:
    """Shows what the package logs, such as until when a host is paused, on standard error."""
    from kinetics_prep.report.progress import Notices

    logger, handler = logging.getLogger("kinetics_prep"), Notices()
    level, propagate = logger.level, logger.propagate
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
