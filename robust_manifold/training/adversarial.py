"""Training of a classifier on images that are attacked with its own parameters."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from robust_manifold import attacks
from robust_manifold.attacks import PGD, Attack, SteppedAttack
from robust_manifold.core import keys
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.spec import check
from robust_manifold.core.types import Image, Params, PRNGKey
from robust_manifold.models import Model
from robust_manifold.training.classifier import (
    ClassifierState,
    CrossEntropy,
    registry,
)


def attacked(
    attack: Attack,
    model: Model,
    params: Params,
    images: Float[Array, "batch height width channels"],
    labels: Shaped[Array, "batch ..."],
    key: PRNGKey,
    criterion: Criterion = MISCLASSIFIED,
) -> Float[Array, "batch height width channels"]:
    """Returns a minibatch of adversarial images, as constants of any gradient.

    The attack meets the classifier in inference mode: no dropout, and running
    statistics in place of the batch's, so that images do not depend on each other.

    Args:
      attack: made on each image.
      model: the classifier.
      params: its current parameters.
      images: pixels in [0, 1].
      labels: class numbers, which the attack leads away from, or what else the
        criterion compares outputs with.
      key: of this step; every image folds its place in the minibatch into it.
      criterion: what the attack wants of the outputs.
    """
    params = jax.lax.stop_gradient(params)

    def one(key, image, label):
        def network(x):
            return model.apply(params, x)

        return attack(key, network, image, label, criterion=criterion)

    return moved(one, key, images, labels)


def moved(
    move: Callable[..., Image],
    key: PRNGKey,
    images: Float[Array, "batch height width channels"],
    *more: Array,
) -> Float[Array, "batch height width channels"]:
    """Returns every image moved with a key of its own, as constants of any gradient.

    Args:
      move: `move(key, image, *more) -> image`, for one image.
      key: of this step; every image folds its place in the minibatch into it.
      images: pixels in [0, 1].
      *more: what else there is of each image, such as its label.
    """
    own_keys = keys.per_example(key, jnp.arange(len(images)))
    return jax.lax.stop_gradient(jax.vmap(move)(own_keys, images, *more))


def check_attack(training: Any) -> None:
    """Checks `attack` and `clean_share` of a training; a text becomes its spec."""
    if isinstance(training.attack, str):
        built = attacks.registry.build(training.attack)
        object.__setattr__(training, "attack", built)
    stepped = isinstance(training.attack, SteppedAttack)
    check(stepped, training, "attack", "a stepped attack, such as pgd(epsilon=0.3)")
    check(0 <= training.clean_share < 1, training, "clean_share", "0 to below 1")


def partly_attacked(
    training: Any,
    model: Model,
    params: Params,
    images: Float[Array, "batch height width channels"],
    labels: Shaped[Array, "batch ..."],
    key: PRNGKey,
    criterion: Criterion,
) -> Float[Array, "batch height width channels"]:
    """Returns a minibatch of which all but a training's `clean_share` is attacked.

    Arguments as for `attacked`, and the training, whose `attack` it is.
    """
    # The loader shuffles: the first images are as good as any.
    # However small the minibatch, some of it is attacked.
    clean = min(round(training.clean_share * len(images)), len(images) - 1)
    made = attacked(
        training.attack,
        model,
        params,
        images[clean:],
        labels[clean:],
        key,
        criterion,
    )
    return jnp.concatenate([images[:clean], made])


class OnMoved(CrossEntropy):
    """The base of trainings by the cross-entropy of images that are moved first.

    They are moved with the parameters before the step.  The measured loss and accuracy
    are those of the moved minibatch.
    """

    @abc.abstractmethod
    def attacked(
        self,
        model: Model,
        params: Params,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        key: PRNGKey,
    ) -> Float[Array, "batch height width channels"]:
        """Returns the moved images, as constants of any gradient.

        Args:
          model: the classifier, used in inference mode.
          params: its current parameters.
          images: pixels in [0, 1].
          labels: class numbers, which images are led away from.
          key: of this step; every image folds its place in the minibatch into it.
        """

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, Any]:
        """One step down the gradient of the cross-entropy of the moved images."""
        attack_key = keys.stream(key, "attack")
        images = self.attacked(model, state.params, images, labels, attack_key)
        return super()._step(model, steps, key, state, images, labels)


@registry.register("adversarial")
@dataclasses.dataclass(frozen=True)
class Adversarial(OnMoved):
    """Training by the cross-entropy of attacked images (Madry et al. 2018).

    Every minibatch is attacked with the parameters before the step, then a step of
    plain training is taken on the outcome, equation 2.1 with the inner maximum fixed.
    The measured loss and accuracy are those of the attacked minibatch.

    Attributes:
      optimizer: as for `CrossEntropy`.
      label_smoothing: as for `CrossEntropy`.
      average_decay: as for `CrossEntropy`; the attack meets the parameters themselves.
      attack: a stepped attack, or its text as in a config; by default the one that
        Madry et al. train with on MNIST.
      clean_share: share of each minibatch that stays as it is, rounded to whole
        images, in [0, 1).
    """

    attack: Attack | str = PGD(epsilon=0.3, steps=40, step_size=0.01)
    clean_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_attack(self)

    def attacked(self, model, params, images, labels, key):
        """Returns a minibatch of which all but `clean_share` is attacked."""
        return partly_attacked(self, model, params, images, labels, key, MISCLASSIFIED)
