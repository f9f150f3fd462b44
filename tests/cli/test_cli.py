"""The roof: which command runs, what it imports, what it says when it cannot go on, with which exit code."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys

import pytest

import kinetics_prep
from kinetics_prep import cli
from kinetics_prep.cli import BUG, CANNOT_GO_ON, INTERRUPTED, OK, main
from kinetics_prep.cli.commands import COMMANDS, load
from kinetics_prep.errors import BadOption, CorruptShard, NoRoom, RunError
from kinetics_prep.runs import clip

HEAVY = ("apache_beam", "tensorflow", "keras", "numba", "cv2", "yt_dlp", "pyarrow", "numpy", "PIL", "matplotlib")


def loaded_after(program: str) -> set[str]:
    """Heavy libraries that a program has imported by its end."""
    code = f"import sys, contextlib\nwith contextlib.suppress(SystemExit):\n {program}\nprint('LOADED', *sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = out.rpartition("LOADED")[2].split()
    return {name for name in HEAVY if name in modules}


def run_module(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "kinetics_prep", *arguments], capture_output=True, text=True)


# What is loaded ---------------------------------------------------------------------------------


def test_the_package_loads_nothing_before_it_is_needed():
    assert loaded_after("import kinetics_prep") == set()
    assert loaded_after("import kinetics_prep; kinetics_prep.ClipError") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]])
def test_help_loads_nothing(arguments):
    assert loaded_after(f"from kinetics_prep import cli; cli.main({arguments!r})") == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_waits_for_no_engine_and_no_trainer(command):
    loaded = loaded_after(f"from kinetics_prep import cli; cli.main([{command!r}, '--help'])")
    assert not loaded & {"apache_beam", "tensorflow", "keras", "numba", "yt_dlp", "matplotlib"}


# The public face --------------------------------------------------------------------------------


def test_the_public_names_are_there_and_are_those_that_are_listed():
    assert set(kinetics_prep.__all__) == {*kinetics_prep._HOMES, "__version__"}
    for name in kinetics_prep.__all__:
        assert getattr(kinetics_prep, name) is not None
        assert name in dir(kinetics_prep)
    assert (
        kinetics_prep.read_shard.__doc__ and kinetics_prep.prepare_clip.__doc__ and kinetics_prep.open_dataset.__doc__
    )
    with pytest.raises(AttributeError, match="module 'kinetics_prep' has no attribute 'prepare_everything'"):
        kinetics_prep.prepare_everything  # noqa: B018


# Commands ---------------------------------------------------------------------------------------


def test_help_names_every_command_with_its_line(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    for name, entry in COMMANDS.items():
        assert f"{name} {entry.help}" in words
    assert "`kinetics-prep COMMAND --help` says more." in words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([name, "--help"])
    assert leaving.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: kinetics-prep {name}")
    command = load(name)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert parser.description and len(parser.description) > 50
    assert " ".join(parser.description.split()[:6]) in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 130


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"kinetics-prep {kinetics_prep.__version__}\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: COMMAND"),
        (["brew"], "invalid choice: 'brew'"),
        (["status"], "the following arguments are required: folder"),
        (["status", "a", "--what"], "unknown: --what"),
        (["check", "a.csv", "--workers", "2"], "unknown: --workers 2"),
        (["flow", "--fps", "fast"], "argument --fps: 'fast' is no number or fraction"),
        (["status", "a", "http://me:pw@h/?key=x"], "unknown: http://***@h/?key=***; "),
        (["flow", "http://me:pw@h/?key=x"], "kinetics-prep: http://***@h/?key=***: known neither to"),
        (["flow", "--spl", "train"], "--spl"),  # no abbreviations: a new flag would change their meaning
    ],
)
def test_what_is_typed_wrong_is_one_line_and_exit_code_2(arguments, message):
    done = run_module(*arguments)
    assert done.returncode == CANNOT_GO_ON
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_flags_of_beam_are_for_the_commands_that_run_beam():
    taking = {name for name, entry in COMMANDS.items() if entry.takes_beam_flags}
    assert taking == {"flow", "refresh", "retry", "repair"}


def test_a_clip_id_that_begins_with_a_dash_is_no_flag():
    assert cli._with_record_id(["inspect", "a", "--record", "-3B32lodo2M_000059"]) == [
        "inspect",
        "a",
        "--record=-3B32lodo2M_000059",
    ]
    assert cli._with_record_id(["inspect", "a", "--record"]) == ["inspect", "a", "--record"]
    assert cli._with_record_id(["inspect", "a"]) == ["inspect", "a"]


# Errors -----------------------------------------------------------------------------------------


class Failing:
    """A command that fails."""

    def __init__(self, error: BaseException):
        self.error = error

    def add_arguments(self, parser):
        parser.add_argument("folder")

    def run(self, arguments, beam_flags):
        raise self.error


def outcome(error: BaseException, monkeypatch, capsys) -> tuple[int, str]:
    monkeypatch.setattr(cli, "load", lambda name: Failing(error))
    code = main(["status", "folder"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("kind", RunError.__subclasses__())
def test_what_the_user_must_mend_is_one_line_and_exit_code_2(kind, monkeypatch, capsys):
    assert outcome(kind("do this"), monkeypatch, capsys) == (CANNOT_GO_ON, "kinetics-prep: do this\n")


def test_where_beam_was_is_not_told(monkeypatch, capsys):
    error = NoRoom("no room to write x [while running 'Prepare clips/ParDo(EachClip)']\nTraceback")
    assert outcome(error, monkeypatch, capsys) == (CANNOT_GO_ON, "kinetics-prep: no room to write x\n")


def test_an_error_that_a_worker_hands_over_as_text_is_recognised(monkeypatch, capsys):
    text = "Traceback ...\nkinetics_prep.errors.CorruptShard: plan is damaged [while running 'x']\nmore"
    assert outcome(RuntimeError(text), monkeypatch, capsys) == (CANNOT_GO_ON, "kinetics-prep: plan is damaged\n")


def test_an_error_of_the_system_names_its_file(monkeypatch, capsys):
    error = PermissionError(13, "Permission denied", "/some/file")
    assert outcome(error, monkeypatch, capsys) == (CANNOT_GO_ON, "kinetics-prep: /some/file: Permission denied\n")
    assert outcome(OSError(28, "No space left on device"), monkeypatch, capsys) == (
        CANNOT_GO_ON,
        "kinetics-prep: output: No space left on device\n",
    )


class FolderFull(NoRoom):
    """A class below a class below `RunError`."""


def test_an_error_of_a_deeper_class_is_recognised_in_a_text_too(monkeypatch, capsys):
    error = RuntimeError("kinetics_prep.errors.FolderFull: do this [while running 'x']")
    assert outcome(error, monkeypatch, capsys) == (CANNOT_GO_ON, "kinetics-prep: do this\n")


def beams_traceback(*errors: str) -> str:
    """What a worker hands over: the traceback of an error, and of those that were being handled when it was raised."""
    frames = 'Traceback (most recent call last):\n  File "stages.py", line 47, in finish_bundle\n    future.result()\n'
    between = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    return between.join(frames + error for error in errors) + "\n"


STEP = " [while running 'Prepare clips/ParDo(EachClip)']"


@pytest.mark.parametrize(
    "text, message",
    [
        (f"OSError: [Errno 5] Input/output error: '/out/a b'{STEP}", "/out/a b: Input/output error"),
        (f"OSError: [Errno 5] Input/output error{STEP}", "output: Input/output error"),
        (
            f"FileNotFoundError: [Errno 2] No such file or directory: '/a' -> \"/it's\"{STEP}",
            "/a: No such file or directory",
        ),
        (f"OSError: [Errno 28] No space left on device: '/\\nout'{STEP}", r"'/\nout': No space left on device"),
        (
            beams_traceback(
                "KeyError: 'a'",
                "OSError: [Errno 5] Input/output error: '/x'",
                f"RuntimeError: OSError: [Errno 5] Input/output error: '/x'{STEP}",
            ),
            "/x: Input/output error",
        ),
        (
            beams_traceback("KeyError: 'a'", f"kinetics_prep.errors.NoRoom: no room\nanywhere{STEP}"),
            "no room\nanywhere",
        ),
        (
            "java.lang.RuntimeException: instruction 7: "
            + beams_traceback(f"kinetics_prep.errors.NoRoom: no room{STEP}")
            + "\tat java.base/java.lang.Thread.run(Thread.java:829)",
            "no room",
        ),
        ("Pipeline p failed in state FAILED: kinetics_prep.errors.NoRoom: no room\nmore", "no room"),
    ],
)
def test_an_error_of_a_worker_is_one_line_that_names_the_file(text, message, monkeypatch, capsys):
    assert outcome(RuntimeError(text), monkeypatch, capsys) == (CANNOT_GO_ON, f"kinetics-prep: {message}\n")


@pytest.mark.parametrize(
    "text",
    [
        beams_traceback("kinetics_prep.errors.NoRoom: no room", f"KeyError: 'bug{STEP}'"),
        beams_traceback("OSError: [Errno 5] Input/output error: '/x'", f"ValueError: bug{STEP}"),
        f"ValueError: [Errno 5] Input/output error: '/x'{STEP}",
        f"print: [Errno 5] Input/output error: '/x'{STEP}",
        f"kinetics_prep.errors.NotFound: of a clip{STEP}",
    ],
)
def test_a_bug_of_a_worker_is_raised_whatever_it_was_handling(text, monkeypatch, capsys):
    with pytest.raises(RuntimeError):
        outcome(RuntimeError(text), monkeypatch, capsys)


def test_an_error_of_the_system_within_the_pipeline_is_one_line(monkeypatch, capsys, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setattr(clip.objects, "create_object", lambda *arguments: (in_the_way / "object").touch())
    quick = ("--split", "train", "--short-side", "32", "--tvl1", "scales=1", "warps=1", "iterations=2")
    assert main(["flow", *quick, "--output", str(tmp_path / "out")]) == CANNOT_GO_ON
    assert capsys.readouterr().err.splitlines()[-1] == f"kinetics-prep: {in_the_way}/object: Not a directory"


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("bug"), OSError("without a number"), RuntimeError("kinetics_prep")]
)
def test_a_bug_is_raised(error, monkeypatch, capsys):
    with pytest.raises(type(error)):
        outcome(error, monkeypatch, capsys)


@pytest.mark.parametrize("wrap", [False, True])
def test_an_interrupt_says_that_the_same_command_goes_on(wrap, monkeypatch, capsys):
    error: BaseException = KeyboardInterrupt()
    if wrap:
        outer = RuntimeError("wrapped")
        outer.__cause__ = error
        error = outer
    code, message = outcome(error, monkeypatch, capsys)
    assert code == INTERRUPTED
    assert message == "\ninterrupted; what is committed stays, and the same command goes on from there\n"


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    rows = "".join(f"waving,video{k},0,10,train\n" for k in range(1000))
    (tmp_path / "rows.csv").write_text(rows)
    command = f"'{sys.executable}' -m kinetics_prep check '{tmp_path}/rows.csv'; echo $? >&2"
    done = subprocess.run(["bash", "-c", f"({command}) | head -c 1 >/dev/null"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] in (str(OK), "0")


def test_the_console_script_turns_a_bug_into_a_traceback_and_exit_code_1(tmp_path):
    program = (
        "from kinetics_prep import cli\n"
        "class Bad:\n def add_arguments(self, parser): pass\n def run(self, a, b): raise ZeroDivisionError('of ours')\n"
        "cli.load = lambda name: Bad()\nimport sys; sys.argv = ['kinetics-prep', 'models']\ncli.entry()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == BUG
    assert "ZeroDivisionError: of ours" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_console_script_at_once(number):
    program = (
        "import sys, time\nfrom kinetics_prep import cli\n"
        "class Slow:\n def add_arguments(self, parser): pass\n"
        " def run(self, a, b):\n  print('begun', flush=True)\n  time.sleep(60)\n"
        "cli.load = lambda name: Slow()\nsys.argv = ['kinetics-prep', 'models']\ncli.entry()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, message = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    assert "interrupted; what is committed stays" in message


def test_exit_codes_are_those_of_the_help():
    from kinetics_prep.cli import exit_codes
    from kinetics_prep.cli.commands import download, flow

    for epilog in (flow.EPILOG, download.EPILOG):
        listed = {int(line.split()[0]) for line in epilog.partition("exit code:")[2].splitlines() if line.strip()}
        assert listed == {exit_codes.OK, CANNOT_GO_ON, exit_codes.TOO_MANY_REFUSED, INTERRUPTED}


# Refused rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "allowed, refused, rows, expected",
    [
        (None, 1000, 1000, False),
        ((3, False), 3, 1000, False),
        ((3, False), 4, 1000, True),
        ((0, False), 0, 10, False),
        ((0.05, True), 50, 1000, False),
        ((0.05, True), 51, 1000, True),
        ((0.0, True), 1, 1000, True),
    ],
)
def test_how_many_rows_may_be_refused(allowed, refused, rows, expected, capsys, tmp_path):
    from kinetics_prep.cli.exit_codes import TOO_MANY_REFUSED
    from kinetics_prep.cli.options import too_many_refused
    from kinetics_prep.cli.preparing import exit_code

    assert too_many_refused(allowed, refused, rows) is expected
    assert exit_code(rows, refused, allowed, tmp_path, "see there") == (TOO_MANY_REFUSED if expected else OK)
    message = capsys.readouterr().err
    if expected:
        assert message == f"kinetics-prep: more rows were refused than --max-refused allows; see {tmp_path}/ledger\n"
    else:
        assert message == ("see there\n" if refused else "")


def test_notices_are_shown_while_a_command_runs_and_not_after(capsys):
    import logging

    from kinetics_prep.cli.notices import notices

    logger = logging.getLogger("kinetics_prep.sources.pace")
    with notices():
        logger.info("left alone until noon")
    assert "left alone until noon" in capsys.readouterr().err
    logger.info("nobody listens")
    assert "nobody listens" not in capsys.readouterr().err
    assert logging.getLogger("kinetics_prep").handlers == []
    with contextlib.suppress(BadOption), notices():
        raise BadOption("x")
    assert logging.getLogger("kinetics_prep").handlers == []
    assert issubclass(CorruptShard, RunError) and os.EX_OK == OK
