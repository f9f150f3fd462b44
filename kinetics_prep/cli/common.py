"""What the commands share: exit codes, and notices beside a progress bar."""

import contextlib
import logging

OK, BUG, CANNOT_GO_ON, TOO_MANY_REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
INVALID = 4


@contextlib.contextmanager
def notices():
    """Shows what is logged for people, such as until when a host is left alone, beside the progress bar."""
    from kinetics_prep.report.progress import Notices

    logger, handler = logging.getLogger("kinetics_prep"), Notices()
    before, logger.propagate = (logger.level, logger.propagate), False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
