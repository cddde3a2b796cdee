from __future__ import annotations

import paddle
import pytest
import torch


@pytest.fixture
def without_gradients():
    """Of neither framework."""
    with torch.no_grad(), paddle.no_grad():
        yield
