"""Enhanced Invert and Classify: a classifier that sees close generated images alike."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_manifold.attacks.overpowered import Overpowered
from robust_manifold.attacks.overpowered_losses import PAIR_LOSSES
from robust_manifold.core import keys
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.spec import check
from robust_manifold.core.types import Logits, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.classifier import ClassifierState, accuracy, registry
from robust_manifold.training.pairs import PairMetrics, PairTraining, measured

FORMS = ("squared_distance", "symmetric_cross_entropy")
OUTPUTS = ("probabilities", "logits")


@registry.register("enhanced_inc")
@dataclasses.dataclass(frozen=True)
class EnhancedINC(PairTraining):
    """Training by mu * sup over pairs + (1 - mu) * mean loss (Ilyas et al. 2017).

    The sup is over pairs of latents whose images are within eta of each other, of how
    differently the classifier sees them.  It is estimated by local searches from
    independent random latents: what counts is the mean of the feasible pairs found.
    Pairs are constants of the gradient; those that are not feasible have no part in
    it, and a step without a feasible pair is a step of plain training.  Between two
    searches the last pairs stay in the loss, so that each step descends the whole
    objective; the released code takes plain steps there.

    With mu = 0 nothing is searched, and every step is that of `CrossEntropy`: the
    control for the same training without pairs.

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`, of the batch's loss.
      average_decay: as for `CrossEntropy`; pairs are found for the parameters
        themselves.
      mu: weight of the sup, in [0, 1).
      form: "squared_distance": ||C(G(z)) - C(G(z'))||^2, as in the paper's objective;
        "symmetric_cross_entropy": H(p, p') + H(p', p) of the two predictions, as in
        the released code, whose loss, CE + 2 * symmetric CE, is three times that of
        mu = 2 / 3.
      outputs: what the squared distance is of.  That of "probabilities" is at
        most 2; that of "logits" has no bound, and falls with their scale alone, too,
        at which no prediction changes.
      every: steps from one search to the next; the first step searches.
      pairs: searches, each for one pair.
      search: the overpowered attack, or its text as in a config: eta and norm of the
        pairs, what is climbed to find them, and how long.
      spanner: the generator; set by `with_spanner`.
    """

    mu: float = 2 / 3
    form: Literal["squared_distance", "symmetric_cross_entropy"] = "squared_distance"
    outputs: Literal["probabilities", "logits"] = "probabilities"
    every: int = 20
    pairs: int = 50
    search: Overpowered | str = Overpowered(eta=1.5, steps=100, restarts=1)
    spanner: Spanner | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        self.check_pair_fields()
        check(0 <= self.mu < 1, self, "mu", "0 to below 1")
        check(self.form in FORMS, self, "form", " or ".join(FORMS))
        check(self.outputs in OUTPUTS, self, "outputs", " or ".join(OUTPUTS))
        squared = self.form == "squared_distance"
        check(
            squared or self.outputs == "probabilities",
            self,
            "outputs",
            "probabilities, where form is symmetric_cross_entropy",
        )

    def pair_loss(self, first: Logits, second: Logits) -> Scalar:
        """Returns how differently the two images of a pair are seen."""
        squared = self.form == "squared_distance"
        return PAIR_LOSSES[self.outputs if squared else "symmetric_ce"](first, second)

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, PairMetrics]:
        """One step down the gradient of the objective, its pairs held fixed."""
        if not self.mu:
            state, plain = super()._step(model, steps, key, state, images, labels)
            pairs = state.more.pairs
            return state, measured(plain, pairs.loss, pairs)
        spanner, pairs = state.more
        pairs = jax.lax.cond(
            state.step % self.every == 0,
            lambda: self.find(model, state.params, spanner, keys.stream(key, "pairs")),
            lambda: pairs,
        )
        mu = jnp.where(pairs.feasible.any(), self.mu, 0)

        def loss_of(networks):
            (params,) = networks
            apart = self.mean_pair_loss(model, params, pairs)
            logits, params = model.train(params, images, key)
            mean = jnp.mean(self._losses(logits, labels))
            return (1 - mu) * mean + mu * apart, ((params,), (logits, apart))

        state, descended = self._descended(steps, state, loss_of)
        logits, apart = descended.measured
        plain = descended.loss, accuracy(logits, labels)
        more = state.more._replace(pairs=pairs)
        return state._replace(more=more), measured(plain, apart, pairs)
