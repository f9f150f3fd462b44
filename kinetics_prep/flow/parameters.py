"""The parameters of TV-L1, under the paper's names."""

import dataclasses
import math

from kinetics_prep.errors import BadOption

SMALLEST, LARGEST = 1e-9, 1e6
"""Of any parameter: far outside what makes sense, and narrow enough that float32 holds the squares of quotients."""


@dataclasses.dataclass(frozen=True)
class TVL1:
    """Zach, Pock & Bischof, DAGM 2007; names as in Sanchez, Meinhardt-Llopis & Facciolo, IPOL 2013.

    The defaults are those of OpenCV's `cuda::OpticalFlowDual_TVL1`, which Carreira & Zisserman
    used: 300 iterations a warp and no median filter between them.
    """

    tau: float = 0.25
    """Time step of the dual variable."""
    lambda_: float = 0.15
    """Weight of the data term."""
    theta: float = 0.3
    """Coupling between the two halves of the split problem."""
    scales: int = 5
    """Levels of the pyramid, at most."""
    scale_step: float = 0.8
    """Size of a level divided by that of the next finer one."""
    warps: int = 5
    """How often the second frame is warped at each level."""
    epsilon: float = 0.01
    """Iterations stop when the mean squared change is below epsilon squared."""
    iterations: int = 300
    """Per warp, at most."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise BadOption(f"tvl1 {field.name} must be positive, got {value}")
            if not SMALLEST <= value <= LARGEST:
                raise BadOption(f"tvl1 {field.name} must be {SMALLEST:g} to {LARGEST:g}, got {value:g}")
            kind: type = type(field.default)
            if kind is int and value != int(value):
                raise BadOption(f"tvl1 {field.name} must be whole, got {value}")
            object.__setattr__(self, field.name, kind(value))
        if self.scale_step >= 1:
            raise BadOption(f"tvl1 scale_step must be under 1, got {self.scale_step}")

    @classmethod
    def parse(cls, assignments: list[str]) -> "TVL1":
        """Reads `key=value` words, as given after `--tvl1`.

        Raises:
          BadOption: if a word has another form, an unknown key, or a value of the wrong kind.
        """
        fields = {field.name.rstrip("_"): field for field in dataclasses.fields(cls)}
        values = {}
        for assignment in assignments:
            key, equals, value = assignment.partition("=")
            field = fields.get(key.strip().rstrip("_"))
            if not equals or field is None:
                raise BadOption(f"--tvl1 {assignment!r}: expected key=value with key one of {', '.join(fields)}")
            kind: type = type(field.default)
            try:
                values[field.name] = kind(value)
            except ValueError:
                raise BadOption(f"--tvl1 {assignment!r}: {key} must be of type {kind.__name__}") from None
        return cls(**values)
