"""The cascade: its bookkeeping, and what it comes to where the answer is known."""

import dataclasses
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import Networks
from robust_manifold.defenses import (
    Defended,
    Defense,
    DefenseParams,
    Purified,
    Purifier,
)
from robust_manifold.evaluation.cascades import EFFORTS, Judged, cascade, exchange
from robust_manifold.evaluation.cascades.judged import Verdict, verdict, views_of
from robust_manifold.evaluation.cascades.members import with_fewer
from robust_manifold.evaluation.cascades.pilot import Tried, ranked
from robust_manifold.evaluation.worst_case import Budget

SHAPE = (2, 2, 1)
TINY = dataclasses.replace(EFFORTS["quick"], steps=8, aimed_steps=0, queries=0, pilot=4)
"""Equal attacks in all tests: each compiles once."""
KEY = jax.random.key(0)


def linear(params, image):
    """Returns logits whose difference is w.x - b: closed forms are at hand."""
    weights, bias = params
    value = jnp.sum(weights * image) - bias
    return jnp.stack([-value, value, jnp.float32(-100.0), jnp.float32(-100.0)]) / 2


WEIGHTS = np.array([[[0.4], [-0.3]], [[0.2], [0.1]]], np.float32)
PARAMS = DefenseParams({}, (WEIGHTS, np.float32(0.2)))


def _images(n=12):
    rng = np.random.default_rng(0)
    images = rng.uniform(0.3, 0.7, (n, *SHAPE)).astype(np.float32)
    value = (WEIGHTS * images).sum((1, 2, 3)) - 0.2
    return images, (value > 0).astype(int), np.abs(value)


def _bare():
    return Judged(defenses.NoDefense(), Networks(), linear, PARAMS)


def _keyed(judged, n):
    return dataclasses.replace(judged, keys=jax.random.split(jax.random.key(1), n))


@dataclasses.dataclass(frozen=True)
class Rounding(Purifier):
    """Rounds to few levels: no gradient leads through it."""

    def purify(self, key, networks, image):
        return Purified(jnp.round(image * 8) / 8)


@dataclasses.dataclass(frozen=True)
class Noise(Purifier):
    """Adds noise of a fresh key."""

    tiled: ClassVar[bool] = False

    def purify(self, key, networks, image):
        noise = 0.02 * jax.random.normal(key, image.shape, image.dtype)
        return Purified(jnp.clip(image + noise, 0, 1))


@pytest.mark.parametrize(
    ("norm", "epsilon", "dual"), [("linf", 0.05, 1.0), ("l2", 0.1, np.sqrt(0.3))]
)
def test_what_falls_is_what_the_boundary_is_near_to(norm, epsilon, dual):
    images, labels, distance = _images()
    judged = _keyed(_bare(), len(labels))
    found = cascade(
        judged, images, labels, [Budget(norm, epsilon)], key=KEY, effort=TINY
    )
    reach = epsilon * dual
    assert 0 < np.sum(distance < reach) < len(labels)
    np.testing.assert_array_equal(found.budgets[0].broken, distance < reach)
    assert found.tried == ()


def test_accuracy_never_rises_with_the_budget():
    images, labels, _ = _images()
    budgets = [Budget("linf", e) for e in (0.08, 0.02, 0.05)] + [Budget("l2", 0.2)]
    judged = _keyed(_bare(), len(labels))
    found = cascade(judged, images, labels, budgets, key=KEY, effort=TINY).budgets
    assert [each.budget.epsilon for each in found] == [0.02, 0.05, 0.08, 0.2]
    # The last ball holds all of the others: 0.08 * 2 = 0.16.
    for smaller, larger in itertools.pairwise(found):
        assert np.all(larger.broken[smaller.broken])


