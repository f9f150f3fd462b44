"""Findings about videos: several clips, splits or files, and ids that begin with a dash."""

from collections.abc import Iterable

from kinetics_prep.annotations.check.tally import Finding, Tally
from kinetics_prep.annotations.row_store import VideoRows


def video_findings(videos: Iterable[VideoRows]) -> list[Finding]:
    """Examines videos, which may come in any order; examples are in the order of reading."""
    tallies: list[Tally[VideoRows]] = [
        Tally(
            "videos with several clips",
            lambda video: f"{video.media_id}: {video.clips}",
            lambda video: video.clips > 1,
            _position,
        ),
        Tally(
            "videos in several splits",
            lambda video: f"{video.media_id}: {', '.join(video.splits)}",
            lambda video: len(video.splits) > 1,
            _position,
        ),
        Tally(
            "videos in several files",
            lambda video: f"{video.media_id}: {', '.join(video.files)}",
            lambda video: len(video.files) > 1,
            _position,
        ),
        Tally(
            "ids that begin with a dash, which other tools take for an option",
            lambda video: video.media_id,
            lambda video: video.media_id.startswith("-"),
            _position,
        ),
    ]
    for video in videos:
        for tally in tallies:
            tally.add(video)
    return [tally.finding() for tally in tallies]


def _position(video: VideoRows) -> float:
    return video.first_position
