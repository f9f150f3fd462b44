"""The import rule of HOUSE.md, in code.

    schemas <- core <- { beam | models <- training | report } <- cli

Pipeline and trainer meet on disk only. Every import counts, wherever in a file it stands; for cycles, only those
that run when the module is imported.
"""

import ast
import dataclasses
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Layer -> the layers it may import, besides itself.
MAY_IMPORT = {
    "schemas": set(),
    "core": {"schemas"},
    "beam": {"schemas", "core"},
    "models": {"schemas", "core"},
    "training": {"schemas", "core", "models"},
    "report": {"schemas", "core"},
    "cli": {"schemas", "core", "beam", "models", "training", "report"},
    "__main__": {"cli"},
    "pipelines": {"schemas", "core", "beam"},
}

# Library -> the only places that may import it.
HOMES = {
    "apache_beam": ("kinetics_prep.beam", "pipelines"),
    "tensorflow": ("kinetics_prep.models", "kinetics_prep.training"),
    "keras": ("kinetics_prep.models", "kinetics_prep.training"),
    "tf_keras": ("kinetics_prep.models", "kinetics_prep.training"),
    "numba": ("kinetics_prep.flow",),
    "llvmlite": ("kinetics_prep.flow",),
    "cupy": ("kinetics_prep.flow",),
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
    """The source of every module of the project, by name; `schemas/` is installed as kinetics_prep.schemas."""
    found = {}
    for folder, package in (
        ("kinetics_prep", "kinetics_prep"),
        ("pipelines", "pipelines"),
        ("schemas", "kinetics_prep.schemas"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path.read_text("utf-8")
    return found


SOURCES = sources()
IMPORTS = [one for module, source in SOURCES.items() for one in imports(module, source)]


def layer(module: str) -> str:
    """The layer that a module of ours stands in."""
    if module.split(".")[0] == "pipelines":
        return "pipelines"
    part = (*module.split("."), "core")[1]
    return part if part in MAY_IMPORT else "core"


def target(one: Import) -> str | None:
    """The module of ours that an import means; None if it is of another project."""
    if one.names[0].split(".")[0] not in ("kinetics_prep", "pipelines"):
        return None
    return next((name for name in one.names if name in SOURCES), one.names[0])


def points_up(one: Import) -> bool:
    """Whether it imports a layer that its own must not know."""
    found = target(one)
    return found is not None and layer(found) not in {layer(one.importer), *MAY_IMPORT[layer(one.importer)]}


def strays(one: Import) -> bool:
    """Whether it imports a library outside the library's home."""
    homes = HOMES.get(one.names[0].split(".")[0])
    return homes is not None and not any(f"{one.importer}.".startswith(f"{home}.") for home in homes)


def told(imports) -> list[str]:
    return [str(one) for one in imports]


# The rules -------------------------------------------------------------------------------------


def test_imports_point_down():
    assert told(one for one in IMPORTS if points_up(one)) == []


def test_libraries_stay_in_their_homes():
    assert told(one for one in IMPORTS if strays(one)) == []


def test_imports_are_absolute():
    assert told(one for one in IMPORTS if one.relative) == []


def test_nothing_imports_cli_but_main():
    assert {one.importer for one in IMPORTS if target(one) == "kinetics_prep.cli"} == {"kinetics_prep.__main__"}


def test_nothing_imports_pipelines():
    assert told(one for one in IMPORTS if target(one) and layer(target(one)) == "pipelines") == []


def test_cli_imports_what_a_command_needs_when_it_needs_it():
    found = {target(one) for one in IMPORTS if one.importer == "kinetics_prep.cli" and one.at_import} - {None}
    assert found == {"kinetics_prep", "kinetics_prep.cli.common", "kinetics_prep.errors"}


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
    assert told(one for one in IMPORTS if target(one) and target(one) not in SOURCES) == []


# The rules can be broken -----------------------------------------------------------------------


def test_every_layer_that_is_built_is_looked_at():
    assert {"schemas", "core", "beam", "report", "cli", "__main__", "pipelines"} <= {
        layer(module) for module in SOURCES
    }
    assert len(SOURCES) > 30
    assert len(IMPORTS) > 200


def only_import(module: str, line: str) -> Import:
    (one,) = imports(module, line)
    return one


@pytest.mark.parametrize(
    "module, line",
    [
        ("kinetics_prep.media.video", "from kinetics_prep.beam import stages"),
        ("kinetics_prep.media.video", "import kinetics_prep.report.sheet"),
        ("kinetics_prep.media.video", "from kinetics_prep import cli"),
        ("kinetics_prep.media.video", "def trim():\n    from kinetics_prep.beam.stages import Trim"),
        ("kinetics_prep.flow.opencv", "from kinetics_prep.training import input"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.training.input import batches"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.models import i3d"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.report import sheet"),
        ("kinetics_prep.models.i3d", "from kinetics_prep.training import train"),
        ("kinetics_prep.training.train", "from kinetics_prep.beam import flow"),
        ("kinetics_prep.report.sheet", "from kinetics_prep.beam import flow"),
        ("kinetics_prep.schemas", "from kinetics_prep.errors import CorruptShard"),
        ("kinetics_prep.beam.graph", "from kinetics_prep.cli import main"),
        ("kinetics_prep.beam.graph", "from pipelines import flow"),
        ("pipelines.flow", "from kinetics_prep import cli"),
    ],
)
def test_an_import_that_points_up_is_seen(module, line):
    assert points_up(only_import(module, line))


@pytest.mark.parametrize(
    "module, line",
    [
        ("kinetics_prep.media.video", "from kinetics_prep import flow, schemas"),
        ("kinetics_prep.media.video", "import kinetics_prep"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.media.video import trim"),
        ("kinetics_prep.beam.stages", "from kinetics_prep.beam import runners"),
        ("kinetics_prep.training.train", "from kinetics_prep.models import MODELS"),
        ("kinetics_prep.cli", "from kinetics_prep.report import inspect"),
        ("kinetics_prep.media.video", "import beam, report, cli"),
    ],
)
def test_an_import_that_points_down_is_fine(module, line):
    assert not any(points_up(one) for one in imports(module, line))


@pytest.mark.parametrize(
    "module, line, allowed",
    [
        ("kinetics_prep.runs.clip", "import apache_beam as beam", False),
        ("kinetics_prep.beamish", "import apache_beam", False),
        ("kinetics_prep.beam.stages", "from apache_beam.options import pipeline_options", True),
        ("pipelines.flow", "import apache_beam", True),
        ("kinetics_prep.beam.stages", "import tensorflow as tf", False),
        ("kinetics_prep.training.input", "import tensorflow as tf", True),
        ("kinetics_prep.models.i3d", "from keras import layers", True),
        ("kinetics_prep.records.record", "def f():\n    import tensorflow.io", False),
        ("kinetics_prep.media.quantize", "from numba import njit", False),
        ("kinetics_prep.flow.numba_cpu", "from numba import njit", True),
        ("kinetics_prep.flow", "import cupy", True),
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
