"""Videos that yt-dlp can download: YouTube's, and those of other sites by a URL with the id in it.

`youtube`, or `yt-dlp:https://vimeo.com/{id}`. Each `download` is one attempt; `Remote` decides how often and how fast.
It downloads the whole video, in the smallest sufficient size. The clip is cut later, as from any other video: if yt-dlp
cut it, it would encode it once more, or leave an edit list that some readers ignore.

What it does not do: it writes only to a folder that is deleted after the attempt. It starts no ffmpeg and no other
downloader, which would ignore the limits on size and protocols. It forges no address to get around the limits of a
country. It reads no user's configuration, and loads plugins only if YTDLP_NO_PLUGINS is set and empty.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import (
    BadAddress,
    BadOption,
    ClipError,
    Internal,
    MissingTool,
    RunError,
    TooLarge,
    Truncated,
)
from kinetics_prep.sources import cookies, ytdlp_errors
from kinetics_prep.sources.address import without_secret_words, without_secrets, without_secrets_in
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.source import Download
from kinetics_prep.sources.ytdlp_downloader import WarningLog, single_video_class
from kinetics_prep.sources.ytdlp_formats import choose
from kinetics_prep.storage.files import is_disk_full, reporting_full_disk

PREFIX = "yt-dlp:"
YOUTUBE = "youtube"
FRAGMENT_RETRIES = 3
"""A video in a thousand fragments should not fail for one of them; whole attempts are counted by `Remote`."""

_YOUTUBE_TEMPLATE = "https://www.youtube.com/watch?v={id}"
_YOUTUBE_ID = re.compile(r"[0-9A-Za-z_-]{11}")
_JAVASCRIPT_RUNTIMES = ("deno", "node", "bun", "quickjs")


class YtDlp:
    """A site whose videos yt-dlp can download. One object serves many threads."""

    is_remote = True
    gives_pieces = False
    attempts_if_forbidden = 2
    """The address of a file, which the site gives out, may have expired; the next attempt gets another one."""

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
        self._shown_template = without_secrets(self.template)
        self.host = _host(self.template)
        self.fetching, self.scratch = fetching, scratch.absolute()
        self.extractors = [YOUTUBE] if self.is_youtube else ["default"]
        """Names of yt-dlp's extractors that may be used, as in its option `allowed_extractors`."""
        if os.path.expandvars(str(self.scratch)) != str(self.scratch):  # yt-dlp would expand it
            raise BadOption(f"yt-dlp cannot work below {str(self.scratch)!r}: it takes the $ in it for a variable")
        self._cookies = cookies.text(fetching.cookies)

    def address(self, row: PlannedRow) -> str:
        """The address of a row's video."""
        return _filled(self.template, row)

    def origin(self, row: PlannedRow) -> str:
        """The address of a row's video for the ledger, without secrets."""
        return _filled(self._shown_template, row)

    def download(self, row: PlannedRow, path: Path, before_request: Callable[[str], None]) -> Download:
        """Downloads the whole video of a row to `path`, in one attempt; a failure leaves no file there.

        Args:
          before_request: called with the host once, as sites count videos; returns when the video may be requested.

        Raises:
          ClipError: the reason why there is no video, in the words of the site or of yt-dlp.
          NoRoom: if the disk is full.
        """
        address = self.address(row)
        if self.is_youtube and not _YOUTUBE_ID.fullmatch(row.media_id):
            raise BadAddress(
                f"{row.media_id!r} is no id of a video of YouTube: expected 11 letters, digits, - and _", attempts=0
            )
        before_request(self.host)
        try:
            with reporting_full_disk(path):
                suffix = self._download(address, row, path)
        except ClipError as refusal:
            words = without_secret_words(str(refusal), (self.template,))
            raise type(refusal)(f"{self.origin(row)}: {words}") from None
        return Download(f"{re.sub('[^A-Za-z0-9_-]', '_', row.media_id)[:100]}.{suffix}")

    def _download(self, address: str, row: PlannedRow, path: Path) -> str:
        """Downloads to `path`; returns the suffix for the file's name."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="yt-dlp-", dir=self.scratch) as folder:
            suffix = self._run_ytdlp(address, row, Path(folder))
            os.replace(_downloaded_file(Path(folder)), path)
        return suffix

    def _run_ytdlp(self, address: str, row: PlannedRow, folder: Path) -> str:
        """Has yt-dlp download into `folder`; returns the suffix for the file's name."""
        log = WarningLog()
        try:
            with self.downloader(row, folder, log) as downloader:
                information = downloader.extract_info(address)
        except (ClipError, RunError, MemoryError):
            raise
        except Exception as error:  # by yt-dlp, by a library, or by an extractor that met something unexpected
            _raise_if_full(error)
            refusal = ytdlp_errors.classify(error, log.warnings)
        else:
            suffix = str((information or {}).get("ext"))
            return suffix if re.fullmatch("[A-Za-z0-9]{1,8}", suffix) else "video"
        raise refusal  # outside the handler: yt-dlp's exceptions refer to its objects, and cannot be pickled

    def downloader(self, row: PlannedRow, folder: Path, log: WarningLog) -> Any:
        """A YoutubeDL that can download one video into `folder`, as a context.

        Each download needs a new one, as it has state and belongs to one thread.
        """
        expected_id = row.media_id if self.is_youtube else None
        return single_video_class()(self._parameters(folder, log), expected_id)

    def _parameters(self, folder: Path, log: WarningLog) -> dict[str, Any]:
        largest, short_side = self.fetching.largest_bytes, self.fetching.short_side
        parameters = {
            # It prints nothing, and reads and keeps nothing elsewhere.
            **{"quiet": True, "no_warnings": True, "noprogress": True, "logger": log},
            **{"cachedir": False, "enable_file_urls": False, "overwrites": True},
            # The file has a name of ours, without words from the page.
            "outtmpl": str(folder).replace("%", "%%") + "/video",
            # One video, of this site, with messages in English, so that `classify` understands them.
            **{"allowed_extractors": self.extractors, "noplaylist": True, "geo_bypass": False},
            "extractor_args": {"youtube": {"lang": ["en"]}},
            "js_runtimes": {name: {} for name in _JAVASCRIPT_RUNTIMES},
            "format": lambda context: choose(context["formats"], short_side),
            "progress_hooks": [functools.partial(_refuse_larger, largest)],
            # A complete file or none, by yt-dlp's own code.
            **{"skip_unavailable_fragments": False, "fixup": "never", "postprocessors": []},
            **{"external_downloader": {"default": "native"}, "ffmpeg_location": str(folder / "no-ffmpeg")},
            **{"retries": 0, "fragment_retries": FRAGMENT_RETRIES, "extractor_retries": 1, "file_access_retries": 3},
            "socket_timeout": self.fetching.silence_seconds,
        }
        if self._cookies is not None:
            # Not the file itself: a YoutubeDL writes it when it is closed.
            parameters["cookiefile"] = io.StringIO(self._cookies)
        if self.fetching.proxy is not None:
            parameters["proxy"] = self.fetching.proxy
        return parameters


