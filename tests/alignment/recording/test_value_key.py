"""Keys of values: what they are called, and that files give back the very same."""

from __future__ import annotations

import pytest

from alignment.recording.value_key import (
    LOSS,
    Kind,
    ValueKey,
    from_text,
    layerwise_text,
    model_input,
    to_text,
)

IN_TRACES = {
    "layer/layer1.0#2": ValueKey(Kind.OUTPUT, "layer1.0#2"),
    "layer/attn[1].weights": ValueKey(Kind.OUTPUT, "attn[1].weights"),
    "layer/a/b": ValueKey(Kind.OUTPUT, "a/b"),
    "output/output.class_logits": ValueKey(Kind.MODEL_OUTPUT, "output.class_logits"),
    "loss/loss": LOSS,
    "output_gradient/output[0]": ValueKey(Kind.MODEL_GRAD_OUTPUT, "output[0]"),
    "input_gradient/inputs[1]": ValueKey(Kind.MODEL_GRAD_INPUT, "inputs", 1),
    "gradient/fc.weight": ValueKey(Kind.PARAMETER_GRAD, "fc.weight"),
}

LAYER_BY_LAYER = {
    "given/layer1.0#2[0]": ValueKey(Kind.INPUT, "layer1.0#2", 0),
    "given/a[3][12]": ValueKey(Kind.INPUT, "a[3]", 12),
    "gave/attn[0]": ValueKey(Kind.OUTPUT, "attn[0]"),
    "gave_gradient/conv": ValueKey(Kind.GRAD_OUTPUT, "conv"),
    "given_gradient/conv[0]": ValueKey(Kind.GRAD_INPUT, "conv", 0),
    "inputs[0]": model_input(0),
    "output/output": ValueKey(Kind.MODEL_OUTPUT, "output"),
    "gradient/fc.weight": ValueKey(Kind.PARAMETER_GRAD, "fc.weight"),
}


@pytest.mark.parametrize("text", IN_TRACES)
def test_names_in_reprod_log_files_stay_what_they_were(text):
    assert to_text(IN_TRACES[text]) == text
    assert from_text(text) == IN_TRACES[text]


@pytest.mark.parametrize("text", LAYER_BY_LAYER)
def test_names_in_records_of_layers_stay_what_they_were(text):
    assert layerwise_text(LAYER_BY_LAYER[text]) == text
    assert from_text(text) == LAYER_BY_LAYER[text]


def test_every_kind_has_a_text_of_its_own():
    keys = [ValueKey(kind, "a", 0 if "INPUT" in kind.name else None) for kind in Kind]
    assert [from_text(layerwise_text(key)) for key in keys] == keys


@pytest.mark.parametrize("text", ["strange/a", "given/a", "given/a[x]", "inputs"])
def test_a_text_that_is_no_key_is_refused(text):
    with pytest.raises((KeyError, ValueError)):
        from_text(text)


def test_kinds_of_the_way_back():
    assert {kind for kind in Kind if kind.is_gradient} == {k for k in Kind if "GRAD" in k.name}
