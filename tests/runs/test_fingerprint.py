"""The fingerprint: the same wherever the bytes are, another as soon as a tool does anything else."""

import concurrent.futures
import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import other_ffmpeg
import PIL
import pytest
from PIL import Image, features

from kinetics_prep import flow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import MissingTool
from kinetics_prep.flow import TVL1, Hardware, clip_flow
from kinetics_prep.flow.cpu import TVL1CPU
from kinetics_prep.media import ffmpeg, quantize
from kinetics_prep.media.clip import Clip
from kinetics_prep.records import sequence_example
from kinetics_prep.records.record import Record
from kinetics_prep.runs import built_in_clip
from kinetics_prep.runs import fingerprint as module
from kinetics_prep.runs.clip import prepare_clip
from kinetics_prep.runs.fingerprint import FRAMES, SLOWEST_FPS, fingerprint, fingerprint_by

TESTS = Path(__file__).resolve().parents[1]

QUICK = Recipe("tvl1", short_side=64, tvl1=TVL1(scales=2, warps=2, iterations=10))


def computed(recipe: Recipe = QUICK) -> str:
    """The fingerprint, by an engine of its own and not from memory."""
    return fingerprint_by(flow.engine(recipe.engine), recipe)


@functools.cache
def untouched(recipe: Recipe = QUICK) -> str:
    """The fingerprint of the tools as they are."""
    return computed(recipe)


@pytest.fixture(autouse=True)
def untouched_first() -> None:
    """Computes it before a test changes a tool."""
    untouched()


# The value ---------------------------------------------------------------------------------------

MADE_WITH = {
    "ffmpeg": "n9.0.2-17-g2a571b6068-20260930",
    "pillow": "12.3.0",
    "libjpeg_turbo": "3.1.4.1",
    "zlib": "1.2.13",
}

VALUES = {
    "jpeg": "31f80d0ecfeee432b44df91a6127b1fd01b8baaa4dc5a9870a947fe183439bc8",
    "png": "80b1edd69ed8c1145f0f6d14bb0fa286b506c40187d9811012d2451ac6955284",
}


def installed() -> dict[str, str]:
    libraries = {name: str(features.version(name)) for name in ("libjpeg_turbo", "zlib")}
    return {"ffmpeg": ffmpeg.locate().version, "pillow": PIL.__version__} | libraries


@pytest.mark.parametrize("flow_encoding", VALUES)
def test_the_fingerprint_of_the_papers_recipe_is_this_on_every_machine_and_python(flow_encoding):
    """If it changes with the same tools, then so do the bytes of records: raise `RECORD_VERSION`."""
    if installed() != MADE_WITH:
        pytest.skip(f"the constants were made with {MADE_WITH}, here are {installed()}")
    if flow.engine("tvl1").version() != "version 1":
        pytest.skip(f"the constants were made with tvl1 version 1, here is {flow.engine('tvl1').version()}")
    found = fingerprint(Recipe("tvl1", flow_encoding=flow_encoding))
    assert found == VALUES[flow_encoding]


def test_it_is_64_hex_digits():
    assert len(untouched()) == 64 and set(untouched()) <= set("0123456789abcdef")


def the_record(recipe: Recipe = QUICK) -> Record:
    engine = flow.engine(recipe.engine)
    return module._record(module._two_streams(engine, recipe), engine, recipe)


def test_its_record_is_made_as_every_record_is():
    """All that differs from what `prepare_clip` makes of the file is what says which clip it is, and the digest."""
    seconds = module._seconds(QUICK.fps)
    expected = prepare_clip(built_in_clip.PATH, 0.0, seconds, dataclasses.replace(QUICK, min_seconds=0.0))
    found = the_record()
    differing = {name for name in found.features if found.get(name) != expected.get(name)}
    which_clip = {"example/id", "clip/media_id", "clip/label/index", "clip/label/string", "clip/label/text"}
    assert differing == which_clip | {"kinetics_prep/recipe"}
    assert found["kinetics_prep/recipe"] == "fingerprint"


def test_its_record_uses_what_records_can_hold():
    record = the_record()
    assert len(record) == FRAMES and record["kinetics_prep/last_flow"] == "next_frame"
    assert record["kinetics_prep/engine"] == f"tvl1: {flow.engine('tvl1').version()}"
    assert all(record.levels(k).std() > 1 for k in range(FRAMES))


