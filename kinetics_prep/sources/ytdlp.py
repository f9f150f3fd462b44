"""Videos that yt-dlp can get: YouTube's, and those of other sites by a URL with the id in it.

`youtube`, or `yt-dlp:https://vimeo.com/{id}`. One `download` is one attempt; how often, how fast and after which pause
is decided elsewhere. A whole video is fetched, in the smallest size that suffices, and its clip cut from it like any
other: having yt-dlp cut would either encode once more or leave an edit list that not every reader heeds.

What it does not do: it writes nowhere but into a folder that goes with the attempt; starts no ffmpeg and no other
downloader, which would heed neither the limit on size nor that on protocols; forges no address to get around a
country's limits; reads nobody's configuration; and loads plugins only if YTDLP_NO_PLUGINS is set, and empty.
"""

import contextlib
import functools
import importlib.util
import io
import os
import re
import stat
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import (
    BadAddress,
    BadOption,
    ClipError,
    Internal,
    MissingTool,
    NotYet,
    RunError,
    TooLarge,
    Truncated,
    WrongContent,
)
from kinetics_prep.sources import cookies, ytdlp_errors
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.source import Download
from kinetics_prep.storage.files import is_full, room_needed

PREFIX = "yt-dlp:"
YOUTUBE = "youtube"
FRAGMENT_RETRIES = 3
"""A video in a thousand pieces should not fail for one of them; whole attempts are counted elsewhere."""

_YOUTUBE_TEMPLATE = "https://www.youtube.com/watch?v={id}"
_YOUTUBE_ID = re.compile(r"[0-9A-Za-z_-]{11}")
_JAVASCRIPT_RUNTIMES = ("deno", "node", "bun", "quickjs")
_PROTOCOLS = frozenset(("http", "https", "m3u8", "m3u8_native", "http_dash_segments", "ism"))
_AUDIO = frozenset(("m4a", "mp3", "opus", "oga", "aac", "flac", "wav", "weba", "wma"))
_UNFINISHED = {
    "is_live": "is going on",
    "is_upcoming": "has not begun",
    "post_live": "has ended and is being processed",
}
_KEPT_WORDS = 50


