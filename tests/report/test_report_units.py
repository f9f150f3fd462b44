import pytest

from kinetics_prep.report import units


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (45, "45 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (7260, "2 h 01 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (93_600, "1 d 2 h"),
        (442_800, "5 d 3 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(seconds):
    with pytest.raises(ValueError, match="finite and not negative"):
        units.format_duration(seconds)


@pytest.mark.parametrize(
    "n, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1500, "1.5 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (2e12, "2.0 TB"),
        (5e18, "5000.0 PB"),
    ],
)
def test_sizes_are_in_units_of_a_thousand(n, text):
    assert units.format_bytes(n) == text


@pytest.mark.parametrize(
    "rate, text", [(3.21, "3.2 clips/s"), (0.01, "36.0 clips/h"), (0.1, "0.1 clips/s"), (250, "250.0 clips/s")]
)
def test_slow_rates_are_per_hour(rate, text):
    assert units.format_rate(rate) == text


def test_a_size_below_zero_is_refused():
    with pytest.raises(ValueError, match="must not be negative, is -1"):
        units.format_bytes(-1)
