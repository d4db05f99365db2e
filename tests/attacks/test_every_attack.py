"""What every registered attack promises; a new attack needs a row in `CASES`."""

import dataclasses
import functools
import warnings
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import (
    APGD,
    BIM,
    DDN,
    FAB,
    FGSM,
    FMN,
    JSMA,
    PGD,
    SPSA,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    ElasticNet,
    HopSkipJump,
    MomentumPGD,
    Parsimonious,
    Patch,
    RandFGSM,
    SigmaZero,
    SparseRS,
    Square,
    SteppedAttack,
)
from tests.attacks.toys import make_toy

CASES = {
    "apgd": [
        APGD(0.1, steps=10, loss="targeted_dlr", targets=3, stop=True),
        APGD(0.1, steps=10),
        APGD(0.4, "l2", steps=10, loss="dlr"),
        APGD(1.5, "l1", steps=20),
    ],
    "auto_attack": [AutoAttack(0.1, version="rand", steps=5)],
    "bim": [BIM(0.1)],
    "carlini_wagner": [
        CarliniWagner(binary_search_steps=4, steps=40),
        CarliniWagner("l0", binary_search_steps=30, steps=20),
        CarliniWagner("linf", binary_search_steps=20, steps=20),
    ],
    "ddn": [DDN(steps=30)],
    "deepfool": [DeepFool("l2"), DeepFool("linf")],
    "elastic_net": [ElasticNet(binary_search_steps=5, steps=40)],
    "fab": [
        FAB("linf", steps=10),
        FAB("l2", steps=10, targets=9),
        FAB("linf", steps=10, epsilon=0.1),
    ],
    "fgsm": [FGSM(0.1), FGSM(0.1, loss="ce")],
    "fmn": [FMN("linf", steps=30), FMN("l2", steps=30)],
    "hop_skip_jump": [HopSkipJump(queries=600)],
    "jsma": [JSMA(gamma=1.0), JSMA(gamma=1.0, classes="all")],
    "momentum_pgd": [
        MomentumPGD(0.1),
        MomentumPGD(0.4, "l2", restarts=2, random_start=True),
    ],
    "parsimonious": [Parsimonious(0.1, queries=200)],
    "patch": [Patch("square(size=0.6)", steps=20, samples=2, evaluation_samples=2)],
    "pgd": [
        PGD(0.1, steps=10, restarts=2),
        PGD(0.1, steps=10, random_start=False, stop=True),
        PGD(0.4, "l2", steps=10),
        PGD(1.5, "l1", steps=20),
    ],
    "rand_fgsm": [RandFGSM(0.1, alpha=0.02)],
    "sigma_zero": [SigmaZero(steps=60)],
    "spsa": [SPSA(0.1, steps=20, samples=16)],
    "sparse_rs": [SparseRS(12, queries=200), SparseRS(12, "l0", queries=200)],
    "square": [Square(0.1, queries=200), Square(0.4, "l2", queries=200)],
}
"""Specs that break most images of the toy classifier, by the names of the registry."""

ALL = [spec for specs in CASES.values() for spec in specs]
BUDGETED = [spec for spec in ALL if spec.budget is not None]
NEAREST = [spec for spec in ALL if spec.budget is None and spec.family != "physical"]
FIRST = [specs[0] for specs in CASES.values()]
"""One of each: what is compiled anew for a property is tested on these alone."""
SCALE_FREE = [spec for spec in ALL if getattr(spec, "loss", "") != "ce"]
LATE = (CarliniWagner, HopSkipJump, Parsimonious, Patch, SparseRS, Square)
"""Attacks whose state may hold the clean or the first image for the first steps."""
KEY = jax.random.key(3)
TILE = 8


def group(spec):
    """Returns the mark by which a spec's tests run in one process.

    So what they compile is compiled once.
    """
    return pytest.mark.xdist_group(str(spec))


def grouped(specs):
    """Returns the specs as parameters; those that are not the first are slow."""
    return [pytest.param(spec, id=str(spec), marks=marks(spec)) for spec in specs]


def marks(spec):
    """Returns the marks of a spec's tests."""
    return (group(spec),) if spec in FIRST else (group(spec), pytest.mark.slow)


every_attack = pytest.mark.parametrize("spec", grouped(ALL))


