"""Folders that an older kinetics-prep wrote are trained on as they are."""

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import train, train_job

from kinetics_prep.reading.batches import Reading

pytestmark = pytest.mark.usefixtures("small_model")

FIXTURES = Path(__file__).parents[1] / "fixtures"


def bytes_of(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("name", ["v1_complete", "v1_refreshed"])
def test_a_folder_of_format_1_is_trained_on_and_stays_as_it_is(name, tmp_path):
    before = bytes_of(FIXTURES / name)
    settings = {"steps": 2, "batch": 2, "evaluate_every": 2}
    curves = [
        train(train_job(FIXTURES / name, tmp_path / form, reading=Reading(form), **settings))
        for form in ("tfrecord", "parquet")
    ]
    assert curves[0] == curves[1]
    assert [entry["step"] for entry in curves[0] if "loss" in entry] == [1, 2]
    assert bytes_of(FIXTURES / name) == before
