"""Densities on the real line: each agrees with itself and with what is known of it."""

import jax
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.one_dimensional import densities

TEXTS = (
    "normal(mean=1.5, deviation=0.5)",
    "truncated_normal(mean=1.0, deviation=0.5, reach=1.5)",
    "mixture(means=(-1.0, 2.0), deviations=(0.3, 0.6), weights=(1.0, 3.0))",
    "mixture(means=(0.0, 1.0), deviations=(0.2, 0.2))",
)


def test_every_density_is_tested():
    assert {text.partition("(")[0] for text in TEXTS} == set(densities.registry.names)


@pytest.mark.parametrize("text", TEXTS)
def test_the_density_is_the_derivative_of_the_cumulative(text):
    density = densities.registry.build(text)
    x = np.linspace(*density.span, 20_001)
    masses = np.diff(np.asarray(density.cumulative(x), np.float64))
    middle = np.asarray(density.density((x[1:] + x[:-1]) / 2), np.float64)
    assert 0.5 * np.abs(masses - middle * np.diff(x)).sum() < 1e-3
    np.testing.assert_allclose(masses.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_draws_follow_the_cumulative(text):
    density = densities.registry.build(text)
    drawn = np.sort(np.asarray(density.sample(jax.random.key(0), 20_000)))
    share = (np.arange(len(drawn)) + 0.5) / len(drawn)
    # Kolmogorov and Smirnov: above 0.0138 once in a thousand samples of this size.
    assert np.abs(np.asarray(density.cumulative(drawn)) - share).max() < 0.0138


def test_known_values():
    normal = densities.registry.build("normal(mean=1.0, deviation=2.0)")
    np.testing.assert_allclose(normal.density(1.0), 0.19947114, rtol=1e-6)
    cut = densities.registry.build("truncated_normal(mean=1.0, deviation=2.0)")
    # A share of 0.9544997 of a normal distribution lies within two deviations.
    np.testing.assert_allclose(cut.density(1.0), 0.19947114 / 0.9544997, rtol=1e-5)
    assert cut.density(5.1) == 0 and cut.cumulative(5.1) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("normal(deviation=0.0)", "deviation is 0.0"),
        ("normal(mean=1e999)", "mean is inf"),
        ("truncated_normal(reach=-1.0)", "reach is -1.0"),
        ("mixture(means=(), deviations=())", r"means is \(\)"),
        ("mixture(means=(1.0,), deviations=(1.0, 2.0))", "deviations is"),
        ("mixture(means=(1.0,), deviations=(1.0,), weights=(0.0,))", "weights is"),
    ],
)
def test_bad_densities_are_refused(text, words):
    with pytest.raises(UsageError, match=words):
        densities.registry.build(text)
