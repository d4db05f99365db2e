"""Minimum-norm attacks against foolbox's on identical weights, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import DDN, FMN, DeepFool

pytestmark = pytest.mark.slow

foolbox = pytest.importorskip("foolbox")


def _apply(params, image):
    hidden = jnp.tanh(image.reshape(-1) @ params["w1"])
    return hidden @ params["w2"]


@pytest.fixture(scope="module")
def problem():
    """A network as sure of itself as a trained one, and images on both its sides.

    foolbox adds 1e-8 to the norms of gradients: theirs must be well above 1.
    """
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        params = {
            "w1": jnp.asarray(rng.normal(size=(36, 16)) / 2),
            "w2": jnp.asarray(100 * rng.normal(size=(16, 4))),
        }
        images = rng.uniform(size=(8, 6, 6, 1))
        # Pixels at the ends of the box, and images in its middle.
        images[:4, 0], images[:4, 1] = 0.0, 1.0
        images[4:] = 0.25 + images[4:] / 2
        logits = jax.vmap(lambda image: _apply(params, image))(jnp.asarray(images))
        labels = np.array(np.argmax(np.asarray(logits), -1))
        # One is misclassified as it is.
        labels[3] = (labels[3] + 1) % 4
        yield params, images, labels


def _crafted(spec, problem, **kwargs):
    with jax.enable_x64(True):
        params, images, labels = problem
        made = attacks.craft(
            spec, _apply, params, images, labels, key=jax.random.key(0), **kwargs
        )
        return np.asarray(made.images)


def _theirs(attack, problem, targets=None):
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        params, images, labels = problem

        def batched(images):
            hidden = jnp.tanh(images.reshape(len(images), -1) @ params["w1"])
            return hidden @ params["w2"]

        model = foolbox.models.JAXModel(batched, bounds=(0, 1))
        criterion = foolbox.criteria.Misclassification(jnp.asarray(labels))
        if targets is not None:
            criterion = foolbox.criteria.TargetedMisclassification(jnp.asarray(targets))
        made = attack.run(model, jnp.asarray(images), criterion)
        assert made.dtype == jnp.float64
        return np.asarray(made)


@pytest.mark.parametrize(
    ("norm", "theirs"), [("l2", "L2DeepFoolAttack"), ("linf", "LinfDeepFoolAttack")]
)
def test_deepfool(norm, theirs, problem):
    ours = _crafted(DeepFool(norm, inside_box=False), problem)
    expected = _theirs(getattr(foolbox.attacks, theirs)(), problem)
    assert (ours != problem[1]).any((1, 2, 3)).sum() == 7
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_ddn(loss, problem):
    params, *rest = problem
    # Cross-entropy's gradient loses its digits where the network is too sure.
    problem = (params | {"w2": params["w2"] / 100}, *rest)
    ours = _crafted(DDN(steps=30, loss=loss), problem)
    expected = _theirs(foolbox.attacks.DDNAttack(steps=30), problem)
    assert (ours != problem[1]).any((1, 2, 3)).sum() == 7
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("targeted", [False, True])
def test_fmn_linf(targeted, problem):
    """Theirs is our nearest image, or another that is exactly as near.

    Whenever the radius falls back to the nearest distance, the next image lies at that
    very distance, and rounding decides which of the two foolbox keeps.
    """
    params, images, labels = problem
    wanted = (labels + 1) % 4 if targeted else labels
    spec = FMN("linf", steps=40, loss="difference", inside_box=False)
    walk, adversarial, ours = _walked(spec, params, images, wanted, targeted)
    attack = foolbox.attacks.LInfFMNAttack(steps=40)
    expected = _theirs(attack, problem, wanted if targeted else None)
    assert adversarial.any(1).sum() >= 7
    distances = np.where(adversarial, np.abs(walk - images[:, None]).max((2, 3, 4)), 9)
    ties = distances <= distances.min(1, keepdims=True) + 1e-12
    assert ties.sum(1)[distances.min(1) > 0].max() <= 6
    for made in (ours, expected):
        off = np.abs(walk - made[:, None]).max((2, 3, 4))
        np.testing.assert_allclose(np.where(ties, off, 9).min(1), 0, rtol=0, atol=1e-9)


def _walked(spec, params, images, labels, targeted):
    """Returns the images met, which of them are adversarial, and what is returned."""

    def one(image, label):
        def classify(image):
            return _apply(params, image)

        problem = attacks.Problem(classify, image, label, jnp.float64(0), targeted)

        def step(state, _):
            met = state.image, problem.succeeds(classify(state.image))
            return spec.step(problem, key, state), met

        key = jax.random.key(0)
        begun = spec.begin(problem, key)
        last, (walk, adversarial) = jax.lax.scan(step, begun, length=spec.steps)
        return walk, adversarial, spec.finish(problem, key, last)

    with jax.enable_x64(True):
        walked = jax.jit(jax.vmap(one))(jnp.asarray(images), jnp.asarray(labels))
        return tuple(np.asarray(part) for part in walked)
