"""What a download would request of whom, counted by hand, and the words for it."""

from pathlib import Path

import pytest

from kinetics_prep.annotations.selection import Selection
from kinetics_prep.report.units import format_duration
from kinetics_prep.runs import forecast as forecasts
from kinetics_prep.runs.download import DownloadJob, open_download
from kinetics_prep.runs.forecast import Forecast, forecast
from kinetics_prep.sources import Fetching, Politeness

MIRROR, OTHER = "http://mirror.example/{id}.mp4", "http://other.example/{id}_{start}_{end}.mp4"


@pytest.fixture
def job(tmp_path):
    """Rows: two clips of one video, another video, a video in the folder, a duplicate, a row without an end."""
    (tmp_path / "rows.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "a,two,0,10,train\na,two,20,30,train\nb,single,0,10,val\nb,local,0,10,train\nb,local,0,10,train\na,bad,0,soon,train\n"
    )
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "local.mp4").touch()

    def make(*videos: str, **politeness) -> DownloadJob:
        places = (str(tmp_path / "videos"), *videos)
        fetching = Fetching(places, cache=str(tmp_path / "cache"), politeness=Politeness(**politeness))
        return DownloadJob(Selection((str(tmp_path / "rows.csv"),)), fetching, workers=1)

    return make


def test_rows_are_counted_and_videos_once_a_place(job):
    with open_download(job(MIRROR, OTHER)) as run:
        result = forecast(run)
    assert (result.rows, result.unusable, result.local, result.remembered) == (6, 2, 1, 0)
    assert result.first == {"mirror.example": 2}  # both clips of a video are one request of whole videos
    assert result.fallback == {"other.example": 3}  # and two of a place that has pieces


def test_what_every_place_has_refused_before_is_not_requested(job, monkeypatch):
    with open_download(job(MIRROR, OTHER)) as run:
        mirror, other = run.sources.places[-2:]
        monkeypatch.setattr(mirror, "remembers", lambda row: row.media_id == "two")
        result = forecast(run)
        assert (result.remembered, result.first, result.fallback) == (
            0,
            {"other.example": 2, "mirror.example": 1},
            {"other.example": 1},
        )
        monkeypatch.setattr(other, "remembers", lambda row: row.media_id == "two")
        result = forecast(run)
        assert (result.remembered, result.first, result.fallback) == (2, {"mirror.example": 1}, {"other.example": 1})


def test_a_forecast_requests_nothing_and_writes_nothing(job, tmp_path):
    with open_download(job(MIRROR)) as run:
        before = sorted(path for path in tmp_path.rglob("*"))
        forecast(run)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def words(result: Forecast, **politeness) -> list[str]:
    return list(result.describe(Fetching(("x",), politeness=Politeness(**politeness)), format_duration))


def test_the_words_name_only_what_is_there():
    assert words(Forecast(rows=3, local=3)) == ["3 rows, 3 at hand"]
    result = Forecast(rows=9, local=2, unusable=1, remembered=4)
    result.first.update({"a": 2})
    result.fallback.update({"b": 1})
    assert words(result) == [
        "9 rows, 2 at hand, 1 that the annotations make unusable, 4 refused by every source in an earlier run",
        "a: 2 videos to ask for; as fast as it answers, as no --rate is set",
        "b: 1 videos more, if no host before has them; as fast as it answers, as no --rate is set",
    ]


@pytest.mark.parametrize(
    "politeness, expected",
    [
        ({"rates": (("", 2.0),)}, "at 2/s that takes 50 s, or longer"),
        ({"rates": (("", 0.1),)}, "at 0.1/s that takes 17 min, or longer"),
        ({"rates": (("", 1 / 30),)}, "at 120/h that takes 50 min, or longer"),
        ({"rates": (("host", 4.0), ("", 1.0))}, "at 4/s that takes 25 s, or longer"),
        ({"rest_seconds": 8.0, "connections": 4}, "at 0.5/s that takes 3 min 20 s, or longer"),
        ({"rates": (("", 2.0),), "rest_seconds": 8.0, "connections": 4}, "at 0.5/s that takes 3 min 20 s, or longer"),
        ({"rates": (("", 0.25),), "rest_seconds": 8.0, "connections": 4}, "at 0.25/s that takes 6 min 40 s, or longer"),
    ],
)
def test_the_time_is_that_of_the_slower_of_rate_and_rest(politeness, expected):
    fetching = Fetching(("x",), politeness=Politeness(**politeness))
    seconds = {}

    def duration(value: float) -> str:
        seconds["value"] = value
        return format_duration(value)

    text = forecasts._time_needed(100, "host", fetching, duration)
    assert text.split(" that takes ")[0] == expected.split(" that takes ")[0]
    rate, _, unit = text.split()[1].partition("/")
    assert seconds["value"] == pytest.approx(100 / (float(rate) / {"s": 1, "h": 3600}[unit]), rel=0.01)
    assert text.endswith(", or longer")


def test_youtube_is_slow_by_default():
    result = Forecast(rows=300, first=__import__("collections").Counter({"www.youtube.com": 300}))
    assert words(result)[1].startswith("www.youtube.com: 300 videos to ask for; at 300/h that takes 1 h")


def test_a_download_knows_its_cache(job):
    made = job(MIRROR)
    assert made.cache == Path(made.fetching.cache)
