"""Training of a classifier: what such a training is, and the plain one."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Shaped

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Params, PRNGKey, Scalar
from robust_manifold.models import Model
from robust_manifold.training.descent import (
    Descended,
    descend,
    moving_average,
    remember,
)
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer


class ClassifierTraining(abc.ABC):
    """The base of all trainings of classifiers: subclasses are frozen dataclasses."""

    needs_spanner: ClassVar[bool] = False
    """Whether a generator is needed: then `with_spanner` comes first, and `init` is
    given the generator's parameters, which ride in the state."""

    numbers: ClassVar[bool] = False
    """Whether it teaches the numbers of a regression, in place of classes."""

    starts_from_images: ClassVar[bool] = False
    """Whether `start` makes its first parameters of training images."""

    def start(
        self,
        model: Model,
        key: PRNGKey,
        images: Float[np.ndarray, "n height width channels"],
        labels: Int[np.ndarray, " n"],
    ) -> Params | None:
        """Returns the parameters that training images give to start with, or None.

        Args:
          model: the classifier.
          key: of the whole training.
          images: of the training split, pixels in [0, 1].
          labels: their classes.
        """
        del model, key, images, labels
        return None

    def with_spanner(self, spanner: Spanner) -> "ClassifierTraining":
        """Returns the training that uses this generator; itself if it needs none."""
        del spanner
        return self

    @abc.abstractmethod
    def init(
        self,
        model: Model,
        key: PRNGKey,
        steps: int,
        *,
        start: Params | None = None,
        spanner: SpannerParams | None = None,
    ) -> Any:
        """Returns the state before the first step: a NamedTuple of arrays, with `step`.

        Args:
          model: the classifier.
          key: of the whole training.
          steps: of the whole training.
          start: parameters that the training goes on from; by default fresh ones.
          spanner: the generator's parameters, for a training that needs one.

        Raises:
          UsageError: for less than one step, a start that does not fit the model, or
            a training that needs a generator and lacks it.
        """

    @functools.partial(
        jax.jit, static_argnames=("self", "model", "steps"), donate_argnames="state"
    )
    def step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: Any,
        images: Float[Array, "batch height width channels"],
        labels: Shaped[Array, "batch ..."],
    ) -> tuple[Any, Any]:
        """Returns the state after one step, and its metrics: a NamedTuple of scalars.

        Compiled, with `self`, `model` and `steps` static.

        Args:
          model: the classifier.
          steps: of the whole training.
          key: of the whole training; each step folds its own number into it.
          state: donated; use the returned one.
          images: pixels in [0, 1].
          labels: class numbers, or what else the training teaches.
        """
        step_key = jax.random.fold_in(keys.stream(key, "step"), state.step)
        return self._step(model, steps, step_key, state, images, labels)

    @abc.abstractmethod
    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: Any,
        images: Float[Array, "batch height width channels"],
        labels: Shaped[Array, "batch ..."],
    ) -> tuple[Any, Any]:
        """Returns what `step` does; `key` is this step's own."""

    @abc.abstractmethod
    def train_params(self, state: Any) -> Params:
        """Returns the trained parameters, as later stages use them."""


registry: Registry[ClassifierTraining] = Registry("classifier training")
"""All trainings of classifiers, by the names that configs use."""


class ClassifierState(NamedTuple):
    """All that a training of a classifier carries from step to step."""

    step: Int[Array, ""]
    params: Params
    average: Params
    optimizer: optax.OptState
    more: Any = ()
    """What a training carries beside these, such as a generator's parameters."""


class ClassifierMetrics(NamedTuple):
    """What a step measures on its batch."""

    loss: Scalar
    accuracy: Scalar


class Descending(ClassifierTraining):
    """What trainings by the gradient of one loss share: an optimiser and an average."""

    optimizer: Optimizer | str
    average_decay: float

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
        del spanner
        params = begun(self, model, key, steps, start)
        return ClassifierState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            # A copy: both are donated to the step, and no buffer may be given twice.
            average=jax.tree.map(jnp.copy, params),
            optimizer=remember(self._descent(steps), (params,)),
        )

    def train_params(self, state: ClassifierState) -> Params:
        """Returns the moving average of the parameters."""
        return state.average

    def _descent(self, steps: int) -> optax.GradientTransformation:
        return as_optimizer(self.optimizer).build(steps)

    def _descended(
        self, steps: int, state: ClassifierState, loss_of: Callable[..., Any]
    ) -> tuple[ClassifierState, Descended]:
        """Returns the state one step down the gradient of a loss; see `descend`."""
        descended = descend(
            loss_of, (state.params,), self._descent(steps), state.optimizer
        )
        (params,) = descended.networks
        average = moving_average(state.average, params, self.average_decay, state.step)
        state = state._replace(
            step=state.step + 1,
            params=params,
            average=average,
            optimizer=descended.memory,
        )
        return state, descended


@registry.register("cross_entropy")
@dataclasses.dataclass(frozen=True)
class CrossEntropy(Descending):
    """Training by the mean cross-entropy of the batches.

    Attributes:
      optimizer: the optimiser, or its text as in a config.
      label_smoothing: share of a label that is spread evenly over all classes
        (Szegedy et al. 2016), in [0, 1).
      average_decay: decay of the exponential moving average of the parameters; 0
        keeps the last parameters themselves.
    """

    optimizer: Optimizer | str = Adam(0.001)
    label_smoothing: float = 0.0
    average_decay: float = 0.0

    def __post_init__(self):
        # The text becomes its spec, so that equal trainings are equal and hash alike.
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        for field in ("label_smoothing", "average_decay"):
            check(0 <= getattr(self, field) < 1, self, field, "0 to below 1")

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, Any]:
        """One step down the gradient of the mean cross-entropy."""

        def loss_of(networks):
            (params,) = networks
            logits, params = model.train(params, images, key)
            return jnp.mean(self._losses(logits, labels)), ((params,), logits)

        state, descended = self._descended(steps, state, loss_of)
        right = accuracy(descended.measured, labels)
        return state, ClassifierMetrics(descended.loss, right)

    def _losses(
        self, logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        targets = optax.smooth_labels(targets, self.label_smoothing)
        return optax.softmax_cross_entropy(logits, targets)


def begun(
    training: ClassifierTraining,
    model: Model,
    key: PRNGKey,
    steps: int,
    start: Params | None,
) -> Params:
    """Returns the parameters before the first step; see `ClassifierTraining.init`.

    Raises:
      UsageError: for no step, and for a start that does not fit the model.
    """
    if steps < 1:
        raise UsageError(
            f"steps of {type(training).__name__} is {steps}; allowed: 1 or more."
        )
    if start is None:
        return model.init(keys.stream(key, "init"))
    return fitting(training, model, start)


def fitting(training: ClassifierTraining, model: Model, start: Params) -> Params:
    """Returns a copy of parameters that the model can take; a step donates its own.

    Raises:
      UsageError: if they do not fit.
    """
    try:
        return models.from_table(model, models.to_table(start))
    except UsageError as error:
        raise UsageError(f"start of {type(training).__name__}: {error}") from None


def accuracy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Scalar:
    """Returns the share of a batch that is predicted as labelled."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)