class YtDlp:
    """A site, and how videos are got from it. One may serve many threads."""

    is_remote = True
    gives_pieces = False
    attempts_if_forbidden = 2
    """An address that a site gave out may have grown stale; asked once more, it gives another."""

    @staticmethod
    def accepts(text: str) -> bool:
        return text == YOUTUBE or text.startswith(PREFIX)

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "YtDlp":
        """The source that `text` means.

        Raises:
          BadOption: if its template, or the file of cookies, cannot be used.
          MissingTool: if yt-dlp is not installed.
        """
        if importlib.util.find_spec("yt_dlp") is None:
            raise MissingTool(f"--videos {text!r} needs yt-dlp: pip install 'yt-dlp[default]'")
        return cls(text, fetching, scratch)

    def __init__(self, text: str, fetching: Fetching, scratch: Path):
        self.is_youtube = text == YOUTUBE
        self.template = _YOUTUBE_TEMPLATE if self.is_youtube else text.removeprefix(PREFIX)
        self.host = _host(self.template)
        self.fetching, self.scratch = fetching, scratch.absolute()
        self.extractors = [YOUTUBE] if self.is_youtube else ["default"]
        """Names of yt-dlp's extractors that may be used, as in its option of that name."""
        if os.path.expandvars(str(self.scratch)) != str(self.scratch):  # which yt-dlp would do
            raise BadOption(f"yt-dlp cannot work below {str(self.scratch)!r}: it takes the $ in it for a variable")
        self._cookies = cookies.text(fetching.cookies)

    def address(self, row: PlannedRow) -> str:
        """Where the video of a row is to be found."""
        return self.template.replace("{id}", urllib.parse.quote(row.media_id, safe=""))

    def origin(self, row: PlannedRow) -> str:
        """The address as it may be written down."""
        return ytdlp_errors.tidy(self.address(row))

    def download(self, row: PlannedRow, path: Path, ask: Callable[[str], None]) -> Download:
        """Downloads the whole video of a row to `path`, in one attempt; a failure leaves nothing there.

        Args:
          ask: called with the host once, for a video is what sites count; returns when it may be asked for.

        Raises:
          ClipError: one of those "of getting the video", with what the site or yt-dlp said.
          NoRoom: if the disk is full.
        """
        address = self.address(row)
        if self.is_youtube and not _YOUTUBE_ID.fullmatch(row.media_id):
            raise BadAddress(
                f"{row.media_id!r} is no id of a video of YouTube: expected 11 letters, digits, - and _", 0
            )
        ask(self.host)
        try:
            with room_needed(path):
                suffix = self._download(address, row, path)
        except ClipError as refusal:
            raise type(refusal)(f"{ytdlp_errors.tidy(address)}: {refusal}") from None
        return Download(f"{re.sub('[^A-Za-z0-9_-]', '_', row.media_id)[:100]}.{suffix}")

    def _download(self, address: str, row: PlannedRow, path: Path) -> str:
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="yt-dlp-", dir=self.scratch) as folder:
            suffix = self._save(address, row, Path(folder))
            os.replace(_arrived(Path(folder)), path)
        return suffix

    def _save(self, address: str, row: PlannedRow, folder: Path) -> str:
        """Has yt-dlp download into `folder`; gives the suffix that the file should bear."""
        listener = _Listener()
        try:
            with self.downloader(row, folder, listener) as downloader:
                found = downloader.extract_info(address)
        except (ClipError, RunError, MemoryError):
            raise
        except Exception as error:  # of yt-dlp, a library's, or of an extractor that met what it did not expect
            _raise_if_full(error)
            refusal = ytdlp_errors.classify(error, listener.said)
        else:
            suffix = str((found or {}).get("ext"))
            return suffix if re.fullmatch("[A-Za-z0-9]{1,8}", suffix) else "video"
        raise refusal  # out of the handler: yt-dlp's exceptions hold on to its objects, and cannot be pickled

    def downloader(self, row: PlannedRow, folder: Path, listener: "_Listener"):
        """A YoutubeDL that can download one video, into `folder`; to be used as a context.

        One is made for each download, as it keeps state and belongs to one thread.
        """
        wanted = row.media_id if self.is_youtube else None
        return _single_video_class()(self._parameters(folder, listener), wanted)

    def _parameters(self, folder: Path, listener: "_Listener") -> dict:
        largest, short_side = self.fetching.largest_bytes, self.fetching.short_side
        parameters = {
            # Nothing printed, nothing read or kept elsewhere.
            **{"quiet": True, "no_warnings": True, "noprogress": True, "logger": listener},
            **{"cachedir": False, "enable_file_urls": False, "overwrites": True},
            # A name of ours: what pages say about themselves has no part in it.
            "outtmpl": str(folder).replace("%", "%%") + "/video",
            # One video, by the sites asked for, in English so that what they say is understood.
            **{"allowed_extractors": self.extractors, "noplaylist": True, "geo_bypass": False},
            "extractor_args": {"youtube": {"lang": ["en"]}},
            "js_runtimes": {name: {} for name in _JAVASCRIPT_RUNTIMES},
            "format": lambda context: choose(context["formats"], short_side),
            "progress_hooks": [functools.partial(_refuse_larger, largest)],
            # Whole or not at all, by yt-dlp's own code.
            **{"skip_unavailable_fragments": False, "fixup": "never", "postprocessors": []},
            **{"external_downloader": {"default": "native"}, "ffmpeg_location": str(folder / "no-ffmpeg")},
            **{"retries": 0, "fragment_retries": FRAGMENT_RETRIES, "extractor_retries": 1, "file_access_retries": 3},
            "socket_timeout": self.fetching.silence_seconds,
        }
        if self._cookies is not None:
            # A stream of our own, since the file behind it is written when the YoutubeDL is closed.
            parameters["cookiefile"] = io.StringIO(self._cookies)
        if self.fetching.proxy is not None:
            parameters["proxy"] = self.fetching.proxy
        return parameters


class _Listener:
    """yt-dlp's logger: keeps its warnings and errors, which may explain a later one, and prints nothing."""

    def __init__(self):
        self.said: list[str] = []

    def debug(self, text: str, *_, **__) -> None:
        pass

    info = debug

    def warning(self, text: str, *_, **__) -> None:
        if len(self.said) < _KEPT_WORDS:
            self.said.append(str(text)[:2000])

    error = warning


