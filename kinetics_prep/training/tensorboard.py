"""A run's history for TensorBoard, as it grows."""

from pathlib import Path

from kinetics_prep.errors import MissingTool


class Scalars:
    """Writes entries of a history as scalars. Each start of the run writes an event file of its own."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorflow import summary
        except ImportError:
            raise MissingTool("--tensorboard writes through TensorFlow: pip install 'kinetics-prep[train]'") from None
        self._summary = summary
        self._writer = summary.create_file_writer(str(folder))

    def add(self, entry: dict) -> None:
        """Writes the numbers of an entry, at its step."""
        with self._writer.as_default():
            for name, value in entry.items():
                if name != "step":
                    self._summary.scalar(name.replace("val_", "validation/"), value, entry["step"])

    def close(self) -> None:
        """Writes what is still in memory, and closes the file."""
        self._writer.close()