def test_shares_add_up_and_images_stay_in_their_balls():
    images, labels, _ = _images()
    judged = _keyed(_bare(), len(labels))
    told = []
    found = cascade(
        judged,
        images,
        labels,
        [Budget("linf", 0.05)],
        key=KEY,
        effort=dataclasses.replace(TINY, aimed_steps=4),
        on_share=lambda budget, share: told.append(share),
    ).budgets[0]
    assert sum(share.broken for share in found.shares) == found.broken.sum()
    given = [share.images for share in found.shares[2:]]
    assert given == sorted(given, reverse=True)
    assert [*found.shares[2:]] == told
    assert np.max(np.abs(found.images - images)) <= 0.05 + 1e-6
    made = np.bincount(found.member[found.broken], minlength=len(found.shares))
    np.testing.assert_array_equal(made, [share.broken for share in found.shares])


def test_an_image_does_not_know_its_batch_mates():
    images, labels, _ = _images()
    budgets = [Budget("linf", 0.05)]
    options = {"key": KEY, "effort": TINY, "pilot": (images, labels)}
    whole = _keyed(_bare(), len(labels))
    together = cascade(whole, images, labels, budgets, **options).budgets[0]
    places = np.array([3, 7, 8])
    alone = cascade(
        whole.take(places),
        images[places],
        labels[places],
        budgets,
        ids=places,
        **options,
    ).budgets[0]
    np.testing.assert_array_equal(alone.images, together.images[places])
    np.testing.assert_array_equal(alone.rate, together.rate[places])


def test_a_purifier_without_gradients_falls_as_its_classifier_does():
    images, labels, distance = _images()
    judged = _keyed(
        Judged(Rounding(), Networks(), linear, PARAMS),
        len(labels),
    )
    budget = Budget("linf", 0.2)
    found = cascade(judged, images, labels, [budget], key=KEY, effort=TINY)
    assert found.budgets[0].broken.all()
    first = found.tried[0]
    assert first.adversary in (defenses.StraightThrough(), defenses.Oblivious())


@dataclasses.dataclass(frozen=True)
class Vote(Defense):
    """The class that most noisy copies have: no gradient leads through it."""

    def defend(self, key, networks, classify, image):
        noise = 0.2 * jax.random.normal(key, (16, *image.shape), image.dtype)
        votes = jnp.argmax(jax.vmap(classify)(image[None] + noise), axis=-1)
        return Defended(jax.nn.one_hot(votes, 4).mean(axis=0) - 0.5)


def test_the_classifier_under_noise_stands_in_for_a_vote():
    noisy = {defenses.Oblivious(level, draws=4) for level in (0.125, 0.25, 0.5)}
    assert noisy <= {*views_of(Vote(), (1e-3,))}
    assert not noisy & {*views_of(Noise(), (1e-3,))}


def test_fresh_keys_count_by_share():
    images, labels, _ = _images()
    judged = Judged(Noise(), Networks(), linear, PARAMS)
    budgets, views = [Budget("linf", 0.04)], [defenses.Unrolled()]
    found = cascade(
        judged, images, labels, budgets, key=KEY, effort=TINY, views=views
    ).budgets[0]
    assert np.any((found.rate > 0) & (found.rate < 1))
    # Keys that neither the attack nor the verdict has seen say the same.
    ids = np.arange(len(labels))
    again = [
        judged.judge(found.images, labels, ids, jax.random.key(100 + place)).rate
        for place in range(25)
    ]
    assert abs(found.accuracy - (1 - np.mean(again))) < 0.1


def test_ways_are_ranked_by_what_they_add():
    def way(name, rate, margin=(-1.0, -1.0, -1.0, -1.0), passes=1.0):
        return Tried(name, np.array(rate, float), np.array(margin), passes)

    most = way("most", [1, 1, 1, 0])
    same = way("same", [1, 1, 0, 0], margin=(-1, -1, -0.5, -1))
    other = way("other", [0, 0, 0, 1])
    dear = way("dear", [1, 1, 1, 0], passes=2.0)
    order = [each.adversary for each in ranked([same, dear, other, most])]
    assert order == ["most", "other", "same", "dear"]


