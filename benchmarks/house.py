"""Measures the code as a house: loose modules, floors, sizes of functions, type hints, tests per line of source.

    python benchmarks/house.py            this checkout
    python benchmarks/house.py FOLDER     another one, such as an older commit in a worktree

Floors are counted as in a stack of rooms (folders of `kinetics_prep/`, and modules beside them): a room is one floor
above the highest room that it imports. mypy is counted with the settings that `pyproject.toml` has here.
"""

import ast
import functools
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SETTINGS = ("--disallow-untyped-defs", "--disallow-incomplete-defs", "--ignore-missing-imports")


def sources(root: Path) -> dict[str, ast.Module]:
    """Every module of the package and of pipelines/ and schemas/, by its path below the root."""
    paths = [path for folder in ("kinetics_prep", "pipelines", "schemas") for path in (root / folder).rglob("*.py")]
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(paths)}


def functions(modules: dict[str, ast.Module]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for module in modules.values():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function below its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or function.lineno) - body[0].lineno + 1 if body else 0


def is_hinted(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the return and all parameters but self and cls have hints; `__init__` may leave the return out."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [one for one in (arguments.vararg, arguments.kwarg) if one]
    parameters = [one for one in every if one.arg not in ("self", "cls")]
    returns = function.returns is not None or (function.name == "__init__" and bool(parameters))
    return returns and all(one.annotation is not None for one in parameters)


def room(name: str) -> str:
    """The room of a module: its folder in the package, or the module itself where it is loose."""
    parts = Path(name).with_suffix("").parts
    return parts[1] if parts[0] == "kinetics_prep" and len(parts) > 1 else parts[0]


def imported(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    known = {room(name) for name in modules}
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, module in modules.items():
        for node in ast.walk(module):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for target in (full.split(".")[1] for full in names if full.startswith("kinetics_prep.")):
                if target in known and target != room(name):
                    graph[room(name)].add(target)
    graph.pop("__init__", None)
    return graph


def floors(graph: dict[str, set[str]]) -> int:
    @functools.cache
    def floor(name: str) -> int:
        return 1 + max((floor(below) for below in graph.get(name, ())), default=0)

    return max(map(floor, graph))


def line_count(paths: list[Path]) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def mypy_errors(root: Path) -> str:
    with tempfile.TemporaryDirectory() as cache:
        own = "[tool.mypy]" in (root / "pyproject.toml").read_text("utf-8")
        settings = () if own else (*SETTINGS, "kinetics_prep", "pipelines")
        command = [sys.executable, "-m", "mypy", "--cache-dir", cache, *settings]
        output = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout
    found = re.search(r"Found (\d+) errors? in (\d+)", output)
    return f"{found[1]} in {found[2]} files" if found else output.strip().splitlines()[-1]


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    modules = sources(root)
    sizes = sorted(map(body_lines, functions(modules)))
    hinted = [is_hinted(function) for function in functions(modules)]
    tests = line_count(sorted((root / "tests").rglob("*.py")))
    source = line_count([root / name for name in modules])
    rooms = {room(name) for name in modules} - {"__init__", "__main__"}
    print(f"modules at the top of kinetics_prep/   {len(list((root / 'kinetics_prep').glob('*.py')))}")
    print(f"rooms, and loose modules beside them   {len(rooms)}, on {floors(imported(modules))} floors")
    print(f"functions                              {len(sizes)}")
    print(f"lines of a function, median and p90    {statistics.median(sizes):g} and {sizes[int(0.9 * len(sizes))]}")
    print(f"functions with full hints              {sum(hinted) / len(hinted):.1%}")
    print(f"lines of source, of tests, tests/line  {source:,}, {tests:,}, {tests / source:.2f}")
    print(f"mypy errors                            {mypy_errors(root)}")


if __name__ == "__main__":
    main()
