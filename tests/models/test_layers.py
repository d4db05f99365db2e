"""The Linen layers equal Flax's; pooling and normalisation equal their formulas."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from robust_manifold.models import layers


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(layers.Conv, nn.Conv), (layers.ConvTranspose, nn.ConvTranspose)],
)
@pytest.mark.parametrize("use_bias", [True, False])
def test_layers_have_the_parameters_and_values_of_flax(ours, theirs, use_bias):
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    bias_init = nn.initializers.normal()
    layer = ours(4, (3, 3), 2, "SAME", use_bias, bias_init=bias_init)
    expected = theirs(4, (3, 3), (2, 2), "SAME", use_bias=use_bias, bias_init=bias_init)
    params = layer.init(jax.random.key(1), x)
    jax.tree.map(
        np.testing.assert_array_equal, params, expected.init(jax.random.key(1), x)
    )
    np.testing.assert_allclose(
        layer.apply(params, x), expected.apply(params, x), atol=1e-5
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("window", "stride", "height"),
    [(2, 2, 7), (2, 2, 6), (4, 4, 4), (3, 2, 7), (3, 1, 7)],
)
def test_max_pool_equals_flax_in_value_and_gradient(window, stride, height, padding):
    # Distinct values, so that the two rules for ties agree.
    count = 2 * height * 8 * 3
    x = jax.random.permutation(jax.random.key(0), jnp.arange(float(count)))
    x = x.reshape(2, height, 8, 3)

    def run(pool):
        value, pullback = jax.vjp(pool, x)
        weight = jnp.arange(1.0, value.size + 1).reshape(value.shape)
        return value, *pullback(weight)

    ours = run(lambda x: layers.max_pool(x, window, stride, padding))
    theirs = run(lambda x: nn.max_pool(x, (window, window), (stride, stride), padding))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    one = layers.max_pool(x[0], window, stride, padding)
    np.testing.assert_array_equal(one, ours[0][0])


@pytest.mark.parametrize(("side", "stride"), [(2, 2), (3, 2)])
def test_equal_largest_values_share_the_gradient(side, stride):
    gradient = jax.grad(lambda x: jnp.sum(layers.max_pool(x, 2, stride, "VALID")))(
        jnp.zeros((side, side, 1))
    )
    assert float(gradient.sum()) == 1
    assert (gradient[:2, :2] == 0.25).all()


def test_every_derivative_of_a_pool_of_blocks():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    jax.test_util.check_grads(
        lambda x: jnp.sin(layers.max_pool(jnp.asarray(x), 2, 2)),
        (x,),
        order=2,
        eps=1e-3,
    )


def test_a_pool_hands_no_gradient_to_a_block_with_nan():
    x = jnp.ones((4, 4, 1)).at[0, 0].set(jnp.nan)
    value, pull = jax.vjp(lambda x: layers.max_pool(x, 2, 2), x)
    (gradient,) = pull(jnp.ones_like(value))
    assert jnp.isnan(value).sum() == 1
    assert (gradient[:2, :2] == 0).all()
    assert (gradient[2:] == 0.25).all()


def test_local_response_normalization_by_its_formula():
    x = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(7):
        nearby = (x[:, max(c - 2, 0) : c + 3] ** 2).sum(1)
        expected[:, c] = x[:, c] / (1.5 + 0.3 * nearby) ** 0.75
    ours = layers.local_response_normalization(
        jnp.asarray(x), radius=2, bias=1.5, alpha=0.3
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("sides", "steps"),
    [((28, 28), 2), ((32, 32), 3), ((64, 64), 4), ((8, 8), 1), ((28, 14), 0)]
    + [((7, 7), 0), ((30, 30), 0), ((56, 28), 0), ((96, 64), 4), ((5, 4), 0)],
)
def test_doublings(sides, steps):
    assert layers.doublings((*sides, 1)) == steps
