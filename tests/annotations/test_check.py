"""`check`: its report about annotation files."""

from pathlib import Path

import pytest

from kinetics_prep.annotations import check, planned, selection
from kinetics_prep.annotations.check.tally import EXAMPLES
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import RefusedRow
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.cli import INVALID, OK, main

HEADER = "label,youtube_id,time_start,time_end,split\n"
ALIKE = "classes that differ only in case, spaces or marks"
FRACTIONS = "times that are not whole seconds"
LATE, SEVERAL = "starts after 3600 s", "videos with several clips"
DASHED = "ids that begin with a dash, which other tools take for an option"
GOOD = "abseiling,-3B32lodo2M,59,69,train\n"


def written(tmp_path: Path, content: str, name: str = "some.csv") -> str:
    (tmp_path / name).write_text(HEADER + content)
    return str(tmp_path / name)


def examine(tmp_path: Path, content: str, labels: tuple[str, ...] | None = None) -> check.Report:
    return examine_files((written(tmp_path, content),), labels)


def examine_files(paths: tuple[str, ...], labels: tuple[str, ...] | None = None) -> check.Report:
    with RowStore() as store:
        files = selection.read_annotations(store, paths, None, None)
        return check.examine(files, store, LabelMap(labels) if labels else None)


def counts(report: check.Report) -> dict[str, int]:
    return {finding.what.split(":")[0]: finding.count for finding in report.findings}


def test_a_good_file_has_no_findings(tmp_path):
    report = examine(tmp_path, GOOD.replace("-3B", "x3B"))
    assert (report.splits, report.classes, report.findings) == ({"train": 1}, 1, ())
    assert report.files == ("some.csv: kinetics-csv, 1 rows",)


@pytest.mark.parametrize(
    "row, what, example",
    [
        ("abseiling,b,1,x,train", "unreadable", "some.csv:3: time_end is 'x'"),
        ("bowling,-3B32lodo2M,59,69,train", "duplicates", "some.csv:3: -3B32lodo2M_000059_000069"),
        ("abseiling,b,1,9,train", "shorter than 10 s", "some.csv:3: b_000001_000009"),
        ("abseiling,b,1,12,train", "longer than 10 s", "b_000001_000012"),
        ("abseiling,b,23770,23780,train", "starts after 3600 s", "b_023770_023780"),
        ("abseiling,b,1.5,11.5,train", "times that are not whole seconds", "b_000001.5_000011.5"),
        ("abseiling,-3B32lodo2M,0,10,train", "videos with several clips", "-3B32lodo2M: 2"),
        ("abseiling,-3B32lodo2M,59,69,val", "videos in several splits", "-3B32lodo2M: train, val"),
        (
            "Ab_Seiling,b,0,10,train",
            "classes that differ only in case, spaces or marks",
            "'Ab_Seiling' and 'abseiling'",
        ),
        (",-3B32lodo2M,59,69,train", "unreadable", "label is empty"),
    ],
)
def test_each_finding_has_its_number_and_an_example(tmp_path, row, what, example):
    report = examine(tmp_path, f"{GOOD}{row}\n")
    (finding,) = [finding for finding in report.findings if finding.what.split(":")[0] == what]
    assert finding.count == 1 and example in finding.examples[0]


def test_no_more_than_a_few_examples_are_shown(tmp_path):
    report = examine(tmp_path, "".join(f"a,v{k},0,5,train\n" for k in range(100)))
    assert counts(report) == {"shorter than 10 s": 100}
    assert len(report.findings[0].examples) == EXAMPLES


def test_the_refused_rows_are_those_that_the_plan_refuses(tmp_path):
    content = (
        GOOD + GOOD + "a,b,1,x,train\nnapping,c,0,10,train\nABSEILING,d,0,10,train\na,e,0,10,val\na,e,0,10,train\n"
    )
    labels = LabelMap(("a", "abseiling"))
    with RowStore() as rows:
        files = selection.read_annotations(rows, (written(tmp_path, content),), None, None)
        refused = 0
        for split in ("train", "val"):
            chosen = selection.rows_of_split(rows, split, (), with_unknown_split=split == "train")
            refused += sum(isinstance(row, RefusedRow) for row in planned.arrange(chosen, split, labels, 64))
        assert check.examine(files, rows, labels).refused_rows == refused == 4


def test_what_is_counted_of_a_file(tmp_path):
    content = (
        "zumba,a,0,10,val\nabseiling,b,0,10,train\nyoga,b,0,10,train\n,c,0,10,train\nzumba,d,0,x,test\n"
        "zumba,e,0,10,val\nzumba,f,0,10,holdout\n"
    )
    report = examine(tmp_path, content)
    assert report.splits == {"val": 2, "train": 2}
    assert report.classes == 3  # one of them on a duplicate alone
    assert counts(report) == {"unreadable": 3, "duplicates": 1}
    assert report.refused_rows == 4


