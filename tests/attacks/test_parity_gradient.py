"""Against independent implementations, in float64, with equal parameters."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import APGD, BIM, FGSM, PGD, MomentumPGD, Problem

foolbox = pytest.importorskip("foolbox")

SHAPE, CLASSES, HIDDEN, IMAGES = (6, 6, 1), 4, 16, 8


class Setting(NamedTuple):
    weights: tuple[np.ndarray, np.ndarray]
    images: np.ndarray
    labels: np.ndarray


def _setting():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(36, HIDDEN)), 3 * rng.normal(size=(HIDDEN, CLASSES))
    images = rng.uniform(size=(IMAGES, *SHAPE))
    # Pixels where the box holds a step back.
    images[: IMAGES // 2, 0], images[: IMAGES // 2, 1] = 0.0, 1.0
    labels = np.argmax(_logits(np, weights, images), axis=-1)
    return Setting(weights, images, labels)


def _logits(library, weights, images):
    flat = images.reshape(len(images), -1)
    return library.tanh(flat @ weights[0]) @ weights[1]


def _problem(setting, attack, image, label):
    def classify(image):
        return _logits(jnp, setting.weights, image[None])[0]

    return Problem(classify, image, label, jnp.asarray(attack.epsilon))


def _last_iterates(attack, setting):
    """Returns the images that our attacks' last steps lead to."""

    def one(image, label):
        problem = _problem(setting, attack, image, label)
        key = jax.random.key(0)
        state = attack.begin(problem, key)
        step = lambda _, state: attack.step(problem, key, state)  # noqa: E731
        state = jax.lax.fori_loop(0, attack.iterations, step, state)
        return state if isinstance(attack, FGSM) else state.image[0]

    images, labels = jnp.asarray(setting.images), jnp.asarray(setting.labels)
    return np.asarray(jax.jit(jax.vmap(one))(images, labels))


def _foolbox(attack, epsilon, setting):
    model = foolbox.models.JAXModel(
        functools.partial(_logits, jnp, setting.weights), bounds=(0, 1)
    )
    images, labels = jnp.asarray(setting.images), jnp.asarray(setting.labels)
    return np.asarray(attack.run(model, images, labels, epsilon=epsilon))


class _DongsMomentum(foolbox.attacks.LinfMomentumIterativeFastGradientMethod):
    """Foolbox accumulates signs; the paper gradients over their l1 norms."""

    def normalize(self, gradients, *, x, bounds):
        return foolbox.attacks.gradient_descent_base.normalize_lp_norms(gradients, p=1)


def _pairs():
    theirs = foolbox.attacks
    plain = {"random_start": False}
    linf = theirs.LinfProjectedGradientDescentAttack
    l2 = theirs.L2ProjectedGradientDescentAttack
    momentum = theirs.LinfMomentumIterativeFastGradientMethod
    bim = theirs.LinfBasicIterativeAttack
    small = {"abs_stepsize": 0.02, **plain}
    return [
        (FGSM(0.1, loss="ce"), theirs.FGSM(), 0.0),
        (PGD(0.1, step_size=0.01, random_start=False, loss="ce"),
         linf(steps=40, abs_stepsize=0.01, **plain), 1e-12),
        (BIM(0.1, loss="ce"), bim(steps=10, rel_stepsize=0.1, **plain), 1e-12),
        (MomentumPGD(0.1, step_size=0.02, decay=0.9, loss="ce", scaling="steepest"),
         momentum(steps=10, momentum=0.9, **small), 1e-12),
        (MomentumPGD(0.1, step_size=0.02, decay=0.9, loss="ce"),
         _DongsMomentum(steps=10, momentum=0.9, **small), 1e-12),
        (PGD(0.8, "l2", step_size=0.1, random_start=False, loss="ce"),
         l2(steps=40, abs_stepsize=0.1, **plain), 1e-9),
    ]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "tolerance"), _pairs())
def test_iterates_are_those_of_foolbox(ours, theirs, tolerance):
    with jax.enable_x64(True):
        setting = _setting()
        made = _last_iterates(ours, setting)
        expected = _foolbox(theirs, ours.epsilon, setting)
    assert made.dtype == expected.dtype == np.float64
    assert np.abs(expected - setting.images).max() > 0.05
    np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance)


def _official(attack, setting, starts):
    """Returns the highest losses that the authors' own code finds."""
    torch = pytest.importorskip("torch")
    autopgd = pytest.importorskip("pyautoattack.autopgd_base")
    classes = {"ce": autopgd.APGDAttack, "dlr": autopgd.APGDAttack}
    theirs = classes.get(attack.loss, autopgd.APGDAttack_targeted)(
        functools.partial(_logits, torch, list(map(torch.tensor, setting.weights))),
        n_iter=attack.steps,
        norm={"linf": "Linf", "l2": "L2"}[attack.norm],
        eps=attack.epsilon,
        rho=attack.rho,
    )
    images, labels, starts = map(torch.tensor, (*setting[1:], starts))
    if attack.loss in classes:
        theirs.loss = attack.loss
    else:
        theirs.y_target = theirs.model(images).sort(dim=1)[1][:, -2]
    theirs.init_hyperparam(images)
    # Its record of losses has the default type.
    torch.set_default_dtype(torch.float64)
    try:
        return theirs.attack_single_run(images, labels, starts)[2].numpy()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "attack",
    [
        APGD(0.1, "linf", "ce"),
        APGD(0.3, "l2", "ce"),
        # So small that none succeeds: the ratio's slope can then be nothing but
        # rounding, which a normalised step blows up.
        APGD(0.01, "linf", "dlr", steps=50),
        APGD(0.05, "l2", "dlr", steps=30, rho=0.6),
        APGD(0.02, "linf", "targeted_dlr", steps=50, targets=1),
    ],
    ids=str,
)
def test_apgd_peaks_where_the_authors_code_does(attack):
    def one(image, label, start):
        problem = _problem(setting, attack, image, label)
        key = jax.random.key(0)
        state = attack.begin(problem, key)._replace(image=start)
        step = lambda _, state: attack.step(problem, key, state)  # noqa: E731
        return jax.lax.fori_loop(0, attack.iterations, step, state).peak

    with jax.enable_x64(True):
        setting = _setting()
        reach = attack.epsilon / (1 if attack.norm == "linf" else math.sqrt(36))
        noise = np.random.default_rng(1).uniform(-reach, reach, setting.images.shape)
        starts = np.clip(setting.images + noise, 0, 1)
        expected = _official(attack, setting, starts)
        peak = jax.jit(jax.vmap(one))(setting.images, setting.labels, starts)
    assert not np.allclose(peak.image, starts, atol=1e-3)
    np.testing.assert_allclose(peak.loss, expected, rtol=1e-9, atol=1e-9)
