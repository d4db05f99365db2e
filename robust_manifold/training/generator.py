"""What a training of a generator is: a frozen spec, pure steps, a partner network."""

import abc
import functools
from typing import Any, ClassVar, NamedTuple, TypeVar

import chex
import jax
from jaxtyping import Array, Float, Shaped

from robust_manifold import models
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Params, PRNGKey
from robust_manifold.models import Model, ModelSpec
from robust_manifold.training.optimizers import Optimizer, as_optimizer

Spec = TypeVar("Spec", bound=ModelSpec)


class Setting(NamedTuple):
    """What a training works on; hashable, a static argument of compiled functions."""

    generator: Model
    partner: Model
    """The discriminator or the encoder."""
    steps: int
    """Generator steps of the whole training."""


class GeneratorTraining(abc.ABC):
    """The base of all trainings of generators: subclasses are frozen dataclasses.

    Attributes:
      optimizer: the generator's optimiser, or its text as in a config.
      average_decay: decay of the exponential moving average of the generator; 0
        keeps the last generator itself.
      role: what the partner is: "discriminator" or "vae_encoder".
    """

    optimizer: Optimizer | str
    average_decay: float
    role: ClassVar[str]

    def __post_init__(self):
        # The text becomes its spec, so that equal trainings are equal and hash alike.
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        check(0 <= self.average_decay < 1, self, "average_decay", "0 to below 1")

    @property
    @abc.abstractmethod
    def partner(self) -> ModelSpec:
        """The spec of the network that the generator is trained with."""

    @property
    def minibatches(self) -> int:
        """The number of minibatches that a step takes."""
        return 1

    def build_partner(
        self, generator: Model, image_shape: tuple[int, ...], classes: int
    ) -> Model:
        """Returns the partner of a generator.

        Args:
          generator: the generator to be trained.
          image_shape: (height, width, channels) of the images.
          classes: the number of classes of the data.

        Raises:
          UsageError: if the partner can't take such images, or the two do not fit.
        """
        shape = self._partner_images(generator, image_shape)
        partner = models.build(self.partner, image_shape=shape, classes=classes)
        self.check_networks(generator, partner)
        return partner

    def check_networks(self, generator: Model, partner: Model) -> None:
        """Raises a `UsageError` if the training can't work on the two networks."""
        images = self._partner_images(generator, generator.output_shape)
        if partner.input_shape != images:
            raise UsageError(
                f"The {self.role} of {type(self).__name__} takes images of shape "
                f"{partner.input_shape}; allowed: {images}, by the generator."
            )

    @abc.abstractmethod
    def init(self, setting: Setting, key: PRNGKey) -> Any:
        """Returns the state before the first step: a NamedTuple of arrays, with `step`.

        Raises:
          UsageError: if the training can't work on the setting.
        """

    @functools.partial(
        jax.jit, static_argnames=("self", "setting"), donate_argnames="state"
    )
    def step(
        self,
        setting: Setting,
        key: PRNGKey,
        state: Any,
        images: Float[Array, "n height width channels"],
        labels: Shaped[Array, "n ..."],
    ) -> tuple[Any, Any]:
        """Returns the state after one step, and its metrics: a NamedTuple of scalars.

        Compiled, with `self` and `setting` static.

        Args:
          setting: what the training works on.
          key: of the whole training; each step folds its own number into it.
          state: donated; use the returned one.
          images: the step's `minibatches`, one after the other; pixels in [0, 1].
          labels: class numbers; only a class-conditional generator looks at them.
        """
        chex.assert_is_divisible(images.shape[0], self.minibatches)
        step_key = jax.random.fold_in(keys.stream(key, "step"), state.step)
        return self._step(setting, step_key, state, images, labels)

    @abc.abstractmethod
    def _step(
        self,
        setting: Setting,
        key: PRNGKey,
        state: Any,
        images: Float[Array, "n height width channels"],
        labels: Shaped[Array, "n ..."],
    ) -> tuple[Any, Any]:
        """Returns what `step` does; `key` is this step's own."""

    @abc.abstractmethod
    def generator_params(self, state: Any) -> Params:
        """Returns the generator to be used: the moving average."""

    @abc.abstractmethod
    def partner_params(self, state: Any) -> Params:
        """Returns the partner as it is."""

    def _partner_images(
        self, generator: Model, image_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Returns the shape of what the partner looks at."""
        del generator
        return tuple(image_shape)

    def _check_setting(self, setting: Setting) -> None:
        if setting.steps < 1:
            raise UsageError(
                f"steps of {type(self).__name__} is {setting.steps}; allowed: 1 or "
                "more."
            )
        self.check_networks(setting.generator, setting.partner)

    def _become_spec(self, field: str, kind: type[Spec], allowed: str) -> None:
        """Turns the text of a network in `field` into its spec."""
        value = getattr(self, field)
        spec = models.registry.build(value) if isinstance(value, str) else value
        check(isinstance(spec, kind), self, field, allowed)
        object.__setattr__(self, field, spec)


registry: Registry[GeneratorTraining] = Registry("generator training")
"""All trainings of generators, by the names that configs use."""
