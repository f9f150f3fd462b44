"""A training run's folder.

RUN/
  run.json                                    the recipe, the data, and versions: what the run is
  history.jsonl                               each step's loss, each evaluation
  checkpoints/step-00012000.safetensors       what a stopped run goes on from; the last two
  weights.safetensors                         as of the last evaluation, or the end
  best.safetensors                            as of the evaluation with the highest top-1
  tensorboard/                                if asked for
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import keras

import kinetics_prep
from kinetics_prep.dataset import recipe_file
from kinetics_prep.errors import BadOption, CorruptShard, OtherRecipe
from kinetics_prep.storage.files import taken, write_json

_BEGUN = re.compile(r"[0-9a-f]{32}-.+")
"""Names that `atomic` gives to what is not whole yet."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where everything stands in it."""

    path: Path

    @property
    def described(self) -> Path:
        return self.path / "run.json"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Makes the folder, and keeps other runs out of it.

        Raises:
          BadOption: if it cannot be made or written to.
          OtherRecipe: if another run has it.
        """
        with contextlib.ExitStack() as stack:
            with self._written_to():
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(taken(self.path))
                self._tidy()
            yield

    @contextlib.contextmanager
    def _written_to(self) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise BadOption(f"--output {self.path} cannot be written to: {error.filename}: {error.strerror}") from None

    def _tidy(self) -> None:
        """Takes away what a killed run had begun to write: each may be as large as a checkpoint."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob("*-*"):
                if _BEGUN.fullmatch(path.name):
                    with contextlib.suppress(OSError):
                        path.unlink()

    def describe(self, asked: dict, computes: str) -> str:
        """Writes what the run is, or makes sure that it is what it was begun as.

        Args:
          asked: everything that decides the loss curve, as plain values.
          computes: on what, in words; may change, and is told of then.

        Returns:
          Its digest.

        Raises:
          OtherRecipe: if the folder holds another run; the message says what differs.
        """
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
        if self.described.exists():
            begun = self._read()
            if begun["digest"] != digest:
                differing = "; ".join(recipe_file.differences(begun["asked"], asked))
                raise OtherRecipe(
                    f"{self.path} holds another run: {differing}. Use the same settings to go on, or another --output"
                )
        else:
            with self._written_to():
                write_json(
                    self.described, {"digest": digest, "asked": asked, "versions": versions(computes)}, self.path
                )
        return digest

    def _read(self) -> dict:
        try:
            found = json.loads(self.described.read_text("utf-8"))
            kinds = {"digest": str, "asked": dict, "versions": dict}
            if all(isinstance(found[name], kind) for name, kind in kinds.items()):
                return found
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptShard(f"{self.described} cannot be read: {error!r}") from None
        raise CorruptShard(f"{self.described} describes no run")

    def changed_versions(self, computes: str) -> list[str]:
        """Versions and devices that are not those that the run was begun with: its loss curve may differ from here on.

        Batch norm sees a device's share of a batch.
        """
        begun = self._read()["versions"]
        return [
            f"{name} {begun.get(name)}, now {now}" for name, now in versions(computes).items() if begun.get(name) != now
        ]


def versions(computes: str) -> dict[str, str]:
    """Of what computes, and on what."""
    backend = keras.backend.backend()
    # Asked of the module: TensorFlow is packaged under several names.
    version = importlib.import_module(backend).__version__
    ours = {"kinetics-prep": kinetics_prep.__version__, "keras": keras.__version__}
    return ours | {backend: version, "devices": computes}
