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
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import keras

import kinetics_prep
from kinetics_prep import recipe
from kinetics_prep.atomic import taken, write_json
from kinetics_prep.errors import BadOption, CorruptShard, OtherRecipe


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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with taken(self.path):
                yield
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise BadOption(f"--output {self.path} cannot be written to: {error.filename}: {error.strerror}") from None

    def describe(self, asked: dict) -> str:
        """Writes what the run is, or makes sure that it is what it was begun as.

        Args:
          asked: everything that decides the loss curve, as plain values.

        Returns:
          Its digest.

        Raises:
          OtherRecipe: if the folder holds another run; the message says what differs.
        """
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
        if self.described.exists():
            begun = self._read()
            if begun["digest"] != digest:
                differing = "; ".join(recipe.differences(begun["asked"], asked))
                raise OtherRecipe(
                    f"{self.path} holds another run: {differing}. Use the same settings to go on, or another --output"
                )
        else:
            write_json(self.described, {"digest": digest, "asked": asked, "versions": versions()}, self.path)
        return digest

    def _read(self) -> dict:
        try:
            found = json.loads(self.described.read_text("utf-8"))
            if isinstance(found["digest"], str) and isinstance(found["asked"], dict):
                return found
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptShard(f"{self.described} cannot be read: {error!r}") from None
        raise CorruptShard(f"{self.described} describes no run")

    def changed_versions(self) -> list[str]:
        """Versions that are not those that the run was begun with: its loss curve may differ from here on."""
        begun = self._read().get("versions", {})
        return [f"{name} {begun.get(name)}, now {now}" for name, now in versions().items() if begun.get(name) != now]


def versions() -> dict[str, str]:
    """Of what computes."""
    backend = keras.backend.backend()
    return {"kinetics-prep": kinetics_prep.__version__, "keras": keras.__version__, backend: version(backend)}
