"""The residual classifier: its shortcuts, its last mean, and the sizes it takes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models


def build(shape, text="residual_cnn(width=2, blocks=1)"):
    """The model, and random parameters of the shapes of its own, quick to draw."""
    model = models.build(text, image_shape=shape, classes=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype), shapes
    )
    _normalise_nothing(params)
    return model, params


def _normalise_nothing(params):
    """Sets the values with which batch normalisation changes almost nothing."""
    for layer, values in params["batch_stats"].items():
        values["mean"] = jnp.zeros_like(values["mean"])
        values["var"] = jnp.ones_like(values["var"])
        weights = params["params"][layer]
        weights["scale"] = jnp.ones_like(weights["scale"])
        weights["bias"] = jnp.zeros_like(weights["bias"])


def test_without_its_blocks_it_is_the_chain_of_its_shortcuts():
    model, params = build((16, 16, 1))
    layers = params["params"]
    for name, values in layers.items():
        if name.startswith("Conv_") and values["kernel"].shape[0] == 3:
            values["kernel"] = jnp.zeros_like(values["kernel"])
    # The first convolution passes the pixels and their negatives on.
    first = jnp.zeros((3, 3, 1, 2)).at[1, 1, 0].set(jnp.array([1.0, -1.0]))
    layers["Conv_0"]["kernel"] = first
    image = np.asarray(jax.random.normal(jax.random.key(1), (16, 16, 1)))

    def activated(x):
        return np.maximum(x / np.sqrt(1 + 1e-5), 0)

    x = np.concatenate([image, -image], axis=-1)
    shortcuts = [
        values["kernel"][0, 0]
        for name, values in sorted(layers.items())
        if name.startswith("Conv") and values["kernel"].shape[0] == 1
    ]
    assert [kernel.shape for kernel in shortcuts] == [(2, 4), (4, 8)]
    for kernel in shortcuts:
        x = activated(x)[::2, ::2] @ np.asarray(kernel)
    last = layers["Dense_0"]
    expected = activated(x).mean((0, 1)) @ np.asarray(last["kernel"]) + last["bias"]
    outputs = jax.jit(model.apply)(params, jnp.asarray(image))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((16, 16, 3), (16, 16)),
        ((28, 47, 3), (28, 47)),
        ((48, 47, 3), (48, 47)),
        ((48, 48, 3), (24, 24)),
        ((64, 65, 3), (32, 33)),
    ],
)
def test_large_images_are_halved_at_once_and_parameters_know_no_size(shape, sides):
    from flax import linen as nn

    from robust_manifold.models.layers import Conv

    model = models.registry.build("residual_cnn(width=2)").module(shape, 3)
    seen = []

    def record(call, arguments, named, context):
        outputs = call(*arguments, **named)
        if isinstance(context.module, Conv):
            seen.append(outputs.shape[1:])
        return outputs

    with nn.intercept_methods(record):
        params = jax.eval_shape(
            lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), False)
        )
    assert seen[0] == (*sides, 2)
    quarter = tuple(math.ceil(side / 4) for side in sides)
    assert seen[-1] == (*quarter, 8)
    small = models.build("residual_cnn(width=2)", image_shape=(16, 16, 3), classes=3)
    assert params == jax.eval_shape(small.init, jax.random.key(0))


def test_features_are_what_the_logits_see():
    model, params = build((16, 16, 1))
    image = jax.random.uniform(jax.random.key(1), (16, 16, 1))
    features = jax.jit(model.features)(params, image)
    # Means of values after a ReLU, one a channel of the last stage.
    assert features.shape == (8,) and (features >= 0).all()
