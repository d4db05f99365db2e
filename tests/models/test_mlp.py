"""The networks for data of a few numbers equal their formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models

ACTIVATIONS = {
    "leaky_relu": lambda x: np.maximum(x, 0.01 * x),
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ["mlp_generator", "mlp_discriminator"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_are_those_of_the_formula(name, activation):
    text = f"{name}(hidden=5, layers=2, activation={activation!r})"
    model = models.build(text, image_shape=(1, 1, 1))
    params = model.init(jax.random.key(0))
    inputs = 3 * jax.random.normal(jax.random.key(1), (4, *model.input_shape))
    x = np.asarray(inputs).reshape(4, 1)
    for layer in range(3):
        weights = params["params"][f"Dense_{layer}"]
        x = x @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])[None]
        x = ACTIVATIONS[activation](x) if layer < 2 else x
    outputs = model.apply(params, inputs)
    np.testing.assert_allclose(outputs.reshape(4, 1), x, rtol=1e-5, atol=1e-5)


def test_outputs_of_the_generator_are_not_bounded():
    model = models.build("mlp_generator(activation='relu')", image_shape=(1, 1, 1))
    outputs = model.apply(model.init(jax.random.key(0)), jnp.array([[-1e6], [1e6]]))
    assert jnp.abs(outputs).max() > 100


def test_weights_and_biases_fill_their_range_from_the_start():
    model = models.build("mlp_generator(hidden=400)", image_shape=(1, 1, 1))
    layers = model.init(jax.random.key(0))["params"]
    for name, inputs in (("Dense_0", 1), ("Dense_1", 400)):
        for values in layers[name].values():
            largest = jnp.abs(values).max() * inputs**0.5
            assert 0.98 < largest <= 1
            assert abs(float(values.mean())) * inputs**0.5 < 0.15
