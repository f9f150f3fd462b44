"""What can go wrong: refusals of one clip, which are data, and errors that stop a run.

A `ClipError` says why one annotation row has no clip. It becomes a row of the ledger, under its
`reason`, and the run goes on. A `RunError` is something that the user must correct;
the command line prints its message and exits with code 2. Anything else is a bug.
"""

import enum


class Again(enum.Enum):
    """Whether another attempt at a refused clip may help, and when. The value is for people."""

    NEVER = "never"
    AT_ONCE = "run again"
    AFTER_A_PAUSE = "run again after the pause that the message names"
    WITH_COOKIES = "with --cookies of somebody who may see it"
    ELSEWHERE = "from another country, or through --proxy"
    OTHER_SOURCE = "when there is another source, or the same one has changed"
    OTHER_SETTING = "with the setting that the message names"
    OTHER_ANNOTATIONS = "with other annotations, into another --output"


class ClipError(Exception):
    """One clip cannot be prepared; the message says what was expected and what was found."""

    reason: str
    again: Again

    def __init__(self, message: str, attempts: int = 1):
        super().__init__(message)
        self.attempts = attempts
        """How often the video was requested."""


# Of the annotations


class MalformedRow(ClipError):
    """The annotation row cannot be read."""

    reason, again = "malformed_row", Again.OTHER_ANNOTATIONS


class DuplicateRow(ClipError):
    """An earlier row has the same video, start and end."""

    reason, again = "duplicate_row", Again.OTHER_ANNOTATIONS


class UnknownLabel(ClipError):
    """The row's label is not in the label map."""

    reason, again = "unknown_label", Again.OTHER_ANNOTATIONS


class FetchError(ClipError):
    """The video could not be fetched; its content is unknown."""


# Of getting the video: it is not there


class NotFound(FetchError):
    """No source has the video."""

    reason, again = "not_found", Again.OTHER_SOURCE


class Removed(FetchError):
    """Its uploader took the video down."""

    reason, again = "removed", Again.NEVER


class Terminated(FetchError):
    """The account that had uploaded the video was closed."""

    reason, again = "terminated", Again.NEVER


class Private(FetchError):
    """The video is private."""

    reason, again = "private", Again.NEVER


class Copyright(FetchError):
    """The video was taken down after a copyright claim."""

    reason, again = "copyright", Again.NEVER


class Policy(FetchError):
    """The video was taken down for breaking the site's rules, or the law."""

    reason, again = "policy", Again.NEVER


class Drm(FetchError):
    """The video is protected against copying."""

    reason, again = "drm", Again.NEVER


class Unavailable(FetchError):
    """The site does not have the video, and does not say why."""

    reason, again = "unavailable", Again.OTHER_SOURCE


class NotYet(FetchError):
    """A live stream that has not begun yet, or that still goes on."""

    reason, again = "not_yet", Again.AT_ONCE


# Of getting the video: it is there, for others


class Geo(FetchError):
    """The video is not shown in this country."""

    reason, again = "geo", Again.ELSEWHERE


class AgeRestricted(FetchError):
    """The site shows the video only to users whose age it knows."""

    reason, again = "age_restricted", Again.WITH_COOKIES


class LoginRequired(FetchError):
    """The site shows the video only to users who have logged in."""

    reason, again = "login_required", Again.WITH_COOKIES


class MembersOnly(FetchError):
    """The site shows the video only to members, or after payment."""

    reason, again = "members_only", Again.WITH_COOKIES


class BotCheck(FetchError):
    """The site suspects a robot; requests to it were paused."""

    reason, again = "bot_check", Again.AFTER_A_PAUSE


class RateLimited(FetchError):
    """The server got too many requests; requests to it were paused."""

    reason, again = "rate_limited", Again.AFTER_A_PAUSE

    retry_after_seconds: float | None = None
    """The pause that the server asked for."""


class Forbidden(FetchError):
    """The server refuses to hand the video over (HTTP 401, 403, 407)."""

    reason, again = "forbidden", Again.AT_ONCE


# Of getting the video: it does not arrive


class NoFormat(FetchError):
    """The site offers the video in no format that can be downloaded here."""

    reason, again = "no_format", Again.OTHER_SETTING


class WrongContent(FetchError):
    """The server sent something that is not a video, such as an HTML page."""

    reason, again = "wrong_content", Again.OTHER_SOURCE


