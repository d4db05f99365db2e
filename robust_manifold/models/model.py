"""Model, the only seam to Flax, and the specs from which models are built."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import ClassesInTurn, Normal, Prior
from robust_manifold.core.spec import Registry, check
from robust_manifold.core.types import Params, PRNGKey
from robust_manifold.models.linen import functions_of

Shape = tuple[int, ...]


def _no_features(params: Params, inputs: Array) -> Array:
    raise UsageError("This model has no features; allowed: one from models.build.")


class Model(NamedTuple):
    """A network as pure functions of its parameters.

    Parameters are the Linen variables {"params": ..., and perhaps "batch_stats"}.

    Attributes:
      init: returns fresh parameters, as `init(key)`.
      apply: returns the outputs in inference mode, as `apply(params, inputs)`, for
        ONE example or any leading batch axes.
      train: returns (outputs, parameters) in training mode, as
        `train(params, inputs, key)`, for a batch [b, ...]: dropout is on and drawn
        from the key, batch statistics are those of the batch, and the returned
        parameters hold the updated running statistics, all else unchanged.
      input_shape: the shape of one example.
      output_shape: the shape of one output.
      prior: the distribution of a generator's latents, one draw a dimension.
      latent_classes: where a generator is class-conditional, the number of classes:
        the largest of that many last entries of a latent says which class the image
        is of.  A draw from the prior is then of any class with equal probability,
        and no gradient leads from class to class: inversion stays in the class that
        it started in.  0 for all other models.
      class_generator: where each class has a generator of its own, the image of one,
        as `class_generator(params, latent, number)`, for a latent without the entries
        that choose; else None.
      features: returns the input of the network's last dense layer, `[*batch, d]`, as
        `features(params, inputs)`, in inference mode and with batch axes as for
        `apply`.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]
    train: Callable[[Params, Array, PRNGKey], tuple[Array, Params]]
    input_shape: Shape
    output_shape: Shape
    prior: Prior = Normal()
    latent_classes: int = 0
    features: Callable[[Params, Array], Array] = _no_features
    class_generator: Callable[..., Array] | None = None

    @property
    def starts(self) -> Prior:
        """What inversion starts from: the prior, with any classes taken in turn."""
        if not self.latent_classes:
            return self.prior
        return ClassesInTurn(self.prior, self.latent_classes)


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What all specs of models share; a spec says what to build, not for which data."""

    def module(self, image_shape: Shape, classes: int) -> nn.Module:
        """Returns the Linen module, called as `module(inputs, train)` on a batch.

        Args:
          image_shape: (height, width, channels) of the images.
          classes: the number of classes; 0 for models that know of none.

        Raises:
          UsageError: if the network can't take such images.
        """
        raise NotImplementedError

    def input_shape(self, image_shape: Shape, classes: int) -> Shape:
        """Returns the shape of one input, given that of the images."""
        return image_shape


@dataclasses.dataclass(frozen=True)
class GeneratorSpec(ModelSpec):
    """Maps a latent to an image, pixels in [0, 1].

    A class-conditional generator takes latents of `latent_size` + classes entries and
    replaces the last of them by 1 at their largest and 0 elsewhere; see `Model`.

    Attributes:
      latent_size: dimensions of the latent, not counting the choice of a class.
      conditional: whether to build a class-conditional generator.
      prior: the distribution that latents are drawn from.
    """

    latent_size: int = 64
    conditional: bool = dataclasses.field(default=False, kw_only=True)

    prior: ClassVar[Prior] = Normal()

    def __post_init__(self):
        """Checks the fields."""
        check(self.latent_size >= 1, self, "latent_size", "1 or more")

    def input_shape(self, image_shape: Shape, classes: int) -> Shape:
        """Returns the shape of one latent."""
        return (self.latent_size + classes,)

    def class_generator(self, image_shape: Shape) -> Callable[..., Array] | None:
        """Returns `Model.class_generator`; None where classes share their weights."""
        del image_shape
        return None

    # A spec may well have a field of the name `features`.
    def own_features(
        self, image_shape: Shape, classes: int
    ) -> Callable[..., Array] | None:
        """Returns `Model.features`; None for those of the module as a whole."""
        del image_shape, classes
        return None


@dataclasses.dataclass(frozen=True)
class DiscriminatorSpec(ModelSpec):
    """Maps an image to one score: a logit, or a critic's value (no sigmoid)."""


@dataclasses.dataclass(frozen=True)
class ClassifierSpec(ModelSpec):
    """Maps an image to logits [classes]."""


