"""Reading needs neither Keras nor TensorFlow, nor what computes flow or runs a pipeline."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prepared import folder

import kinetics_prep.reading

ROOM = Path(kinetics_prep.reading.__file__).parent
MODULES = sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")
HEAVY = ("tensorflow", "keras", "torch", "jax", "apache_beam", "numba", "cupy", "obstore")


def run(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_importing_all_of_reading_imports_no_framework():
    imports = "\n".join(f"import kinetics_prep.reading.{name}" for name in MODULES)
    assert {"clips", "order", "sampling", "reader", "parquet_clip", "tensorflow_batches"} <= set(MODULES)
    output = run(f"import sys\n{imports}\nprint([name for name in {HEAVY} if name in sys.modules])")
    assert output.strip() == "[]"


def test_one_file_imports_tensorflow():
    importing = [name for name in MODULES if re.search(r"import tensorflow$|from tensorflow", text(name), re.MULTILINE)]
    assert importing == ["tensorflow_batches"]
    assert not [name for name in MODULES if re.search(r"^\s*(import|from) (keras|torch|jax)", text(name), re.MULTILINE)]


def text(name: str) -> str:
    return (ROOM / f"{name}.py").read_text("utf-8")


@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_both_formats_are_read_where_no_framework_can_be_imported(format):
    output = run(f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # importing it is an error
import numpy as np
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Order
from kinetics_prep.reading.prefetch import Prefetcher
from kinetics_prep.reading.reader import Reader
from kinetics_prep.reading.sampling import Sampler
clips = ClipIndex.open({str(folder())!r}, "train", {format!r})
reader = Reader(clips, Sampler({{"rgb": np.arange(4)}}, 28, train=True), Order(5, 5), ("rgb",))
((images, class_ids),) = Prefetcher(reader, 0, 1)
print(images["rgb"].shape, sorted(class_ids.tolist()) == sorted(clips.class_ids.tolist()), len(clips.record(0)))
""")
    assert output.strip() == "(5, 4, 28, 28, 3) True 8"
