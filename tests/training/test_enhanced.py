"""Enhanced INC: its objective, its pairs, and that the sup it trains on goes down."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.attacks.overpowered import Overpowered
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.training import CrossEntropy, EnhancedINC, classifier_trainings
from tests.training.networks import SHAPE, linear, weights
from tests.training.pairs import (
    BATCH,
    KEY,
    MODEL,
    SGD,
    SPANNER,
    Drawn,
    Following,
    logits_of,
    mean_cross_entropy,
    params_of_spanner,
    run,
    start,
)

SEARCH = Overpowered(eta=0.5, steps=20, restarts=2)
SMALL = EnhancedINC(SGD, pairs=4, every=1, search=SEARCH)
ALL = Drawn(eta=1.0, share=1.0)
FORMS = {
    "probabilities": {"mu": 0.4},
    "logits": {"mu": 0.4, "outputs": "logits", "search": ALL},
    "symmetric": {"form": "symmetric_cross_entropy", "search": ALL},
}


def _pair_loss(w, pairs, form):
    """Returns the mean loss of the feasible pairs, written out."""
    first, second = jnp.moveaxis(logits_of(w, pairs), 1, 0)
    if form == "logits":
        return jnp.mean(jnp.sum((first - second) ** 2, axis=1))
    p, q = jax.nn.softmax(first), jax.nn.softmax(second)
    if form == "probabilities":
        return jnp.mean(jnp.sum((p - q) ** 2, axis=1))
    return -jnp.mean(jnp.sum(p * jnp.log(q) + q * jnp.log(p), axis=1))


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_with_the_pairs_as_constants(form):
    training = dataclasses.replace(SMALL, **FORMS[form])
    before, state, (metrics,) = run(training)
    pairs = state.more.pairs
    assert pairs.feasible.any()

    def objective(w):
        apart = _pair_loss(w, pairs, form)
        if form == "symmetric":  # A third of the released loss.
            return (mean_cross_entropy(w) + 2 * apart) / 3
        return 0.6 * mean_cross_entropy(w) + 0.4 * apart

    loss, gradient = jax.value_and_grad(objective)(weights(before))
    step = (weights(before) - weights(state.params)) / 0.1
    np.testing.assert_allclose(step, gradient, rtol=1e-4, atol=1e-5)
    cosine = np.sum(step * gradient) / np.linalg.norm(step) / np.linalg.norm(gradient)
    assert cosine > 1 - 1e-6
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    expected = _pair_loss(weights(before), pairs, form)
    np.testing.assert_allclose(metrics.pair_loss, expected, rtol=1e-4)
    np.testing.assert_allclose(pairs.loss, expected, rtol=1e-4)


def test_nothing_of_the_gradient_goes_through_the_search():
    search = Following(eta=1.0)
    training = dataclasses.replace(SMALL, search=search).with_spanner(SPANNER)
    spanner, params = params_of_spanner(), MODEL.init(KEY)

    def held(params):
        return training.find(MODEL, params, spanner, KEY).images

    def free(params):
        manifold = SPANNER.bind(spanner)
        return search.pair(KEY, manifold, lambda x: MODEL.apply(params, x)).images

    _, slopes = jax.jvp(held, (params,), (params,))
    assert not np.any(slopes)
    _, slopes = jax.jvp(free, (params,), (params,))
    assert np.abs(slopes).max() > 0.1


def test_infeasible_pairs_are_masked_out():
    training = dataclasses.replace(SMALL, mu=0.4, pairs=8, search=Drawn(eta=1.0))
    before, state, (metrics,) = run(training)
    pairs = state.more.pairs
    count = np.sum(pairs.feasible)
    assert 0 < count < 8 and metrics.feasible == count / 8
    chex.assert_tree_all_finite((state.params, metrics))
    assert not pairs.images[~pairs.feasible].any()
    np.testing.assert_allclose(
        metrics.distance, pairs.distances[pairs.feasible].mean(), rtol=1e-6
    )

    def objective(w):
        return 0.6 * mean_cross_entropy(w) + 0.4 * _pair_loss(w, pairs, "probabilities")

    expected = weights(before) - 0.1 * jax.grad(objective)(weights(before))
    np.testing.assert_allclose(weights(state.params), expected, atol=1e-6)


def test_a_step_without_a_feasible_pair_is_a_plain_one():
    none = dataclasses.replace(SMALL, search=Drawn(eta=1.0, share=0.0))
    _, state, (metrics,) = run(none)
    _, plain, (expected,) = run(CrossEntropy(SGD))
    chex.assert_trees_all_close(state.params, plain.params, rtol=1e-6)
    np.testing.assert_allclose(metrics.loss, expected.loss, rtol=1e-6)
    assert metrics[2:] == (0, 0, 0)


def test_without_weight_it_is_plain_training_bit_for_bit():
    model = models.build("defense_gan_d", image_shape=SHAPE, classes=3)
    fields = {"optimizer": "adam(0.01)", "label_smoothing": 0.1, "average_decay": 0.9}
    _, plain, expected = run(CrossEntropy(**fields), model, count=3)
    _, state, metrics = run(EnhancedINC(**fields, mu=0.0), model, count=3)
    chex.assert_trees_all_equal(state._replace(more=()), plain)
    assert [metric[:2] for metric in metrics] == [tuple(both) for both in expected]


def test_the_loss_does_not_depend_on_how_many_there_are():
    few = dataclasses.replace(SMALL, pairs=2, search=Drawn(1.0, share=1.0, alike=True))
    many = dataclasses.replace(few, pairs=5)
    pixels, classes = BATCH
    twice = np.concatenate([pixels, pixels]), np.concatenate([classes, classes])
    _, one, (first,) = run(few)
    _, two, (second,) = run(many, batch=twice)
    chex.assert_trees_all_close(first, second, rtol=1e-5)
    np.testing.assert_allclose(weights(one.params), weights(two.params), atol=1e-6)


def test_pairs_stay_until_the_next_search():
    training = dataclasses.replace(SMALL, every=2, search=ALL)
    training, state = start(training)
    found, losses = [], []
    for _ in range(3):
        state, metrics = training.step(MODEL, 10, KEY, state, *BATCH)
        found.append(np.asarray(state.more.pairs.images))
        losses.append((float(metrics.pair_loss), float(state.more.pairs.loss)))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])
    # They are measured with the classifier as it is, which has moved on.
    np.testing.assert_allclose(*losses[0], rtol=1e-5)
    assert losses[1][1] == losses[0][1] and losses[1][0] != losses[0][0]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_pairs_lie_apart_and_within_eta_in_their_own_plain_norm(norm):
    """z' starts independent of z: with z' = z a symmetric loss parts no pair."""
    search = Overpowered(0.5, norm, steps=20, restarts=2, loss="symmetric_ce")
    _, state, (metrics,) = run(dataclasses.replace(SMALL, search=search))
    pairs = state.more.pairs
    assert pairs.feasible.all()
    delta = (pairs.images[:, 0] - pairs.images[:, 1]).reshape(4, -1)
    order = {"l2": 2, "linf": np.inf}[norm]
    expected = np.linalg.norm(delta, order, axis=1)
    np.testing.assert_allclose(pairs.distances, expected, rtol=1e-5)
    assert (expected > 0.25).all() and (pairs.distances <= 0.5).all()
    if norm == "linf":
        assert (np.linalg.norm(delta, 2, axis=1) > 0.5).any()
    np.testing.assert_allclose(metrics.distance, expected.mean(), rtol=1e-5)


def test_the_sup_goes_down_and_accuracy_is_kept():
    """On a linear generator and classifier the sup has a closed form.

    Of two classes ||p - p'||^2 is 2 * (s(a) - s(b))^2, s the sigmoid and a, b the two
    differences of the logits, which are at most eta * |P w| apart, P the projection
    onto the range and w the difference of the weights: the sup is at a = -b.
    """
    eta, steps = 1.0, 100
    generator = linear((3,), SHAPE, scale=1.0)
    known = generator.init(jax.random.key(5))
    spanner = Spanner(generator.apply, (3,))
    model = linear(SHAPE, (2,), scale=0.1)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(64, 3)).astype(np.float32)
    classes = (latents[:, 0] > 0).astype(np.int32)
    latents[:, 0] += 3 * np.sign(latents[:, 0])
    batch = np.asarray(generator.apply(known, latents)), classes
    basis = np.linalg.qr(weights(known).T)[0]

    def fitted(training, start=None):
        training = training.with_spanner(spanner)
        given = SpannerParams(known)
        state = training.init(model, KEY, steps, start=start, spanner=given)

        return training.train_params(last(training, state))

    @functools.partial(jax.jit, static_argnames="training")
    def last(training, state):
        def body(state, _):
            return training.step(model, steps, KEY, state, *map(jnp.asarray, batch))

        return jax.lax.scan(body, state, length=steps)[0]

    def sup(params):
        difference = weights(params) @ np.array([-1, 1])
        return 2 * np.tanh(eta * np.linalg.norm(basis.T @ difference) / 4) ** 2

    @jax.jit
    def fresh_sup(params):
        search = Overpowered(eta, steps=100, restarts=4, loss="probabilities")
        manifold = spanner.bind(SpannerParams(known))

        def found(key):
            pair = search.pair(key, manifold, lambda x: model.apply(params, x))
            shares = jax.nn.softmax(pair.logits)
            return jnp.where(pair.feasible, jnp.sum((shares[0] - shares[1]) ** 2), 0)

        return jnp.max(jax.vmap(found)(jax.random.split(jax.random.key(9), 4)))

    def right(params):
        return np.mean(model.apply(params, batch[0]).argmax(1) == batch[1])

    search = Overpowered(eta, steps=30, restarts=1)
    training = EnhancedINC("adam(0.1)", mu=0.5, pairs=8, every=5, search=search)
    before = fitted(CrossEntropy("adam(0.1)"))
    control = fitted(CrossEntropy("adam(0.1)"), before)
    after = fitted(training, before)
    assert right(before) == right(control) == right(after) == 1
    assert sup(after) < sup(before) / 2 < sup(control)
    for params in (before, after):
        assert sup(params) * 0.95 < fresh_sup(params) < sup(params) * 1.0001


def test_texts_and_specs_are_the_same():
    text = (
        "enhanced_inc(mu=0.5, form='symmetric_cross_entropy', every=7, "
        "search=overpowered(eta=2.0, norm='linf'))"
    )
    spec = classifier_trainings.build(text)
    assert classifier_trainings.to_string(spec) == text
    assert spec == EnhancedINC(
        mu=0.5,
        form="symmetric_cross_entropy",
        every=7,
        search=Overpowered(2.0, "linf"),
    )
    with_one = spec.with_spanner(SPANNER)
    assert with_one == spec.with_spanner(SPANNER) != spec
    assert hash(with_one) == hash(spec.with_spanner(SPANNER))
    assert spec.spanner is None and with_one.needs_spanner


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mu": 1.0}, "EnhancedINC.mu is 1.0; allowed: 0 to below 1"),
        (
            {"form": "symmetric_cross_entropy", "outputs": "logits"},
            "EnhancedINC.outputs is 'logits'; allowed: probabilities, where form is",
        ),
        ({"every": 0}, "EnhancedINC.every is 0; allowed: 1 or more"),
        ({"pairs": 0}, "EnhancedINC.pairs is 0; allowed: 1 or more"),
        ({"search": "pgd(epsilon=0.1)"}, "overpowered attack 'pgd'; known: overp"),
        ({"search": "overpowered(eta=0)"}, "Overpowered.eta is 0.0; allowed: a finite"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EnhancedINC(**fields)


@pytest.mark.parametrize("field", ["form", "outputs"])
def test_unknown_forms_are_refused(field):
    with pytest.raises(ValueError, match=f"value of enhanced_inc.{field}: 'square'"):
        classifier_trainings.build(f"enhanced_inc({field}='square')")


def test_a_generator_that_lacks_or_does_not_fit_is_refused():
    known = params_of_spanner()
    with pytest.raises(ValueError, match="spanner of EnhancedINC is None; allowed: a"):
        SMALL.init(MODEL, KEY, 10, spanner=known)
    training = SMALL.with_spanner(SPANNER)
    with pytest.raises(ValueError, match="spanner of EnhancedINC is None; allowed: a"):
        training.init(MODEL, KEY, 10)
    with pytest.raises(ValueError, match=r"makes images of shape \(2, 2, 1\); allowed"):
        training.init(linear((3, 2, 1), (3,)), KEY, 10, spanner=known)