class TooLarge(FetchError):
    """The file is larger than the limit."""

    reason, again = "too_large", Again.OTHER_SETTING


class BadAddress(FetchError):
    """The address is unusable: HTTP 400 and the like, or redirections that go in circles."""

    reason, again = "bad_address", Again.OTHER_SOURCE


class Network(FetchError):
    """The server could not be reached, or stopped answering."""

    reason, again = "network", Again.AT_ONCE


class ServerError(FetchError):
    """The server says that it failed (HTTP 500 and above)."""

    reason, again = "server_error", Again.AT_ONCE


class Truncated(FetchError):
    """The file broke off before its end."""

    reason, again = "truncated", Again.AT_ONCE


class UnreadableFile(FetchError):
    """The file exists and cannot be read: no permission, or a failing disk."""

    reason, again = "unreadable_file", Again.OTHER_SOURCE


class Internal(FetchError):
    """The downloader failed for a reason unknown to us; the message quotes it."""

    reason, again = "internal", Again.AT_ONCE


# Of the video


class Unreadable(ClipError):
    """The file is not a video that ffmpeg can read."""

    reason, again = "unreadable", Again.OTHER_SOURCE


class NoVideoStream(ClipError):
    """The file can be read and holds no video stream."""

    reason, again = "no_video_stream", Again.OTHER_SOURCE


class OddGeometry(ClipError):
    """The picture's shape makes no usable clip."""

    reason, again = "odd_geometry", Again.OTHER_SOURCE


class ClipOutOfRange(ClipError):
    """The clip begins after the video's end."""

    reason, again = "clip_out_of_range", Again.OTHER_SOURCE


class TooShort(ClipError):
    """The video ends too early for a usable clip."""

    reason, again = "too_short", Again.OTHER_SOURCE


class DecodeTimeout(ClipError):
    """Decoding took longer than the time limit."""

    reason, again = "decode_timeout", Again.OTHER_SOURCE


CLIP_ERRORS = (
    MalformedRow,
    DuplicateRow,
    UnknownLabel,
    NotFound,
    Removed,
    Terminated,
    Private,
    Copyright,
    Policy,
    Drm,
    Unavailable,
    NotYet,
    Geo,
    AgeRestricted,
    LoginRequired,
    MembersOnly,
    BotCheck,
    RateLimited,
    Forbidden,
    NoFormat,
    WrongContent,
    TooLarge,
    BadAddress,
    Network,
    ServerError,
    Truncated,
    UnreadableFile,
    Internal,
    Unreadable,
    NoVideoStream,
    OddGeometry,
    ClipOutOfRange,
    TooShort,
    DecodeTimeout,
)
"""Every way in which an annotation can be refused."""

BY_REASON = {error.reason: error for error in CLIP_ERRORS}

REASONS = tuple(BY_REASON)
"""The words the ledger uses for them."""

RETRYABLE = tuple(error.reason for error in CLIP_ERRORS if error.again is not Again.OTHER_ANNOTATIONS)
"""Reasons that another attempt may resolve; the others come from the annotations, and so are in the plan."""

OF_FETCHING = tuple(error.reason for error in CLIP_ERRORS if issubclass(error, FetchError))
"""Reasons of videos that could not be fetched: what `refresh` searches by default."""

PASSING = tuple(error.reason for error in CLIP_ERRORS if error.again in (Again.AT_ONCE, Again.AFTER_A_PAUSE))
"""Reasons that pass by themselves: what `retry` tries by default."""


class RunError(Exception):
    """The run cannot go on until the user corrects something."""


class BadAnnotations(RunError):
    """An annotation file cannot be used at all."""


class BadOption(RunError):
    """An option has a value that makes no sense here."""


class OtherRecipe(RunError):
    """The output folder holds the output of another recipe or of other annotations."""


class FolderInUse(RunError):
    """Another run is writing to the folder."""


class NoRoom(RunError):
    """The disk, or a quota, is full."""


class MissingTool(RunError):
    """A program or library that the run needs is missing."""


class CorruptShard(RunError):
    """A file that this project wrote does not read back as written."""


class IncompleteShard(RunError):
    """A shard would be committed with a row neither written nor refused."""


class BadWeights(RunError):
    """A file of weights cannot be fetched or read, or does not fit the model."""


class BadLogits(RunError):
    """A model's output is not finite."""


class Diverged(RunError):
    """The training loss is not finite."""


class BadVideo(RunError):
    """A video given by the user makes no clip."""
