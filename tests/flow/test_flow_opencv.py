"""OpenCV's engines: the CUDA class by a stand-in, because PyPI's OpenCV has none; and what they say is missing."""

import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import QUICK_TVL1

from kinetics_prep.errors import MissingTool
from kinetics_prep.flow import TVL1, Hardware, opencv
from kinetics_prep.flow.flow_engine import GPUFailed
from kinetics_prep.flow.opencv import OpenCVCPU, OpenCVCUDA


class FakeCUDA:
    """Stands for `cv2.cuda`: its flow is (mean of the first frame, mean of the second) everywhere."""

    def __init__(self, gpus: int, fails_at: int | None = None):
        self.gpus, self.fails_at = gpus, fails_at
        self.device: int | None = None
        self.uploads: list[tuple[int | None, int]] = []
        """(GPU, mean) of each uploaded frame."""
        self.computed_on: list[int | None] = []
        self.parameters: dict = {}

    def getCudaEnabledDeviceCount(self) -> int:
        return self.gpus

    def setDevice(self, index: int) -> None:
        self.device = index

    def GpuMat(self) -> SimpleNamespace:
        image = SimpleNamespace()

        def upload(frame: np.ndarray) -> None:
            image.frame = frame.copy()
            self.uploads.append((self.device, int(frame.mean())))

        image.upload = upload
        return image

    def OpticalFlowDual_TVL1_create(self, **parameters) -> SimpleNamespace:
        self.parameters = parameters

        def calc(previous, following, _) -> SimpleNamespace:
            if len(self.computed_on) == self.fails_at:
                raise cv2.error("it fell off the bus")
            self.computed_on.append(self.device)
            field = np.empty((*previous.frame.shape, 2), np.float32)
            field[...] = previous.frame.mean(), following.frame.mean()
            return SimpleNamespace(download=lambda: field)

        return SimpleNamespace(calc=calc)


@pytest.fixture
def cuda(monkeypatch):
    """Puts a fake CUDA into OpenCV."""

    def put(**options) -> FakeCUDA:
        fake = FakeCUDA(**options)
        monkeypatch.setattr(opencv, "_cv2", lambda: SimpleNamespace(cuda=fake, error=cv2.error, __version__="4.0"))
        return fake

    return put


def flat_frames(*values: int) -> np.ndarray:
    return np.stack([np.full((4, 6), value, np.uint8) for value in values])


def pairs_of(fields) -> list[tuple[int, int]]:
    return [(int(field[0, 0, 0]), int(field[0, 0, 1])) for field in fields]


def test_each_flow_leads_from_a_frame_to_the_next_and_each_frame_is_uploaded_once(cuda):
    fake = cuda(gpus=1)
    fields = list(OpenCVCUDA().flows(flat_frames(1, 2, 3, 4), QUICK_TVL1))
    assert pairs_of(fields) == [(1, 2), (2, 3), (3, 4)]
    assert fake.uploads == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_the_class_gets_every_parameter(cuda):
    fake = cuda(gpus=1)
    tvl1 = TVL1(tau=0.1, lambda_=0.2, theta=0.4, scales=3, warps=2, epsilon=0.05, iterations=7, scale_step=0.6)
    list(OpenCVCUDA().flows(flat_frames(1, 2), tvl1))
    assert fake.parameters == {
        "tau": 0.1,
        "lambda_": 0.2,
        "theta": 0.4,
        "nscales": 3,
        "warps": 2,
        "epsilon": 0.05,
        "iterations": 7,
        "scaleStep": 0.6,
    }


def test_clips_take_turns_on_the_gpus_and_stay_on_theirs(cuda):
    fake = cuda(gpus=3)
    engine = OpenCVCUDA(Hardware(gpus=(2, 0)))
    first, second = engine.flows(flat_frames(1, 2, 3), QUICK_TVL1), engine.flows(flat_frames(5, 6, 7), QUICK_TVL1)
    assert pairs_of(field for pair in zip(first, second) for field in pair) == [(1, 2), (5, 6), (2, 3), (6, 7)]
    assert fake.computed_on == [2, 0, 2, 0]
    assert {index for index, _ in fake.uploads[:1]} == {2} and dict(map(reversed, fake.uploads)) == {
        **{1: 2, 2: 2, 3: 2},
        **{5: 0, 6: 0, 7: 0},
    }
    list(engine.flows(flat_frames(8, 9), QUICK_TVL1))
    assert fake.computed_on[-1] == 2


def test_a_gpu_that_is_not_there_is_refused(cuda):
    cuda(gpus=1)
    with pytest.raises(MissingTool, match="--gpus 1: there are 1"):
        OpenCVCUDA(Hardware(gpus=(1,)))


def test_opencvs_errors_say_which_gpu_failed_after_the_fields_before(cuda):
    cuda(gpus=1, fails_at=1)
    fields = OpenCVCUDA().flows(flat_frames(1, 2, 3), QUICK_TVL1)
    assert pairs_of([next(fields)]) == [(1, 2)]
    with pytest.raises(GPUFailed, match="GPU 0 failed: it fell off the bus"):
        next(fields)


def test_a_gpu_is_free_while_the_caller_has_a_field(cuda):
    cuda(gpus=1)
    engine = OpenCVCUDA()
    fields = engine.flows(flat_frames(1, 2, 3), QUICK_TVL1)
    next(fields)
    done = threading.Thread(target=lambda: list(engine.flows(flat_frames(5, 6), QUICK_TVL1)), daemon=True)
    done.start()
    done.join(timeout=60)
    assert not done.is_alive()


def test_it_says_what_opencv_lacks(cuda, monkeypatch):
    cuda(gpus=1)
    assert OpenCVCUDA.usable() is None and OpenCVCUDA.version() == "opencv-cuda 4.0"
    assert OpenCVCPU.usable() == "this OpenCV has no optflow module; install opencv-contrib-python-headless"
    cuda(gpus=0)
    assert OpenCVCUDA.usable() == "OpenCV sees no GPU"
    monkeypatch.setattr(opencv, "_cv2", lambda: SimpleNamespace())
    assert OpenCVCUDA.usable() == "this OpenCV was built without CUDA's optical flow; see pipelines/opencv_cuda"
    monkeypatch.setattr(opencv, "_cv2", lambda: SimpleNamespace(cuda=SimpleNamespace()))
    assert OpenCVCUDA.usable() == "this OpenCV was built without CUDA's optical flow; see pipelines/opencv_cuda"
