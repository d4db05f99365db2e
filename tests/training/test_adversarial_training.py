"""Adversarial training: whose images are attacked, how, and what is differentiated."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.attacks import FGSM, PGD, Ensemble, RandFGSM
from robust_manifold.core import keys
from robust_manifold.training import Adversarial, CrossEntropy, classifier_trainings
from robust_manifold.training.adversarial import attacked
from tests.training.networks import images, labels, linear, step_key, weights

SHAPE = (4, 4, 1)
MODEL = linear(SHAPE, (3,))
BATCH = images(6, SHAPE), labels(6)
SGD = "momentum(0.1, momentum=0.0)"


class _Team(Ensemble):
    norm = "linf"

    def members(self, classes):
        return (FGSM(0.1),)


def _step(training, model=MODEL, batch=BATCH, step=0):
    key = jax.random.key(0)
    state = training.init(model, key, 5)._replace(step=jnp.int32(step))
    before = jax.tree.map(np.asarray, state.params)
    state, metrics = training.step(model, 5, key, state, *batch)
    return before, jax.tree.map(np.asarray, state.params), metrics


def _by_hand(w, pixels, classes):
    """Returns logits, and W and the mean cross-entropy after a step of size 0.1."""
    flat = pixels.reshape(len(pixels), -1)
    logits = flat @ w
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = flat.T @ (shares - np.eye(3)[classes]) / len(flat)
    return logits, w - 0.1 * gradient, -np.log(shares[range(len(flat)), classes]).mean()


def _fgsm(w, pixels, classes, epsilon):
    """Returns what the fast gradient sign makes of images, from the margin's slope."""
    others = np.exp(pixels.reshape(len(pixels), -1) @ w)
    others[range(len(pixels)), classes] = 0
    others /= others.sum(1, keepdims=True)
    slope = (others - np.eye(3)[classes]) @ w.T
    return np.clip(pixels + epsilon * np.sign(slope).reshape(pixels.shape), 0, 1)


@pytest.mark.parametrize("clean_share, clean", [(0.0, 0), (0.3, 2)])
def test_one_step_by_hand(clean_share, clean):
    training = Adversarial(SGD, attack=FGSM(0.1), clean_share=clean_share)
    before, after, metrics = _step(training)
    pixels, classes = BATCH
    moved = _fgsm(weights(before), pixels[clean:], classes[clean:], 0.1)
    pixels = np.concatenate([pixels[:clean], moved])
    logits, expected, loss = _by_hand(weights(before), pixels, classes)
    np.testing.assert_allclose(weights(after), expected, atol=1e-6)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert metrics.accuracy == np.mean(logits.argmax(1) == classes)


def test_nothing_of_the_gradient_went_through_the_attack():
    # An l2 step depends smoothly on the weights, so a leftover would be seen.
    attack = PGD(1.0, norm="l2", steps=2, random_start=False)
    before, after, _ = _step(Adversarial(SGD, attack=attack))
    pixels, classes = map(jnp.asarray, BATCH)
    key = jax.random.key(1)

    def made(params):
        return attacked(attack, MODEL, params, pixels, classes, key)

    _, expected, _ = _by_hand(weights(before), np.asarray(made(before)), BATCH[1])
    np.testing.assert_allclose(weights(after), expected, atol=1e-6)

    def loose(params):
        return jax.vmap(
            lambda x, y: attack(key, lambda x: MODEL.apply(params, x), x, y)
        )(pixels, classes)

    _, slopes = jax.jvp(made, (before,), (before,))
    assert not np.any(slopes)
    _, slopes = jax.jvp(loose, (before,), (before,))
    assert np.abs(slopes).max() > 1e-3


def test_every_image_and_every_step_draw_anew():
    """RAND+FGSM of alpha = epsilon is its random step alone."""
    attack = RandFGSM(0.05, alpha=0.05)
    pixels = jnp.full((2, *SHAPE), 0.5)
    params = MODEL.init(jax.random.key(0))

    def drawn(step):
        key = keys.stream(step_key(step), "attack")
        return attacked(attack, MODEL, params, pixels, jnp.zeros(2, jnp.int32), key)

    first, second = drawn(0), drawn(1)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, drawn(0))
    batch = np.asarray(pixels), np.zeros(2, np.int32)
    for step, made in enumerate((first, second)):
        before, after, _ = _step(Adversarial(SGD, attack=attack), MODEL, batch, step)
        _, expected, _ = _by_hand(weights(before), np.asarray(made), batch[1])
        np.testing.assert_allclose(weights(after), expected, atol=1e-6)


def test_the_attack_meets_the_classifier_in_inference_mode():
    def train(params, x, key):
        raise AssertionError("the attack asked for the training mode")

    model = MODEL._replace(train=train)
    params = model.init(jax.random.key(0))
    pixels, classes = map(jnp.asarray, BATCH)
    made = attacked(FGSM(0.1), model, params, pixels, classes, jax.random.key(0))
    assert np.any(made != pixels)


def test_a_budget_of_zero_is_plain_training():
    model = models.build("defense_gan_d", image_shape=SHAPE, classes=3)
    attack = PGD(0.0, steps=1)
    plain = _step(CrossEntropy(SGD, label_smoothing=0.1), model)
    none = _step(Adversarial(SGD, label_smoothing=0.1, attack=attack), model)
    chex.assert_trees_all_close(plain, none, rtol=1e-5, atol=1e-6)


def test_texts_and_specs_are_the_same():
    text = "adversarial(attack=pgd(epsilon=0.2, steps=7), clean_share=0.5)"
    spec = classifier_trainings.build(text)
    assert classifier_trainings.to_string(spec) == text
    assert spec == Adversarial(attack=PGD(0.2, steps=7), clean_share=0.5)
    assert hash(spec) == hash(classifier_trainings.build(text))
    assert classifier_trainings.build("adversarial") == Adversarial(
        attack="pgd(epsilon=0.3, steps=40, step_size=0.01)"
    )


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match="Adversarial.clean_share is 1.0; allowed: 0"):
        Adversarial(clean_share=1.0)
    with pytest.raises(ValueError, match="Adversarial.attack is .*: a stepped attack"):
        Adversarial(attack=_Team())
    with pytest.raises(ValueError, match="PGD.steps is 0; allowed: 1 or more"):
        classifier_trainings.build("adversarial(attack=pgd(epsilon=0.1, steps=0))")
    with pytest.raises(ValueError, match="attack 'pdg'.*pgd"):
        Adversarial(attack="pdg(epsilon=0.1)")
    with pytest.raises(ValueError, match="steps of Adversarial is 0; allowed: 1 or"):
        Adversarial().init(MODEL, jax.random.key(0), 0)


def test_however_few_there_are_some_image_is_attacked():
    training = Adversarial(SGD, attack=FGSM(0.1), clean_share=0.9)
    before, after, _ = _step(training, batch=(BATCH[0][:2], BATCH[1][:2]))
    pixels, classes = BATCH[0][:2], BATCH[1][:2]
    moved = _fgsm(weights(before), pixels[1:], classes[1:], 0.1)
    expected = _by_hand(weights(before), np.concatenate([pixels[:1], moved]), classes)
    np.testing.assert_allclose(weights(after), expected[1], rtol=1e-4, atol=1e-6)
