"""yt-dlp, restricted: a downloader of one finished video that prints nothing."""

import functools
import os
from typing import Any

from kinetics_prep.errors import MissingTool, NotYet, WrongContent

_UNFINISHED = {
    "is_live": "is going on",
    "is_upcoming": "has not begun",
    "post_live": "has ended and is being processed",
}
_MOST_WARNINGS = 50
_LONGEST_WARNING = 2000


class WarningLog:
    """A logger for yt-dlp: keeps its warnings and errors, which may explain a later error, and prints nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        """The oldest first."""

    def debug(self, text: str, *_: object, **__: object) -> None:
        pass

    info = debug

    def warning(self, text: str, *_: object, **__: object) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(str(text)[:_LONGEST_WARNING])

    error = warning


@functools.cache
def single_video_class() -> type:
    """The class YoutubeDL, restricted to one finished video. Made at its first use, as importing yt-dlp is slow.

    Raises:
      MissingTool: if yt-dlp cannot be imported.
    """
    os.environ.setdefault("YTDLP_NO_PLUGINS", "1")
    try:
        import yt_dlp
    except ImportError as error:
        raise MissingTool(f"yt-dlp cannot be imported: {error}") from None

    class SingleVideo(yt_dlp.YoutubeDL):
        def __init__(self, params: dict[str, Any], expected_id: str | None):
            super().__init__(params)
            self._expected_id = expected_id

        def process_ie_result(self, ie_result: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            if ie_result.get("_type", "video") not in ("video", "url", "url_transparent"):
                raise WrongContent("is a playlist, expected one video")
            return super().process_ie_result(ie_result, *args, **kwargs)

        def process_video_result(self, info_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            status = info_dict.get("live_status") or ("is_live" if info_dict.get("is_live") else None)
            if status in _UNFINISHED:
                raise NotYet(f"is a stream that {_UNFINISHED[status]}")
            if self._expected_id not in (None, info_dict.get("id")):  # a trailer, for a film that is not free
                raise WrongContent(f"the site offers {str(info_dict.get('id'))[:40]!r} instead")
            return super().process_video_result(info_dict, *args, **kwargs)

    return SingleVideo
