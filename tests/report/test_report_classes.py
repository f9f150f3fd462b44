from kinetics_prep.report import classes


def test_probabilities_stand_in_a_column_before_labels():
    lines = classes.in_lines([("using segway", 0.98765), ("日本語", 0.1), ("yoga", 1.0), ("tai chi", 0.00004)])
    assert lines.splitlines() == ["  98.8%  using segway", "  10.0%  日本語", " 100.0%  yoga", "   0.0%  tai chi"]


def test_labels_of_hostile_weights_cannot_move_the_cursor():
    assert classes.in_lines([("a\x1b[2J\nb", 0.5)]) == "  50.0%  a\ufffd[2J\ufffdb"


def test_no_classes_are_no_lines():
    assert classes.in_lines([]) == ""
