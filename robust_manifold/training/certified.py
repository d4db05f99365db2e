"""Training of a codebook on its own certificate."""

import copy
import dataclasses
import functools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks import Transformations, transformations_registry
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.norms import Norm
from robust_manifold.core.spec import check, is_whole
from robust_manifold.core.types import Image, Params, PRNGKey, Scalar
from robust_manifold.inversion import (
    DEFAULT_RESTARTS,
    DEFAULT_SOLVER,
    Restarts,
    Solver,
    as_restarts,
    as_solver,
    invert,
)
from robust_manifold.models import Model
from robust_manifold.training.adversarial import moved
from robust_manifold.training.classifier import (
    ClassifierState,
    ClassifierTraining,
    begun,
    registry,
)
from robust_manifold.training.descent import descend, moving_average, remember
from robust_manifold.training.optimizers import Adam, Optimizer, as_optimizer
from robust_manifold.training.prototypes import centres

_BINDING, _NEWTON = 3, 8
_GENERATED = 100
"""Images that are generated together."""


class CertifiedMetrics(NamedTuple):
    """What a step measures on its batch."""

    loss: Scalar
    accuracy: Scalar
    """The share with a radius above 0."""
    radius: Scalar
    """The mean radius; that of a wrong image counts as 0."""


@registry.register("certified")
@dataclasses.dataclass(frozen=True)
class Certified(ClassifierTraining):
    """A codebook's training by mean(max(margin - r, 0)) of its half-space bounds r.

    r = min over others j of max over own i of (‖x - w_j‖² - ‖x - w_i‖²) / 2 ‖w_i - w_j‖
    in the dual norm (Voráček and Hein 2022); it is below 0 where the image is wrong.
    Each image looks at its nearest prototypes alone.  Pixels stay in [0, 1].

    Attributes:
      optimizer: the optimiser, or its text as in a config.
      margin: radius beyond which an image counts no more, plain, in `norm`.
      norm: of the radius.
      own: nearest prototypes of the own class that an image looks at.
      others: likewise of all other classes.
      rounds: of k-means for the start; 0 starts with training images.
      average_decay: as for `CrossEntropy`, of the prototypes.
      box: whether steps must keep pixels in [0, 1], which makes radii larger: those
        of the few half-spaces that bind without it are measured in the box.
      blur: standard deviation, in pixels, of the Gaussian that prototypes are blurred
        by: neighbouring pixels then move together, which keeps a large codebook from
        learning the noise of its few images a prototype; 0: none.
      views: random views in whose place the images of a step stand, or their text, as
        in transformations(rotation=6.0); by default the images themselves.
      dropout: share of the prototypes of its own class that an image does not see in a
        step, drawn anew in each.  Those that have learnt it by heart then cannot hold
        it alone, as they cannot hold an image that is new.
    """

    optimizer: Optimizer | str = Adam(0.01, schedule="cosine")
    margin: float = 2.5
    norm: Norm = "l2"
    own: int = 8
    others: int = 24
    rounds: int = 10
    average_decay: float = 0.0
    box: bool = False
    blur: float = 0.0
    views: Transformations | str = Transformations()
    dropout: float = 0.0

    starts_from_images: ClassVar[bool] = True

    def __post_init__(self):
        object.__setattr__(self, "optimizer", as_optimizer(self.optimizer))
        if isinstance(self.views, str):
            views = transformations_registry.build(self.views)
            object.__setattr__(self, "views", views)
        positive = 0 < self.margin < math.inf
        check(positive, self, "margin", "a finite number above 0")
        check(self.norm in ("linf", "l2", "l1"), self, "norm", "linf, l2 or l1")
        for field, least in {"own": 1, "others": 1, "rounds": 0}.items():
            holds = is_whole(getattr(self, field), least)
            check(holds, self, field, f"{least} or more")
        check(0 <= self.average_decay < 1, self, "average_decay", "0 to below 1")
        known = not self.box or self.norm != "l1"
        check(known, self, "box", "False where norm is l1")
        check(0 <= self.blur < math.inf, self, "blur", "a finite number, 0 or more")
        check(0 <= self.dropout < 1, self, "dropout", "0 to below 1")

    def start(
        self,
        model: Model,
        key: PRNGKey,
        images: Float[np.ndarray, "n height width channels"],
        labels: Int[np.ndarray, " n"],
    ) -> Params:
        """Returns the prototypes that training images give; see `centres`."""
        classes, per_class = _sizes(self, model)
        found = centres(
            images,
            labels,
            classes=classes,
            per_class=per_class,
            rounds=self.rounds,
            key=keys.stream(key, "centres"),
        )
        return {"params": {"prototypes": found}}

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
        _sizes(self, model)
        first = begun(self, model, key, steps, start)
        params, more = self._begin(first, spanner, key)
        return ClassifierState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            average=jax.tree.map(jnp.copy, params),
            optimizer=remember(self._descent(steps), (params,)),
            more=more,
        )

    def _step(
        self,
        model: Model,
        steps: int,
        key: PRNGKey,
        state: ClassifierState,
        images: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
    ) -> tuple[ClassifierState, CertifiedMetrics]:
        """One step down the gradient of the mean hinge."""
        del model
        assert isinstance(self.views, Transformations)
        images = moved(self.views, keys.stream(key, "views"), images)

        def loss_of(networks):
            (params,) = networks
            prototypes = self._prototypes(params, state.more)
            radius = functools.partial(self.radius, prototypes)
            seen = self._seen(key, (len(images), prototypes.shape[1]))
            radii = jax.vmap(radius)(images, labels, seen)
            return jnp.mean(jnp.maximum(self.margin - radii, 0)), (networks, radii)

        descended = descend(
            loss_of, (state.params,), self._descent(steps), state.optimizer
        )
        (params,) = descended.networks
        params = self._allowed(params)
        average = moving_average(state.average, params, self.average_decay, state.step)
        radii = descended.measured
        measured = CertifiedMetrics(
            descended.loss, jnp.mean(radii > 0), jnp.mean(jnp.maximum(radii, 0))
        )
        return state._replace(
            step=state.step + 1,
            params=params,
            average=average,
            optimizer=descended.memory,
        ), measured

    def train_params(self, state: ClassifierState) -> Params:
        """Returns the prototypes as the model has them, of numbers of half precision.

        A file of half the size then holds just the numbers that are certified.
        """
        prototypes = self._prototypes(state.average, state.more)
        halves = prototypes.astype(jnp.float16)
        return {"params": {"prototypes": halves.astype(prototypes.dtype)}}

    def radius(
        self,
        prototypes: Float[Array, "classes per_class height width channels"],
        image: Image,
        label: Int[Array, ""],
        seen: Bool[Array, " per_class"] | None = None,
    ) -> Scalar:
        """Returns the half-space bound of one image, from its nearest prototypes.

        Those of its class that are not `seen` count only where fewer than `own` are.
        """
        row, rows = image.reshape(-1), prototypes.reshape(-1, image.size)
        # Which pair binds is no matter of gradients, and it alone has one.
        other, own = self._pair(
            jax.lax.stop_gradient(rows), row, label, prototypes.shape[1], seen
        )
        gap = jnp.sum((row - rows[other]) ** 2) - jnp.sum((row - rows[own]) ** 2)
        free = gap / (2 * _apart(rows[own][None], rows[other][None], self.norm)[0, 0])
        if not self.box:
            return free
        normal = 2 * (rows[other] - rows[own])
        return jnp.where(
            free > 0, _distance_in_box(row, normal, gap, norm=self.norm), free
        )

    def _seen(self, key: PRNGKey, shape) -> Bool[Array, "batch per_class"] | None:
        """Returns which prototypes of its own class each image sees; None: all."""
        if not self.dropout:
            return None
        return jax.random.bernoulli(keys.stream(key, "seen"), 1 - self.dropout, shape)

    def _pair(self, rows, row, label, per_class: int, seen):
        """Returns the places of the other and the own prototype whose bound counts."""
        far = jnp.sum(rows**2, axis=1) - 2 * rows @ row
        own_far = jax.lax.dynamic_slice_in_dim(far, label * per_class, per_class)
        if seen is not None:
            own_far = jnp.where(seen | ~jnp.any(seen), own_far, jnp.inf)
        is_own = jnp.arange(len(rows)) // per_class == label
        own = _nearest(own_far, min(self.own, per_class)) + label * per_class
        number = min(self.others, len(rows) - per_class)
        others = _nearest(jnp.where(is_own, jnp.inf, far), number)
        gaps = far[others][None] - far[own][:, None]
        bounds = gaps / (2 * _apart(rows[own], rows[others], self.norm))
        # The own prototype that binds, of each of the few others that bind first.
        first = _nearest(jnp.max(bounds, axis=0), min(_BINDING, number))
        binding = jnp.argmax(bounds[:, first], axis=0)
        radii = bounds[binding, first]
        if self.box:
            normals = 2 * (rows[others[first]] - rows[own[binding]])
            within = functools.partial(_distance_in_box, row, norm=self.norm)
            found = jax.vmap(within)(normals, gaps[binding, first])
            radii = jnp.where(radii > 0, found, radii)
        least = jnp.argmin(radii)
        return others[first[least]], own[binding[least]]

    def _descent(self, steps: int) -> optax.GradientTransformation:
        return as_optimizer(self.optimizer).build(steps)

    def _begin(
        self, first: Params, spanner: SpannerParams | None, key: PRNGKey
    ) -> tuple[Params, Any]:
        """Returns what is trained, and what else the state carries."""
        del spanner, key
        return first, ()

    def _prototypes(self, params: Params, more: Any) -> Array:
        """Returns the prototypes of what is trained."""
        del more
        images = params["params"]["prototypes"]
        if not self.blur:
            return images
        down, right = (_blurring(side, self.blur) for side in images.shape[2:4])
        blurred = jnp.einsum("ah,bw,klhwc->klabc", down, right, images)
        # Weights may add up to more than 1 by rounding.
        return jnp.clip(blurred, 0, 1)

    def _allowed(self, params: Params) -> Params:
        return jax.tree.map(lambda pixels: jnp.clip(pixels, 0, 1), params)


