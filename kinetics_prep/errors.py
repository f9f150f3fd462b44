"""What can go wrong: refusals of one clip, which are data, and errors that stop a run.

A `ClipError` says why one annotation row has no clip. It becomes a row of the ledger, under its
`reason`, and the run goes on. A `RunError` is something the person who started the run must mend;
the command line prints its message and exits with code 2. Anything else is a bug.
"""


class ClipError(Exception):
    """One clip cannot be had; the message says what was expected and what was found."""

    reason: str

    def __init__(self, message: str, attempts: int = 1):
        super().__init__(message)
        self.attempts = attempts
        """How often the video was asked for, where it was."""


class MalformedRow(ClipError):
    """The annotation row cannot be read."""

    reason = "malformed_row"


class DuplicateRow(ClipError):
    """The same video, start and end stand in an earlier row."""

    reason = "duplicate_row"


class UnknownLabel(ClipError):
    """The row's label is not in the label map."""

    reason = "unknown_label"


class NotFound(ClipError):
    """No source has the video."""

    reason = "not_found"


class FetchFailed(ClipError):
    """A source has the video, or may have it, but getting it failed."""

    reason = "fetch_failed"


class Unreadable(ClipError):
    """The file is not a video that ffmpeg can read."""

    reason = "unreadable"


class NoVideoStream(ClipError):
    """The file can be read, and holds no moving picture."""

    reason = "no_video_stream"


class OddGeometry(ClipError):
    """The picture's shape makes no usable clip."""

    reason = "odd_geometry"


class ClipOutOfRange(ClipError):
    """The clip begins after the video's end."""

    reason = "clip_out_of_range"


class TooShort(ClipError):
    """The video ends too early for a usable clip."""

    reason = "too_short"


class DecodeTimeout(ClipError):
    """Decoding took longer than the time limit."""

    reason = "decode_timeout"


CLIP_ERRORS = (
    MalformedRow,
    DuplicateRow,
    UnknownLabel,
    NotFound,
    FetchFailed,
    Unreadable,
    NoVideoStream,
    OddGeometry,
    ClipOutOfRange,
    TooShort,
    DecodeTimeout,
)
"""Every way an annotation can be refused."""

REASONS = tuple(error.reason for error in CLIP_ERRORS)
"""The words the ledger uses for them."""


RETRYABLE = tuple(error.reason for error in CLIP_ERRORS if error not in (MalformedRow, DuplicateRow, UnknownLabel))
"""Those that another attempt may mend; the others stand in the annotations and so in the plan."""


class RunError(Exception):
    """The run cannot go on until the person who started it mends something."""


class BadAnnotations(RunError):
    """An annotation file cannot be used at all."""


class BadOption(RunError):
    """An option has a value that makes no sense here."""


class OtherRecipe(RunError):
    """The output folder holds the output of another recipe or of other annotations."""


class NoRoom(RunError):
    """The disk, or a quota, is full."""


class MissingTool(RunError):
    """A program or library that the run needs is not there."""


class CorruptShard(RunError):
    """A file that this project wrote does not read back as written."""


class IncompleteShard(RunError):
    """A shard would be committed with a row neither written nor refused."""
