"""The official lists of UCF-101 and HMDB-51, whose clips are whole videos."""

import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import detect, hmdb51, ucf101
from kinetics_prep.annotations.rows import ReadableRow
from kinetics_prep.cli import OK, main
from kinetics_prep.errors import BadAnnotations
from kinetics_prep.records import tfrecord
from kinetics_prep.storage import tables

UCF = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g25_c05.avi 101\r\n"
HMDB = "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \n#20_Rhythm_clap_u_nm_np1_fr_goo_1.avi 2 \nother.avi 0 \n"
QUICK = ("--fps", "5", "--short-side", "32", "--min-seconds", "0.3", "--tvl1", "scales=1", "warps=1", "iterations=2")


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    return tmp_path / name


@pytest.mark.parametrize("name, split", [("trainlist01.txt", "train"), ("testlist03.txt", "test")])
def test_a_line_of_ucf_is_a_whole_video_of_the_class_of_its_folder(tmp_path, name, split):
    path = written(tmp_path, name, UCF)
    assert detect(path) == "ucf101"
    assert [row.annotation for row in ucf101.read(path)] == [
        Annotation("v_ApplyEyeMakeup_g08_c01", 0.0, None, split, "ApplyEyeMakeup"),
        Annotation("v_YoYo_g25_c05", 0.0, None, split, "YoYo"),
    ]


def test_test_lists_without_numbers_are_the_same(tmp_path):
    path = written(tmp_path, "testlist01.txt", "YoYo/v_YoYo_g25_c05.avi\n")
    assert detect(path) == "ucf101"
    assert [row.annotation.media_id for row in ucf101.read(path)] == ["v_YoYo_g25_c05"]


@pytest.mark.parametrize("name", ["list.txt", "tracks.txt", "mytrainlist01.txt"])
def test_a_list_whose_name_does_not_begin_with_its_split_needs_the_option(tmp_path, name):
    path = written(tmp_path, name, UCF)
    with pytest.raises(BadAnnotations, match="say so with --split"):
        ucf101.read(path)
    assert {row.split for row in ucf101.read(path, "val")} == {"val"}


def test_a_file_of_hmdb_is_train_and_test_of_one_class(tmp_path):
    path = written(tmp_path, "brush_hair_test_split1.txt", HMDB)
    assert detect(path) == "hmdb51"
    assert [row.annotation for row in hmdb51.read(path)] == [
        Annotation("April_09_brush_hair_u_nm_np1_ba_goo_0", 0.0, None, "train", "brush_hair"),
        Annotation("#20_Rhythm_clap_u_nm_np1_fr_goo_1", 0.0, None, "test", "brush_hair"),
    ]


@pytest.mark.parametrize(
    "module, name, content, line, says",
    [
        (ucf101, "trainlist01.txt", UCF + "v_alone.avi 1\n", 3, "trainlist01.txt:3: line is 'v_alone.avi 1'"),
        (hmdb51, "jump_test_split2.txt", HMDB + "name.avi 3\n", 4, "jump_test_split2.txt:4: line is 'name.avi 3'"),
        (hmdb51, "jump_test_split2.txt", HMDB + "a/../b.avi 1\n", 4, "not usable as a file name"),
    ],
)
def test_a_line_of_another_kind_is_a_row_with_a_reason(tmp_path, module, name, content, line, says):
    *_, last = module.read(written(tmp_path, name, content))
    assert last.line == line and says in str(last.error)


def test_a_file_of_none_of_its_class_is_refused(tmp_path):
    path = written(tmp_path, "jump_test_split1.txt", "other.avi 0\n")
    with pytest.raises(BadAnnotations, match="holds no annotation row"):
        list(hmdb51.read(path))


def test_the_real_list_of_ucf(shared_data):
    path = shared_data / "annotations" / "ucf101_testlist01.txt"
    assert detect(path) == "ucf101"
    rows = list(ucf101.read(path, "test"))
    assert len(rows) == 3783 and len({row.annotation.label for row in rows}) == 101
    assert {type(row) for row in rows} == {ReadableRow}


def prepared(tmp_path, shared_data, *annotations) -> tuple[list[dict], list]:
    output = tmp_path / "out"
    command = ["flow", "--annotations", *map(str, annotations), "--videos", str(shared_data / "related")]
    assert main([*command, "--output", str(output), "--engine", "tvl1", *QUICK]) == OK
    rows = [row for path in sorted(output.glob("ledger/*.parquet")) for row in tables.read(path, "ledger")]
    return rows, [record for path in sorted((output / "tfrecord").iterdir()) for record in tfrecord.read_shard(path)]


def test_a_real_clip_of_ucf_is_prepared_whole(shared_data, tmp_path):
    line = "SoccerJuggling/v_SoccerJuggling_g23_c01.avi 84\n"
    ((row,), (record,)) = prepared(tmp_path, shared_data, written(tmp_path, "trainlist01.txt", line))
    assert (row["clip_id"], row["end_seconds"], row["notes"]) == ("v_SoccerJuggling_g23_c01", None, None)
    assert record["example/id"] == "v_SoccerJuggling_g23_c01" and record["clip/label/text"] == "SoccerJuggling"
    assert len(record) == row["frames"] == 41  # 8.1 s at 5 fps
    assert record["clip/end/timestamp"] == 8_200_000 and not record["kinetics_prep/ends_early"]


def test_real_clips_of_hmdb_are_prepared_whole(shared_data, tmp_path):
    files = [
        written(tmp_path, "wave_test_split1.txt", "RATRACE_wave_f_nm_np1_fr_goo_37.avi 1 \n"),
        written(
            tmp_path, "cartwheel_test_split1.txt", "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi 2 \n"
        ),
    ]
    rows, records = prepared(tmp_path, shared_data, *files)
    assert {(row["split"], row["label"], row["status"]) for row in rows} == {
        ("train", "wave", "written"),
        ("test", "cartwheel", "written"),
    }
    assert sorted(record["clip/label/index"] for record in records) == [0, 1]
