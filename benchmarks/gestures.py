"""A two-stream experiment for two cores: I3D on ten gestures of a hand, by the command line alone.

    python benchmarks/gestures.py ../shared/data/gestures FOLDER

The videos are EgoGestAR's (github.com/varunj/EgoGestAR). A scene has a clip of each class, so the background says
nothing of the class and motion decides it; clips of some scenes train, those of others test. Prepares the clips at 10
fps, trains RGB from the Kinetics weights (Fixed and Full-FT) and flow from the same, adapted to two channels, and
evaluates them alone and together. Nothing is chosen by the test clips: the weights are those of the last step. What is
done already is not done again.
"""

import argparse
import csv
from pathlib import Path

from kinetics_prep import cli

TEST = {16, 20, 22}
"""Numbers of scenes."""
TRAIN = {*range(1, 10), 11, 14}

RECIPE = ("--recipe", "small", "--frames", "20", "--size", "112", "--no-flip", "--steps", "300")
RATE = ("--learning-rate", "0.01", "200:0.001")


def lists(gestures: Path, folder: Path) -> list[Path]:
    """Writes which clips train and which test, as lists of `path label`."""
    with open(gestures / "clips.tsv", newline="", encoding="utf-8") as file:
        clips = list(csv.DictReader(file, delimiter="\t"))
    written = []
    for split, scenes in (("train", TRAIN), ("test", TEST)):
        lines = [f"{clip['file']} {clip['class']}\n" for clip in clips if int(clip["serial"]) in scenes]
        written.append(folder / f"gestures_{split}.txt")
        written[-1].write_text("".join(lines))
    return written


def run(*command) -> None:
    words = list(map(str, command))
    print("$ kinetics-prep", *words, flush=True)
    code = cli.main(words)
    assert code == cli.OK, code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gestures", type=Path, help="the folder of videos, with clips.tsv")
    parser.add_argument("folder", type=Path, help="for all that is made")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data, start = folder / "data", folder / "rgb-kinetics400.safetensors"
    annotations = lists(arguments.gestures, folder)
    size = ("--short-side", "128", "--fps", "10")
    run("flow", "--annotations", *annotations, "--videos", arguments.gestures, "--output", data, *size)
    if not start.exists():
        run("weights", "fetch", "rgb-kinetics400", start)
    common = (
        "--data",
        data,
        *RECIPE,
        *RATE,
        "--init-from",
        start,
        "--accept",
        "fps,short-side",
        "--validation",
        "test",
    )
    for name, stream, protocol in (("flow", "flow", "full-ft"), ("rgb", "rgb", "full-ft"), ("fixed", "rgb", "fixed")):
        run("train", *common, "--stream", stream, "--protocol", protocol, "--output", folder / name)
    for rgb in ("rgb", "fixed"):
        weights = [folder / name / "weights.safetensors" for name in (rgb, "flow")]
        output = folder / f"evaluation-{rgb}"
        run("evaluate", "--data", data, "--split", "test", "--weights", *weights, "--frames", 32, "--output", output)
    files = [f"{title}={folder / f'evaluation-{rgb}' / f'i3d-{stream}.parquet'}" for rgb, title in
             (("fixed", "RGB fixed"), ("rgb", "RGB full-ft")) for stream in ("rgb", "flow")]  # fmt: skip
    run("compare", *files, "--markdown")


if __name__ == "__main__":
    main()