@functools.cache
def crafted(spec, classes=4, scale=1.0, targeted=False):
    """Returns what the attack makes of the toy's images, its logits multiplied."""
    toy = make_toy(classes)
    params = toy.params | {"scale": jnp.float32(scale) * toy.params["scale"]}
    targets = (toy.labels + 1) % classes if targeted else None
    with warnings.catch_warnings():
        # Broken logits and losses for more classes are told, and tested elsewhere.
        warnings.simplefilter("ignore", attacks.AttackWarning)
        return attacks.craft(
            spec,
            toy.apply,
            params,
            toy.images,
            toy.labels,
            key=KEY,
            targets=targets,
            tile=TILE,
        )


def exact_distance(delta, norm):
    """Returns the norms [n] of perturbations, in float64."""
    flat = np.abs(delta.astype(np.float64)).reshape(len(delta), -1)
    return {
        "pixels": (delta != 0).any(-1).sum((1, 2)).astype(np.float64),
        "linf": flat.max(-1),
        "l2": np.sqrt((flat**2).sum(-1)),
        "l1": flat.sum(-1),
        "l0": (flat > 0).sum(-1).astype(np.float64),
    }[norm]


def assert_allowed(spec, images, clean):
    """Asserts that images are finite, in the box and, with a budget, in the ball."""
    images = np.asarray(images)
    assert np.isfinite(images).all()
    assert images.min() >= 0 and images.max() <= 1
    if spec.budget is not None:
        distance = exact_distance(images.astype(np.float64) - clean, spec.norm)
        assert distance.max() <= spec.budget * (1 + 1e-6)


def test_no_attack_is_left_out():
    assert sorted(CASES) == attacks.registry.names


def test_a_star_import_brings_every_attack():
    """And every mask and set of transformations that configs can name."""
    registries = (
        attacks.registry,
        attacks.masks_registry,
        attacks.overpowered_registry,
        attacks.transformations_registry,
    )
    classes = {
        registry[name].__name__ for registry in registries for name in registry.names
    }
    assert classes - set(attacks.__all__) == set()


@every_attack
def test_specs_are_values(spec):
    text = attacks.registry.to_string(spec)
    assert attacks.registry.build(text) == spec
    assert hash(attacks.registry.build(text)) == hash(spec)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.norm = "l3"


