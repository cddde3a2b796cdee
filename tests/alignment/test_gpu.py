"""`--device gpu`: the same comparison, with TF32 off on both sides."""

from __future__ import annotations

import pytest
import torch
from paddle.base import core

from alignment import align
from factseg_proof.pairs.factseg import make_pair
from tests.alignment.small import Through, images, small_pair


def tf32_of_torch() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def tf32_of_paddle() -> tuple[bool, bool]:
    return core.get_cublas_switch(), core.get_cudnn_switch()


@pytest.fixture
def tf32_on():
    """TF32 switched on outside, as a user may have it."""
    torch_before, paddle_before = tf32_of_torch(), tf32_of_paddle()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    core.set_cublas_switch(True)
    core.set_cudnn_switch(True)
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = torch_before
    core.set_cublas_switch(paddle_before[0])
    core.set_cudnn_switch(paddle_before[1])


@pytest.mark.usefixtures("tf32_on")
def test_tf32_is_off_while_models_run_and_as_found_afterwards():
    seen: dict[str, set] = {"torch": set(), "paddle": set()}

    class Torch(torch.nn.Module):
        def forward(self, x):
            seen["torch"].add(tf32_of_torch())
            return x + 1

    def ours(x):
        seen["paddle"].add(tf32_of_paddle())
        return x + 1

    pair = small_pair(
        lambda: Through(ours),
        torch_model=Torch,
        inputs=(images((2, 3)),),
        targets=(),
        torch_loss=None,
        paddle_loss=None,
    )
    assert align(pair, ["forward"])
    assert seen == {"torch": {(False, False)}, "paddle": {(False, False)}}
    assert tf32_of_torch() == tf32_of_paddle() == (True, True)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_small_pair_is_aligned_on_a_gpu(mode):
    report = align(small_pair(mode=mode), device="gpu")
    assert report, str(report)


@pytest.mark.gpu
def test_factseg_is_aligned_on_a_gpu():
    report = align(make_pair(0, crop_size=64), device="gpu")
    assert report, str(report)
