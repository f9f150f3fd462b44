"""`check`: what it finds in annotation files, and what it makes of them."""

from pathlib import Path

import pytest

from kinetics_prep.annotations import check, planned, selection
from kinetics_prep.annotations.check.tally import EXAMPLES
from kinetics_prep.annotations.formats import kinetics_csv
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import RefusedRow
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.cli import INVALID, OK, main
from kinetics_prep.errors import BadOption

HEADER = "label,youtube_id,time_start,time_end,split\n"
ALIKE = "classes that differ only in case, spaces or marks"
LATE, SEVERAL = "starts after 3600 s", "videos with several clips"
DASHED = "ids that begin with a dash, which other tools take for an option"
GOOD = "abseiling,-3B32lodo2M,59,69,train\n"


def written(tmp_path: Path, content: str, name: str = "some.csv") -> str:
    (tmp_path / name).write_text(HEADER + content)
    return str(tmp_path / name)


def examined(tmp_path: Path, content: str, labels: tuple[str, ...] | None = None) -> check.Report:
    return looked_over((written(tmp_path, content),), labels)[0]


def looked_over(
    paths: tuple[str, ...], labels: tuple[str, ...] | None = None, corrected: Path | None = None
) -> tuple[check.Report, int | None]:
    """The report and, where they are written, the number of corrected rows."""
    labels = labels and LabelMap(labels)
    with RowStore() as rows:
        report = check.examine(selection.read_annotations(rows, paths, None, None), rows, labels)
        return report, corrected and check.write_corrected(rows, corrected, labels)


def found(report: check.Report) -> dict[str, int]:
    return {finding.what.split(":")[0]: finding.count for finding in report.findings}


def test_a_file_with_nothing_to_say_of_has_no_findings(tmp_path):
    report = examined(tmp_path, GOOD.replace("-3B", "x3B"))
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
    report = examined(tmp_path, f"{GOOD}{row}\n")
    (finding,) = [finding for finding in report.findings if finding.what.split(":")[0] == what]
    assert finding.count == 1 and example in finding.examples[0]


def test_no_more_than_a_few_examples_are_shown(tmp_path):
    report = examined(tmp_path, "".join(f"a,v{k},0,5,train\n" for k in range(100)))
    assert found(report) == {"shorter than 10 s": 100}
    assert len(report.findings[0].examples) == EXAMPLES


def test_what_it_says_is_refused_is_what_flow_refuses(tmp_path):
    """The plan is the judge."""
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


def test_a_corrected_file_holds_what_flow_takes_and_labels_as_the_map_has_them(tmp_path):
    content = GOOD + GOOD + "a,b,1,x,train\nnapping,c,0,10,train\nAB SEILING,d,0.5,10.25,val\n"
    path = written(tmp_path, content)
    assert looked_over((path,), ("abseiling", "bowling"), tmp_path / "corrected.csv")[1] == 2
    assert (tmp_path / "corrected.csv").read_text() == HEADER + GOOD + "abseiling,d,0.5,10.25,val\n"
    again = examined(
        tmp_path, "".join((tmp_path / "corrected.csv").read_text().splitlines(keepends=True)[1:]), ("abseiling",)
    )
    assert again.refused_rows == 0


def test_a_label_that_could_be_two_is_not_guessed_at(tmp_path):
    path = written(tmp_path, "a b,v,0,10,train\n")
    report, corrected = looked_over((path,), ("a-b", "a_b"), tmp_path / "corrected.csv")
    assert found(report) == {"labels missing from the label map": 1} and corrected == 0


def test_an_unlabelled_file_stays_one(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("youtube_id,time_start,time_end,split\nabc,2,12,test\n")
    looked_over((str(path),), corrected=tmp_path / "corrected.csv")
    assert (tmp_path / "corrected.csv").read_text() == path.read_text()


def test_whole_videos_are_not_written_as_clips_that_end(tmp_path):
    path = tmp_path / "trainlist01.txt"
    path.write_text("Archery/v_Archery_g01_c01.avi 3\n")
    assert looked_over((str(path),))[0].findings == ()
    with pytest.raises(BadOption, match="these are whole videos"):
        looked_over((str(path),), corrected=tmp_path / "corrected.csv")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_videos_in_several_files_are_named(tmp_path):
    paths = [written(tmp_path, GOOD, name) for name in ("one.csv", "two.csv")]
    report, _ = looked_over(tuple(paths))
    assert found(report)["videos in several files"] == 1
    assert "-3B32lodo2M: one.csv, two.csv" in [example for finding in report.findings for example in finding.examples]


def test_the_command_says_it_in_words_and_by_its_exit_code(tmp_path, capsys):
    assert main(["check", written(tmp_path, GOOD)]) == OK
    assert capsys.readouterr().out.splitlines()[-1] == "flow would refuse none of these rows"
    corrected = str(tmp_path / "corrected.csv")
    assert main(["check", written(tmp_path, GOOD + GOOD), "--corrected", corrected]) == INVALID
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["some.csv: kinetics-csv, 2 rows", "clips: train 2; 1 classes"]
    assert "!       1  duplicates: the same video and times" in said
    assert said[-2:] == [f"{corrected}: 1 rows", "flow would refuse 1 rows, those marked with !"]


@pytest.mark.parametrize(
    "name, rows, expected",
    [
        ("k400_val.csv", 19906, {LATE: 5, DASHED: 644}),
        ("k400_test_labelled.csv", 39805, {LATE: 14, DASHED: 564}),
        ("k600_val.csv", 30000, {LATE: 6, SEVERAL: 6, DASHED: 744}),
    ],
)
def test_real_files(shared_data, name, rows, expected):
    report, _ = looked_over((str(shared_data / "annotations" / name),))
    assert report.files == (f"{name}: kinetics-csv, {rows} rows",)
    assert found(report) == expected


def test_real_files_share_videos_between_versions(shared_data, tmp_path):
    names = [str(shared_data / "annotations" / name) for name in ("k400_val.csv", "k600_val.csv")]
    report, corrected = looked_over(tuple(names), corrected=tmp_path / "both.csv")
    assert 12_000 < found(report)["videos in several files"] < 14_000
    assert len(list(kinetics_csv.read(tmp_path / "both.csv"))) == corrected
