"""Pairs of generated images, close to each other, that a classifier should see alike.

How the trainings on such pairs find them, keep them and measure them.
"""

import abc
import copy
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_manifold.attacks.overpowered import Overpowered, Pair, overpowered_registry
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Logits, Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.classifier import ClassifierState, CrossEntropy


class KeptPairs(NamedTuple):
    """What one search has found; constants of any gradient."""

    images: Float[Array, "pairs 2 height width channels"]
    """Zeros where a pair is not feasible."""
    distances: Float[Array, " pairs"]
    """In the norm of the search, plain; zero where a pair is not feasible."""
    feasible: Bool[Array, " pairs"]
    """Whether the two images are within the search's eta of each other."""
    loss: Scalar
    """Mean over the feasible pairs, with the classifier that they were found for."""


class PairMemory(NamedTuple):
    """What a training on pairs carries beside the classifier."""

    spanner: SpannerParams
    pairs: KeptPairs


class PairMetrics(NamedTuple):
    """What a step measures on its batch and on its pairs."""

    loss: Scalar
    accuracy: Scalar
    pair_loss: Scalar
    """Mean over the feasible pairs; 0 if there is none."""
    feasible: Scalar
    """Share of the pairs that are feasible."""
    distance: Scalar
    """Mean distance of the feasible pairs, in the search's norm; 0 if there is none."""


class PairTraining(CrossEntropy):
    """A training that also looks at pairs: all but what it does with them.

    The pairs are found with the current parameters of the classifier in inference
    mode, by searches of their own that start at independent latents each time.
    """

    needs_spanner: ClassVar[bool] = True

    pairs: int
    """Searches, each for one pair."""
    every: int
    """Steps from one search to the next; the first step searches."""
    search: Overpowered | str
    """The search, with its eta and norm, or its text as in a config."""
    spanner: Spanner | None

    @abc.abstractmethod
    def pair_loss(self, first: Logits, second: Logits) -> Scalar:
        """Returns the loss of one pair, from its logits."""

    def check_pair_fields(self) -> None:
        """Makes the search of its text; raises a `UsageError` for impossible fields."""
        if isinstance(self.search, str):
            search = overpowered_registry.build(self.search)
            object.__setattr__(self, "search", search)
        known = isinstance(self.search, Overpowered)
        check(known, self, "search", "such as overpowered(eta=1.5)")
        for field in ("every", "pairs"):
            check(is_whole(getattr(self, field), 1), self, field, "1 or more")

    def with_spanner(self, spanner: Spanner) -> "PairTraining":
        """Returns the training with the generator that its pairs are made by."""
        training = copy.copy(self)
        object.__setattr__(training, "spanner", spanner)
        return training

    def init(
        self,
        model: Model,
        key: PRNGKey,
        steps: int,
        *,
        start: Params | None = None,
        spanner: SpannerParams | None = None,
    ) -> ClassifierState:
        """Returns the state before the first step; see `ClassifierTraining.init`."""
        if self.spanner is None or spanner is None:
            raise UsageError(
                f"spanner of {type(self).__name__} is None; allowed: a generator, by "
                "with_spanner, and its parameters, by init."
            )
        made = jax.eval_shape(
            self.spanner.generate,
            spanner.generator,
            jnp.zeros(self.spanner.latent_shape),
        )
        if made.shape != model.input_shape:
            raise UsageError(
                f"spanner of {type(self).__name__} makes images of shape {made.shape}; "
                f"allowed: {model.input_shape}, the classifier's."
            )
        state = super().init(model, key, steps, start=start)
        # A copy: the step donates what it is given.
        own = jax.tree.map(jnp.copy, spanner)
        found = jax.eval_shape(
            functools.partial(self.find, model), state.params, own, key
        )
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), found)
        return state._replace(more=PairMemory(own, nothing))

    def find(
        self, model: Model, params: Params, spanner: SpannerParams, key: PRNGKey
    ) -> KeptPairs:
        """Returns new pairs, as constants of any gradient.

        Args:
          model: the classifier, used in inference mode.
          params: its current parameters.
          spanner: the generator's parameters.
          key: of this step; every search folds its number into it.
        """
        search = self.search
        assert isinstance(search, Overpowered) and self.spanner is not None
        params, spanner = jax.lax.stop_gradient((params, spanner))
        manifold = self.spanner.bind(spanner)

        def one(key: PRNGKey) -> Pair:
            return search.pair(key, manifold, lambda x: model.apply(params, x))

        own_keys = keys.per_example(key, jnp.arange(self.pairs))
        found = jax.lax.stop_gradient(jax.vmap(one)(own_keys))
        feasible = found.feasible
        losses = jax.vmap(self.pair_loss)(found.logits[:, 0], found.logits[:, 1])
        return KeptPairs(
            # Whatever an infeasible image holds, a NaN too, no gradient shall meet it.
            images=jnp.where(feasible[:, None, None, None, None], found.images, 0),
            distances=jnp.where(feasible, found.distance, 0),
            feasible=feasible,
            loss=feasible_mean(losses, feasible),
        )

    def mean_pair_loss(self, model: Model, params: Params, pairs: KeptPairs) -> Scalar:
        """Returns the mean loss of the feasible pairs, 0 if there is none.

        The classifier is in inference mode, the one that the search attacks: masks of
        dropout that differ would tell the two images of a pair apart by themselves.
        """
        logits = model.apply(params, pairs.images)
        losses = jax.vmap(self.pair_loss)(logits[:, 0], logits[:, 1])
        return feasible_mean(losses, pairs.feasible)


def measured(
    plain: tuple[Scalar, Scalar], pair_loss: Scalar, pairs: KeptPairs
) -> PairMetrics:
    """Returns the metrics of a step.

    Args:
      plain: loss and accuracy on the batch.
      pair_loss: mean over the feasible pairs.
      pairs: what the step looked at.
    """
    loss, right = plain
    return PairMetrics(
        loss,
        right,
        pair_loss,
        jnp.mean(pairs.feasible),
        feasible_mean(pairs.distances, pairs.feasible),
    )


def feasible_mean(
    values: Float[Array, " pairs"], feasible: Bool[Array, " pairs"]
) -> Scalar:
    """Returns the mean of what is feasible, 0 if nothing is."""
    total = jnp.sum(jnp.where(feasible, values, 0))
    return total / jnp.maximum(jnp.sum(feasible), 1)