@dataclasses.dataclass(frozen=True)
class EncoderSpec(ModelSpec):
    """Maps an image to mean and log variance of a latent, [2 * latent_size]."""

    latent_size: int = 20

    def __post_init__(self):
        """Checks the fields."""
        check(self.latent_size >= 1, self, "latent_size", "1 or more")


@dataclasses.dataclass(frozen=True)
class DenoiserSpec(ModelSpec):
    """Maps `core.networks.with_level(noisy, level)` to the mean of the clean image."""

    def input_shape(self, image_shape: Shape, classes: int) -> Shape:
        """Returns the shape of an image with one channel more, for the level."""
        *sides, channels = image_shape
        return (*sides, channels + 1)


registry: Registry[ModelSpec] = Registry("model")
"""All specs of models, by the names that configs use."""


def build(
    spec: ModelSpec | str,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    outputs: int | None = None,
) -> Model:
    """Returns the model that `spec` describes; equal arguments give the same object.

    Its functions are therefore equal as static arguments of compiled functions.

    >>> model = build("madry_cnn")
    >>> model.input_shape, model.output_shape
    ((28, 28, 1), (10,))
    >>> build("dcgan_generator(latent_size=8)").input_shape
    (8,)
    >>> build("dcgan_generator(latent_size=8, conditional=True)").input_shape
    (18,)

    Args:
      spec: a spec, or its text as in a config, such as "small_cnn(width=32)".
      image_shape: (height, width, channels) of the images.
      classes: the number of classes; ignored unless the model is a classifier or a
        class-conditional generator.
      outputs: of a regression, how many numbers a classifier's spec gives in place of
        logits, 1 or more; None: there are classes.

    Raises:
      UsageError: for an unknown name or field, a value that the spec refuses, or
        images that the network can't take.
    """
    if isinstance(spec, str):
        spec = registry.build(spec)
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise UsageError(
            f"image_shape is {shape}; allowed: (height, width, channels), "
            "each 1 or more."
        )
    conditional = isinstance(spec, GeneratorSpec) and spec.conditional
    if not (conditional or isinstance(spec, ClassifierSpec)):
        classes = 0
    elif outputs is not None:
        if conditional:
            raise UsageError(
                f"{registry.to_string(spec)!r} makes images of classes; allowed in a "
                "regression, which has none: conditional=False."
            )
        if outputs < 1:
            raise UsageError(f"outputs is {outputs}; allowed: 1 or more.")
        classes = outputs
    elif classes < 2:
        raise UsageError(f"classes is {classes}; allowed: 2 or more.")
    return _build(spec, shape, classes)


@functools.cache
def _build(spec: ModelSpec, image_shape: Shape, classes: int) -> Model:
    module = spec.module(image_shape, classes)
    input_shape = spec.input_shape(image_shape, classes)
    prior, latent_classes, class_generator, own = Normal(), 0, None, None
    if isinstance(spec, GeneratorSpec):
        prior, latent_classes = spec.prior, classes
        class_generator = spec.class_generator(image_shape)
        own = spec.own_features(image_shape, classes)
    prepare = functools.partial(_with_one_class, classes=latent_classes)
    functions = functions_of(module, input_shape, prepare)

    def example(key):
        return functions.apply(functions.init(key), jnp.zeros(input_shape))

    return Model(
        init=functions.init,
        apply=functions.apply,
        train=functions.train,
        input_shape=input_shape,
        output_shape=jax.eval_shape(example, jax.random.key(0)).shape,
        prior=prior,
        latent_classes=latent_classes,
        features=own or functions.features,
        class_generator=class_generator,
    )


def _with_one_class(inputs: Array, classes: int) -> Array:
    """Replaces the last entries of latents by 1 at their largest and 0 elsewhere."""
    if not classes:
        return inputs
    chosen = jnp.argmax(inputs[:, -classes:], axis=-1)
    choice = jax.nn.one_hot(chosen, classes, dtype=inputs.dtype)
    return jnp.concatenate([inputs[:, :-classes], choice], axis=-1)


def count_parameters(params: Params) -> int:
    """Returns the number of trained numbers; running statistics do not count."""
    return sum(leaf.size for leaf in jax.tree.leaves(params["params"]))


def unsupported(spec: ModelSpec, image_shape: Shape, allowed: str) -> UsageError:
    """Returns the error for images that a network can't take.

    Args:
      spec: the spec of the network.
      image_shape: (height, width, channels) of the images.
      allowed: what is allowed, to end the sentence "...; allowed: ...".
    """
    return UsageError(
        f"image_shape of {registry.name_of(spec)} is {image_shape}; allowed: {allowed}."
    )
