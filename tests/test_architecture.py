"""The import rule, in code: rooms on floors, and imports that only point down.

A room is a folder of `kinetics_prep/`; `errors.py` is a room of one file. Rooms of one floor do not know each other.
Above `dataset` the house has two wings, which meet on disk only: the pipeline's and the trainer's. Every import counts,
wherever in a file it stands; for circles, only those that run when the module is imported.
"""

import ast
import dataclasses
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = (
    {"schemas"},
    {"errors"},
    {"storage"},
    {"annotations", "media"},
    {"sources", "flow", "records"},
    {"dataset"},
    {"runs", "reading", "models"},
    {"beam", "training", "report", "sample"},
    {"cli"},
    {"__main__", "pipelines"},
)
"""From the ground up. A room may import every room of a lower floor, unless it belongs to the other wing."""

WINGS = ({"runs", "beam"}, {"reading", "models", "training"})
"""The pipeline's and the trainer's: neither imports the other."""

APART = {"report": {"runs", "reading", "models"}, "sample": set().union(*FLOORS[:7]) - {"errors"}}
"""Rooms beside the wings, and what they do not import although it is on a lower floor."""

LOOSE = {"__init__", "__main__", "errors"}
"""The only modules at the top of `kinetics_prep/`; every other belongs to a room."""

# Library -> the only places that may import it.
HOMES = {
    "apache_beam": ("kinetics_prep.beam", "pipelines"),
    "tensorflow": ("kinetics_prep.models", "kinetics_prep.training", "kinetics_prep.reading.tensorflow_batches"),
    "keras": ("kinetics_prep.models", "kinetics_prep.training"),
    "tf_keras": ("kinetics_prep.models", "kinetics_prep.training"),
    "numba": ("kinetics_prep.flow",),
    "llvmlite": ("kinetics_prep.flow",),
    "cupy": ("kinetics_prep.flow",),
    "matplotlib": ("kinetics_prep.report",),
    "yt_dlp": ("kinetics_prep.sources",),
    "ffmpeg": ("kinetics_prep.media",),
}


@dataclasses.dataclass(frozen=True)
class Import:
    """An import as it stands in a file."""

    importer: str
    line: int
    names: tuple[str, ...]
    """What may be meant, the longest first: of `from a import b` a.b, if that is a module, else a."""
    relative: bool = False
    at_import: bool = True
    """Whether it runs when the importer is imported."""

    def __str__(self):
        return f"{self.importer}:{self.line}: imports {self.names[0]}"


def imports(module: str, source: str) -> Iterator[Import]:
    """Every import in a module."""
    yield from _imports(module, ast.parse(source), at_import=True)


def _imports(module: str, node: ast.AST, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module, node.lineno, (alias.name,), at_import=at_import)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            names = (f"{node.module}.{alias.name}", str(node.module))
            yield Import(module, node.lineno, names, relative=node.level > 0, at_import=at_import)
    else:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_type_checkers(node):
            at_import = False
        for child in ast.iter_child_nodes(node):
            yield from _imports(module, child, at_import)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def sources() -> dict[str, str]:
    """The source of every module of the project, by name."""
    modules = {}
    for package in ("kinetics_prep", "pipelines"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            modules[name] = path.read_text("utf-8")
    return modules


SOURCES = sources()
IMPORTS = [one for module, source in SOURCES.items() for one in imports(module, source)]


def room(module: str) -> str:
    """The room of a module of ours; "" for the face of the package."""
    if module.split(".")[0] == "pipelines":
        return "pipelines"
    return (*module.split("."), "")[1]


def floor(name: str) -> int | None:
    """The number of a room's floor, None if it has none."""
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), None)


def may_import(name: str, other: str) -> bool:
    """Whether a room may import another."""
    if other in (name, "") or name == "":  # the face names its rooms when asked, and tells the version
        return True
    here, there = floor(name), floor(other)
    if here is None or there is None or there >= here or other in APART.get(name, ()):
        return False
    return not any(name in wing and other in rest for wing in WINGS for rest in WINGS if rest is not wing)


def target(one: Import) -> str | None:
    """The module of ours that an import means; None if it is of another project."""
    if one.names[0].split(".")[0] not in ("kinetics_prep", "pipelines"):
        return None
    return next((name for name in one.names if name in SOURCES), one.names[0])


def points_up(one: Import) -> bool:
    """Whether it imports a room that its own must not know."""
    module = target(one)
    return module is not None and not may_import(room(one.importer), room(module))


