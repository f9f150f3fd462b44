"""An ffmpeg that differs from the real one in what it computes and not in its version: a script that starts it."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from kinetics_prep.media import ffmpeg

OTHER_SCALER = {"flags=bilinear": "flags=bicubic"}
"""What to replace in the arguments, so that frames are scaled in another way."""

_SCRIPT = """\
#!/bin/sh
exec {python} -I -c '
import json, os, sys
real, replaced, before_input = json.loads(sys.argv[1])
arguments = sys.argv[2:]
for old, new in replaced.items():
    arguments = [argument.replace(old, new) for argument in arguments]
if "-i" in arguments:
    at = arguments.index("-i")
    arguments[at:at] = before_input
os.execv(real, [real, *arguments])
' {settings} "$@"
"""


def write_shim(folder: Path, replaced: Mapping[str, str] = OTHER_SCALER, before_input: tuple[str, ...] = ()) -> Path:
    """Writes a program called `ffmpeg` that starts the real one with other arguments.

    Put its folder first on the PATH of a new process: in this one `ffmpeg.locate` remembers what it found.

    Args:
      folder: where to write it; made if it is not there.
      replaced: what to replace in each argument.
      before_input: options of the decoder to add.

    Returns:
      The program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps([ffmpeg.locate().path, dict(replaced), list(before_input)])
    program = folder / "ffmpeg"
    program.write_text(_SCRIPT.format(python=shlex.quote(sys.executable), settings=shlex.quote(settings)), "utf-8")
    program.chmod(0o755)
    return program
