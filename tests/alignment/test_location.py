"""A location is written as the contract says, and read back from a record of randomness."""

from __future__ import annotations

import pytest

from alignment.location import AtCall, AtGradient, AtWeight, Between, InStep

WRITTEN = {
    "weights:conv1.weight": AtWeight("conv1.weight"),
    "layer1.0.relu": AtCall("layer1.0.relu"),
    "layer1.0.relu#2": AtCall("layer1.0.relu#2"),
    "a -> b": Between("a", "b"),
    "inputs[0] -> a": Between("inputs[0]", "a"),
    "grad:conv1.weight": AtGradient("conv1.weight"),
    "forward:output.class_logits": InStep("forward", "output.class_logits"),
    "train:step 3: fc.bias (update)": InStep("train", "step 3: fc.bias (update)"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_location_is_written_as_the_contract_says(text):
    assert str(WRITTEN[text]) == text