@registry.register("certified_on_manifold")
@dataclasses.dataclass(frozen=True)
class CertifiedOnManifold(Certified):
    """The same with prototypes G(z) of a generator, whose latents z are trained.

    They start as the projections of what `Certified` starts with.

    Attributes:
      optimizer: as for `Certified`, on latents.
      margin: as for `Certified`.
      norm: as for `Certified`.
      own: as for `Certified`.
      others: as for `Certified`.
      rounds: as for `Certified`; with 0 the prototypes start as reconstructions of
        training images.
      average_decay: as for `Certified`, of the latents.
      box: as for `Certified`.
      blur: 0, since a blurred image may leave the generator's range.
      views: as for `Certified`.
      dropout: as for `Certified`.
      solver: of the inversions for the start, or its text as in a config.
      restarts: of these, their text or number.
      spanner: the generator; set by `with_spanner`.
    """

    needs_spanner: ClassVar[bool] = True

    solver: Solver | str = DEFAULT_SOLVER
    restarts: Restarts | str | int = DEFAULT_RESTARTS
    spanner: Spanner | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        check(not self.blur, self, "blur", "0")
        object.__setattr__(self, "solver", as_solver(self.solver))
        object.__setattr__(self, "restarts", as_restarts(self.restarts))

    def with_spanner(self, spanner: Spanner) -> "CertifiedOnManifold":
        """Returns the training with the generator that its prototypes are made by."""
        training = copy.copy(self)
        object.__setattr__(training, "spanner", spanner)
        return training

    def _begin(self, first, spanner, key):
        if self.spanner is None or spanner is None:
            raise UsageError(
                f"spanner of {type(self).__name__} is None; allowed: a generator, by "
                "with_spanner, and its parameters, by init."
            )
        start = np.asarray(first["params"]["prototypes"])
        shape = start.shape[:2]
        found = invert(
            self.spanner.generate,
            spanner.generator,
            np.clip(start.reshape(-1, *start.shape[2:]), 0, 1),
            key=keys.stream(key, "start"),
            latent_shape=self.spanner.latent_shape,
            solver=self.solver,
            restarts=self.restarts,
            prior=self.spanner.prior,
            encode=self.spanner.encode,
            encoder_params=spanner.encoder,
        )
        latents = jnp.asarray(found.latent).reshape(*shape, -1)
        own = jax.tree.map(jnp.copy, spanner.generator)
        return {"params": {"latents": latents}}, own

    def _prototypes(self, params, more):
        assert self.spanner is not None
        latents = params["params"]["latents"]
        # Values are computed again for the derivative: they would not fit into memory.
        generate = jax.checkpoint(functools.partial(self.spanner.generate, more))
        rows = latents.reshape(-1, latents.shape[-1])
        images = jax.lax.map(generate, rows, batch_size=min(_GENERATED, len(rows)))
        return images.reshape(*latents.shape[:2], *images.shape[1:])

    def _allowed(self, params):
        return params


