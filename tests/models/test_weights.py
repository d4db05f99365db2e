"""A table of arrays holds all that a model's parameters are."""

import jax
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core.errors import UsageError

TEXTS = [
    "linear",
    "small_cnn(width=2, hidden=3)",
    "dcgan_generator(width=2, batch_norm=True)",
    "dcgan_discriminator(width=2, spectral_norm=True)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_table_gives_the_parameters_back(text):
    model = models.build(text)
    params = model.init(jax.random.key(3))
    back = models.from_table(model, models.to_table(params))
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_names_are_those_of_the_layers():
    model = models.build("dcgan_generator(width=2, batch_norm=True)")
    table = models.to_table(model.init(jax.random.key(0)))
    assert table["params/Dense_0/kernel"].shape == (64, 7 * 7 * 4)
    assert table["batch_stats/BatchNorm_1/var"].shape == (2,)
    assert all(isinstance(array, np.ndarray) for array in table.values())


def test_floats_of_another_size_become_the_models():
    model = models.build("linear")
    table = models.to_table(model.init(jax.random.key(0)))
    halves = {name: array.astype(np.float16) for name, array in table.items()}
    for leaf in jax.tree.leaves(models.from_table(model, halves)):
        assert leaf.dtype == np.float32


def test_one_message_lists_all_that_differs():
    model = models.build("small_cnn(width=2, hidden=3)")
    table = models.to_table(model.init(jax.random.key(0)))
    del table["params/Conv_0/bias"], table["params/Dense_1/kernel"]
    table["params/Conv_2/bias"] = np.zeros(4, np.float32)
    table["params/Dense_0/bias"] = np.zeros((1, 3), np.float32)
    table["params/Conv_1/bias"] = np.zeros(4, bool)
    with pytest.raises(UsageError) as raised:
        models.from_table(model, table)
    assert str(raised.value) == (
        "The weights do not fit the model; "
        "missing: params/Conv_0/bias (2,), params/Dense_1/kernel (3, 10); "
        "unexpected: params/Conv_2/bias (4,); "
        "of another shape: params/Dense_0/bias (1, 3) instead of (3,); "
        "of another type: params/Conv_1/bias bool instead of floats."
    )


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(value):
    model = models.build("linear")
    table = models.to_table(model.init(jax.random.key(0)))
    table["params/Dense_0/bias"] = np.array([0.0] * 9 + [value])
    with pytest.raises(UsageError, match="model; not finite: params/Dense_0/bias.$"):
        models.from_table(model, table)
