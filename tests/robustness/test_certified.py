"""What `evaluate` says of a codebook: what is proved, beside what attacks leave."""

import jax
import numpy as np

import robust_manifold
from robust_manifold import defenses, models
from robust_manifold.core.networks import Networks
from robust_manifold.evaluation import Budget
from robust_manifold.evaluation.cascades import Judged
from robust_manifold.robustness.certified import certified_notes
from tests.robustness.pixels import EFFORT

MODEL = models.build("codebook(per_class=1)", image_shape=(2, 1, 1), classes=2)
PARAMS = {
    "params": {
        "prototypes": np.array([[[0.0, 0.5]], [[1.0, 0.5]]], np.float32).reshape(
            2, 1, 2, 1, 1
        )
    }
}
IMAGES = np.array([[0.1, 0.5], [0.3, 0.2], [0.9, 0.5], [0.8, 0.1]], np.float32)
IMAGES = IMAGES.reshape(4, 2, 1, 1)
LABELS = np.array([0, 0, 1, 0])
BUDGETS = [Budget("l2", 0.1), Budget("l2", 0.3), Budget("linf", 0.45)]


def _judged(apply=MODEL.apply, params=PARAMS, defence="none"):
    defence = defenses.registry.build(defence)
    return Judged(defence, Networks(), apply, defenses.DefenseParams({}, params))


def test_the_radius_is_that_to_the_middle():
    # At distances 0.4, 0.2 and 0.4 of the plane between both; one image is wrong.
    (note,) = certified_notes(_judged(), IMAGES, LABELS, BUDGETS)
    assert "75.0 % at l2 0.1, 50.0 % at l2 0.3, 0.0 % at linf 0.45" in note


def test_nothing_is_said_of_what_is_no_bare_codebook():
    linear = models.build("linear", image_shape=(2, 1, 1), classes=2)
    of_linear = _judged(linear.apply, linear.init(jax.random.key(0)))

    def other(params, image):
        return 2 * MODEL.apply(params, image)

    for judged in (of_linear, _judged(other), _judged(defence="bit_depth(bits=2)")):
        assert not certified_notes(judged, IMAGES, LABELS, BUDGETS)


def test_an_evaluation_tells_it():
    found = robust_manifold.evaluate(
        (MODEL.apply, PARAMS),
        IMAGES,
        LABELS,
        epsilons={"l2": 0.3},
        effort=EFFORT,
        on_progress=None,
    )
    assert any("50.0 % at l2 0.3" in note for note in found.notes)
    assert found.lines[-1].accuracy == 0.5