@functools.cache
def _single_video_class() -> type:
    """YoutubeDL, restricted to one finished video. Made when first asked for, as yt-dlp takes its time to import."""
    os.environ.setdefault("YTDLP_NO_PLUGINS", "1")
    try:
        import yt_dlp
    except ImportError as error:
        raise MissingTool(f"yt-dlp cannot be imported: {error}") from None

    class SingleVideo(yt_dlp.YoutubeDL):
        def __init__(self, params: dict, wanted: str | None):
            super().__init__(params)
            self._wanted = wanted

        def process_ie_result(self, ie_result, *args, **kwargs):
            if ie_result.get("_type", "video") not in ("video", "url", "url_transparent"):
                raise WrongContent("is a playlist, expected one video")
            return super().process_ie_result(ie_result, *args, **kwargs)

        def process_video_result(self, info_dict, *args, **kwargs):
            status = info_dict.get("live_status") or ("is_live" if info_dict.get("is_live") else None)
            if status in _UNFINISHED:
                raise NotYet(f"is a stream that {_UNFINISHED[status]}")
            if self._wanted not in (None, info_dict.get("id")):  # a trailer, for a film that is not free
                raise WrongContent(f"the site offers {str(info_dict.get('id'))[:40]!r} instead")
            return super().process_video_result(info_dict, *args, **kwargs)

    return SingleVideo


def choose(formats: Iterable[dict], short_side: int) -> Iterator[dict]:
    """Of yt-dlp's formats, worst first, the smallest one whose shorter side has `short_side` px; or else the largest.

    Gives none or one, as yt-dlp expects. Of one size, what has no sound comes first, then what takes the least.
    """
    with_picture = [(format_, place) for place, format_ in enumerate(formats) if _has_picture(format_)]
    if with_picture:
        yield min(with_picture, key=lambda found: _rank(*found, short_side))[0]


def _has_picture(format_: dict) -> bool:
    if format_.get("has_drm") or format_.get("protocol") not in _PROTOCOLS:
        return False
    if format_.get("vcodec") is None:  # not said, as for a link to a file
        return format_.get("ext") not in _AUDIO | {"mhtml"}
    return format_["vcodec"] != "none" and format_.get("ext") != "mhtml"


def _rank(format_: dict, place: int, short_side: int) -> tuple:
    side = _side(format_)
    if _is_poor(format_) or side is None:
        how_well = (3 if _is_poor(format_) else 2, -place)
    else:
        how_well = (0, side) if side >= short_side else (1, -side)
    infinite = float("inf")
    has_high_range = (format_.get("dynamic_range") or "SDR") != "SDR"
    size = format_.get("filesize") or format_.get("filesize_approx") or infinite
    has_sound = format_.get("acodec") != "none"
    return *how_well, has_high_range, has_sound, format_.get("tbr") or infinite, size, str(format_.get("format_id"))


def _side(format_: dict) -> float | None:
    """The shorter side, px. Of the many formats that name their lines alone, the lines."""
    width, height = format_.get("width"), format_.get("height")
    return (min(width, height) if width else height) or None if height else None


def _is_poor(format_: dict) -> bool:
    """Whether yt-dlp warns of it as damaged, or its detail was made up by the site."""
    return (format_.get("preference") or 0) <= -10 or "upscaled" in str(format_.get("format_note")).lower()


def _refuse_larger(largest_bytes: int, progress: dict) -> None:
    """A hook. yt-dlp's own limit ends a download without an error, and does not see sizes that were not announced."""
    known = max(progress.get("total_bytes") or 0, progress.get("downloaded_bytes") or 0)
    if known > largest_bytes:
        raise TooLarge(f"has at least {known} bytes, --largest allows {largest_bytes}")


def _arrived(folder: Path) -> Path:
    """The file that yt-dlp has left."""
    path = folder / "video"
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise Internal("yt-dlp left something that is no file")
        if not found.st_size:
            raise Truncated("the file is empty")
        return path
    raise Internal("yt-dlp ended without an error and without a file")


def _raise_if_full(error: Exception) -> None:
    for cause in ytdlp_errors.causes(error, contexts=True):
        if is_full(cause):
            raise cause


def _host(template: str) -> str:
    def bad(why: str) -> BadOption:
        return BadOption(f"--videos {PREFIX}{template}: {why}; expected such as {PREFIX}https://vimeo.com/{{id}}")

    if "{id}" not in template or re.search("[{}]", template.replace("{id}", "")):
        raise bad("expected {id} in it, and no other field")
    try:
        parts = urllib.parse.urlsplit(template)
        host = parts.hostname
    except ValueError as error:
        raise bad(str(error)) from None
    if parts.scheme not in ("http", "https") or not host or "{id}" in parts.netloc:
        raise bad("expected an http(s) address of one host")
    return host