# The same ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", flow.ENGINES)
def test_engines_that_give_one_flow_have_one_fingerprint_and_others_another(name):
    """`tests/flow/test_flow_cuda.py` does the same with an emulated GPU."""
    if missing := flow.ENGINES[name].usable():
        pytest.skip(f"engine {name} cannot run here: {missing}")
    own = untouched(dataclasses.replace(QUICK, engine=name))
    for other, engine in flow.ENGINES.items():
        if engine.usable() is None:
            is_equal = untouched(dataclasses.replace(QUICK, engine=other)) == own
            assert is_equal == (engine.GIVES == flow.ENGINES[name].GIVES)


def other_process(**environment: str) -> list[str]:
    """What another process finds: its ffmpeg, its instruction set, its fingerprint of `QUICK`."""
    program = "import test_fingerprint as t; from kinetics_prep.flow import simd; "
    program += "print(t.ffmpeg.locate().path, simd.INSTRUCTIONS, t.fingerprint(t.QUICK))"
    paths = os.pathsep.join(map(str, (TESTS, TESTS / "runs", TESTS.parent)))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


NARROWER = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+sse4.2",
    "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX512-COMMON,AVX512F",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX",
}
"""What makes the libraries do without AVX-512."""


def test_with_narrower_vectors_it_is_the_same():
    from kinetics_prep.flow import simd  # not above: Numba takes a second to import

    if simd.INSTRUCTIONS != "AVX-512":
        pytest.skip(f"this machine has {simd.INSTRUCTIONS}, so nothing else to compile for")
    assert other_process(**NARROWER)[1:] == ["AVX2", untouched()]


def test_without_the_vectors_of_the_jpeg_library_and_of_ffmpeg_it_is_the_same(tmp_path):
    shim = other_ffmpeg.write_shim(tmp_path, replaced={}, before_input=("-cpuflags", "0"))
    path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    found = other_process(PATH=path, JSIMD_FORCENONE="1")
    assert (found[0], found[2]) == (str(shim), untouched())


@pytest.mark.parametrize("opencv_threads", [0, 1, 4])
def test_any_number_of_threads_gives_the_same(opencv_threads):
    before = cv2.getNumThreads()
    cv2.setNumThreads(opencv_threads)
    try:
        engine = flow.engine("tvl1")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda _: fingerprint_by(engine, QUICK), range(8)))
    finally:
        cv2.setNumThreads(before)
    assert found == {untouched()}


def test_a_real_ffmpeg_behind_a_script_has_the_same(on_the_path, tmp_path):
    on_the_path(other_ffmpeg.write_shim(tmp_path, replaced={}))
    assert computed() == untouched()


# Another -----------------------------------------------------------------------------------------


@pytest.fixture
def on_the_path(monkeypatch) -> Iterator[Callable[[Path], None]]:
    """Puts a program called ffmpeg first on the PATH, and has this process find it."""

    def put(program: Path) -> None:
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        found = ffmpeg.locate.__wrapped__()
        assert found.path == str(program)
        monkeypatch.setattr(ffmpeg, "locate", lambda: found)

    return put


SHIMS = {
    "another scaler": {},
    "less exact colours": {"replaced": {"+full_chroma_int": ""}},
    "another colour matrix": {"replaced": {"full_chroma_int+bitexact": "bitexact:in_color_matrix=bt601"}},
    "a pixel darker": {"replaced": {"showinfo=checksum=0[": "drawbox=0:0:2:2:black,showinfo=checksum=0["}},
    "a decoder without its deblocking": {"before_input": ("-skip_loop_filter", "all")},
}


@pytest.mark.parametrize("name", SHIMS)
def test_another_ffmpeg_of_the_same_version_is_noticed(name, on_the_path, tmp_path):
    shim = other_ffmpeg.write_shim(tmp_path, **SHIMS[name])
    version = ffmpeg.locate().version
    on_the_path(shim)
    assert ffmpeg.locate().version == version
    assert computed() != untouched()


