"""A training run's folder.

RUN/
  run.json                                    what the run is: the recipe, the data, and versions
  history.jsonl                               each step's loss, each evaluation
  checkpoints/step-00012000.safetensors       what a stopped run goes on from; the last two
  weights.safetensors                         as of the last evaluation, or the end
  best.safetensors                            as of the evaluation with the highest top-1
  tensorboard/                                with --tensorboard
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
from kinetics_prep.storage.files import write_json
from kinetics_prep.storage.locks import exclusive_folder

_TEMPORARY = re.compile(r"[0-9a-f]{32}-.+")
"""Names that `atomic` gives to files that it has not finished."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths in a run's folder, its lock, and its description."""

    path: Path

    @property
    def description(self) -> Path:
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
    def exclusive(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes out of it in the block.

        Raises:
          BadOption: if the folder cannot be made or written to.
          FolderInUse: if another process is writing to it.
        """
        with contextlib.ExitStack() as stack:
            with self._errors_as_options():
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive_folder(self.path))
                self._delete_temporary_files()
            yield

    @contextlib.contextmanager
    def _errors_as_options(self) -> Iterator[None]:
        """Raises what goes wrong with the folder as `BadOption`."""
        try:
            yield
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise BadOption(f"--output {self.path} cannot be written to: {error.filename}: {error.strerror}") from None

    def _delete_temporary_files(self) -> None:
        """Deletes temporary files of a killed run, as large as checkpoints; safe, because we hold the lock."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob("*-*"):
                if _TEMPORARY.fullmatch(path.name):
                    with contextlib.suppress(OSError):
                        path.unlink()

    def describe(self, settings: dict, computes: str) -> str:
        """Writes what the run is; if that is written already, makes sure that the settings are the same.

        Args:
          settings: everything that decides the loss curve, as plain values.
          computes: the devices, in words. They are recorded, and may differ when the run goes on.

        Returns:
          The digest of the settings.

        Raises:
          OtherRecipe: if the folder holds another run; the message says what differs.
        """
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        if self.description.exists():
            written = self._read()
            if written["digest"] != digest:
                differing = "; ".join(recipe_file.differences(written["asked"], settings))
                raise OtherRecipe(
                    f"{self.path} holds another run: {differing}. Use the same settings to go on, or another --output"
                )
        else:
            content = {"digest": digest, "asked": settings, "versions": versions(computes)}
            with self._errors_as_options():
                write_json(self.description, content, self.path)
        return digest

    def _read(self) -> dict:
        try:
            content = json.loads(self.description.read_text("utf-8"))
            kinds = {"digest": str, "asked": dict, "versions": dict}
            if all(isinstance(content[name], kind) for name, kind in kinds.items()):
                return content
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptShard(f"{self.description} cannot be read: {error!r}") from None
        raise CorruptShard(f"{self.description} does not describe a run")

    def changed_versions(self, computes: str) -> list[str]:
        """Which versions and devices differ from those at the run's beginning, in words.

        The loss curve may differ from here on. Devices matter too: batch norm sees only a device's share of a batch.
        """
        before = self._read()["versions"]
        return [
            f"{name} {before.get(name)}, now {now}"
            for name, now in versions(computes).items()
            if before.get(name) != now
        ]


def versions(computes: str) -> dict[str, str]:
    """Versions of the packages that compute, and the devices, `computes`."""
    backend = keras.backend.backend()
    # From the module, not from package metadata: TensorFlow is packaged under several names.
    version = importlib.import_module(backend).__version__
    ours = {"kinetics-prep": kinetics_prep.__version__, "keras": keras.__version__}
    return ours | {backend: version, "devices": computes}
