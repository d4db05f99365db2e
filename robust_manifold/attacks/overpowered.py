"""The overpowered attack: two near images in a generator's range, classified apart."""

import dataclasses
import math
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from robust_manifold.attacks import losses
from robust_manifold.attacks.losses import ObjectiveValue
from robust_manifold.attacks.overpowered_losses import (
    PAIR_LOSSES,
    PairLoss,
    check_pair_loss,
)
from robust_manifold.attacks.overpowered_search import (
    Ascent,
    BoundNorm,
    Contest,
    LatentCandidate,
    LatentClimb,
    Latents,
    TwoImages,
    best_of,
)
from robust_manifold.core import keys, loops, norms
from robust_manifold.core.manifold import Manifold
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Classify, Image, Label, PRNGKey, Scalar
from robust_manifold.inversion import Restarts


class Pair(NamedTuple):
    """Two images of a generator."""

    latents: Float[Array, "2 latent"]
    images: Float[Array, "2 height width channels"]
    distance: Scalar
    """The norm of the difference of `images`, over all pixels."""
    logits: Float[Array, "2 classes"]
    feasible: Bool[Array, ""]
    """Whether `distance` is at most the bound."""
    found: Bool[Array, ""]
    """Whether it is, and the predicted classes differ; never where a logit is NaN."""


class Neighbour(NamedTuple):
    """An image of a generator near a given one."""

    latent: Float[Array, " latent"]
    image: Image
    distance: Scalar
    """The norm of its difference from the given image, over all pixels."""
    logits: Float[Array, " classes"]
    feasible: Bool[Array, ""]
    """Whether `distance` is at most the bound."""
    found: Bool[Array, ""]
    """Whether it is, and the predicted class is not the label."""


overpowered_registry: "Registry[Overpowered]" = Registry("overpowered attack")
"""The one name that configs write the attack by."""