@pytest.mark.parametrize(
    ("spec", "classes"),
    [
        pytest.param(spec, classes, id=f"{classes}-{spec}", marks=marks(spec))
        for classes, specs in {2: FIRST, 4: ALL}.items()
        for spec in specs
    ],
)
def test_images_are_allowed_and_break_the_classifier(spec, classes):
    toy, found = make_toy(classes), crafted(spec, classes)
    assert_allowed(spec, found.images, toy.images)
    # Cross-entropy underflows, and finds less where it does.
    assert np.mean(found.success) > (0.5 if spec in SCALE_FREE else 0.2)
    np.testing.assert_array_equal(
        found.success, np.argmax(found.logits, -1) != toy.labels
    )
    logits = jax.vmap(functools.partial(toy.apply, toy.params))(found.images)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-4)
    delta = np.asarray(found.images, np.float64) - toy.images
    exact = exact_distance(delta, spec.norm)
    np.testing.assert_allclose(found.distance, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spec", grouped(NEAREST))
def test_where_no_image_is_found_the_clean_one_is_returned(spec):
    toy, found = make_toy(4), crafted(spec, scale=0.0)
    failed = ~np.asarray(found.success)
    np.testing.assert_array_equal(found.images[failed], toy.images[failed])


@pytest.mark.parametrize("spec", grouped(BUDGETED))
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_epsilon_zero_returns_the_image(spec, scale):
    changes = {"alpha": 0.0} if isinstance(spec, RandFGSM) else {}
    nothing = dataclasses.replace(spec, epsilon=0.0, **changes)
    found = crafted(nothing, scale=scale)
    np.testing.assert_array_equal(found.images, make_toy(4).images)
    np.testing.assert_array_equal(found.distance, np.zeros(len(found.images)))


@every_attack
@pytest.mark.parametrize("scale", [0.0, np.nan])
def test_zero_gradients_and_nan_logits_are_data(spec, scale):
    found = crafted(spec, scale=scale)
    assert_allowed(spec, found.images, make_toy(4).images)
    if np.isnan(scale):
        assert not found.success.any()


@pytest.mark.parametrize("spec", grouped(SCALE_FREE))
def test_the_scale_of_the_logits_changes_no_success(spec):
    expected = crafted(spec)
    for scale in (100.0, 1000.0):
        np.testing.assert_array_equal(
            crafted(spec, scale=scale).success, expected.success
        )


@every_attack
def test_an_image_alone_is_attacked_as_in_a_batch(spec):
    toy, together = make_toy(4), crafted(spec)
    alone = attacks.craft(
        spec,
        toy.apply,
        toy.params,
        toy.images[4:5],
        toy.labels[4:5],
        key=KEY,
        ids=np.array([4]),
        tile=TILE,
    )
    for one, many in zip(
        jax.tree.leaves(alone), jax.tree.leaves(together), strict=True
    ):
        np.testing.assert_array_equal(one[0], many[4])


@pytest.mark.parametrize("spec", grouped(FIRST))
def test_targets_are_reached(spec):
    found = crafted(spec, targeted=True)
    targets = (make_toy(4).labels + 1) % 4
    assert_allowed(spec, found.images, make_toy(4).images)
    np.testing.assert_array_equal(found.success, np.argmax(found.logits, -1) == targets)
    assert found.success.any()


@pytest.mark.parametrize(
    "spec", grouped(spec for spec in FIRST if isinstance(spec, SteppedAttack))
)
def test_the_declared_cost_is_what_is_asked_for(spec):
    """Every evaluation and every gradient of the classifier is counted."""
    toy, asked = make_toy(4), Counter()

    @jax.custom_vjp
    def classify(image):
        jax.debug.callback(lambda _: asked.update(forwards=1), image[0, 0, 0])
        return toy.apply(toy.params, image)

    def forward(image):
        return classify(image), image

    def backward(image, cotangent):
        jax.debug.callback(lambda _: asked.update(backwards=1), cotangent[0])
        pull_back = jax.vjp(functools.partial(toy.apply, toy.params), image)[1]
        return pull_back(cotangent)

    classify.defvjp(forward, backward)
    image, label = jnp.asarray(toy.images[0]), jnp.int32(toy.labels[0])
    attack = jax.jit(lambda image: spec.run(KEY, classify, image, label))
    attempt = attack(image)
    jax.effects_barrier()
    assert int(attempt.forwards) == asked["forwards"]
    assert int(attempt.backwards) == asked["backwards"]
    most = spec.cost(4)
    assert asked["forwards"] <= most.forwards
    assert asked["backwards"] <= most.backwards


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 1.0), ("l2", 8.0)])
def test_without_a_bound_every_image_falls(norm, epsilon):
    assert crafted(PGD(epsilon, norm, steps=20)).success.all()


def test_many_steps_beat_one():
    single, many = crafted(FGSM(0.1)), crafted(PGD(0.1, steps=10))
    assert many.success.sum() >= single.success.sum()


@functools.partial(jax.jit, static_argnames=("spec", "apply"))
def states_of(spec, apply, params, image, label):
    """Returns the states of an attack on one image before and after its steps."""
    spec = spec.for_classes(4)
    problem = attacks.Problem(
        functools.partial(apply, params), image, label, jnp.float32(spec.budget or 0)
    )
    spec = spec.without_budget()
    states = [spec.begin(problem, KEY)]
    for number in range(min(3, spec.iterations)):
        key = jax.random.fold_in(KEY, number)
        states.append(spec.step(problem, key, states[-1]))
    return states


@pytest.mark.parametrize(
    "spec", grouped(spec for spec in ALL if isinstance(spec, SteppedAttack))
)
def test_the_image_of_a_state_is_told(spec):
    """It is what the state holds, clipped to the box, and what the steps change."""
    toy = make_toy(4)
    image = jnp.asarray(toy.images[0])
    states = states_of(spec, toy.apply, toy.params, image, jnp.int32(toy.labels[0]))
    for state in states:
        told = np.asarray(spec.image_of(state))
        assert told.shape[-3:] == image.shape
        assert told.min() >= 0 and told.max() <= 1
        held = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == told.shape]
        assert any(np.array_equal(told, np.clip(leaf, 0, 1)) for leaf in held)
    if type(spec) not in LATE:
        first, last = spec.image_of(states[0]), spec.image_of(states[-1])
        assert not np.array_equal(first, last)
