"""Adversarial training with steps against the overpowered attack."""

import dataclasses
import math

import jax
import optax
from jaxtyping import Array, Float, Int

from robust_manifold.attacks import PGD, Attack
from robust_manifold.attacks.overpowered import Overpowered
from robust_manifold.core import keys
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.spec import check
from robust_manifold.core.types import Logits, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.adversarial import Adversarial
from robust_manifold.training.classifier import ClassifierState, registry
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer
from robust_manifold.training.pairs import PairMetrics, PairTraining, measured


@registry.register("overpowered_adversarial")
@dataclasses.dataclass(frozen=True)
class OverpoweredAdversarial(PairTraining, Adversarial):
    """Adversarial training, and now and then a step on pairs (Ilyas et al. 2019).

    Before every `every`-th step of adversarial training, the first one included, pairs
    are searched, and one more step of the optimiser goes down the gradient of
    weight * CE(softmax C(G(z)), C(G(z'))), the mean over the feasible pairs, which are
    constants; without a feasible pair there is no such step.  The pairs' metrics are
    those of the last search.  The defaults are those that the authors published for
    MNIST, at a batch of 50.

    With weight = 0 nothing is searched, and every step is that of `Adversarial`: the
    control for the same training without pairs.

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`, of the attacked batch's loss.
      average_decay: as for `CrossEntropy`.
      attack: as for `Adversarial`.
      clean_share: as for `Adversarial`.
      weight: of the loss of the pairs, which have a step of their own.
      every: steps of adversarial training from one search to the next.
      pairs: searches, each for one pair.
      search: the overpowered attack, or its text as in a config.
      spanner: the generator; set by `with_spanner`.
    """

    optimizer: Optimizer | str = Adam(0.0001)
    attack: Attack | str = PGD(epsilon=1.5, norm="l2", steps=40, step_size=0.075)
    weight: float = 0.01
    every: int = 5500
    pairs: int = 50
    search: Overpowered | str = Overpowered(eta=1.5, restarts=1)
    spanner: Spanner | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        self.check_pair_fields()
        weighs = 0 <= self.weight < math.inf
        check(weighs, self, "weight", "a finite number, 0 or more")

    def pair_loss(self, first: Logits, second: Logits) -> Scalar:
        """Returns the cross-entropy of the second prediction against the first."""
        return optax.softmax_cross_entropy(second, jax.nn.softmax(first))

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, PairMetrics]:
        """One step of adversarial training, after one on pairs when they are due."""
        if self.weight:
            state = jax.lax.cond(
                state.step % self.every == 0,
                lambda state: self._pair_step(model, steps, key, state),
                lambda state: state,
                state,
            )
        state, plain = super()._step(model, steps, key, state, images, labels)
        pairs = state.more.pairs
        return state, measured(plain, pairs.loss, pairs)

    def _pair_step(
        self, model: Model, steps: int, key: PRNGKey, state: ClassifierState
    ) -> ClassifierState:
        """Returns the state with new pairs, after a step on them if one is feasible."""
        pair_key = keys.stream(key, "pairs")
        pairs = self.find(model, state.params, state.more.spanner, pair_key)
        state = state._replace(more=state.more._replace(pairs=pairs))

        def loss_of(networks):
            (params,) = networks
            apart = self.mean_pair_loss(model, params, pairs)
            return self.weight * apart, (networks, apart)

        stepped, _ = self._descended(steps, state, loss_of)
        stepped = stepped._replace(step=state.step)
        return optax.tree.where(pairs.feasible.any(), stepped, state)

    def _descent(self, steps: int) -> optax.GradientTransformation:
        """Returns the optimiser, whose schedule ends with the last of all its steps."""
        more = math.ceil(steps / self.every) if self.weight else 0
        return as_optimizer(self.optimizer).build(steps + more)