@overpowered_registry.register("overpowered")
@dataclasses.dataclass(frozen=True)
class Overpowered:
    """The overpowered attack (Ilyas et al. 2017; Jalal et al. 2019).

    It looks for z and z' with ||G(z) - G(z')|| <= eta that are classified differently;
    one-sided, for G(z) as near to a given image.  From each of `restarts` starts Adam
    climbs a Lagrangian whose multiplier never is negative; see `Ascent`.  z' starts at
    a draw of its own: from equal starts a symmetric loss never parts the two.  Of all
    iterates of all starts within eta, one that has changed the class is best, then the
    one of highest loss.

    Attributes:
      eta: the bound, a plain norm over all pixels in [0, 1]; never a mean.
      norm: of the bound, "l2" or "linf".
      steps: of Adam from each start; one look at both images a step.
      restarts: starts of a pair, or of an image.
      learning_rate: Adam's first, in latent units; it falls to 0 along a cosine.
      loss: what is climbed.  "margin", the lead of two different classes, is made to
        find pairs; "logits" and "probabilities", the squared distance of the outputs,
        and "symmetric_ce" measure how far the classifier can be pulled apart.
      penalty: pull towards the prior's centre: its length at the distance of a draw
        from the prior, where that of the objective is 1.
      supremum: rank iterates by the loss alone, whether the class has changed or not.
      stop: end a search once one of its starts has found a pair.
    """

    eta: float
    norm: BoundNorm = "l2"
    steps: int = 500
    restarts: int = 10
    learning_rate: float = 0.05
    loss: PairLoss = "margin"
    penalty: float = 0.0
    supremum: bool = False
    stop: bool = False

    def __post_init__(self):
        for field in ("steps", "restarts"):
            whole = is_whole(getattr(self, field), 1)
            check(whole, self, field, "a whole number, 1 or more")
        for field in ("eta", "learning_rate"):
            finite = 0 < getattr(self, field) < math.inf
            check(finite, self, field, "a finite number above 0")
        check(0 <= self.penalty < math.inf, self, "penalty", "a finite number from 0")
        check(self.norm in get_args(BoundNorm), self, "norm", "l2 or linf")
        check_pair_loss(self)
        # 1 and 1.0 are one bound: they must be written alike, too.
        object.__setattr__(self, "eta", float(self.eta))

    @property
    def ascent(self) -> Ascent:
        """How one start climbs."""
        return Ascent(self.norm, self.steps, self.learning_rate)

    def pair(self, key: PRNGKey, manifold: Manifold, classify: Classify) -> Pair:
        """Returns the best pair from `restarts` starts; written for ONE pair.

        It may be vmapped over keys, inside a compiled function, too.  It has no
        derivative: hand in parameters through `jax.lax.stop_gradient`.

        Args:
          key: the pair's own random key.
          manifold: the generator's range.
          classify: image -> logits.
        """
        contest = TwoSided(self, manifold, classify)
        starts = pair_starts(self, manifold, key)
        climbs = self._run(contest, manifold, starts)
        bound = jnp.asarray(self.eta, starts.dtype)
        return pair_of(self, contest, contest, bound, climbs)

    def neighbour(
        self,
        key: PRNGKey,
        manifold: Manifold,
        classify: Classify,
        image: Image,
        label: Label,
    ) -> Neighbour:
        """Returns the best image of the range near `image`; written for ONE image.

        Args:
          key: the image's own random key.
          manifold: the generator's range; with an encoder, half of the starts begin
            where it says.
          classify: image -> logits.
          image: pixels in [0, 1].
          label: the class to get away from.
        """
        contest = OneSided(self, manifold, classify, image, label)
        starts = neighbour_starts(self, manifold, image, key)
        climbs = self._run(contest, manifold, starts)
        bound = jnp.asarray(self.eta, starts.dtype)
        return neighbour_of(self, contest, contest, bound, climbs)

    def moved(
        self, contest: Contest, manifold: Manifold, bound: Scalar, climbs: LatentClimb
    ) -> LatentClimb:
        """Returns all starts one step on."""

        def one(climb: LatentClimb) -> LatentClimb:
            prior, size = manifold.prior, climb.latents.size
            away = (climb.latents - prior.centre) / prior.deviation
            pull = -self.penalty / math.sqrt(size) * away
            return self.ascent.step(contest, bound, pull, climb)

        return jax.vmap(one)(climbs)

    def _run(self, contest: Contest, manifold: Manifold, starts: Array) -> LatentClimb:
        bound = jnp.asarray(self.eta, starts.dtype)
        ended = (lambda climbs: climbs.best.found.any()) if self.stop else None
        loop = loops.Loop(
            begin=lambda params, key, example: jax.vmap(self.ascent.begin)(starts),
            step=lambda params, key, example, climbs: self.moved(
                contest, manifold, bound, climbs
            ),
            finish=lambda params, key, example, climbs, steps: climbs,
            steps=self.steps,
            ended=ended,
        )
        # Nothing in the search is drawn at random but its starts.
        return loops.run(loop, None, jax.random.key(0), None)


@dataclasses.dataclass(frozen=True)
class TwoSided:
    """Two images of the generator against each other."""

    spec: Overpowered
    manifold: Manifold
    classify: Classify

    def images(self, latents: Latents) -> TwoImages:
        """Returns G(z) and G(z')."""
        return jax.vmap(self.manifold.generate)(latents)

    def logits(self, images: TwoImages) -> Float[Array, "2 classes"]:
        """Returns those of both images."""
        return jax.vmap(self.classify)(images)

    def evaluate(self, images: TwoImages) -> ObjectiveValue:
        """Returns the loss, and whether the classes differ, if that counts."""
        logits = self.logits(images)
        loss = PAIR_LOSSES[self.spec.loss](*logits)
        return ObjectiveValue(loss, self.differ(logits) & (not self.spec.supremum))

    def differ(self, logits: Float[Array, "2 classes"]) -> Bool[Array, ""]:
        """Returns whether the predicted classes differ."""
        first, second = jnp.argmax(logits, axis=-1)
        # The first NaN wins an argmax: a broken logit changes no class.
        return (first != second) & ~jnp.isnan(logits).any()


