"""Whether prepared clips are what weights were made for."""

from fractions import Fraction

from kinetics_prep.errors import BadOption
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.spec import parts
from kinetics_prep.reading.clips import UNLABELLED, ClipIndex


def check_clips(clips: ClipIndex, facts: Facts, stream: str, accept: frozenset[str] = frozenset()) -> None:
    """Makes sure that clips were prepared as the weights expect.

    Args:
      facts: of the weights; what they do not know is not compared.
      stream: what the weights will see of the clips.
      accept: what may differ: some of "fps", "short-side", "quantizer", "bound".

    Raises:
      BadOption: if anything else differs.
    """
    compared: dict[str, tuple[object, object]] = {
        "fps": (Fraction(facts.fps), clips.fps),
        "short-side": (facts.short_side, clips.short_side),
    }
    if "flow" in parts(stream) and "flow" in parts(facts.stream):
        compared["quantizer"] = (facts.quantizer, clips.quantizer)
        compared["bound"] = (facts.bound_px, clips.bound_px)
    differing = {
        name: f"{name} is {actual} in {clips.folder}, and the weights expect {expected}"
        for name, (expected, actual) in compared.items()
        if expected is not None and expected != actual and name not in accept
    }
    if differing:
        raise BadOption(
            f"{'; '.join(differing.values())}. Prepare the data so, or say --accept {','.join(differing)} if it is "
            "meant"
        )


def check_labels(clips: ClipIndex, facts: Facts) -> None:
    """Makes sure that class ids mean the same to clips and weights.

    Raises:
      BadOption: if not; the message names the first class that differs.
    """
    labels = tuple(clips.labels)
    if len(labels) != facts.classes:
        raise BadOption(f"{clips.folder} has {len(labels)} classes, and the weights know {facts.classes}")
    if not facts.labels or labels == facts.labels:
        return
    place = next(k for k, (ours, theirs) in enumerate(zip(labels, facts.labels)) if ours != theirs)
    raise BadOption(f"class {place} is {labels[place]!r} in {clips.folder} and {facts.labels[place]!r} to the weights")


def check_all_labelled(clips: ClipIndex) -> None:
    """Makes sure that every clip of a split has a label.

    Raises:
      BadOption: if not.
    """
    unlabelled = int((clips.class_ids == UNLABELLED).sum())
    if unlabelled:
        raise BadOption(
            f"{unlabelled} of the {len(clips)} clips of split {clips.split} of {clips.folder} have no label: it can "
            "neither be trained on nor validated with"
        )
