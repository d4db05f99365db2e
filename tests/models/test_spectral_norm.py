"""Spectral normalisation divides every weight by its largest singular value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models

SHAPE = (12, 12, 2)
NAMES = ("dcgan_discriminator(width=3", "mlp_discriminator(hidden=6")


@functools.cache
def ready(name):
    """The model, its form without normalisation, and its parameters."""
    model = _compiled(models.build(f"{name}, spectral_norm=True)", image_shape=SHAPE))
    plain = _compiled(models.build(f"{name})", image_shape=SHAPE))
    params = model.init(jax.random.key(0))
    biases = jax.random.split(jax.random.key(1), len(params["params"]))
    for key, layer in zip(biases, params["params"].values(), strict=True):
        layer["bias"] = jax.random.normal(key, layer["bias"].shape)
    return model, plain, params


def _compiled(model):
    return model._replace(apply=jax.jit(model.apply), train=jax.jit(model.train))


@functools.cache
def converged(name, steps=200):
    """The parameters after many steps of power iteration on the same weights."""
    model, _, params = ready(name)
    images = jnp.zeros((5, *SHAPE))

    def step(params, _):
        return model.train(params, images, jax.random.key(0))[1], None

    return jax.jit(lambda p: jax.lax.scan(step, p, length=steps)[0])(params)


def largest_singular_value(kernel):
    matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    return np.linalg.svd(matrix, compute_uv=False)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_the_plain_one_with_divided_weights(name):
    model, plain, _ = ready(name)
    params = converged(name)
    divided = {
        layer: {
            "kernel": values["kernel"] / largest_singular_value(values["kernel"]),
            "bias": values["bias"],
        }
        for layer, values in params["params"].items()
    }
    images = jax.random.uniform(jax.random.key(2), (5, *SHAPE))
    expected = plain.apply({"params": divided}, images)
    for outputs in (
        model.apply(params, images),
        model.train(params, images, jax.random.key(0))[0],
    ):
        np.testing.assert_allclose(outputs, expected, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_takes_one_step_of_power_iteration(name):
    model, _, params = ready(name)
    images = jnp.zeros((5, *SHAPE))
    _, updated = model.train(params, images, jax.random.key(0))
    layers = params["params"]
    for stats, layer in zip(
        params["batch_stats"], sorted(layers, key=_order), strict=True
    ):
        kernel = np.asarray(layers[layer]["kernel"])
        matrix = kernel.reshape(-1, kernel.shape[-1])
        u = params["batch_stats"][stats][f"{layer}/kernel/u"][0]
        v = matrix @ u
        u = matrix.T @ (v / np.linalg.norm(v))
        ours = updated["batch_stats"][stats]
        np.testing.assert_allclose(
            ours[f"{layer}/kernel/u"][0], u / np.linalg.norm(u), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            ours[f"{layer}/kernel/sigma"], np.linalg.norm(u), rtol=1e-4
        )


def _order(name):
    """Layers in the order of their calls: convolutions, then dense ones."""
    kind, index = name.split("_")
    return kind, int(index)


@pytest.mark.parametrize("name", NAMES)
def test_the_scale_of_the_weights_does_not_matter(name):
    model, _, params = ready(name)
    scaled = params | {
        "params": {
            layer: values | {"kernel": 7 * values["kernel"]}
            for layer, values in params["params"].items()
        }
    }
    images = jax.random.uniform(jax.random.key(2), (5, *SHAPE))
    np.testing.assert_allclose(
        model.apply(scaled, images), model.apply(params, images), rtol=1e-4, atol=1e-5
    )


def test_the_gradient_is_orthogonal_to_the_weights():
    """Outputs that ignore the scale of a weight have no gradient along it."""
    model, _, params = ready(NAMES[1])
    images = jax.random.uniform(jax.random.key(2), (5, *SHAPE))

    def loss(weights):
        return model.apply(params | {"params": weights}, images).sum()

    gradient = jax.jit(jax.grad(loss))(params["params"])
    for layer, values in params["params"].items():
        along = jnp.vdot(gradient[layer]["kernel"], values["kernel"])
        size = jnp.linalg.norm(gradient[layer]["kernel"])
        assert size > 0
        assert abs(along) < 1e-4 * size * jnp.linalg.norm(values["kernel"])
