"""A substitute: a network trained on nothing but another one's answers.

Papernot et al., "Practical Black-Box Attacks against Machine Learning" (2017): attacks
that are crafted on the substitute carry over to the classifier that it was taught by.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_manifold import models
from robust_manifold.core import batching, keys
from robust_manifold.core.checks import checked_images, checked_key, checked_labels
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion, checked_criterion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar, Target
from robust_manifold.models import ClassifierSpec, Model
from robust_manifold.models.classifiers import DefenseGANE
from robust_manifold.training.classifier import CrossEntropy
from robust_manifold.training.imitation import (
    Imitated,
    Imitation,
    Imitator,
    Units,
    outputs_of,
)
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer

Oracle: TypeAlias = Callable[[np.ndarray], Any]
"""`label(images) -> [n] classes`, or what else the target puts out, of float images
[n, height, width, channels]: any Python function, called with plain arrays, one call a
round."""

registry: Registry[Any] = Registry("substitute")
"""All ways to train a substitute, by the names that configs use."""


@registry.register("substitute")
@dataclasses.dataclass(frozen=True)
class SubstituteTraining:
    """The substitute of Papernot et al. 2017, with the settings of their digits.

    In each round the substitute goes on training on all images labelled so far; then,
    but for the last round, each of them is moved by `step` along the sign of the
    substitute's gradient of the logit of its label, and the target is asked for the
    labels of what comes out.  With the defaults 150 images become 4,800.

    Attributes:
      model: the substitute's network, or its text as in a config.
      seeds: images that the adversary has at first, without labels.
      rounds: trainings; between them the set is doubled.
      step: lambda, how far a pixel moves, on pixels in [0, 1].
      flip_every: rounds after which the sign of `step` changes; 0: never.
      epochs: passes through the set in each round.
      batch_size: images a step.
      optimizer: the optimiser, or its text as in a config.
      reservoir: images added in a round at most, from a random part of the set; 0: one
        for each image of it.
    """

    model: ClassifierSpec | str = DefenseGANE()
    seeds: int = 150
    rounds: int = 6
    step: float = 0.1
    flip_every: int = 3
    epochs: int = 10
    batch_size: int = 128
    optimizer: Optimizer | str = Adam(0.001)
    reservoir: int = 0

    def __post_init__(self):
        # Texts become specs, so that equal substitutes are equal and hash alike.
        if isinstance(self.model, str):
            object.__setattr__(self, "model", models.registry.build(self.model))
        check(
            isinstance(self.model, ClassifierSpec),
            self,
            "model",
            "a classifier such as 'defense_gan_e'",
        )
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        for field in ("seeds", "rounds", "epochs", "batch_size"):
            check(is_whole(getattr(self, field), 1), self, field, "1 or more")
        for field in ("flip_every", "reservoir"):
            check(is_whole(getattr(self, field), 0), self, field, "0 or more")
        check(0 < self.step < math.inf, self, "step", "a finite number above 0")

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many labelled images the substitute is trained on, round by round."""
        sizes = [self.seeds]
        for _ in range(self.rounds - 1):
            sizes.append(sizes[-1] + min(sizes[-1], self.reservoir or sizes[-1]))
        return tuple(sizes)

    @property
    def queries(self) -> int:
        """How many labels the target is asked for: one an image."""
        return self.sizes[-1]

    @property
    def steps(self) -> int:
        """Steps of the optimiser in all rounds."""
        return sum(self.steps_of(size) for size in self.sizes)

    def signed_step(self, place: int) -> float:
        """Returns `step` with the sign that it has after round `place`, from 0."""
        flips = place // self.flip_every if self.flip_every else 0
        return self.step * (-1) ** flips

    def build(self, image_shape: Sequence[int], classes: int) -> Model:
        """Returns the network for such images.

        Raises:
          UsageError: if it can't take them.
        """
        return models.build(self.model, image_shape=image_shape, classes=classes)

    def steps_of(self, size: int) -> int:
        """Returns the steps of a round with so many labelled images."""
        return -(-self.epochs * size // self.batch_size)


class SubstituteRound(NamedTuple):
    """What a round of a substitute's training came to."""

    queries: int
    """Labels asked for so far, which is the size of the labelled set."""
    agreement: float
    """The share of the set that the substitute, now trained on it, labels alike; for
    which the criterion is not met, where there are no classes."""


class TrainedSubstitute(NamedTuple):
    """A substitute, and what it took to train it."""

    apply: Callable[[Params, Array], Array]
    """`apply(params, image) -> logits`."""
    params: Params
    queries: int
    """Labels that the target was asked for."""
    history: tuple[SubstituteRound, ...]


def train_substitute(
    label: Oracle,
    substitute: SubstituteTraining,
    seeds: Any,
    *,
    classes: int | None = None,
    criterion: Criterion | None = None,
    key: PRNGKey,
) -> TrainedSubstitute:
    """Returns a network trained to imitate `label`, from its answers alone.

    Attacks are then crafted on it as on any classifier; `attacks.transfer` does so and
    scores them on another one.

    Args:
      label: the target: `label(images) -> [n] classes`, for float images [n, height,
        width, channels] in [0, 1].  Any Python function, a web service among them:
        it sees plain arrays, and only the classes it returns are used.
      substitute: how to train.
      seeds: images like the target's, of which the first `substitute.seeds` are used.
      classes: how many classes the target has; None where it has none.
      criterion: what attacks will want of the outputs; by default `Misclassified()`.
        One without classes says what the target's answers are, such as the numbers of
        a regression, [n, ...], and with what loss (`misfit`) they are learned.  An
        image then moves along the gradient of the criterion's own loss.
      key: the root of all randomness.

    Raises:
      UsageError: for too few seeds, images of the wrong shape, type or range, answers
        that are no classes, or none that the criterion takes.
    """
    images = checked_images(seeds)
    checked_key(key)
    if not isinstance(substitute, SubstituteTraining):
        raise UsageError(
            f"substitute is {substitute!r}; allowed: a SubstituteTraining(), or "
            "training.substitutes.build('substitute')."
        )
    if not callable(label):
        raise UsageError(f"label is {label!r}; allowed: a function of images.")
    criterion = checked_criterion(criterion)
    if criterion.classes and not is_whole(classes, 2):
        raise UsageError(f"classes is {classes!r}; allowed: a whole number, 2 or more.")
    if not criterion.classes and classes is not None:
        raise UsageError(
            f"classes is {classes!r} beside the criterion {criterion!r}, which has "
            "none; allowed: None."
        )
    if len(images) < substitute.seeds:
        raise UsageError(
            f"SubstituteTraining.seeds is {substitute.seeds}; allowed: at most the "
            f"{len(images)} images given."
        )
    images = images[: substitute.seeds]
    if not criterion.classes:
        _check_learnable(criterion)
    model = substitute.build(images.shape[1:], int(classes or 2))
    labels = _asked(label, images, classes, criterion)
    learner_key = keys.stream(key, "training")
    if criterion.classes:
        learner = _Learner(substitute, model, learner_key)
    else:
        model = substitute.build(images.shape[1:], outputs_of(labels))
        learner = _Imitator(substitute, model, learner_key, criterion, labels)
    history = []
    for place in range(substitute.rounds):
        learner.learn(place, images, labels)
        agreement = np.mean(learner.agrees(images, labels))
        history.append(SubstituteRound(len(images), float(agreement)))
        if place + 1 < substitute.rounds:
            round_key = jax.random.fold_in(keys.stream(key, "reservoir"), place)
            chosen = _chosen(substitute, len(images), round_key)
            added = augmented(
                learner.model,
                learner.params,
                images[chosen],
                labels[chosen],
                substitute.signed_step(place),
                batch_size=substitute.batch_size,
                criterion=criterion,
            )
            images = np.concatenate([images, added])
            answers = _asked(label, added, classes, criterion, labels.shape[1:])
            labels = np.concatenate([labels, answers])
    trained = learner.model.apply, learner.params
    return TrainedSubstitute(*trained, len(labels), tuple(history))


def augmented(
    model: Model,
    params: Params,
    images: Float[np.ndarray, "n height width channels"],
    labels: np.ndarray,
    step: float,
    *,
    batch_size: int | None = None,
    criterion: Criterion = MISCLASSIFIED,
) -> Float[np.ndarray, "n height width channels"]:
    """Returns x + step * sign(d logit of the label / dx), clipped to [0, 1].

    Papernot et al. 2017 call it Jacobian-based dataset augmentation.  Where there are
    no classes, the criterion's loss takes the place of the logit.  Where the gradient
    is zero or NaN a pixel stays.

    Args:
      model: the substitute.
      params: of it.
      images: pixels in [0, 1].
      labels: those that the target gave.
      step: how far a pixel moves; below 0 for the other direction.
      batch_size: images computed at a time.
      criterion: what attacks will want of the outputs.
    """
    step_size = jnp.asarray(step, images.dtype)
    moved = batching.map_examples(
        _Augment(model.apply, criterion),
        (params, step_size),
        (images, labels),
        key=jax.random.key(0),
        batch_size=batch_size,
    )
    return np.asarray(moved)


@dataclasses.dataclass(frozen=True)
class _Augment:
    apply: Callable[[Params, Array], Array]
    criterion: Criterion

    def __call__(
        self, params: Any, key: PRNGKey, example: tuple[Image, Target]
    ) -> Image:
        del key
        (own, step), (image, label) = params, example

        def climbed(moved: Image) -> Scalar:
            output = self.apply(own, moved)
            if self.criterion.classes:
                return output[label]
            return self.criterion.loss(output, label)

        gradient = jax.grad(climbed)(image)
        return jnp.clip(image + step * jnp.sign(jnp.nan_to_num(gradient)), 0, 1)


class _Learner:
    """The substitute as it goes from round to round."""

    def __init__(self, substitute: SubstituteTraining, model: Model, key: PRNGKey):
        self._substitute, self._network, self._key = substitute, model, key
        self._training = CrossEntropy(optimizer=substitute.optimizer)
        self._state = self._training.init(model, key, substitute.steps)

    @property
    def model(self) -> Model:
        return self._network

    @property
    def params(self) -> Params:
        return self._training.train_params(self._state)

    def learn(self, place: int, images: np.ndarray, labels: np.ndarray) -> None:
        """Goes on training for the epochs of round `place`, on the whole set."""
        key = jax.random.fold_in(keys.stream(self._key, "order"), place)
        for rows in _batches(self._substitute, len(images), key):
            self._state, _ = self._training.step(
                self._network,
                self._substitute.steps,
                self._key,
                self._state,
                jnp.asarray(images[rows]),
                jnp.asarray(labels[rows]),
            )

    def agrees(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns for which images the substitute answers as its target does."""
        return np.argmax(self._outputs(images), axis=-1) == labels

    def _outputs(self, images: np.ndarray) -> np.ndarray:
        return batching.apply_examples(
            self.model.apply,
            self.params,
            images,
            batch_size=self._substitute.batch_size,
        )


class _Imitator(_Learner):
    """A substitute that learns outputs, not classes."""

    def __init__(
        self,
        substitute: SubstituteTraining,
        model: Model,
        key: PRNGKey,
        criterion: Criterion,
        answers: np.ndarray,
    ):
        super().__init__(substitute, model, key)
        self._criterion = criterion
        optimizer = substitute.optimizer
        self._training = Imitation(optimizer=optimizer, criterion=criterion)
        self._state = self._state._replace(more=Units.of(criterion, answers))

    @property
    def model(self) -> Model:
        return self._network._replace(apply=Imitator(self._network.apply))

    @property
    def params(self) -> Imitated:
        return Imitated(super().params, self._state.more)

    def agrees(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        outputs = self._outputs(images)
        return ~np.asarray(jax.vmap(self._criterion.succeeds)(outputs, labels))


def _batches(
    substitute: SubstituteTraining, n: int, key: PRNGKey
) -> Iterator[np.ndarray]:
    """Yields the rows of each step of a round, equally many in each.

    Every epoch has an order of its own; the last batch is filled up from the start.
    """
    epochs = jax.random.split(key, substitute.epochs)
    orders = [np.asarray(jax.random.permutation(epoch, n)) for epoch in epochs]
    size = substitute.batch_size
    steps = substitute.steps_of(n)
    yield from np.resize(np.concatenate(orders), (steps, size))


def _chosen(substitute: SubstituteTraining, n: int, key: PRNGKey) -> np.ndarray:
    """Returns the places of the images that are to be moved, in order."""
    if not substitute.reservoir or substitute.reservoir >= n:
        return np.arange(n)
    drawn = jax.random.choice(key, n, (substitute.reservoir,), replace=False)
    return np.sort(np.asarray(drawn))


def _check_learnable(criterion: Criterion) -> None:
    """Raises a `UsageError` unless a criterion says how its outputs are learned."""
    if type(criterion).misfit is Criterion.misfit:
        criterion.misfit(None, None)


def _asked(
    label: Oracle,
    images: np.ndarray,
    classes: int | None,
    criterion: Criterion,
    shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Returns the target's answers for some images, checked.

    Args:
      label: the target.
      images: to ask about.
      classes: of the target; None where it has none.
      criterion: says what an answer is.
      shape: of one answer without classes; by default that of the first.
    """
    if classes is None:
        return _answered(label(images), len(images), criterion, shape)
    try:
        return checked_labels(label(images), len(images), classes)
    except UsageError as error:
        if not str(error).startswith("labels "):
            raise
        # The function of the user's own is to blame, not an argument of ours.
        raise UsageError(f"The function `label` returned: {error}") from None


def _answered(
    answers: Any, n: int, criterion: Criterion, shape: tuple[int, ...] | None
) -> np.ndarray:
    """Returns a target's outputs for `n` images, checked."""
    answers = np.asarray(answers)
    one = jax.ShapeDtypeStruct(answers.shape[1:] if shape is None else shape, "float32")
    try:
        return criterion.check(one, answers, n)
    except UsageError as error:
        # The function of the user's own is to blame, not an argument of ours.
        raise UsageError(f"The function `label` returned: {error}") from None
