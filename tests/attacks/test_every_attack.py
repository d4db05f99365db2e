"""Properties of every registered attack; a new attack needs a row in the tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import FGSM, PGD, RandFGSM
from robust_manifold.core import norms

BUDGETED = {
    "fgsm": [FGSM(0.1), FGSM(0.1, loss="ce")],
    "rand_fgsm": [RandFGSM(0.1, alpha=0.02)],
    "pgd": [
        PGD(0.1, steps=10, restarts=2),
        PGD(0.1, steps=10, random_start=False, loss="ce"),
        PGD(0.4, "l2", steps=10),
    ],
}
NOTHING = {
    "fgsm": [FGSM(0.0)],
    "rand_fgsm": [RandFGSM(0.0, alpha=0.0)],
    "pgd": [PGD(0.0, restarts=2), PGD(0.0, "l2"), PGD(0.0, random_start=False)],
}
ALL = [spec for specs in BUDGETED.values() for spec in specs]
IDLE = [spec for specs in NOTHING.values() for spec in specs]
MARGIN = [spec for spec in ALL if spec.loss == "margin"]
KEY = jax.random.key(3)


def _craft(spec, toy, rows=slice(None), **kwargs):
    return attacks.craft(
        spec,
        toy.apply,
        toy.params,
        toy.images[rows],
        toy.labels[rows],
        key=KEY,
        **kwargs,
    )


def test_no_attack_is_left_out():
    assert sorted(BUDGETED) == sorted(NOTHING) == attacks.registry.names


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_specs_are_values(spec):
    text = attacks.registry.to_string(spec)
    assert attacks.registry.build(text) == spec
    assert hash(attacks.registry.build(text)) == hash(spec)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.epsilon = 1.0


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_images_stay_in_the_ball_and_the_box(spec, toy):
    crafted = _craft(spec, toy)
    images = np.asarray(crafted.images)
    assert np.isfinite(images).all()
    assert images.min() >= 0 and images.max() <= 1
    assert not np.array_equal(images, toy.images)
    delta = images.astype(np.float64) - toy.images
    for one, distance in zip(delta, crafted.distance, strict=True):
        flat = np.abs(one).ravel()
        exact = flat.max() if spec.norm == "linf" else np.linalg.norm(flat)
        assert exact <= spec.epsilon * (1 + 1e-6)
        assert float(distance) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("toy", [4], indirect=True)
@pytest.mark.parametrize("spec", IDLE, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_epsilon_zero_returns_the_image(spec, toy, scale):
    toy = toy._replace(params=toy.params | {"scale": jnp.float32(scale)})
    crafted = _craft(spec, toy)
    np.testing.assert_array_equal(crafted.images, toy.images)
    np.testing.assert_array_equal(crafted.distance, np.zeros(len(toy.images)))


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_a_zero_gradient_is_data(spec, toy):
    toy = toy._replace(params=toy.params | {"scale": jnp.float32(0.0)})
    crafted = _craft(spec, toy)
    images = np.asarray(crafted.images)
    assert np.isfinite(images).all()
    assert images.min() >= 0 and images.max() <= 1
    distances = [norms.norm(jnp.asarray(d), spec.norm) for d in images - toy.images]
    assert max(distances) <= spec.epsilon * (1 + 1e-6)


@pytest.mark.parametrize("spec", MARGIN, ids=str)
def test_the_scale_of_the_logits_changes_no_success(spec, toy):
    successes = []
    for scale in (1.0, 100.0, 1000.0):
        scaled = toy._replace(
            params=toy.params | {"scale": scale * toy.params["scale"]}
        )
        successes.append(np.asarray(_craft(spec, scaled).success))
    assert successes[0].any()
    np.testing.assert_array_equal(successes[0], successes[1])
    np.testing.assert_array_equal(successes[0], successes[2])


def _assert_same(result, expected):
    np.testing.assert_allclose(result.images, expected.images, atol=1e-9)
    np.testing.assert_allclose(result.distance, expected.distance, atol=1e-9)
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_array_equal(result.queries, expected.queries)


@pytest.mark.parametrize("toy", [4], indirect=True)
@pytest.mark.parametrize("spec", MARGIN, ids=str)
def test_batch_mates_and_batch_size_change_nothing(spec, toy):
    """In float64: in float32 another batch size rounds other signs near zero."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: np.asarray(a, np.float64), toy.params)
        toy = toy._replace(params=params, images=toy.images.astype(np.float64))
        together = _craft(spec, toy)
        assert together.images.dtype == np.float64
        for batch_size in (1, 3):
            _assert_same(_craft(spec, toy, batch_size=batch_size), together)
        alone = _craft(spec, toy, slice(4, 5), ids=np.array([4]))
        _assert_same(alone, jax.tree.map(lambda a: a[4:5], together))


@pytest.mark.parametrize("toy", [4], indirect=True)
@pytest.mark.parametrize("spec", ALL, ids=str)
def test_equal_calls_give_equal_images(spec, toy):
    np.testing.assert_array_equal(_craft(spec, toy).images, _craft(spec, toy).images)


@pytest.mark.parametrize("toy", [4], indirect=True)
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 1.0), ("l2", 8.0)])
def test_without_a_bound_every_image_falls(norm, epsilon, toy):
    assert _craft(PGD(epsilon, norm, steps=20), toy).success.all()


@pytest.mark.parametrize("toy", [4], indirect=True)
def test_many_steps_beat_one(toy):
    single, many = _craft(FGSM(0.1), toy), _craft(PGD(0.1, steps=10), toy)
    assert many.success.sum() >= single.success.sum()