def _filled(template: str, row: PlannedRow) -> str:
    return template.replace("{id}", urllib.parse.quote(row.media_id, safe=""))


def _refuse_larger(largest_bytes: int, progress: dict[str, Any]) -> None:
    """A hook for yt-dlp, whose own limit ends a download without an error, and ignores sizes that are not announced."""
    least_bytes = max(progress.get("total_bytes") or 0, progress.get("downloaded_bytes") or 0)
    if least_bytes > largest_bytes:
        raise TooLarge(f"has at least {least_bytes} bytes, --largest allows {largest_bytes}")


def _downloaded_file(folder: Path) -> Path:
    """The file that yt-dlp left in its folder."""
    path = folder / "video"
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Internal("yt-dlp left something that is no file")
        if not status.st_size:
            raise Truncated("the file is empty")
        return path
    raise Internal("yt-dlp ended without an error and without a file")


def _raise_if_full(error: Exception) -> None:
    """Raises the `OSError` behind yt-dlp's error if the disk is full; `reporting_full_disk` then stops the run."""
    for cause in ytdlp_errors.causes(error, contexts=True):
        if is_disk_full(cause):
            raise cause


def _host(template: str) -> str:
    """The host of a template, which must hold {id} outside the host and no other field."""

    def bad_option(why: str) -> BadOption:
        text = without_secrets(f"{PREFIX}{template}")
        return BadOption(f"--videos {text}: {why}; expected for example {PREFIX}https://vimeo.com/{{id}}")

    if "{id}" not in template or re.search("[{}]", template.replace("{id}", "")):
        raise bad_option("expected {id} in it, and no other field")
    try:
        parts = urllib.parse.urlsplit(template)
        host = parts.hostname
    except ValueError as error:
        raise bad_option(without_secrets_in(str(error), (template,))) from None
    if parts.scheme not in ("http", "https") or not host or "{id}" in parts.netloc:
        raise bad_option("expected an http(s) address of one host")
    return host