def strays(one: Import) -> bool:
    """Whether it imports a library outside the library's home."""
    homes = HOMES.get(one.names[0].split(".")[0])
    return homes is not None and not any(f"{one.importer}.".startswith(f"{home}.") for home in homes)


def listed(imports) -> list[str]:
    return [str(one) for one in imports]


def loose(names) -> set[str]:
    """Modules at the top of the package that belong to no room."""
    return {name for name in names if name.startswith("kinetics_prep.") and name.count(".") == 1} - {
        f"kinetics_prep.{known}" for known in (*LOOSE, *(each for rooms in FLOORS for each in rooms))
    }


# The rules -------------------------------------------------------------------------------------


def test_imports_point_down():
    assert listed(one for one in IMPORTS if points_up(one)) == []


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    rooms = {path.name for path in (ROOT / "kinetics_prep").iterdir() if (path / "__init__.py").exists()}
    on_floors = [name for rooms in FLOORS for name in rooms]
    assert sorted(on_floors) == sorted({*rooms, "errors", "__main__", "pipelines"})


def test_no_module_is_loose_at_the_top():
    top = {path.stem for path in (ROOT / "kinetics_prep").glob("*.py")}
    assert top == LOOSE
    assert loose(SOURCES) == set()


def test_libraries_stay_in_their_homes():
    assert listed(one for one in IMPORTS if strays(one)) == []


def test_imports_are_absolute():
    assert listed(one for one in IMPORTS if one.relative) == []


def test_nothing_imports_cli_but_main_and_pipelines():
    importers = {room(one.importer) for one in IMPORTS if target(one) and room(target(one)) == "cli"} - {"cli"}
    assert importers == {"__main__", "pipelines"}


def test_nothing_imports_pipelines():
    assert listed(one for one in IMPORTS if target(one) and room(target(one)) == "pipelines") == []


def test_cli_imports_what_a_command_needs_when_it_needs_it():
    found = {target(one) for one in IMPORTS if one.importer == "kinetics_prep.cli" and one.at_import} - {None}
    assert found == {
        "kinetics_prep",
        "kinetics_prep.cli.commands",
        "kinetics_prep.cli.endings",
        "kinetics_prep.cli.exit_codes",
        "kinetics_prep.cli.one_line_parser",
    }


def test_the_face_imports_nothing_before_it_is_asked():
    assert listed(one for one in IMPORTS if one.importer == "kinetics_prep" and one.at_import and target(one)) == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: set() for module in SOURCES}
    for one in IMPORTS:
        if one.at_import and target(one):
            graph[one.importer].add(target(one))
    assert circle(graph) == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, or none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_every_module_of_ours_that_is_imported_is_there():
    assert listed(one for one in IMPORTS if target(one) and target(one) not in SOURCES) == []


# The rules can be broken -----------------------------------------------------------------------


def test_every_room_is_looked_at():
    assert {room(module) for module in SOURCES} == {"", *(name for rooms in FLOORS for name in rooms)}
    assert len(IMPORTS) > 500


def only_import(module: str, line: str) -> Import:
    (one,) = imports(module, line)
    return one


@pytest.mark.parametrize(
    "module, line",
    [
        ("kinetics_prep.schemas", "from kinetics_prep.errors import CorruptShard"),
        ("kinetics_prep.errors", "from kinetics_prep.storage import files"),
        ("kinetics_prep.storage.tables", "from kinetics_prep.annotations import annotation"),
        ("kinetics_prep.media.video", "from kinetics_prep.beam import stages"),
        ("kinetics_prep.media.video", "import kinetics_prep.report.sheet"),
        ("kinetics_prep.media.video", "def trim():\n    from kinetics_prep.beam.stages import Trim"),
        ("kinetics_prep.sources.cache", "from kinetics_prep.dataset.plan import read"),
        ("kinetics_prep.dataset.shards", "from kinetics_prep.runs import clip"),
        ("kinetics_prep.runs.clip", "from kinetics_prep.beam import stages"),
        ("kinetics_prep.models.i3d", "from kinetics_prep.training import train"),
        ("kinetics_prep.beam.graph", "from kinetics_prep.cli import main"),
        ("kinetics_prep.beam.graph", "from pipelines import flow"),
        ("kinetics_prep.report.sheet", "from kinetics_prep.runs import prepare"),
        ("kinetics_prep.sample.render", "from kinetics_prep.media import video"),
    ],
)
def test_an_import_that_points_up_is_seen(module, line):
    assert points_up(only_import(module, line))


