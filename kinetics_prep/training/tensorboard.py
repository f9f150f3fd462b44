"""A run's history for TensorBoard, as it grows."""

from pathlib import Path

from kinetics_prep.errors import MissingTool


class Scalars:
    """Writes entries of a history as scalars, in one event file for each time that the run is begun or gone on with."""

    def __init__(self, folder: Path):
        try:
            from tensorflow import summary
        except ImportError:
            raise MissingTool("--tensorboard writes through TensorFlow: pip install 'kinetics-prep[train]'") from None
        self._summary = summary
        self._writer = summary.create_file_writer(str(folder))

    def add(self, entry: dict) -> None:
        """Adds what an entry says, at its step."""
        with self._writer.as_default():
            for name, value in entry.items():
                if name != "step":
                    self._summary.scalar(name.replace("val_", "validation/"), value, entry["step"])

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()