def test_another_ffmpeg_on_the_path_of_another_process_is_noticed(tmp_path):
    shim = other_ffmpeg.write_shim(tmp_path)
    found = other_process(PATH=f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    assert found[0] == str(shim) and found[2] != untouched()


SAVE = Image.Image.save


def saved_with(**changes):
    """Pillow's `save` with other options for JPEG, or for PNG if `compress_level` is among them."""

    def save(image, file, **options):
        is_meant = (options["format"] == "PNG") == ("compress_level" in changes)
        return SAVE(image, file, **options | (changes if is_meant else {}))

    return save


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": 94},
        {"qtables": [[2] * 64, [3] * 64]},
        {"keep_rgb": False},
        {"optimize": True},
        {"progressive": True},
    ],
    ids=str,
)
def test_another_jpeg_is_noticed(changes, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", saved_with(**changes))
    assert computed() != untouched()


def test_another_png_is_noticed_by_a_recipe_that_writes_png(monkeypatch):
    png = dataclasses.replace(QUICK, flow_encoding="png")
    before = untouched(png)
    monkeypatch.setattr(Image.Image, "save", saved_with(compress_level=1))
    assert computed(png) != before
    assert computed() == untouched()


GREYS = {
    "red and blue swapped": lambda frame: cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY),
    "BT.709 weights": lambda frame: np.rint(frame @ [0.2126, 0.7152, 0.0722]).astype(np.uint8),
    "weights of 8 bits": lambda frame: (frame @ [77, 150, 29] + 128 >> 8).astype(np.uint8),
    "rounded down": lambda frame: (frame @ [0.299, 0.587, 0.114]).astype(np.uint8),
}


@pytest.mark.parametrize("name", GREYS)
def test_another_grey_is_noticed(name, monkeypatch):
    grey, real = GREYS[name], clip_flow.cv2

    class OtherCV2:
        COLOR_RGB2GRAY = real.COLOR_RGB2GRAY
        cvtColor = staticmethod(lambda frame, code: grey(frame))

    monkeypatch.setattr(clip_flow, "cv2", OtherCV2)
    assert computed() != untouched()


class ChangedFlow(TVL1CPU):
    """The engine `tvl1`, whose last flow is changed by `change`."""

    def __init__(self, change: Callable[[np.ndarray], None]) -> None:
        super().__init__()
        self._change = change

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        for k, field in enumerate(super().flows(grey, tvl1)):
            if k == len(grey) - 2:
                field = field.copy()
                self._change(field)
            yield field


def test_one_pixel_of_one_flow_is_noticed():
    def change(field: np.ndarray) -> None:
        field[-1, -1, 1] += QUICK.bound_px / 127  # one level

    assert fingerprint_by(ChangedFlow(change), QUICK) != untouched()
    assert fingerprint_by(ChangedFlow(lambda field: None), QUICK) == untouched()


def test_another_saturation_is_noticed_though_the_levels_are_the_same():
    recipe = dataclasses.replace(QUICK, bound_px=2.0)

    def change(field: np.ndarray) -> None:
        y, x, axis = np.argwhere(np.abs(field) > recipe.bound_px)[0]
        field[y, x, axis] = np.sign(field[y, x, axis]) * recipe.bound_px

    assert fingerprint_by(ChangedFlow(change), recipe) != untouched(recipe)


@pytest.mark.parametrize("name", quantize.QUANTIZERS)
def test_another_quantizer_is_noticed(name, monkeypatch):
    recipe = dataclasses.replace(QUICK, quantizer=name)
    before, real = untouched(recipe), quantize.QUANTIZERS[name]

    def floored(field: np.ndarray, bound: float) -> np.ndarray:
        return real.encode(field - np.float32(bound / 1000), bound)

    monkeypatch.setitem(quantize.QUANTIZERS, name, dataclasses.replace(real, encode=floored))
    assert computed(recipe) != before


def test_a_level_of_a_frame_is_noticed_even_where_jpeg_hides_it(monkeypatch):
    coarse = dataclasses.replace(QUICK, jpeg_quality=1)
    before, record, decoded = untouched(coarse), the_record(coarse), module._decoded

    def bluer(recipe: Recipe) -> Clip:
        clip = decoded(recipe)
        clip.frames[0, 0, 0, 2] += 1  # too little to change the grey
        return clip

    monkeypatch.setattr(module, "_decoded", bluer)
    assert the_record(coarse) == record
    assert computed(coarse) != before


