import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import small
from run_cases import RECIPE, facts

from kinetics_prep.training import compiling, metrics
from kinetics_prep.training.devices import Devices


def test_the_loss_is_the_cross_entropy_of_each_sample():
    random = np.random.default_rng(0)
    logits, class_ids = random.normal(0, 3, (5, 4)).astype(np.float32), random.integers(0, 4, 5)
    losses = np.asarray(compiling.cross_entropy(class_ids, logits))
    assert losses == pytest.approx([-metrics.log_softmax(logits)[k, class_ids[k]] for k in range(5)], abs=1e-5)


def test_the_loss_is_at_each_step_where_there_are_logits_at_each():
    random = np.random.default_rng(0)
    logits, class_ids = random.normal(0, 3, (2, 3, 4)).astype(np.float32), np.array([1, 3])
    losses = np.asarray(compiling.cross_entropy(class_ids, logits))
    assert losses.shape == (2, 3)
    for k in range(2):
        assert losses[k] == pytest.approx(-metrics.log_softmax(logits[k])[:, class_ids[k]], abs=1e-5)


@pytest.mark.parametrize("protocol, trained", [("fixed", {"head"}), ("original", {"conv", "norm", "head"})])
def test_a_compiled_model_trains_what_its_protocol_says_from_uint8(protocol, trained):
    import dataclasses

    recipe = dataclasses.replace(RECIPE, protocol=protocol, dropout=0.25, batch_norm_momentum=0.8, accumulate=2)
    core = compiling.build_core(recipe, small, facts())
    model = compiling.compile_model(core, small, recipe, facts(), Devices(("CPU:0",), "cpu"))
    assert {layer.name for layer in core.layers if layer.trainable_variables} == trained
    assert len(model.optimizer.momentums) == len(model.trainable_variables)
    assert core.get_layer("dropout").rate == 0.25 and core.get_layer("norm").momentum == 0.8
    assert {name: tensor.dtype for name, tensor in model.input.items()} == {"rgb": "uint8"}
    assert model.optimizer.gradient_accumulation_steps == 2 and not model.jit_compile