def test_a_verdict_counts_no_number_as_wrong():
    logits = np.array([[0.0, 1.0], [np.nan, 1.0], [2.0, 1.0]])
    found = verdict([logits], np.array([1, 1, 1]))
    np.testing.assert_array_equal(found.broken, [False, True, True])
    assert isinstance(found, Verdict)


def test_ways_that_a_defence_cannot_be_met_with_are_left_out():
    ways = views_of(Rounding(), (1e-3,))
    assert not any(isinstance(way, defenses.Implicit) for way in ways)
    assert views_of(defenses.NoDefense(), (1e-3,)) == (defenses.Unrolled(),)
    long, short = defenses.Diffusion(steps=8), defenses.Diffusion(steps=1)
    for made in (lambda inner: inner, defenses.Voting):
        assert defenses.BPDA(stand_in=made(short)) in views_of(made(long), (1e-3,))
        assert len(views_of(made(short), (1e-3,))) == 3
    inverts = views_of(defenses.InvertAndClassify(), (1e-3, 1e-1))
    assert sum(isinstance(way, defenses.Implicit) for way in inverts) == 3


def test_an_unknown_effort_is_told():
    images, labels, _ = _images()
    with pytest.raises(UsageError, match="effort 'hard'"):
        cascade(_bare(), images, labels, [Budget("linf", 0.1)], key=KEY, effort="hard")


def test_a_tie_is_no_error():
    logits = np.array([[1.0, 1.0], [1.0, 1.0]])
    np.testing.assert_array_equal(
        verdict([logits], np.array([0, 1])).broken, [False, True]
    )


def test_balls_of_all_norms_stand_side_by_side():
    images, labels, distance = _images()
    judged = _keyed(_bare(), len(labels))
    budgets = [Budget("linf", 0.05), Budget("l1", 0.3)]
    found = cascade(judged, images, labels, budgets, key=KEY, effort=TINY).budgets
    # The ball of 0.3 in l1 holds what moved by 0.05 in four pixels.
    assert np.all(found[1].broken[found[0].broken])


@dataclasses.dataclass(frozen=True)
class Looping(Purifier):
    """Has a loop of which JAX has no gradient."""

    def purify(self, key, networks, image):
        halved = jax.lax.while_loop(lambda x: x.max() > 0.9, lambda x: x * 0.99, image)
        return Purified(halved)


def test_a_way_without_a_gradient_is_left_out():
    images, labels, _ = _images()
    judged = _keyed(Judged(Looping(), Networks(), linear, PARAMS), len(labels))
    budget = Budget("linf", 0.2)
    found = cascade(judged, images, labels, [budget], key=KEY, effort=TINY)
    assert found.budgets[0].broken.all()
    ways = [way.adversary for way in found.tried]
    assert defenses.Unrolled() not in ways
    assert defenses.StraightThrough() in ways


@dataclasses.dataclass(frozen=True)
class Smooth(Purifier):
    """Rounds, and is differentiated as if it brightened."""

    def purify(self, key, networks, image):
        return Purified(jnp.round(image * 8) / 8)

    def unrolled(self, key, networks, image, *, rematerialise=True):
        return Purified(jnp.clip(image + 0.1, 0, 1))


def test_only_views_with_the_same_logits_end_a_search():
    for purifier, same in [(Rounding(), True), (Smooth(), False)]:
        judged = Judged(purifier, Networks(), linear, PARAMS)
        apply = judged.apply.apply
        assert judged.view(defenses.Unrolled(), 1).apply.stands_for(apply) is same
        assert judged.view(defenses.StraightThrough(), 1).apply.stands_for(apply)


@pytest.mark.parametrize(
    "field", [{"views": 0}, {"steps": 0}, {"queries": -1}, {"dampings": ()}]
)
def test_an_impossible_effort_is_told(field):
    with pytest.raises(UsageError, match=f"{next(iter(field))} is"):
        dataclasses.replace(TINY, **field)


