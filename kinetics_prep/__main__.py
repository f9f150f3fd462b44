"""`python -m kinetics_prep` is the command line, for where the console script is not on the PATH."""

from kinetics_prep.cli import entry

entry()
