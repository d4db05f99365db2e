import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.inversion import Adam, GradientDescent, registry


def _generator(rng):
    first, second = rng.normal(size=(4, 8)), rng.normal(size=(8, 12)) / 2
    return first, second


def _reference(weights, image, latent, steps, rate, momentum):
    """Defense-GAN's recipe in plain numpy: all iterates and their errors."""
    first, second = weights
    velocity = np.zeros_like(latent)
    latents, errors = [], []
    for step in range(steps + 1):
        hidden = np.tanh(latent @ first)
        output = 1 / (1 + np.exp(-(hidden @ second)))
        residual = output - image
        latents.append(latent)
        errors.append(np.mean(residual**2))
        at_output = 2 * residual / residual.size * output * (1 - output)
        gradient = (at_output @ second.T * (1 - hidden**2)) @ first.T
        # TensorFlow's momentum: the learning rate is outside the accumulator.
        velocity = momentum * velocity + gradient
        drop = 0.1 if step >= np.ceil(0.8 * steps) else 1.0
        latent = latent - rate * drop * velocity
    return latents, errors


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("rate", [10.0, 60.0])
def test_gradient_descent_is_defense_gans_recipe(steps, rate):
    rng = np.random.default_rng(0)
    weights = _generator(rng)
    image, start = rng.uniform(size=12), rng.normal(size=4) / 2
    first, second = (jnp.asarray(w, jnp.float32) for w in weights)
    solution = GradientDescent(steps=steps, learning_rate=rate)(
        lambda z: jax.nn.sigmoid(jnp.tanh(z @ first) @ second).reshape(3, 4, 1),
        jnp.asarray(image.reshape(3, 4, 1), jnp.float32),
        jnp.asarray(start, jnp.float32),
    )
    latents, errors = _reference(weights, image, start, steps, rate, 0.7)
    best = int(np.argmin(errors))
    np.testing.assert_allclose(solution.latent, latents[best], atol=1e-5)
    np.testing.assert_allclose(solution.error, errors[best], rtol=1e-5)


def test_the_learning_rate_drops_once_after_four_fifths():
    """On a slope of one the steps are the learning rates themselves."""

    def lengths(solver):
        latent, state, found = jnp.zeros(1), solver.init(jnp.zeros(1)), []
        for _ in range(solver.steps):
            updates, state = solver.optimiser().update(jnp.ones(1), state, latent)
            found.append(-float(updates[0]))
        return found

    solver = GradientDescent(steps=6, learning_rate=2.0, momentum=0.0)
    np.testing.assert_allclose(lengths(solver), [2.0] * 5 + [0.2], rtol=1e-6)
    flat = GradientDescent(steps=6, learning_rate=2.0, momentum=0.0, decay=1.0)
    np.testing.assert_allclose(lengths(flat), [2.0] * 6, rtol=1e-6)
    early = GradientDescent(6, 2.0, momentum=0.0, decay=0.5, decay_at=0.4)
    np.testing.assert_allclose(lengths(early), [2.0] * 3 + [1.0] * 3, rtol=1e-6)


def test_adams_first_step_is_the_learning_rate():
    solution = Adam(steps=1, learning_rate=0.25)(
        lambda z: z.reshape(1, 1, 1), jnp.ones((1, 1, 1)), jnp.zeros(1)
    )
    assert float(solution.latent[0]) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gradient_descent(steps=0)", "GradientDescent.steps is 0; allowed: 1 or more"),
        ("gradient_descent(learning_rate=0)", "learning_rate is 0.0"),
        ("gradient_descent(learning_rate=1e999)", "learning_rate is inf"),
        ("gradient_descent(momentum=1)", "momentum is 1.0"),
        ("gradient_descent(decay=0)", "decay is 0.0"),
        ("gradient_descent(decay_at=2)", "decay_at is 2.0"),
        ("adam(steps=-1)", "Adam.steps is -1"),
        ("adam(b1=1)", "b1 is 1.0"),
        ("adam(b2=-1)", "b2 is -1.0"),
        ("adam(schedule='linear')", "known: constant, cosine"),
        ("adm", "Did you mean 'adam'?"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