def test_no_budget_is_told():
    images, labels, _ = _images()
    with pytest.raises(UsageError, match="budgets are empty"):
        cascade(_bare(), images, labels, [], key=KEY)


def test_what_others_lend_breaks_as_it_is_and_as_a_start():
    # Beyond the wall there is no slope: who stands before it needs a start behind it.
    def walled(params, image):
        value = jnp.where(image[0, 0, 0] < 0.4, image.sum() - 1.3, 0.9)
        return linear((jnp.zeros(SHAPE), -value), image)

    judged = Judged(defenses.NoDefense(), Networks(), walled, DefenseParams({}, ()))
    images, labels = np.full((3, *SHAPE), 0.5, np.float32), np.ones(3, int)
    offered = {"a": images.copy(), "b": images.copy()}
    offered["a"][1, 0, 0] = 0.3  # right, but behind the wall
    offered["b"][2] = 0.3
    found = exchange(
        _keyed(judged, 3),
        images,
        labels,
        Budget("linf", 0.2),
        offered,
        key=KEY,
        view=defenses.Unrolled(),
        effort=TINY,
    )
    assert found.broken.tolist() == [False, True, True]
    names = [found.shares[place].member for place in found.member]
    assert names[2] == "images of b" and "from the worst so far" in names[1]
    assert [share.images for share in found.shares[1:]] == [3, 3, 2]
    # The wall hides it from a climb that begins at the clean image.
    alone = exchange(
        _keyed(judged, 3),
        images,
        labels,
        Budget("linf", 0.2),
        {},
        key=KEY,
        view=defenses.Unrolled(),
        effort=TINY,
    )
    assert not alone.broken.any()


def test_a_bare_network_gets_the_steps_of_auto_attack():
    whole = EFFORTS["standard"].against(defenses.NoDefense())
    assert (whole.steps, whole.aimed_steps, whole.all_steps) == (100, 100, 100)
    assert (whole.boundary_steps, whole.queries) == (100, 5000)
    # What an effort leaves out stays out.
    assert EFFORTS["standard"].against(Rounding()) == EFFORTS["standard"]
    few = EFFORTS["quick"].against(defenses.NoDefense())
    assert (few.all_steps, few.boundary_steps, few.queries) == (0, 0, 200)


def test_a_bare_network_has_one_gradient_whose_streams_are_those_of_its_spec(
    monkeypatch,
):
    streams = []
    stream = keys.stream

    def noted(key, name):
        streams.append(name)
        return stream(key, name)

    monkeypatch.setattr(keys, "stream", noted)
    images, labels, _ = _images()
    effort = dataclasses.replace(TINY, steps=1, boundary_steps=2)
    at, told = [Budget("l2", 0.1)], []
    for judged in (_bare(), dataclasses.replace(_bare(), defence=Rounding())):
        found = cascade(
            _keyed(judged, len(labels)), images, labels, at, key=KEY, effort=effort
        )
        told.append([share.member for share in found.budgets[0].shares])
    bare, defended = told
    assert bare[2:] == [
        "its gradient, 2 steps from the worst so far",
        "its gradient, 2 steps from another class",
        "its gradient, 2 steps to the nearest boundaries",
    ]
    assert not any("its gradient" in name for name in (*defended, *streams))
    assert "l2 unrolled, 2 steps from the worst so far" in streams
    assert "l2 unrolled, 2 steps to the nearest boundaries" in streams


def test_the_nearest_boundaries_are_found():
    # A climb of one step leaves some of them; the last member finds all.
    images, labels, distance = _images()
    judged = _keyed(_bare(), len(labels))
    own = dataclasses.replace(TINY, steps=1, boundary_steps=8)
    found = cascade(
        judged, images, labels, [Budget("l2", 0.1)], key=KEY, effort=own
    ).budgets[0]
    reach = 0.1 * np.sqrt(0.3)
    np.testing.assert_array_equal(found.broken, distance < reach)
    assert "nearest boundaries" in found.shares[-1].member


