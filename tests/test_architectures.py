"""Shapes against the models that transformers builds of the same configuration, and against published sizes."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from micota.architectures import KNOWN, of_config

SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("make", [Qwen2Config, LlamaConfig, MistralConfig])
def test_parameters_are_those_of_the_real_model(make: type, tied: bool) -> None:
    config = make(**SMALL, num_key_value_heads=2, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = of_config(config.to_dict())
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert shape is not None
    assert shape.tensors == {name: size for name, size in shapes.items() if not (tied and name == "lm_head.weight")}
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "billions"), [("1.5B", 1.54), ("3B", 3.09), ("7B", 7.62), ("14B", 14.77), ("32B", 32.76)]
)
def test_the_known_models_have_their_published_sizes(name: str, billions: float) -> None:
    assert KNOWN[f"Qwen/Qwen2.5-{name}-Instruct"].parameters / 1e9 == pytest.approx(billions, abs=0.006)


def test_what_is_not_dense_has_no_shape_here() -> None:
    assert of_config({**SMALL, "num_local_experts": 8}) is None
    assert of_config({"hidden_size": 32}) is None


@pytest.mark.parametrize("name", KNOWN)
def test_a_shape_is_that_of_its_own_configuration(name: str) -> None:
    assert of_config(KNOWN[name].config) == KNOWN[name]
