"""A disk that is full, for tests."""

import contextlib
import resource
import signal


@contextlib.contextmanager
def disk_with_room_for(size_bytes: int):
    """Files cannot grow beyond this size: the system reports it as it reports a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