def test_rows_without_a_label_are_counted_and_are_no_class(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("youtube_id,time_start,time_end,split\nabc,2,12,test\nabd,2,12,test\nabc,2,12,test\n")
    report = examine_files((str(path),), ("abseiling",))
    assert counts(report) == {"duplicates": 1, "without a label": 2}
    assert (report.classes, report.refused_rows) == (0, 1)


@pytest.mark.parametrize(
    "times, expected",
    [
        ("0,10", {}),
        ("0.5,10.5", {FRACTIONS: 1}),
        ("0,10.5", {"longer than 10 s": 1, FRACTIONS: 1}),
        ("0,9.999999", {"shorter than 10 s": 1, FRACTIONS: 1}),
        ("0.000001,10.000001", {FRACTIONS: 1}),
        ("3600,3610", {}),
        ("3601,3611", {LATE: 1}),
        ("3600.5,3610.5", {LATE: 1, FRACTIONS: 1}),
    ],
)
def test_times_are_compared_exactly(tmp_path, times, expected):
    assert counts(examine(tmp_path, f"abseiling,b,{times},train\n")) == expected


def test_whole_videos_have_usual_times(tmp_path):
    path = tmp_path / "trainlist01.txt"
    path.write_text("Archery/v_Archery_g01_c01.avi 3\n")
    report = examine_files((str(path),))
    assert (report.splits, report.classes, report.findings) == ({"train": 1}, 1, ())


def test_the_shortest_the_longest_and_the_latest_clips_are_shown_first(tmp_path):
    ends = (13, 3, 12, 1, 15, 4, 2, 5, 6, 11, 14, 16, 7)
    content = "".join(f"a,v{end},0,{end},train\n" for end in ends)
    content += "".join(
        f"a,w{start},{start},{start + 10},train\n" for start in (4000, 9000, 3700, 5000, 8000, 6000, 7000)
    )
    examples = {finding.what: finding.examples for finding in examine(tmp_path, content).findings}
    shown = {what: [example.split(": ")[1].split("_")[0] for example in some] for what, some in examples.items()}
    assert shown == {
        "shorter than 10 s": ["v1", "v2", "v3", "v4", "v5"],
        "longer than 10 s": ["v16", "v15", "v14", "v13", "v12"],
        LATE: ["w9000", "w8000", "w7000", "w6000", "w5000"],
    }


def test_videos_are_shown_in_the_order_of_reading(tmp_path):
    names = [f"-v{k * 7 % 11}" for k in range(11)]
    content = "".join(f"a,{name},{start},{start + 10},train\n" for start in (0, 20) for name in names)
    report = examine(tmp_path, content)
    assert [(finding.what, finding.count, finding.examples) for finding in report.findings] == [
        (SEVERAL, 11, tuple(f"{name}: 2" for name in names[:5])),
        (DASHED, 11, tuple(names[:5])),
    ]


def test_a_clip_given_twice_is_one_clip_of_its_video(tmp_path):
    assert counts(examine(tmp_path, (GOOD + GOOD).replace("-3B", "x3B"))) == {"duplicates": 1}


def test_a_label_that_the_map_spells_differently_is_refused_by_its_line(tmp_path):
    report = examine(
        tmp_path, GOOD.replace("-3B", "x3B") + "Ab-Seiling,b,0,10,train\nnapping,c,0,10,train\n", ("abseiling",)
    )
    missing, respelled, alike = report.findings
    assert (missing.what, missing.examples) == ("labels missing from the label map", ("some.csv:4: 'napping'",))
    assert (respelled.what, respelled.examples) == (
        "labels that the label map spells differently",
        ("some.csv:3: 'Ab-Seiling'",),
    )
    assert (alike.what, alike.examples) == (ALIKE, ("'Ab-Seiling' and 'abseiling'",))
    assert [finding.is_refused for finding in report.findings] == [True, True, False]
    assert report.refused_rows == 2


def test_several_data_sets_are_examined_together(tmp_path):
    paths = tuple(written(tmp_path, GOOD.replace("train", split), f"{split}.csv") for split in ("val", "train"))
    report = examine_files(paths)
    assert report.files == ("val.csv: kinetics-csv, 1 rows", "train.csv: kinetics-csv, 1 rows")
    assert report.splits == {"val": 1, "train": 1}
    assert counts(report) == {"videos in several splits": 1, "videos in several files": 1, DASHED: 1}


def test_videos_in_several_files_are_named(tmp_path):
    paths = [written(tmp_path, GOOD, name) for name in ("one.csv", "two.csv")]
    report = examine_files(tuple(paths))
    assert counts(report)["videos in several files"] == 1
    assert "-3B32lodo2M: one.csv, two.csv" in [example for finding in report.findings for example in finding.examples]


def test_the_command_prints_the_report_and_has_an_exit_code(tmp_path, capsys):
    assert main(["check", written(tmp_path, GOOD)]) == OK
    assert capsys.readouterr().out.splitlines()[-1] == "flow would refuse none of these rows"
    corrected = str(tmp_path / "corrected.csv")
    assert main(["check", written(tmp_path, GOOD + GOOD), "--corrected", corrected]) == INVALID
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["some.csv: kinetics-csv, 2 rows", "clips: train 2; 1 classes"]
    assert "!       1  duplicates: the same video and times" in lines
    assert lines[-2:] == [f"{corrected}: 1 rows", "flow would refuse 1 rows, those marked with !"]


@pytest.mark.parametrize(
    "name, rows, expected",
    [
        ("k400_val.csv", 19906, {LATE: 5, DASHED: 644}),
        ("k400_test_labelled.csv", 39805, {LATE: 14, DASHED: 564}),
        ("k600_val.csv", 30000, {LATE: 6, SEVERAL: 6, DASHED: 744}),
    ],
)
def test_real_files(shared_data, name, rows, expected):
    report = examine_files((str(shared_data / "annotations" / name),))
    assert report.files == (f"{name}: kinetics-csv, {rows} rows",)
    assert counts(report) == expected