@dataclasses.dataclass(frozen=True)
class OneSided:
    """A given image against an image of the generator, of which the latent is one."""

    spec: Overpowered
    manifold: Manifold
    classify: Classify
    image: Image
    label: Label

    def images(self, latents: Latents) -> TwoImages:
        """Returns the given image and G(z)."""
        return jnp.stack([self.image, self.manifold.generate(latents[0])])

    def evaluate(self, images: TwoImages) -> ObjectiveValue:
        """Returns the loss of G(z), and whether it reads otherwise, if that counts."""
        logits = self.classify(images[1])
        adversarial = losses.Objective(self.classify, self.label).succeeds(logits)
        adversarial &= not self.spec.supremum
        if self.spec.loss == "margin":
            return ObjectiveValue(losses.margin(logits, self.label), adversarial)
        given = self.classify(images[0])
        return ObjectiveValue(PAIR_LOSSES[self.spec.loss](given, logits), adversarial)


def pair_starts(
    spec: Overpowered, manifold: Manifold, key: PRNGKey
) -> Float[Array, "restarts 2 latent"]:
    """Returns the latents that the search for a pair begins at, all drawn apart."""
    dtype = latent_type(manifold)

    def start(number: Array) -> Latents:
        return jnp.stack(
            [
                manifold.prior.start(
                    keys.stream(key, side), number, manifold.latent_shape, 1.0, dtype
                )
                for side in ("first", "second")
            ]
        )

    return jax.vmap(start)(jnp.arange(spec.restarts))


def latent_type(manifold: Manifold) -> Any:
    """Returns the type in which latents move: the images', 32 bits or more."""
    latent = jax.ShapeDtypeStruct(manifold.latent_shape, jnp.float32)
    made = jax.eval_shape(manifold.generate, latent)
    return jnp.promote_types(made.dtype, jnp.float32)


def neighbour_starts(
    spec: Overpowered, manifold: Manifold, image: Image, key: PRNGKey
) -> Float[Array, "restarts 1 latent"]:
    """Returns the latents that the search near an image begins at.

    With an encoder, the first is its mean; draws from its distribution make up half of
    all, draws from the prior the rest.
    """
    encoded = None if manifold.encode is None else -(-spec.restarts // 2)
    starts = Restarts(spec.restarts, encoded=encoded).starts(manifold, image, key)
    return starts[:, None]


def pair_of(
    spec: Overpowered,
    contest: TwoSided,
    judge: TwoSided,
    bound: Scalar,
    climbs: LatentClimb,
) -> Pair:
    """Returns the best pair of all starts, computed anew from its latents.

    Args:
      spec: the attack.
      contest: by which the best is chosen.
      judge: the contest by which the best is judged: of a random classifier, with
        another key than it was chosen by.
      bound: on the distance.
      climbs: of all starts.
    """
    latents = _best(spec, contest, bound, climbs).latents
    images = judge.images(latents)
    logits = judge.logits(images)
    distance = norms.norm(images[0] - images[1], spec.norm)
    # No tolerance here: what is reported is what its own images say.
    feasible = distance <= bound
    found = feasible & judge.differ(logits)
    return Pair(latents, images, distance, logits, feasible, found)


def neighbour_of(
    spec: Overpowered,
    contest: OneSided,
    judge: OneSided,
    bound: Scalar,
    climbs: LatentClimb,
) -> Neighbour:
    """Returns the best image of all starts; arguments as for `pair_of`."""
    latent = _best(spec, contest, bound, climbs).latents[0]
    image = judge.manifold.generate(latent)
    logits = judge.classify(image)
    distance = norms.norm(image - judge.image, spec.norm)
    feasible = distance <= bound
    objective = losses.Objective(judge.classify, judge.label)
    found = feasible & objective.succeeds(logits)
    return Neighbour(latent, image, distance, logits, feasible, found)


def _best(
    spec: Overpowered, contest: Contest, bound: Scalar, climbs: LatentClimb
) -> Any:
    def finish(climb: LatentClimb) -> LatentCandidate:
        return spec.ascent.finish(contest, bound, climb)

    return best_of(jax.vmap(finish)(climbs))
