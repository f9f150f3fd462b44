"""Packages, extras and the console script. Tool settings stand in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRES = [
    "apache-beam>=2.77,<2.80",
    "ffmpeg-python>=0.2,<0.3",
    "google-crc32c>=1.5,<2",
    "ijson>=3.3,<4",
    "imageio-ffmpeg>=0.8,<0.9",
    "indexed_gzip>=1.9,<2",
    "jsonschema>=4.20,<5",
    # Compiles the flow engine where it runs: no compiler needed. 0.61 is the first for Python 3.13.
    "numba>=0.61,<0.70",
    "numpy>=1.26,<3",
    # The headless twin: no X libraries on servers. Both bring the module cv2; never have both.
    "opencv-contrib-python-headless>=4.10,<6",
    "pillow>=11,<13",
    "protobuf>=4.25,<8",
    "pyarrow>=16,<26",
    "requests>=2.31,<3",
    "tqdm>=4.66,<5",
    "urllib3>=2.2,<3",
    # No upper bound: sites change, and only a fresh one can still read them. [default] brings, beside what speaks HTTP,
    # the scripts that solve YouTube's challenges; the JavaScript runtime that runs them is not among them.
    "yt-dlp[default]>=2025.11",
]

EXTRAS = {
    # The GPU engine: CuPy, and of the CUDA toolkit the one library that it compiles with. By the driver: 580 or newer
    # for CUDA 13, 525 or newer for CUDA 12.
    "cuda12": ["cupy-cuda12x>=14,<15", "nvidia-cuda-nvrtc-cu12>=12.4,<13"],
    "cuda13": ["cupy-cuda13x>=14,<15", "nvidia-cuda-nvrtc>=13,<14"],
    # Preparing data needs no TensorFlow; the trainer does, and it is 2 GB. The last Keras for Python 3.10 is 3.12.
    "train": [
        "keras>=3.10,<4",
        "matplotlib>=3.9,<4",
        "safetensors>=0.4.3,<1",
        "tensorboard>=2.18,<3",
        "tensorflow>=2.18,<2.22",
    ],
    # JAX: that models and training steps are not TensorFlow's alone.
    "test": [
        "hypothesis>=6.100,<7",
        "pytest>=8,<10",
        "pytest-xdist>=3.6,<4",
        "duckdb>=1.1,<3",
        "jax>=0.5,<0.12",
        "mypy>=1.18,<3",
        "ruff>=0.17,<0.18",
        "types-jsonschema>=4.20",
        "types-protobuf>=5,<8",
        "types-requests>=2.31",
        "types-tqdm>=4.66",
    ],
}

setup(
    name="kinetics-prep",
    version="0.1.0",
    description="Kinetics-style videos to sharded RGB and TV-L1 flow: one command, every row accounted for",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.14",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    # Both stand at the top, and travel inside the package: schemas/ because it belongs to no language, pipelines/ so
    # that an installed wheel can launch what a checkout can, without taking the name `pipelines` from others.
    packages=[
        *find_packages(include=["kinetics_prep", "kinetics_prep.*"]),
        "kinetics_prep.schemas.files",
        "kinetics_prep.pipelines",
        "kinetics_prep.pipelines.opencv_cuda",
    ],
    package_dir={"kinetics_prep.schemas.files": "schemas", "kinetics_prep.pipelines": "pipelines"},
    package_data={
        "kinetics_prep": ["py.typed"],
        "kinetics_prep.flow": ["*.cu"],
        "kinetics_prep.models": ["*.txt"],
        "kinetics_prep.runs.built_in_clip": ["clip.mp4"],
        "kinetics_prep.schemas.files": ["*.json"],
        "kinetics_prep.pipelines.opencv_cuda": ["Dockerfile"],
        "kinetics_prep.sample": ["annotations.csv", "videos/*.mp4"],
    },
    entry_points={"console_scripts": ["kinetics-prep = kinetics_prep.cli:entry"]},
)
