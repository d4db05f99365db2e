"""The toy classifier as a fixture."""

import pytest

from tests.attacks.toys import Toy, make_toy


@pytest.fixture(scope="session", params=[2, 4], ids=["2 classes", "4 classes"])
def toy(request) -> Toy:
    return make_toy(request.param)
