"""Rejection by the error of a projection, on a linear range: all in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks, defenses
from robust_manifold.core.criterion import MisclassifiedAndAccepted
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import Networks
from robust_manifold.defenses import DefenseParams, Rejecting
from robust_manifold.evaluation import rejection_threshold
from robust_manifold.evaluation.cascades import EFFORTS, Judged, cascade
from robust_manifold.evaluation.worst_case import Budget
from tests.attacks.linear_manifold import (
    CLASSIFY,
    PIXELS,
    SHAPE,
    SPANNER,
    arrays,
    images_off_range,
    make,
)

INNER = "invert_and_classify(solver=levenberg_marquardt(steps=6), restarts=1)"
SPEC = Rejecting(INNER)
NETWORKS = Networks(generator=SPANNER, threshold=defenses.given_number)
KEY = jax.random.key(0)
LINEAR = make(4)
NEAR = 0.1
"""Images are accepted that lie so near to the range, in l2."""


def params(threshold=NEAR**2 / PIXELS):
    networks = {"generator": LINEAR.spanner, "threshold": np.float32(threshold)}
    return DefenseParams(networks, LINEAR.classifier)


def outputs(images, threshold=NEAR**2 / PIXELS, spec=SPEC):
    given = params(threshold)
    return defenses.defend(spec, NETWORKS, CLASSIFY, given, images, key=KEY)


def images_at(distances):
    """Returns images at such distances from the range, and their classes."""
    near, labels = images_off_range(LINEAR, len(distances), 1e-2)
    inside = projected(near)
    away = (near - inside) * (np.asarray(distances) / 1e-2)[:, None, None, None]
    return (inside + away).astype(np.float32), labels


def projected(images):
    matrix, offset, _, _ = arrays(LINEAR)
    flat = np.float64(images).reshape(len(images), -1) - offset
    return (flat @ matrix @ np.linalg.pinv(matrix) + offset).reshape(images.shape)


def steps_to_another_class(images, labels):
    """Returns the shortest way within the range to another class, in l2."""
    matrix, _, weights, bias = arrays(LINEAR)
    logits = projected(images).reshape(len(images), -1) @ weights + bias
    onto = matrix @ np.linalg.pinv(matrix)
    ways = []
    for row, label in zip(logits, labels, strict=True):
        apart = np.linalg.norm(onto @ (weights - weights[:, [label]]), axis=0)
        ways.append(np.delete((row[label] - row) / np.where(apart, apart, 1), label))
    return np.min(ways, axis=1)


def test_what_lies_too_far_is_rejected_and_the_rest_is_classified_as_before():
    distances = np.array([0.0, 0.05, 0.099, 0.101, 0.2, 0.3])
    images, labels = images_at(distances)
    found = outputs(images)
    logits = np.asarray(found.output)
    np.testing.assert_allclose(
        found.details.error, distances**2 / PIXELS, rtol=1e-3, atol=1e-9
    )
    told = np.where(distances > NEAR, logits.shape[1] - 1, labels)
    np.testing.assert_array_equal(logits.argmax(1), told)
    bare = defenses.defend(SPEC.inner, NETWORKS, CLASSIFY, params(), images, key=KEY)
    apart = np.asarray(bare.output) - np.max(bare.output, axis=1, keepdims=True)
    np.testing.assert_allclose(logits[:, :-1], apart, atol=1e-6)
    np.testing.assert_allclose(
        logits[:, -1], 10 * ((distances / NEAR) ** 2 - 1), rtol=2e-3, atol=1e-4
    )


def test_the_share_of_clean_images_lost_is_the_rate_on_validation():
    images, _ = images_at(np.random.default_rng(0).uniform(0, 0.3, 60))
    errors = np.asarray(outputs(images).details.error)
    for rate in (0.05, 0.1, 0.5):
        threshold = rejection_threshold(errors, rate)
        logits = np.asarray(outputs(images, threshold).output)
        # The image whose error is the threshold is accepted, to the last bit.
        assert np.mean(logits.argmax(1) == logits.shape[1] - 1) == rate


@pytest.mark.parametrize(("threshold", "rejected"), [(np.inf, 0), (0.0, 1)])
def test_thresholds_at_the_ends(threshold, rejected):
    images, _ = images_at([0.1, 0.2])
    logits = np.asarray(outputs(images, threshold).output)
    assert np.isfinite(logits).all()
    assert np.mean(logits.argmax(1) == logits.shape[1] - 1) == rejected


def test_an_error_that_is_no_number_is_rejected():
    generator = jax.tree.map(lambda leaf: leaf * np.nan, LINEAR.spanner.generator)
    networks = params().networks | {
        "generator": LINEAR.spanner._replace(generator=generator)
    }
    given = params()._replace(networks=networks)
    images, _ = images_at([0.0])
    found = defenses.defend(SPEC, NETWORKS, CLASSIFY, given, images, key=KEY)
    np.testing.assert_array_equal(found.output, [[0, 0, 0, 0, 10]])


@pytest.mark.parametrize("text", ["straight_through", "unrolled", "implicit", "bpda"])
def test_every_view_has_the_slope_of_the_error(text):
    images = jnp.asarray(images_at([0.2])[0])
    view = defenses.adversaries.build(text).view(SPEC, NETWORKS, CLASSIFY)

    def rejection(image):
        return view(params(), image, KEY)[-1]

    slope = jax.grad(rejection)(images[0])
    away = images[0] - projected(images)[0]
    wanted = 10 * 2 * away / NEAR**2
    np.testing.assert_allclose(slope, wanted, rtol=1e-3, atol=1e-3 * abs(wanted).max())
    true = defenses.defended_apply(SPEC, NETWORKS, CLASSIFY)
    np.testing.assert_allclose(
        view(params(), images[0], KEY), true(params(), images[0], KEY), atol=1e-4
    )


def test_an_attack_has_to_come_near_the_range_as_well():
    distances = np.linspace(0.02, 0.35, 12)
    images, labels = images_at(distances)
    way = steps_to_another_class(images, labels)
    both = np.hypot(way, np.maximum(distances - NEAR, 0))
    epsilon = float(np.median(both)) * 1.02
    # Some fall behind the inner defence alone: what fools it stays too far away.
    assert 0 < np.sum(both < epsilon) < np.sum(way < epsilon)
    assert np.min(np.abs(both / epsilon - 1)) > 0.01
    keys = jax.random.split(KEY, len(labels))
    effort = dataclasses.replace(
        EFFORTS["quick"], steps=25, aimed_steps=0, queries=0, pilot=2
    )
    found = {}
    for spec in (SPEC, SPEC.inner):
        judged = Judged(spec, NETWORKS, CLASSIFY, params(), keys)
        found[spec] = cascade(
            judged,
            images,
            labels,
            [Budget("l2", epsilon)],
            key=KEY,
            effort=effort,
            views=[defenses.Implicit()],
        ).budgets[0]
    np.testing.assert_array_equal(found[SPEC.inner].broken, way < epsilon)
    np.testing.assert_array_equal(found[SPEC].broken, both < epsilon)
    # What broke the inner defence is no success against the one that rejects.
    logits = np.asarray(outputs(found[SPEC.inner].images).output)
    judged = Judged(SPEC, NETWORKS, CLASSIFY, params(), keys)
    told = judged.verdict([logits], labels)
    assert np.sum(told.broken) < np.sum(found[SPEC.inner].broken)
    rejected = logits.argmax(1) == logits.shape[1] - 1
    assert not told.broken[rejected].any() and rejected.any()


def test_attacks_by_scores_and_by_latents_meet_it_too():
    images, labels = images_at([0.05, 0.3])
    apply = attacks.Expectation(defenses.defended_apply(SPEC, NETWORKS, CLASSIFY))
    wanted = MisclassifiedAndAccepted()
    keys = jax.random.split(KEY, 2)
    common = {"key": KEY, "fixed_keys": keys, "criterion": wanted}
    square = attacks.Square(0.3, queries=60)
    made = attacks.craft(square, apply, params(), images, labels, **common)
    search = attacks.LatentSearch(steps=40, restarts=2)
    spanned = attacks.find_on_manifold(
        search,
        "l2",
        1.0,
        SPANNER,
        CLASSIFY,
        params(),
        images,
        labels,
        apply=apply,
        **common,
    )
    for crafted in (made, spanned):
        logits = np.asarray(crafted.logits)
        told = logits.argmax(1)
        assert logits.shape == (2, 5)
        np.testing.assert_array_equal(crafted.success, (told != labels) & (told != 4))
    assert spanned.success.all()


REFUSED = {
    "a defence that does not project": (
        {"defence": "bit_depth"},
        "defence is BitDepth",
    ),
    "a defence that rejects already": ({"defence": SPEC}, "allowed: one that inverts"),
    "a rate of 0": ({"rate": 0.0}, "Rejecting.rate is 0.0; allowed: above 0"),
    "a rate of 1": ({"rate": 1.0}, "Rejecting.rate is 1.0; allowed: above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_told_in_a_sentence(name):
    given, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        Rejecting(**given)


def test_a_threshold_is_needed_and_a_substitute_cannot_meet_it():
    with pytest.raises(UsageError, match="allowed with .*generator, threshold"):
        defenses.defend(
            SPEC,
            Networks(generator=SPANNER),
            CLASSIFY,
            params(),
            np.zeros((1, *SHAPE), np.float32),
            key=KEY,
        )
    with pytest.raises(UsageError, match="gives every image a class"):
        defenses.Substitute().check_meets(SPEC)


def test_its_text_reads_back():
    text = defenses.registry.to_string(SPEC)
    assert defenses.registry.build(text) == SPEC
    assert SPEC.inner == defenses.registry.build(INNER)
