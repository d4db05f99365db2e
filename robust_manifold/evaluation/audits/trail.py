"""An attack of this package with every image that it looks at judged on the way."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import Problem, SteppedAttack
from robust_manifold.attacks.losses import Objective
from robust_manifold.attacks.outputs import loop_form
from robust_manifold.attacks.random import Apply, bound
from robust_manifold.core import keys, loops, norms
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar, Target


class Trail(NamedTuple):
    """What an attack looked at, judged by the evaluated classifier.

    Attributes:
      losses: the largest margin among the images looked at before and after each step.
      met: whether any of them was adversarial, in the budget and in [0, 1].
      broken: whether the image that was returned is.
    """

    losses: Float[Array, "n looks"]
    met: Bool[Array, " n"]
    broken: Bool[Array, " n"]


class _Example(NamedTuple):
    image: Image
    label: Target
    epsilon: Scalar


class _State(NamedTuple):
    attack: Any
    looks: Int[Array, ""]
    losses: Float[Array, " looks"]
    met: Bool[Array, ""]
    key: Array
    """Data of the key of a random evaluated classifier: one for all looks."""


def follow(
    attack: SteppedAttack[Any],
    apply: Apply,
    params: Params,
    images: np.ndarray,
    labels: Any,
    *,
    key: PRNGKey,
    view: Apply | None = None,
    criterion: Criterion = MISCLASSIFIED,
) -> Trail | None:
    """Returns the trail of an attack; None if its `image_of` gives no image.

    Args:
      attack: with a budget.
      apply: as for `attacks.craft`.
      params: of `apply`.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes, or what else the criterion compares with.
      key: the root of all randomness.
      view: as for `attacks.craft`.
      criterion: as for `attacks.craft`.
    """
    view = apply if view is None else view
    followed = _Followed(attack.without_budget(), apply, view, criterion)
    budgets = np.full(len(images), attack.budget or 0, images.dtype)
    examples = _Example(images, labels, budgets)  # type: ignore[arg-type]
    if not _shows_images(followed, params, examples):
        return None
    return loops.map_loop(
        followed.loop(),
        params,
        examples,
        key=key,
        form=loop_form(followed.view, params, images),
    )


def _shows_images(followed: "_Followed", params: Params, examples: _Example) -> bool:
    def begin(params: Params, key: PRNGKey, example: _Example) -> Any:
        problem = followed.problem(params, key, example)
        return followed.attack.image_of(followed.attack.begin(problem, key))

    example = jax.tree.map(lambda leaf: leaf[0], examples)
    image = jax.eval_shape(begin, params, jax.random.key(0), example)
    return image is not None


@dataclasses.dataclass(frozen=True)
class _Followed:
    """An attack on one image as a loop that judges it on the way, hashed by value."""

    attack: SteppedAttack[Any]
    apply: Apply
    view: Apply
    criterion: Criterion

    def loop(self) -> loops.Loop:
        """Returns the loop over the attack's steps."""
        return loops.Loop(
            _Begin(self), _Step(self), _Finish(self), steps=self.attack.iterations
        )

    def problem(self, params: Params, key: PRNGKey, example: _Example) -> Problem:
        """Returns what the attack sees."""
        classify = bound(self.view, params, keys.stream(key, "classifier"))
        return Problem(classify, *example, self.criterion)

    def objective(self, params: Params, state: _State, example: _Example) -> Objective:
        """Returns how the evaluated classifier judges."""
        key = jax.random.wrap_key_data(state.key)
        judge = bound(self.apply, params, key)
        return Objective(judge, example.label, criterion=self.criterion)

    def looked(self, params: Params, state: _State, example: _Example) -> _State:
        """Returns the state, the images that the attack has come to now judged."""
        shape = example.image.shape
        images = self.attack.image_of(state.attack)
        assert images is not None, "looked for before the loop"
        images = images.reshape(-1, *shape)
        objective = self.objective(params, state, example)

        def judge(image: Image):
            size = norms.norm(image - example.image, self.attack.norm)
            # Some attacks look outside the ball on their way.
            allowed = size <= example.epsilon * (1 + 1e-6) + 1e-6
            allowed &= (image >= 0).all() & (image <= 1).all()
            evaluation = objective.evaluate(image)
            loss = jnp.where(allowed, evaluation.loss, -jnp.inf)
            return loss, allowed & evaluation.adversarial

        losses, adversarial = jax.vmap(judge)(images)
        return state._replace(
            looks=state.looks + 1,
            losses=state.losses.at[state.looks].set(jnp.max(losses)),
            met=state.met | adversarial.any(),
        )


@dataclasses.dataclass(frozen=True)
class _Begin:
    followed: _Followed

    def __call__(self, params: Params, key: PRNGKey, example: _Example) -> _State:
        attack = self.followed.attack
        problem = self.followed.problem(params, key, example)
        looks = attack.iterations + 1
        state = _State(
            attack.begin(problem, key),
            jnp.int32(0),
            jnp.full(looks, -jnp.inf, example.image.dtype),
            jnp.bool_(False),
            jax.random.key_data(keys.stream(key, "evaluation")),
        )
        return self.followed.looked(params, state, example)


@dataclasses.dataclass(frozen=True)
class _Step:
    followed: _Followed

    def __call__(
        self, params: Params, key: PRNGKey, example: _Example, state: _State
    ) -> _State:
        problem = self.followed.problem(params, key, example)
        after = self.followed.attack.step(problem, key, state.attack)
        return self.followed.looked(params, state._replace(attack=after), example)


@dataclasses.dataclass(frozen=True)
class _Finish:
    followed: _Followed

    def __call__(
        self,
        params: Params,
        key: PRNGKey,
        example: _Example,
        state: _State,
        steps: Int[Array, ""],
    ) -> Trail:
        del steps
        problem = self.followed.problem(params, key, example)
        image = self.followed.attack.finish(problem, key, state.attack)
        judged = self.followed.objective(params, state, example).evaluate(image)
        return Trail(state.losses, state.met, judged.adversarial)