@pytest.mark.parametrize(
    "module, line",
    [
        ("kinetics_prep.media.video", "from kinetics_prep.annotations import annotation"),
        ("kinetics_prep.annotations.check", "from kinetics_prep.media.clip import Video"),
        ("kinetics_prep.records.record", "from kinetics_prep.flow import TVL1"),
        ("kinetics_prep.flow.opencv", "from kinetics_prep.records import tfrecord"),
        ("kinetics_prep.sources.remote", "from kinetics_prep.flow import engine"),
        ("kinetics_prep.runs.clip", "from kinetics_prep.reading import clips"),
        ("kinetics_prep.models.spec", "from kinetics_prep.reading import clips"),
    ],
)
def test_an_import_sideways_between_rooms_of_a_floor_is_seen(module, line):
    assert points_up(only_import(module, line))


@pytest.mark.parametrize(
    "module, line",
    [
        ("kinetics_prep.training.preview", "from kinetics_prep.runs import clip"),
        ("kinetics_prep.training.train", "from kinetics_prep.beam import graph"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.reading.clips import Clips"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.models import i3d"),
    ],
)
def test_an_import_from_the_other_wing_is_seen(module, line):
    assert points_up(only_import(module, line))


@pytest.mark.parametrize("name", ["kinetics_prep.helpers", "kinetics_prep.video", "kinetics_prep.utils"])
def test_a_loose_module_is_seen(name):
    assert loose([*SOURCES, name]) == {name}
    assert points_up(only_import("kinetics_prep.dataset.plan", f"import {name}"))


@pytest.mark.parametrize(
    "module, line",
    [
        ("kinetics_prep.media.video", "from kinetics_prep import errors, schemas"),
        ("kinetics_prep.media.video", "import kinetics_prep"),
        ("kinetics_prep", "from kinetics_prep.runs.clip import prepare_clip"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.media.video import trim"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.beam import runners"),
        ("kinetics_prep.training.train", "from kinetics_prep.models import MODELS"),
        ("kinetics_prep.training.train", "from kinetics_prep.dataset import manifest"),
        ("kinetics_prep.report.inspect", "from kinetics_prep.records import SHARD_FORMATS"),
        ("kinetics_prep.cli.commands.inspect", "from kinetics_prep.report import inspect"),
        ("pipelines.flow", "from kinetics_prep.cli import flags"),
        ("kinetics_prep.media.video", "import beam, report, cli"),
    ],
)
def test_an_import_that_points_down_is_fine(module, line):
    assert not any(points_up(one) for one in imports(module, line))


@pytest.mark.parametrize(
    "module, line, allowed",
    [
        ("kinetics_prep.runs.prepare", "import apache_beam as beam", False),
        ("kinetics_prep.beamish", "import apache_beam", False),
        ("kinetics_prep.beam.stages", "from apache_beam.options import pipeline_options", True),
        ("pipelines.flow", "import apache_beam", True),
        ("kinetics_prep.beam.stages", "import tensorflow as tf", False),
        ("kinetics_prep.training.devices", "import tensorflow as tf", True),
        ("kinetics_prep.reading.images", "import tensorflow as tf", False),
        ("kinetics_prep.models.i3d", "from keras import layers", True),
        ("kinetics_prep.records.record", "def f():\n    import tensorflow.io", False),
        ("kinetics_prep.media.quantize", "from numba import njit", False),
        ("kinetics_prep.flow.numba_cpu", "from numba import njit", True),
        ("kinetics_prep.flow", "import cupy", True),
        ("kinetics_prep.cli.commands.train", "from matplotlib import pyplot", False),
        ("kinetics_prep.media.quantize", "import numpy", True),
    ],
)
def test_a_library_away_from_home_is_seen(module, line, allowed):
    assert strays(only_import(module, line)) != allowed


def test_a_relative_import_is_seen():
    assert only_import("kinetics_prep.media.video", "from . import clip").relative
    assert only_import("kinetics_prep.media.video", "from .clip import Clip").relative


def test_a_circle_is_seen_and_imports_that_run_later_make_none():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert set(circle(graph)) == {"a", "b", "c"}
    later = """
def f():
    import a

if TYPE_CHECKING:
    import b

class C:
    import c

try:
    import d
except ImportError:
    pass
"""
    assert [one.names[0] for one in imports("m", later) if one.at_import] == ["c", "d"]
