import pytest

pytest.importorskip("keras")

from kinetics_prep.models import MODELS, describe, i3d
from kinetics_prep.models.describe import Row


def test_there_is_a_row_for_each_model():
    rows = {row.name: row for row in describe.rows(classes=2)}
    assert list(rows) == list(MODELS)
    assert {name: (row.train, row.test, row.size) for name, row in rows.items()} == {
        "convnet-lstm": ({"rgb": 25}, {"rgb": 50}, 224),
        "convnet-3d": ({"rgb": 16}, {"rgb": 240}, 112),
        "two-stream": ({"rgb": 1, "flow": 10}, {"rgb": 25, "flow": 250}, 224),
        "fused-two-stream": ({"rgb": 5, "flow": 50}, {"rgb": 25, "flow": 250}, 224),
        "i3d": ({"rgb": 64, "flow": 64}, {"rgb": 250, "flow": 250}, 224),
    }
    assert rows["i3d"].title == i3d.SPEC.title
    assert rows["i3d"].parameters == {"rgb": 12_704_544 - 398 * 1025, "flow": 12_682_592 - 398 * 1025}


def test_the_table_has_a_line_for_each_stream(monkeypatch):
    counts = {"rgb": 1000, "flow": 20, "both": 1_234_567}
    row = Row("two", "Two-Stream", 224, {"rgb": 1, "flow": 10}, {"rgb": 25, "flow": 250}, counts)
    classes = []
    monkeypatch.setattr(describe, "rows", lambda number: classes.append(number) or [row])
    assert describe.table_lines(7) == [
        "model  streams  input    frames to train  frames at test     parameters",
        "two    rgb      224x224  1 rgb            25 rgb             1,000       Two-Stream",
        "       flow              10 flow          250 flow           20",
        "       both              1 rgb + 10 flow  25 rgb + 250 flow  1,234,567",
    ]
    assert classes == [7]
    assert describe.table_lines() and classes == [7, 400]
