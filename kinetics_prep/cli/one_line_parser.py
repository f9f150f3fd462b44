"""The parser of flags, without argparse's usage before each error."""

import argparse

from kinetics_prep.cli.exit_codes import CANNOT_GO_ON


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, rather than below the whole usage."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return, which None also says
        """Ends the program."""
        if "://" in message:
            from kinetics_prep.sources import without_secrets_in

            message = without_secrets_in(message)
        self.exit(CANNOT_GO_ON, f"{self.prog}: {message}; see {self.prog} --help\n")