def test_a_level_of_a_flow_is_noticed_even_where_jpeg_hides_it(monkeypatch):
    coarse = dataclasses.replace(QUICK, jpeg_quality=1)
    before, record, real = untouched(coarse), the_record(coarse), quantize.QUANTIZERS["symmetric"]

    def raised(field: np.ndarray, bound: float) -> np.ndarray:
        levels = real.encode(field, bound)
        levels[0, 0, 0] += 1
        return levels

    monkeypatch.setitem(quantize.QUANTIZERS, "symmetric", dataclasses.replace(real, encode=raised))
    assert the_record(coarse) == record
    assert computed(coarse) != before


def test_another_order_of_features_is_noticed(monkeypatch):
    real = sequence_example.serialize

    def reversed_order(context, feature_lists) -> bytes:
        lists = real({}, feature_lists)
        examples = [real({name: value}, {}) for name, value in sorted(context.items(), reverse=True)]
        parsed = map(sequence_example.SequenceExample.FromString, examples)
        features = b"".join(example.context.SerializeToString() for example in parsed)
        return b"\x0a" + varint(len(features)) + features + lists

    before = the_record()
    monkeypatch.setattr(sequence_example, "serialize", reversed_order)
    assert Record.from_bytes(before.to_bytes()) == before  # the same record
    assert computed() != untouched()


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def test_another_version_of_the_engine_is_noticed(monkeypatch):
    monkeypatch.setattr(TVL1CPU, "version", staticmethod(lambda: "version 2"))
    assert computed() != untouched()


# Settings ----------------------------------------------------------------------------------------

CHANGED = {
    "engine": "opencv-cpu",
    "fps": Fraction(30000, 1001),
    "short_side": 48,
    "tvl1": TVL1(scales=2, warps=2, iterations=11),
    "quantizer": "denseflow",
    "bound_px": 15.0,
    "flow_encoding": "png",
    "jpeg_quality": 90,
}

WITHOUT_EFFECT = {"clip_seconds": 2.5, "min_seconds": 0.5, "formats": ("parquet", "tfrecord"), "clips_per_shard": 8}


def test_these_tests_change_every_setting():
    assert CHANGED.keys() | WITHOUT_EFFECT.keys() == {field.name for field in dataclasses.fields(Recipe)}


@pytest.mark.parametrize("name", CHANGED)
def test_each_setting_that_decides_bytes_gives_another(name):
    if name == "engine" and flow.ENGINES["opencv-cpu"].usable():
        pytest.skip("opencv-cpu cannot run here")
    changed = dataclasses.replace(QUICK, **{name: CHANGED[name]})
    assert fingerprint(changed) == computed(changed) != untouched()


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_settings_that_decide_how_clips_are_packed_give_the_same(name):
    assert fingerprint(dataclasses.replace(QUICK, **{name: WITHOUT_EFFECT[name]})) == untouched()


@pytest.mark.parametrize("fps", [Fraction(1, 10**12), SLOWEST_FPS, Fraction(1000)])
@pytest.mark.parametrize("short_side", [16, 257])
def test_recipes_at_the_limits_have_one_too(fps, short_side):
    tvl1 = TVL1(scales=1, warps=1, iterations=1)
    recipe = dataclasses.replace(QUICK, fps=fps, short_side=short_side, jpeg_quality=1, bound_px=1e-3, tvl1=tvl1)
    assert len(computed(recipe)) == 64


# Once a process ----------------------------------------------------------------------------------


@pytest.fixture
def computations(monkeypatch) -> Iterator[list[str]]:
    """The engines of the fingerprints that were computed, with an empty memory before and after."""
    done: list[str] = []

    def counted(engine: flow.FlowEngine, recipe: Recipe) -> str:
        done.append(recipe.engine)
        return fingerprint_by(engine, recipe)

    module._fingerprint.cache_clear()
    monkeypatch.setattr(module, "fingerprint_by", counted)
    yield done
    module._fingerprint.cache_clear()


def test_threads_that_ask_at_once_have_it_computed_once(computations):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: fingerprint(QUICK), range(16)))
    assert found == {untouched()} and computations == ["tvl1"]


