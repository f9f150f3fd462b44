"""What README and CONTRIBUTING say is tried: their Python runs, their commands parse, their files are there."""

import re
import shlex
from pathlib import Path

import planted_faults
import pytest

from kinetics_prep.cli import OK, main
from kinetics_prep.cli.commands import COMMANDS, load

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")}


def blocks(document: str, language: str) -> list[str]:
    """Code blocks of a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENTS[document], re.M | re.S)


@pytest.fixture
def prepared_here(tmp_path, monkeypatch):
    """The sample data set, prepared in the current folder as README's first command does, but quickly."""
    monkeypatch.chdir(tmp_path)
    quick = ("--short-side", "32", "--tvl1", "scales=1", "warps=1", "iterations=2", "--format", "tfrecord,parquet")
    assert main(["flow", "--split", "train", *quick]) == OK
    return tmp_path


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_the_python_of_the_readme_runs(number, prepared_here):
    names: dict = {}
    exec(compile(blocks("README.md", "python")[number], "README.md", "exec"), names)
    assert names["record"].frame(0).shape[2] == 3
    assert names["record"].flow(0).shape[2] == 2


def test_the_repl_example_of_contributing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("CONTRIBUTING.md", "python")
    *statements, last = example.strip().splitlines()
    names: dict = {}
    exec(compile("\n".join(statements), "CONTRIBUTING.md", "exec"), names)
    flow = eval(last, names)
    assert flow.shape[0] == 64 and flow.shape[2] == 2
    assert names["ledger_row"].status == "written"
    assert abs(flow).max() > 0


def commands(document: str) -> list[list[str]]:
    """Every complete `kinetics-prep` command in a document's shell blocks, as words."""
    text = "".join(blocks(document, "sh")).replace("\\\n", " ")
    lines = [line.partition("   #")[0].strip() for line in text.splitlines()]
    found = [part.strip() for line in lines for part in line.split("&&") if "kinetics-prep" in part.split(" ", 1)[0]]
    return [shlex.split(command)[1:] for command in found if "..." not in command]


def test_there_are_commands_to_try():
    assert len(commands("README.md")) > 10


@pytest.mark.parametrize("words", commands("README.md"), ids=" ".join)
def test_a_command_of_the_readme_has_flags_that_are_there(words):
    import argparse

    name, *rest = words
    assert name in COMMANDS
    parser = argparse.ArgumentParser(exit_on_error=False)
    load(name).add_arguments(parser)
    _, unknown = parser.parse_known_args(rest)
    assert unknown == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", DOCUMENTS[document]):
        assert (ROOT / target).exists(), target


def test_the_plan_of_the_house_names_every_room_and_no_other():
    plan = DOCUMENTS["CONTRIBUTING.md"].partition("\n\n")[2].partition("\n\n")[0]
    named = set(re.findall(r"^ {6}(\w+)/ ", plan, re.M))
    rooms = {path.name for path in (ROOT / "kinetics_prep").iterdir() if (path / "__init__.py").exists()}
    assert named == rooms


def test_files_that_contributing_names_are_there():
    paths = {path.relative_to(ROOT / "kinetics_prep").as_posix() for path in (ROOT / "kinetics_prep").rglob("*.*")}
    tree = {f"tests/{path.relative_to(ROOT / 'tests').as_posix()}" for path in (ROOT / "tests").rglob("*.*")}
    for name in re.findall(r"`([\w/]+/[\w]+\.(?:py|cu|h|json))`", DOCUMENTS["CONTRIBUTING.md"]):
        known = name.removeprefix("kinetics_prep/") in paths or name in tree or (ROOT / name).exists()
        assert known, name


def test_planted_faults_are_in_the_source():
    """Or a fault that was moved would be planted nowhere, and nobody would notice."""
    for fault in planted_faults.FAULTS:
        assert (ROOT / fault.file).read_text("utf-8").count(fault.before) == 1, fault.name
        for test in fault.tests:
            assert (ROOT / test.partition("::")[0]).exists(), fault.name
