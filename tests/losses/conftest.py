import pytest

from .frameworks import FRAMEWORKS


@pytest.fixture(params=FRAMEWORKS, ids=lambda framework: framework.name)
def framework(request):
    return request.param
