"""A sound classifier, adversarially trained, and evaluations broken on purpose."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from robust_manifold.attacks import PGD, Expectation
from robust_manifold.evaluation import (
    Network,
    OwnAttack,
    Projection,
)
from robust_manifold.inversion import Inversion

EPSILON = 0.1
ATTACK = PGD(epsilon=EPSILON, steps=16)
SHAPE, CLASSES, LATENT = (5, 5, 1), 3, 4


class Sound(NamedTuple):
    apply: object
    params: object
    images: np.ndarray
    labels: np.ndarray


def apply(params, image):
    hidden = jax.nn.relu(image.reshape(-1) @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


@functools.cache
def sound() -> Sound:
    """Returns a small network trained by PGD on noisy patterns, and images for it."""
    rng = np.random.default_rng(0)
    patterns = rng.choice([-1.0, 1.0], (CLASSES, *SHAPE))

    def draw(n: int):
        labels = rng.integers(0, CLASSES, n)
        noise = rng.normal(size=(n, *SHAPE))
        images = 0.5 + 0.16 * patterns[labels] + 0.15 * noise
        return np.clip(images, 0, 1).astype(np.float32), labels.astype(np.int32)

    images, labels = draw(1000)
    params = {
        "w1": jnp.asarray(rng.normal(size=(25, 24)) / 5, jnp.float32),
        "b1": jnp.zeros(24),
        "w2": jnp.asarray(rng.normal(size=(24, CLASSES)) / 5, jnp.float32),
        "b2": jnp.zeros(CLASSES),
    }
    return Sound(apply, _trained(params, images, labels), *draw(48))


@jax.jit
def _trained(params, images, labels):
    """Returns the network after 150 steps on the worst of 5 steps of PGD."""
    optimiser = optax.adam(0.02)

    def loss(params, images):
        logits = jax.vmap(apply, in_axes=(None, 0))(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(losses)

    def attacked(params):
        def step(moved, _):
            gradient = jax.grad(loss, argnums=1)(params, moved)
            moved = moved + 0.05 * jnp.sign(gradient)
            return jnp.clip(
                jnp.clip(moved, images - EPSILON, images + EPSILON), 0, 1
            ), None

        return jax.lax.scan(step, images, length=5)[0]

    def step(carry, _):
        params, state = carry
        gradient = jax.grad(loss)(params, attacked(params))
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimiser.init(params)), length=150)[0][0]


def logits_times_1000(params, image):
    return 1000 * apply(params, image)


def quantised(params, image):
    return apply(params, jnp.round(4 * image) / 4)


def gradient_stopped(params, image):
    """A defence whose purification no gradient passes."""
    return apply(params, jax.lax.stop_gradient(jnp.clip(1.1 * image - 0.05, 0, 1)))


def noisy(params, image, key):
    return apply(params, image + 0.3 * jax.random.normal(key, image.shape))


NOISE_DEFENCE = Expectation(noisy)


def constant(params, image):
    return params["b2"] + 0 * image.sum()


def softmax(params, image):
    return jax.nn.softmax(apply(params, image))


def normalised_by_the_batch(params, images):
    """A batch norm left in training mode: means and deviations are the batch's."""
    flat = images.reshape(len(images), -1)
    hidden = flat @ params["w1"]
    centred = hidden - hidden.mean(axis=0, keepdims=True)
    deviations = hidden.std(axis=0, keepdims=True) + 1e-3
    return jax.nn.relu(centred / deviations) @ params["w2"]


def normalised_alone(params, image):
    return normalised_by_the_batch(params, image[None])[0]


def evaluated_in_batches(params, images):
    """The sound classifier, as it should be used on batches."""
    return jax.vmap(apply, in_axes=(None, 0))(params, images)


def _climbed(classify, images, labels, epsilon, *, keep: bool):
    """Steps along the gradient and back: the last image is the clean one again."""

    def loss(candidates):
        logits = classify(candidates)
        own = jax.nn.one_hot(labels, CLASSES) > 0
        best = jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1)
        margins = best - jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        return margins.sum(), margins

    ascend = jax.value_and_grad(loss, has_aux=True)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    best, moved = images, images
    best_margins = jnp.full(len(labels), -jnp.inf)
    for _ in range(8):
        (_, margins), gradient = ascend(moved)
        better = margins > best_margins
        best = jnp.where(better[:, None, None, None], moved, best)
        best_margins = jnp.maximum(margins, best_margins)
        step = moved + epsilon / 3 * jnp.sign(gradient)
        step = jnp.clip(step, images - epsilon, images + epsilon)
        moved = jnp.clip(step, 0, 1)
    return best if keep else images + 0.1 * (moved - images)


KEEPS_THE_BEST = OwnAttack(functools.partial(_climbed, keep=True), EPSILON)
LOSES_THE_BEST = OwnAttack(functools.partial(_climbed, keep=False), EPSILON)
"""It meets adversarial images, and returns one from before they were."""


@dataclasses.dataclass(frozen=True)
class LinearProjection:
    """The nearest point of a linear range, in closed form, from two equal restarts."""

    def __call__(self, params, key, image):
        del key
        basis, centre = params
        latent = jnp.linalg.pinv(basis) @ (image.reshape(-1) - centre)
        made = generate(params, latent)
        return _inversion(latent, made, jnp.mean((made - image) ** 2))


@dataclasses.dataclass(frozen=True)
class NoProjection:
    """A defence that returns its input."""

    def __call__(self, params, key, image):
        del key
        return _inversion(jnp.zeros(LATENT), image, jnp.float32(0))


def _inversion(latent, image, error):
    finished = jnp.zeros(2, jnp.int32)
    errors = jnp.full(2, error)
    return Inversion(latent, image, error, errors, finished[0], finished)


def generate(params, latent):
    basis, centre = params
    return (basis @ latent + centre).reshape(SHAPE)


def projection(project=LinearProjection()) -> Projection:
    """Returns a linear range around grey, and draws of its prior."""
    rng = np.random.default_rng(1)
    basis = jnp.asarray(0.05 * rng.normal(size=(25, LATENT)), jnp.float32)
    latents = rng.normal(size=(20, LATENT)).astype(np.float32)
    return Projection(project, generate, (basis, jnp.full(25, 0.5)), latents)


def network() -> Network:
    """Returns the sound network, as the undefended classifier or as a judge."""
    return Network(apply, sound().params)
