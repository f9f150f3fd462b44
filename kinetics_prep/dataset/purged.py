"""purged.json: which videos and clips were taken out of the data set for good, and why."""

import dataclasses
from collections.abc import Mapping

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import documents, layout
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.store import Store


@dataclasses.dataclass(frozen=True)
class Purged:
    """Ids of videos or clips, each with the reason for which it must not be prepared."""

    because: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def reason_for(self, row: PlanRow) -> str | None:
        """Why the clip of a row was taken out; None if it was not."""
        return self.reason_of(row.media_id, row.clip_id)

    def reason_of(self, media_id: str | None, clip_id: str) -> str | None:
        """Why the clip of a video was taken out; None if it was not."""
        if media_id is not None and media_id in self.because:
            return self.because[media_id]
        return self.because.get(clip_id)


def read(store: Store) -> Purged:
    """What was taken out of a folder; nothing if it has no purged.json.

    Raises:
      CorruptShard: if the file is damaged.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    try:
        content = documents.read(store, layout.PURGED)
    except (FileNotFoundError, NotADirectoryError):
        return Purged()
    ids = content.get("ids")
    if not isinstance(ids, dict) or not all(isinstance(reason, str) for reason in ids.values()):
        raise CorruptShard(f"{store.place}/{layout.PURGED} holds no list of ids")
    return Purged(ids)


def write(store: Store, purged: Purged) -> None:
    """Writes purged.json."""
    documents.write(store, layout.PURGED, {"ids": dict(sorted(purged.because.items()))})
