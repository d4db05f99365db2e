"""The audit of attacks that want something else than another class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks, evaluation
from robust_manifold.core.criterion import Deviates, Misclassified, SignFlips, Targeted
from robust_manifold.core.errors import UsageError

N, SIDE = 24, 3
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (N, SIDE, SIDE, 1))
IMAGES = IMAGES.astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=9).astype(np.float32)
VALUES = IMAGES.reshape(N, -1) @ WEIGHTS + np.linspace(0, 0.9, N, dtype=np.float32)
"""Near the outputs: the first are right by much, the last hardly."""
TOLERANCE = Deviates(1.0)
ATTACK = attacks.PGD(epsilon=0.1, steps=12)
LOOKED_AT = (
    "zero budget",
    "unbounded budget",
    "noise against attacks",
    "gradients of the classifier",
    "cross-entropy",
    "classes of the loss",
    "silent success",
)
NO_CLASSES = {
    "cross-entropy",
    "scale of the logits",
    "classes of the loss",
}


def value(params, image):
    return image.reshape(-1) @ params


def rounded(params, image):
    return value(params, jnp.round(4 * image) / 4)


def audited(apply=value, labels=VALUES, criterion=TOLERANCE, **options):
    options = {"attack": ATTACK, "key": jax.random.key(0)} | options
    # Without the checks of types that tests add to it.
    audit = getattr(evaluation.audit, "__wrapped__", evaluation.audit)
    return audit(apply, WEIGHTS, IMAGES, labels, criterion=criterion, **options)


def test_a_sound_regression_raises_no_flag():
    checks = audited(
        batched=lambda params, images: jax.vmap(value, (None, 0))(params, images),
        undefended=evaluation.Network(value, WEIGHTS),
        view=value,
    )
    assert [check.sentence for check in checks if check.verdict == "FLAG"] == []
    said = {
        c.name: c.sentence for c in checks if c.sentence.endswith("has no classes.")
    }
    assert set(said) == NO_CLASSES
    assert said["cross-entropy"] == (
        "Not checked: the criterion Deviates has no classes."
    )
    made = {check.name for check in checks if check.verdict == "PASS"}
    assert {"zero budget", "scores against white box", "silent success"} <= made
    assert {"batch mates", "training mode", "probabilities"} <= made


def test_what_stays_right_is_what_the_criterion_says():
    """A pixel moves by 0.1 at most, so an output by 0.1 times the weights' sum."""
    (grown,) = audited(checks=("growing budget",))
    gap = 1 - np.abs(VALUES - IMAGES.reshape(N, -1) @ WEIGHTS)
    reach = np.abs(WEIGHTS).sum()
    told = [f"{100 * np.mean(gap > reach * e):.0f} % at {e:g}" for e in (0.05, 0.1)]
    assert ", ".join(told) in grown.sentence and told[0] != told[1]


def test_a_rounded_regression_is_found_out():
    (found,) = audited(rounded, checks=("gradients of the classifier",))
    assert (
        found.verdict == "FLAG" and "100 % of the images had a zero" in found.sentence
    )


def test_nan_outputs_are_found_out():
    def broken(params, image):
        return value(params, image) / jnp.float32(0) * 0

    (found,) = audited(broken, checks=("probabilities",))
    assert found.verdict == "FLAG" and "NaN" in found.sentence


@pytest.mark.parametrize("keeps", [True, False])
def test_a_success_thrown_away_is_found_out(keeps):
    def there_and_back(classify, images, labels, epsilon):
        away = np.clip(images + epsilon * np.sign(WEIGHTS).reshape(SIDE, SIDE, 1), 0, 1)
        back = np.clip(images - epsilon * np.sign(WEIGHTS).reshape(SIDE, SIDE, 1), 0, 1)
        for candidate in (images, away, back):
            classify(candidate)
        # The labels lie above the outputs: only below them is there anything.
        return back if keeps else away

    own = evaluation.OwnAttack(there_and_back, epsilon=0.1)
    (silent,) = audited(attack=own, checks=("silent success",))
    assert silent.verdict == ("PASS" if keeps else "FLAG")


def classes(params, image):
    logit = value(params, image)
    return jnp.stack([logit, 2 * logit - 1.0, jnp.zeros_like(logit)])


def test_targets_are_audited_with_the_criterion_that_wants_them():
    outputs = jax.vmap(classes, (None, 0))(WEIGHTS, IMAGES)
    targets = (np.argmax(outputs, axis=-1) + 1) % 3
    checks = audited(classes, targets, Targeted(), checks=LOOKED_AT)
    assert [check.sentence for check in checks if check.verdict == "FLAG"] == []
    zero = checks[0]
    assert zero.sentence == "Without a budget accuracy is the clean one, 100 %."


def test_one_logit_is_audited():
    labels = (IMAGES.reshape(N, -1) @ WEIGHTS > 0).astype(int)
    checks = audited(value, labels, SignFlips(), checks=LOOKED_AT)
    assert [check.sentence for check in checks if check.verdict == "FLAG"] == []


def test_the_default_is_another_class():
    labels = np.argmax(jax.vmap(classes, (None, 0))(WEIGHTS, IMAGES), axis=-1)
    names = ("zero budget", "gradients of the classifier", "silent success")
    plain = audited(classes, labels, None, checks=names)
    assert plain == audited(classes, labels, Misclassified(), checks=names)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"criterion": "deviates"}, "criterion is 'deviates'; allowed: a criterion"),
        ({"labels": VALUES[:3]}, "numbers of the shape"),
        ({"attack": attacks.FAB(epsilon=0.1)}, "FAB, which needs logits of classes"),
        ({"attack": attacks.PGD(0.1, loss="ce")}, "Deviates brings its own"),
        ({"criterion": None}, "a vector of logits"),
    ],
)
def test_what_does_not_fit_a_criterion_is_refused(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        audited(**options)
