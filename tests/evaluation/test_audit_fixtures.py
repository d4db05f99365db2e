"""Audits of evaluations broken on purpose, and of a sound one."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from robust_manifold import attacks, evaluation
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.audits import (
    binarisation,
    budgets,
    gradients,
    operations,
    ordering,
    projections,
    repetition,
    search,
    strength,
)
from tests.evaluation import broken

OF_CLASSIFIER, OF_DEFENDED = (
    gradients.of_stage(s) for s in (gradients.CLASSIFIER, gradients.DEFENDED)
)
PAIRS = (projections.PAIRS, projections.JUDGE)


def audit(apply=broken.apply, attack=broken.ATTACK, **options):
    """Returns the checks of an audit of the sound network by name."""
    sound = broken.sound()
    checks = evaluation.audit(
        apply,
        sound.params,
        sound.images,
        sound.labels,
        key=jax.random.key(0),
        attack=attack,
        **options,
    )
    return {check.name: check for check in checks}


# One worker, which then audits the sound model once.
pytestmark = pytest.mark.xdist_group("audit fixtures")


def flags(checks):
    return {name for name, check in checks.items() if check.verdict == "FLAG"}


@functools.cache
def sound_audit():
    return audit(
        undefended=broken.network(),
        batched=broken.evaluated_in_batches,
        projection=broken.projection(),
    )


def test_the_sound_model_can_be_attacked_and_withstands():
    sound = broken.sound()
    apply, params, images, labels = sound
    clean, attacked = (
        attacks.craft(
            attacks.PGD(epsilon=epsilon, steps=16),
            apply,
            params,
            images,
            labels,
            key=jax.random.key(0),
        ).success.mean()
        for epsilon in (0.0, broken.EPSILON)
    )
    assert clean < 0.1 and 0.05 < attacked < 0.6


def test_a_sound_model_raises_no_flag():
    checks = sound_audit()
    assert flags(checks) == set(), [checks[name] for name in flags(checks)]


def test_every_check_answers():
    checks = sound_audit()
    assert tuple(checks) == evaluation.AUDIT_CHECKS
    left_out = {n for n, check in checks.items() if check.verdict == "SKIPPED"}
    unasked = {ordering.VIEW, gradients.of_stage(gradients.SEEN), repetition.KEYS}
    assert left_out == {*unasked, *PAIRS}
    for check in checks.values():
        assert check.sentence.endswith(".") and not check.sentence[0].islower()
        assert (check.value is None) == (check.verdict == "SKIPPED")


CHEAP = (OF_CLASSIFIER, gradients.CROSS_ENTROPY, gradients.PROBABILITIES)

BROKEN = {
    "logits x1000": (
        {"apply": broken.logits_times_1000, "checks": CHEAP},
        {gradients.CROSS_ENTROPY},
    ),
    "logits x1000 attacked by cross-entropy": (
        {
            "apply": broken.logits_times_1000,
            "attack": dataclasses.replace(broken.ATTACK, loss="ce"),
            "checks": (
                gradients.LOGIT_SCALE,
                search.COST,
                strength.STRENGTH,
                binarisation.ACTIVE,
            ),
        },
        {gradients.LOGIT_SCALE, strength.STRENGTH, binarisation.ACTIVE},
    ),
    "quantised input": (
        {
            "apply": broken.quantised,
            "checks": (
                *CHEAP,
                operations.OPERATIONS,
                budgets.ANY_BUDGET,
                binarisation.ACTIVE,
            ),
        },
        {
            OF_CLASSIFIER,
            gradients.CROSS_ENTROPY,
            operations.OPERATIONS,
            budgets.ANY_BUDGET,
            binarisation.ACTIVE,
        },
    ),
    "stopped gradient": (
        {
            "apply": broken.gradient_stopped,
            "undefended": "itself",
            "checks": (OF_CLASSIFIER, OF_DEFENDED, operations.OPERATIONS),
        },
        {OF_DEFENDED, operations.OPERATIONS},
    ),
    "noise defence": (
        {
            "apply": broken.NOISE_DEFENCE,
            "attack": attacks.FGSM(broken.EPSILON),
            "checks": (repetition.KEYS, *CHEAP, operations.OPERATIONS),
        },
        {repetition.KEYS},
    ),
    "constant logits": (
        {"apply": broken.constant, "checks": (*CHEAP, budgets.ANY_BUDGET)},
        {OF_CLASSIFIER, gradients.CROSS_ENTROPY, budgets.ANY_BUDGET},
    ),
    "batch norm in training mode": (
        {
            "apply": broken.normalised_alone,
            "batched": broken.normalised_by_the_batch,
            "checks": (repetition.BATCH_MATES, repetition.TRAINING_MODE),
        },
        {repetition.BATCH_MATES, repetition.TRAINING_MODE},
    ),
    "a defence that returns x": (
        {
            "projection": broken.projection(broken.NoProjection()),
            "checks": (
                projections.IN_RANGE,
                projections.NOISE_ERROR,
                projections.ERRORS,
                projections.BASIN,
            ),
        },
        {projections.IN_RANGE, projections.NOISE_ERROR, projections.ERRORS},
    ),
    "an attack that returns its last image": (
        {
            "attack": broken.LOSES_THE_BEST,
            "checks": (search.SILENT_SUCCESS, budgets.WITHIN_BUDGET),
        },
        {search.SILENT_SUCCESS},
    ),
    "an attack of small steps": (
        {
            "attack": dataclasses.replace(broken.ATTACK, step_size=1e-4),
            "checks": (strength.STRENGTH, binarisation.ACTIVE, search.COST),
        },
        {strength.STRENGTH, binarisation.ACTIVE},
    ),
    "softmax output": (
        {"apply": broken.softmax, "checks": CHEAP},
        {gradients.PROBABILITIES},
    ),
}
"""What is audited, with which checks, and which of them must fire and no other."""


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_is_flagged_by_the_right_checks(name):
    options, right = BROKEN[name]
    if options.get("undefended") == "itself":
        options = options | {"undefended": broken.network()}
    found = audit(**options)
    assert set(found) == set(options["checks"])
    assert flags(found) == right, list(found.values())


@pytest.mark.parametrize("name", BROKEN)
def test_the_checks_that_flag_a_fault_pass_the_sound_model(name):
    sound = sound_audit()
    for check in BROKEN[name][1] - {repetition.KEYS}:
        assert sound[check].verdict == "PASS", sound[check]


def test_an_own_attack_that_keeps_the_best_is_not_flagged():
    names = (search.SILENT_SUCCESS, budgets.WITHIN_BUDGET, search.COST)
    kept = audit(attack=broken.KEEPS_THE_BEST, checks=names)
    # Eight looks are few, and the check of the cost says so.
    assert flags(kept) == {search.COST}
    assert kept[search.COST].value == 8


def test_a_random_classifier_whose_keys_do_not_matter_is_not_flagged():
    silent = attacks.Expectation(quiet)
    checks = audit(silent, attacks.FGSM(broken.EPSILON), checks=(repetition.KEYS,))
    assert checks[repetition.KEYS].verdict == "PASS"


def quiet(params, image, key):
    return broken.apply(params, image + 1e-6 * jax.random.normal(key, image.shape))


def test_a_view_is_compared_with_the_classifiers_own_gradient():
    names = (ordering.VIEW, gradients.of_stage(gradients.SEEN))
    assert not flags(audit(view=broken.apply, checks=names))
    # A view that leads astray is the weaker attack, and has no gradient to go by.
    assert flags(audit(view=broken.constant, checks=names)) == set(names)


def test_pairs_are_held_to_what_is_said_of_them():
    images = np.stack([broken.sound().images[:6]] * 2, axis=1)
    logits = np.tile(np.eye(3)[[0, 1]], (6, 1, 1))
    pairs = evaluation.LatentPairs(images, logits, np.arange(6) > 1)
    found = evaluation.PairsFound(pairs, eta=0.5, judge=broken.network())
    checks = audit(pairs=found, checks=PAIRS)
    # Both are the same image to the judge, and told apart by nobody but the logits.
    assert not flags(checks) and checks[projections.JUDGE].value == 1


def test_what_a_stronger_pass_and_an_active_test_cannot_do_is_said():
    names = (strength.STRENGTH, binarisation.ACTIVE)
    own = audit(attack=broken.KEEPS_THE_BEST, checks=(binarisation.ACTIVE,))
    assert own[binarisation.ACTIVE].verdict == "SKIPPED"
    seen = audit(broken.NOISE_DEFENCE, attacks.FGSM(broken.EPSILON), checks=names)
    assert seen[strength.STRENGTH].verdict == "SKIPPED"
    still = audit(broken.constant, checks=(binarisation.ACTIVE,))
    assert "0 have a plane in the logits" in still[binarisation.ACTIVE].sentence


def test_misuse_is_one_sentence():
    with pytest.raises(UsageError, match="Did you mean 'cross-entropy'"):
        audit(checks=("cross entropy",))
    with pytest.raises(UsageError, match="allowed: an attack with a budget"):
        audit(attack=attacks.DeepFool(), checks=(search.COST,))
    with pytest.raises(UsageError, match="OwnAttack.epsilon is -1"):
        evaluation.OwnAttack(print, -1.0)
    with pytest.raises(UsageError, match="OwnAttack.norm is 'l0'"):
        evaluation.OwnAttack(print, 1.0, "l0")


def test_each_check_that_can_be_made_is_told_of():
    told = []
    wanted = {gradients.PROBABILITIES, gradients.CROSS_ENTROPY, repetition.BATCH_MATES}
    audit(checks=wanted, on_check=lambda made, of: told.append((made, of)))
    assert told == [(1, 2), (2, 2)]