def _sizes(training: Certified, model: Model) -> tuple[int, int]:
    """Returns the numbers of classes and of prototypes a class.

    Raises:
      UsageError: for a model that is no codebook, or one class.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    prototypes = shapes["params"].get("prototypes")
    if prototypes is None or prototypes.shape[0] < 2:
        raise UsageError(
            f"{type(training).__name__} trains a model without prototypes; allowed: a "
            "codebook, of two or more classes."
        )
    return prototypes.shape[:2]


def _blurring(side: int, deviation: float) -> Float[np.ndarray, "side side"]:
    """Returns the matrix that blurs a row of pixels; its own rows add up to 1."""
    places = np.arange(side) / deviation
    weights = np.exp(-((places[:, None] - places[None]) ** 2) / 2)
    return (weights / np.sum(weights, axis=1, keepdims=True)).astype(np.float32)


def _nearest(far, count):
    """Returns the places of the smallest entries."""
    return jax.lax.top_k(-far, count)[1]


def _apart(own, others, norm: Norm):
    """Returns the distances [own, others] in the dual norm; above 0, and smooth."""
    if norm == "l2":
        squared = jnp.sum(own**2, 1)[:, None] + jnp.sum(others**2, 1)[None]
        squared = squared - 2 * own @ others.T
        # Of a difference that rounding has made negative or 0 there is no root.
        return jnp.sqrt(jnp.maximum(squared, 1e-6))
    sizes = jnp.abs(own[:, None] - others[None])
    found = jnp.sum(sizes, axis=2) if norm == "linf" else jnp.max(sizes, axis=2)
    return jnp.maximum(found, 1e-6)


def _distance_in_box(row, normal, offset, *, norm: Norm):
    """Returns the length of the smallest step with normal · step >= offset in the box.

    Every pixel moves until it meets its bound; how far the others must go then is found
    by Newton's method on a concave, piecewise linear function, which is exact after as
    many steps as there are pieces.  The last of its steps alone has a derivative, which
    is that of the whole.  See `certification.half_space.nearest`.
    """
    size = jnp.abs(normal)
    room = jnp.where(normal > 0, 1 - row, row)
    slopes = size**2 if norm == "l2" else size
    # When each pixel ends; of one of hardly any size the derivative is no number.
    ends = jax.lax.stop_gradient(
        room / jnp.where(size > 0, size, 1) if norm == "l2" else room
    )

    def reached(time, slopes, all_of, offset):
        moving = ends > time
        left = offset - jnp.sum(jnp.where(moving, 0, all_of))
        rest = jnp.sum(jnp.where(moving, slopes, 0))
        return jnp.where(rest > 0, left / jnp.where(rest > 0, rest, 1), time)

    arguments = slopes, size * room, offset
    held = jax.lax.stop_gradient(arguments)
    time = jax.lax.fori_loop(
        0, _NEWTON - 1, lambda _, time: reached(time, *held), jnp.zeros((), row.dtype)
    )
    time = reached(time, *arguments)
    if norm == "linf":
        return time
    step = jnp.minimum(time * size, room)
    return jnp.sqrt(jnp.maximum(jnp.sum(step**2), 1e-12))
