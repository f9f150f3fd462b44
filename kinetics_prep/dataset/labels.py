"""labels.txt: the one label map of an output folder."""

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import layout
from kinetics_prep.errors import BadOption, CorruptShard, OtherRecipe
from kinetics_prep.storage.store import Store


def read_labels(store: Store) -> LabelMap:
    """The folder's label map; of an unlabelled test set it is empty.

    Raises:
      CorruptShard: if labels.txt cannot be read.
    """
    where = f"{store.place}/{layout.LABELS}"
    try:
        text = store.read(layout.LABELS).decode("utf-8")
        return LabelMap.parse(text) if text else LabelMap(())
    except (OSError, UnicodeDecodeError, BadOption) as error:
        raise CorruptShard(f"{where} cannot be read: {error}") from None


def write_or_check(store: Store, labels: LabelMap, is_given: bool) -> LabelMap:
    """Writes labels.txt, or checks that the one that is there has every label. Returns the folder's map.

    Args:
      is_given: whether the user gave the map; then it must be the folder's, in the same order.

    Raises:
      OtherRecipe: if class ids would disagree.
      CorruptShard: if the folder's map cannot be read.
    """
    try:
        store.read(layout.LABELS)
    except (FileNotFoundError, NotADirectoryError):
        store.put(layout.LABELS, labels.text().encode("utf-8"))
        return labels
    there = read_labels(store)
    missing = [label for label in labels.labels if label not in there]
    if there == labels or (not is_given and not missing):
        return there
    difference = f"lacks {missing[0]!r}" if missing else "has other labels, or another order"
    raise OtherRecipe(
        f"{store.place}/{layout.LABELS} {difference}, so class ids would disagree. Prepare into another --output, and "
        "give every split the same --labels FILE"
    )