def test_corners_are_found_where_gradients_lead_both_values_the_same_way():
    # Rounded, one of two values has to rise alone; by the gradient both do or none.
    def apart(params, image):
        value = (image[0, 0, 0] - 0.5) * (image[0, 1, 0] - 0.5)
        return linear((jnp.zeros(SHAPE), -value), image)

    judged = Judged(defenses.BitDepth(1), Networks(), apart, DefenseParams({}, ()))
    images, labels = np.full((3, *SHAPE), 0.4, np.float32), np.ones(3, int)
    found = {}
    for queries in (0, 20):
        found[queries] = cascade(
            _keyed(judged, 3),
            images,
            labels,
            [Budget("linf", 0.2), Budget("l2", 0.2)],
            key=KEY,
            effort=dataclasses.replace(TINY, corner_queries=queries),
            views=[defenses.StraightThrough()],
        ).budgets
    assert not found[0][0].broken.any()
    linf, l2 = found[20]
    assert linf.broken.all()
    assert linf.shares[-1].member == "parsimonious, 20 queries from the worst so far"
    # A ball without corners has no such member.
    assert not any("parsimonious" in share.member for share in l2.shares)


def test_corners_are_for_defences_whose_queries_are_cheap():
    effort = dataclasses.replace(TINY, corner_queries=20)
    assert effort.against(Rounding()).corner_queries == 20
    searching = (defenses.InvertAndClassify(), defenses.AnalysisBySynthesis())
    for other in (defenses.NoDefense(), *searching):
        assert effort.against(other).corner_queries == 0


def _fewest(images, labels):
    """Returns how many values each image needs changed, to the ends of the box."""
    value = (WEIGHTS * images).sum((1, 2, 3)) - 0.2
    rising = np.where(labels[:, None, None, None] == 1, -WEIGHTS, WEIGHTS)
    gains = np.where(rising > 0, 1 - images, images) * np.abs(rising)
    ordered = np.sort(gains.reshape(len(images), -1))[:, ::-1]
    return 1 + (np.cumsum(ordered, 1) < np.abs(value)[:, None]).sum(1)


@pytest.mark.parametrize("queries", [0, 40])
def test_few_values_are_changed_where_these_are_enough(queries):
    images = np.random.default_rng(3).uniform(size=(12, *SHAPE)).astype(np.float32)
    labels = ((WEIGHTS * images).sum((1, 2, 3)) > 0.2).astype(int)
    needed = _fewest(images, labels)
    assert {1, 2} <= set(needed)
    budgets = [Budget("l0", 1.0), Budget("l0", 2.0), Budget("l1", 2.0)]
    found = cascade(
        _keyed(_bare(), len(labels)),
        images,
        labels,
        budgets,
        key=KEY,
        effort=dataclasses.replace(TINY, queries=queries),
    ).budgets
    for each in found[:2]:
        most = each.budget.epsilon
        changed = (each.images != images).reshape(len(images), -1).sum(1)
        assert changed.max() <= most
        assert not np.any(each.broken & (needed > most))
        if queries:
            np.testing.assert_array_equal(each.broken, needed <= most)
    # The image that needs a second value is left to the last member.
    last = "Sparse-RS, 40 queries" if queries else "its gradient, 160 steps"
    assert found[0].shares[-1].member.startswith(last)
    # What falls by two values has fallen in l1, too: no value moves by more than 1.
    assert np.all(found[2].broken[found[1].broken])
    carried = found[2].shares[1]
    assert carried.member == "another budget"
    assert carried.broken == found[1].broken.sum() > 0


def test_of_too_many_changes_the_largest_are_kept():
    clean = np.zeros((2, *SHAPE), np.float32)
    made = clean + np.array([0.3, 0.9, 0.1, 0.5], np.float32).reshape(SHAPE)
    kept = with_fewer(clean, made, 2)
    np.testing.assert_allclose(kept[0].ravel(), [0, 0.9, 0, 0.5])
    np.testing.assert_array_equal(with_fewer(clean, made, 4), made)