def test_it_is_computed_once_for_settings_that_decide_bytes(computations):
    fingerprint(QUICK)
    for name, value in WITHOUT_EFFECT.items():
        fingerprint(dataclasses.replace(QUICK, **{name: value}))
    assert len(computations) == 1
    fingerprint(dataclasses.replace(QUICK, jpeg_quality=90))
    assert len(computations) == 2


def test_other_gpus_are_tested_too(computations, monkeypatch):
    opened, real = [], flow.engine

    def engine(name: str, hardware: Hardware) -> flow.FlowEngine:
        opened.append(hardware)
        return real(name, hardware)

    monkeypatch.setattr(flow, "engine", engine)
    for hardware in (Hardware(gpus=(0,)), Hardware(gpus=(1,)), Hardware(gpus=(0,))):
        fingerprint(QUICK, hardware)
    assert opened == [Hardware(gpus=(0,)), Hardware(gpus=(1,))] and len(computations) == 2


def test_a_failure_is_not_remembered(computations, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(built_in_clip, "PATH", Path("/nowhere/clip.mp4"))
        with pytest.raises(MissingTool):
            fingerprint(QUICK)
    assert fingerprint(QUICK) == untouched()


# Errors ------------------------------------------------------------------------------------------


def test_without_an_ffmpeg_it_says_what_the_real_path_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if not installed
    monkeypatch.setattr(ffmpeg, "locate", ffmpeg.locate.__wrapped__)
    with pytest.raises(MissingTool, match="needs ffmpeg 5.1 or newer, found none"):
        computed()


def test_an_ffmpeg_without_the_decoder_is_refused_by_its_path(on_the_path, tmp_path):
    on_the_path(other_ffmpeg.write_shim(tmp_path, replaced={}, before_input=("-c:v", "vp9")))
    with pytest.raises(MissingTool, match=f"needs an ffmpeg that decodes H.264, found {tmp_path}/ffmpeg .*pip install"):
        computed()


@pytest.mark.parametrize(
    "options, why",
    [(("-skip_frame", "nokey"), "clip has 1 frame"), (("-t", "0.1"), "it has 3 frames, expected 5")],
    ids=["one", "three"],
)
def test_an_ffmpeg_that_decodes_too_little_is_refused(options, why, on_the_path, tmp_path):
    on_the_path(other_ffmpeg.write_shim(tmp_path, replaced={}, before_input=options))
    with pytest.raises(MissingTool, match=f"needs an ffmpeg that decodes H.264, found .*built-in clip: {why}"):
        computed()


def test_an_ffmpeg_that_was_removed_is_named(on_the_path, tmp_path):
    program = other_ffmpeg.write_shim(tmp_path, replaced={})
    on_the_path(program)
    program.unlink()
    with pytest.raises(MissingTool, match=f"found {program} .*No such file or directory"):
        computed()


def test_an_engine_that_cannot_run_is_named(monkeypatch):
    monkeypatch.setattr(TVL1CPU, "usable", staticmethod(lambda: "no numba; pip install numba"))
    with pytest.raises(MissingTool, match="engine tvl1 cannot run here: no numba; pip install numba"):
        fingerprint(dataclasses.replace(QUICK, jpeg_quality=17))


def test_a_damaged_clip_in_the_package_is_not_taken_for_another_tool(tmp_path, monkeypatch):
    data = bytearray(built_in_clip.PATH.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "clip.mp4").write_bytes(data)
    monkeypatch.setattr(built_in_clip, "PATH", tmp_path / "clip.mp4")
    with pytest.raises(MissingTool, match=f"clip.mp4, a part of kinetics-prep, is damaged: .*{built_in_clip.SHA256}"):
        computed()


def test_a_missing_clip_in_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(built_in_clip, "PATH", tmp_path / "clip.mp4")
    with pytest.raises(MissingTool, match=r"clip.mp4, .* cannot be read: No such file or directory. Install .* again"):
        computed()


def test_it_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads, environment = cv2.getNumThreads(), dict(os.environ)
    computed()
    assert (cv2.getNumThreads(), dict(os.environ), list(tmp_path.iterdir())) == (threads, environment, [])
