"""labels.txt: the one label map of an output folder."""

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import BadOption, CorruptShard, OtherRecipe
from kinetics_prep.storage.files import atomic_write


def read_labels(layout: Layout) -> LabelMap:
    """The folder's label map; of an unlabelled test set it is empty.

    Raises:
      CorruptShard: if labels.txt cannot be read.
    """
    try:
        text = layout.labels.read_text("utf-8")
        return LabelMap.parse(text) if text else LabelMap(())
    except (OSError, UnicodeDecodeError, BadOption) as error:
        raise CorruptShard(f"{layout.labels} cannot be read: {error}") from None


def write_or_check(layout: Layout, labels: LabelMap, is_given: bool) -> LabelMap:
    """Writes labels.txt, or checks that the one that is there has every label. Returns the folder's map.

    Args:
      is_given: whether the user gave the map; then it must be the folder's, in the same order.

    Raises:
      OtherRecipe: if class ids would disagree.
      CorruptShard: if the folder's map cannot be read.
    """
    if not layout.labels.exists():
        with atomic_write(layout.labels, layout.scratch) as temporary:
            temporary.write_text(labels.text(), encoding="utf-8")
        return labels
    there = read_labels(layout)
    missing = [label for label in labels.labels if label not in there]
    if there == labels or (not is_given and not missing):
        return there
    difference = f"lacks {missing[0]!r}" if missing else "has other labels, or another order"
    raise OtherRecipe(
        f"{layout.labels} {difference}, so class ids would disagree. Prepare into another --output, and give every "
        "split the same --labels FILE"
    )
