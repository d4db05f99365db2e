import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.inversion import (
    Adam,
    InversionProblem,
    Solver,
    Status,
    Step,
    as_solver,
)


@dataclasses.dataclass(frozen=True)
class Walk(Solver):
    """Goes right by a fixed stride, whatever the error."""

    steps: int = 4
    stride: float = 0.0

    def init(self, start):
        return jnp.int32(0)

    def step(self, problem, latent, state):
        return Step(problem.measure(latent), latent + self.stride, state + 1)

    def passes(self, latent_size):
        return 1.0


def _identity(latent):
    return latent.reshape(1, 1, 1)


@pytest.mark.parametrize(
    ("target", "latent"),
    [(0.0, 0.0), (0.5, 0.5), (0.8125, 0.75), (1.0, 1.0), (5.0, 1.0)],
)
def test_the_best_of_all_iterates_counts_the_first_and_the_last_too(target, latent):
    solution = Walk(stride=0.25)(_identity, jnp.full((1, 1, 1), target), jnp.zeros(1))
    assert float(solution.latent[0]) == latent
    assert float(solution.error) == pytest.approx((target - latent) ** 2, rel=1e-6)
    assert solution.status == Status.FINISHED


def test_of_equal_errors_the_later_counts():
    image = jnp.full((1, 1, 1), 0.3)
    solution = Walk(stride=0.25)(lambda z: 0 * _identity(z), image, jnp.zeros(1))
    assert float(solution.latent[0]) == 1.0


def test_rounding_adds_up_to_no_drift():
    """A stride is within rounding of the one before it, but not of the first."""
    solution = Walk(50, -2.5e-7)(_identity, jnp.ones((1, 1, 1)), jnp.zeros(1))
    assert float(solution.latent[0]) > -2e-6
    assert float(solution.error) == 1.0


def test_an_infinite_latent_is_never_the_best():
    """A saturated generator maps it to a finite, even perfect, image."""
    solution = Walk(stride=float("inf"))(
        lambda z: jax.nn.sigmoid(z).reshape(1, 1, 1), jnp.ones((1, 1, 1)), jnp.zeros(1)
    )
    assert float(solution.latent[0]) == 0.0
    assert float(solution.error) == 0.25
    assert solution.status == Status.NON_FINITE


def test_the_problem_is_the_mean_squared_error():
    problem = InversionProblem(
        lambda z: jnp.stack([z[0], 2 * z[0]]).reshape(1, 2, 1), jnp.ones((1, 2, 1))
    )
    np.testing.assert_array_equal(problem.residual(jnp.array([2.0])), [1.0, 3.0])
    assert float(problem.error(jnp.array([2.0]))) == 5.0


def test_every_status_has_a_message():
    assert all(status.message.endswith(".") for status in Status)
    assert len({status.message for status in Status}) == len(Status)


def test_a_text_becomes_its_solver():
    assert as_solver("adam(steps=3)") == Adam(steps=3) == as_solver(Adam(steps=3))
