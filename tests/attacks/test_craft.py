import contextlib
import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    APGD,
    FGSM,
    PGD,
    SPSA,
    AttackWarning,
    AutoAttack,
    DeepFool,
    Ensemble,
    Expectation,
    Square,
    craft,
    craft_grid,
)
from robust_manifold.attacks.outputs import loop_form
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
IMAGES = np.full((3, 2, 2, 1), 0.5, np.float32)
LABELS = np.array([0, 1, 1])


def apply(params, image):
    score = params * (image.sum() - 2.0)
    return jnp.stack([-score, score])


@dataclasses.dataclass(frozen=True)
class Counted(FGSM):
    """FGSM that counts its traces."""

    traces: ClassVar[list] = []

    def step(self, problem, key, state):
        self.traces.append(1)
        return super().step(problem, key, state)


def test_equal_specs_compile_once():
    """The trace that tells how much memory an image needs is the one compiled.

    Another budget is the same program.
    """
    for params in (1.0, 2.0, 3.0):
        craft(Counted(0.25), apply, jnp.float32(params), IMAGES, LABELS, key=KEY)
    assert len(Counted.traces) == 1
    craft(Counted(0.125), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    assert len(Counted.traces) == 1
    craft(Counted(0.25, loss="ce"), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    assert len(Counted.traces) == 2


def test_everything_by_hand():
    crafted = craft(FGSM(0.1), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    expected = np.array([0.6, 0.4, 0.4], np.float32)
    np.testing.assert_allclose(crafted.images[:, 0, 0, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(crafted.success, [True, True, True])
    np.testing.assert_allclose(crafted.distance, [0.1] * 3, rtol=1e-6)
    np.testing.assert_allclose(crafted.logits[:, 1], [0.4, -0.4, -0.4], rtol=1e-5)
    np.testing.assert_array_equal(crafted.queries.forwards, [1, 1, 1])
    np.testing.assert_array_equal(crafted.queries.backwards, [1, 1, 1])


def test_progress():
    calls = []
    craft(
        FGSM(0.1),
        apply,
        jnp.float32(1.0),
        IMAGES,
        LABELS,
        key=KEY,
        batch_size=2,
        on_chunk=lambda *a: calls.append(a),
    )
    # With several devices a chunk holds at least one image for each.
    assert calls[-1] == (3, 3)


def _broken(params, image):
    return jnp.array([1.0, jnp.nan]) + params * image.sum()


def test_nan_logits_are_no_success():
    with pytest.warns(AttackWarning, match="NaN logits for 3 of 3 clean images"):
        crafted = craft(
            PGD(0.1), _broken, jnp.float32(1.0), IMAGES, LABELS * 0, key=KEY
        )
    assert not crafted.success.any()
    np.testing.assert_array_equal(crafted.images, IMAGES)
    assert np.isnan(crafted.logits).any()


@dataclasses.dataclass(frozen=True)
class Parted(Ensemble):
    """Two members, of which the second goes on with what the first has left."""

    epsilon: float
    norm: str = "linf"

    def members(self, classes):
        return FGSM(self.epsilon / 2), PGD(self.epsilon, steps=2)


@contextlib.contextmanager
def counted_programs():
    """Yields a list that grows by one for each program that is compiled."""
    found = []

    def note(event, duration, **more):
        del duration, more
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def _of_number(call, apply, n):
    images = np.linspace(0.4, 0.6, 4 * n, dtype=np.float32).reshape(n, 2, 2, 1)
    labels = (images.sum(axis=(1, 2, 3)) > 2).astype(int)
    call(apply=apply, params=jnp.float32(1), images=images, labels=labels, key=KEY)


@pytest.mark.parametrize(
    "call",
    [
        functools.partial(craft, PGD(0.07, steps=3, stop=True)),
        functools.partial(craft, Parted(0.03)),
        functools.partial(craft_grid, Parted(0.0), epsilons=[0.02, 0.05, 0.06]),
        functools.partial(craft_grid, DeepFool(), epsilons=[0.02, 0.05, 0.06]),
    ],
    ids=["alone", "ensemble", "grid", "nearest"],
)
def test_another_number_of_images_compiles_nothing(call):
    """All that is compiled has the size of a tile: 32 images here."""
    fresh = dataclasses.make_dataclass("Fresh", [], frozen=True)
    fresh.__call__ = lambda self, params, image: apply(params, image)
    with counted_programs() as first:
        _of_number(call, fresh(), 9)
    with counted_programs() as later:
        for n in (7, 40, 3):
            _of_number(call, fresh(), n)
    assert len(first) >= 3 and not later


def _scalar(params, image):
    return params * image.sum()


def _one_class(params, image):
    return params * image.sum()[None]


def _batched(params, image):
    return params * image[..., 0]


def _pair(params, image):
    return apply(params, image), image


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_scalar, "allowed: a vector of logits"),
        (_one_class, "(1,)"),
        (_batched, "(2, 2)"),
        (_pair, "tuple"),
    ],
)
def test_bad_classifiers_give_one_sentence(function, words):
    with pytest.raises(UsageError) as error:
        craft(FGSM(0.1), function, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES[0], LABELS, "images have shape"),
        ((IMAGES * 255).astype(np.uint8), LABELS, "type uint8"),
        (IMAGES * 255, LABELS, "from 127.5 to 127.5"),
        (IMAGES * np.nan, LABELS, "no NaN"),
        (IMAGES, LABELS[:2], "labels have shape (2,)"),
        (IMAGES, LABELS + 1, "since the classifier has 2 classes"),
        (IMAGES, LABELS * 1.0, "type float64"),
    ],
)
def test_bad_data_give_one_sentence(images, labels, words):
    with pytest.raises(UsageError) as error:
        craft(FGSM(0.1), apply, jnp.float32(1.0), images, labels, key=KEY)
    assert words in str(error.value)


def three(params, image):
    """Class 0 for dark images, 1 for bright ones, 2 for very bright ones."""
    bright = params * (image.mean() - 0.5)
    return jnp.stack([-bright, bright, 2 * bright - 0.1 * params])


def test_a_targeted_attack_reaches_its_target_and_nothing_else():
    attack = PGD(0.3, steps=20, random_start=False)
    images = np.full((2, 2, 2, 1), 0.45, np.float32)
    labels = np.zeros(2, np.int32)
    crafted = craft(
        attack, three, jnp.float32(1), images, labels, key=KEY, targets=[1, 2]
    )
    np.testing.assert_array_equal(np.argmax(crafted.logits, -1), [1, 2])
    assert crafted.success.all()
    near = craft(
        FGSM(0.06), three, jnp.float32(1), images, labels, key=KEY, targets=[1, 2]
    )
    # Both images leave class 0, only one reaches what it was to reach.
    np.testing.assert_array_equal(np.argmax(near.logits, -1), [1, 1])
    np.testing.assert_array_equal(near.success, [True, False])


def test_a_target_is_another_class():
    with pytest.raises(UsageError, match=r"targets\[1\] is 1, the image's own label"):
        craft(
            FGSM(0.1), apply, jnp.float32(1), IMAGES, LABELS, key=KEY, targets=[1] * 3
        )
    with pytest.raises(UsageError, match="targets have shape"):
        craft(FGSM(0.1), apply, jnp.float32(1), IMAGES, LABELS, key=KEY, targets=[1])


def _flipped(params, image):
    return apply(-params, image)


def test_the_attack_sees_the_view_and_success_is_against_the_classifier():
    """A view that points the wrong way: no image falls, and the logits are true."""
    crafted = craft(
        FGSM(0.1), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY, view=_flipped
    )
    np.testing.assert_allclose(crafted.images[:, 0, 0, 0], [0.4, 0.6, 0.6], rtol=1e-6)
    assert not crafted.success.any()
    np.testing.assert_allclose(crafted.logits[:, 1], [-0.4, 0.4, 0.4], rtol=1e-5)


def test_a_view_has_as_many_logits():
    with pytest.raises(UsageError, match="view gives 3 logits and apply 2"):
        craft(FGSM(0.1), apply, jnp.float32(1), IMAGES, LABELS, key=KEY, view=three)


def _noisy(params, image, key):
    return apply(params, image) + 0.01 * jax.random.normal(key, (2,))


@pytest.mark.parametrize("samples", [1, 4])
def test_a_random_classifier_has_other_keys_in_each_step(samples):
    seen = []

    def noisy(params, image, key):
        jax.debug.callback(
            lambda k: seen.append(tuple(k.tolist())), jax.random.key_data(key)
        )
        return _noisy(params, image, key)

    random = Expectation(noisy, samples=samples)
    crafted = craft(
        PGD(0.1, steps=3, random_start=False),
        random,
        jnp.float32(1.0),
        IMAGES[:1],
        LABELS[:1],
        key=KEY,
        tile=1,
    )
    jax.effects_barrier()
    # Clean outputs, three steps, the last image, and its evaluation.
    assert len(seen) == len(set(seen)) == samples * (1 + 3 + 1 + 1)
    assert crafted.success.all()
    np.testing.assert_array_equal(crafted.queries.forwards, [4])


def test_a_random_classifier_gives_the_same_twice():
    random = Expectation(_noisy, samples=2)
    one, two = (
        craft(PGD(0.1, steps=3), random, jnp.float32(1), IMAGES, LABELS, key=KEY)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.logits, two.logits)


def test_a_grid_carries_successes_upwards():
    """One is wrong from the start, a grey one falls at 0.05, the dark one at 0.3."""
    images = np.concatenate([IMAGES[:2], np.full((1, 2, 2, 1), 0.3, np.float32)])
    labels, epsilons = np.array([0, 1, 0]), [0.0, 0.05, 0.3, 0.4]
    grid = craft_grid(
        FGSM(0.0), apply, jnp.float32(1), images, labels, epsilons, key=KEY
    )
    np.testing.assert_array_equal(
        grid.success, [[0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    )
    # Whoever has fallen is kept as it was and asks for nothing more.
    np.testing.assert_allclose(grid.distance[2], [0.05, 0.0, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(
        grid.queries.forwards, [[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]
    )
    single = craft(FGSM(0.3), apply, jnp.float32(1), images, labels, key=KEY)
    np.testing.assert_array_equal(grid.images[2, 2], single.images[2])


@pytest.mark.parametrize("epsilons", [[], [0.1, 0.1], [0.2, 0.1]])
def test_a_grid_rises(epsilons):
    with pytest.raises(UsageError, match="allowed: one or more, rising, finite"):
        craft_grid(FGSM(0.0), apply, jnp.float32(1), IMAGES, LABELS, epsilons, key=KEY)


def test_a_grid_needs_one_program():
    Counted.traces.clear()
    jax.clear_caches()
    craft_grid(
        Counted(0.0),
        three,
        jnp.float32(1),
        IMAGES,
        LABELS * 0,
        [0.0, 0.1, 0.2],
        key=KEY,
    )
    assert len(Counted.traces) == 1


def _softmax(params, image):
    return jax.nn.softmax(apply(params, image))


def test_probabilities_are_noticed():
    with pytest.warns(AttackWarning, match="look like probabilities"):
        craft(FGSM(0.1), _softmax, jnp.float32(1), IMAGES, LABELS, key=KEY)


def test_a_loss_that_needs_more_classes_is_replaced_and_told():
    with pytest.warns(AttackWarning, match=r"loss='dlr'\) does not suit 2 classes"):
        crafted = craft(
            FGSM(0.1, loss="dlr"), apply, jnp.float32(1), IMAGES, LABELS, key=KEY
        )
    expected = craft(FGSM(0.1), apply, jnp.float32(1), IMAGES, LABELS, key=KEY)
    np.testing.assert_array_equal(crafted.images, expected.images)


def _whole(params, image):
    return jnp.zeros(2, jnp.int32)


def test_whole_numbers_are_no_logits():
    with pytest.raises(UsageError, match="logits of type int32"):
        craft(FGSM(0.1), _whole, jnp.float32(1), IMAGES, LABELS, key=KEY)


def _convolved(params, image):
    kernel = jnp.ones((2, 2, 1, 2)) * params
    dimensions = ("NHWC", "HWIO", "NHWC")
    mapped = jax.lax.conv_general_dilated(
        image[None], kernel, (1, 1), "VALID", dimension_numbers=dimensions
    )
    return jnp.tanh(mapped[0, 0, 0]) * jnp.array([1.0, -1.0])


@pytest.mark.parametrize(
    ("function", "form"), [(apply, "scan"), (_convolved, "python")]
)
def test_the_loop_suits_the_classifier(function, form):
    assert loop_form(function, jnp.float32(1), IMAGES) == form


def test_both_loops_give_the_same():
    """Cut into other programs, a step may be rounded otherwise."""
    attack = PGD(0.1, steps=5)
    one, two = (
        craft(attack, _convolved, jnp.float32(1), IMAGES, LABELS, key=KEY, loop=loop)
        for loop in ("scan", "python")
    )
    np.testing.assert_allclose(one.images, two.images, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Both(Ensemble):
    """A small budget first, then a large one."""

    norm: str = "linf"

    def members(self, classes):
        return FGSM(0.05), FGSM(0.3)


def test_an_ensemble_goes_on_with_what_is_left():
    images = np.concatenate([IMAGES[:2], np.full((1, 2, 2, 1), 0.3, np.float32)])
    told = []
    crafted = craft(
        Both(),
        apply,
        jnp.float32(1),
        images,
        np.array([0, 1, 0]),
        key=KEY,
        on_chunk=lambda *counts: told.append(counts),
    )
    assert crafted.success.all()
    np.testing.assert_array_equal(crafted.member, [0, 0, 1])
    np.testing.assert_array_equal(crafted.queries.forwards, [1, 1, 2])
    np.testing.assert_allclose(crafted.distance, [0.05, 0.05, 0.3], rtol=1e-6)
    assert told[-1] == (3, 3) and told == sorted(told)
    alone = Both().run(
        KEY, lambda x: apply(1.0, x), jnp.asarray(images[2]), jnp.int32(0)
    )
    np.testing.assert_allclose(alone.image, images[2] + 0.3, rtol=1e-6)
    assert (int(alone.forwards), int(alone.backwards)) == (2, 2)


def test_what_no_member_breaks_is_the_first_members():
    images = np.full((1, 2, 2, 1), 0.1, np.float32)
    crafted = craft(Both(), apply, jnp.float32(1), images, np.array([0]), key=KEY)
    assert not crafted.success.any()
    np.testing.assert_allclose(crafted.images, images + 0.05, rtol=1e-6)
    np.testing.assert_array_equal(crafted.member, [0])
    np.testing.assert_array_equal(crafted.queries.forwards, [2])


def _beyond(params, image):
    return apply(params, image - 0.03)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(0.1, steps=20, random_start=False, stop=True),
        APGD(0.1, steps=20, stop=True),
        Square(0.1, queries=100),
        SPSA(0.1, steps=5, samples=16),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_a_success_against_the_view_ends_no_search(attack):
    """The view is wrong from the start, the classifier a little further on."""
    images = np.full((2, 2, 2, 1), 0.52, np.float32)
    crafted = craft(
        attack, apply, jnp.float32(1), images, np.ones(2, int), key=KEY, view=_beyond
    )
    assert crafted.success.all()


def test_an_ensemble_for_exact_classifiers_tells_so():
    random = Expectation(_noisy)
    with pytest.warns(AttackWarning, match="not random"):
        craft(
            AutoAttack(0.1, steps=2, queries=2),
            random,
            jnp.float32(1),
            IMAGES[:1],
            LABELS[:1],
            key=KEY,
        )


@pytest.mark.parametrize("logits", [jnp.bfloat16, jnp.float16])
def test_logits_may_be_of_another_type(logits):
    half = _Half(logits)
    for attack in (PGD(0.1, steps=3), APGD(0.1, steps=3)):
        crafted = craft(attack, half, jnp.float32(1), IMAGES, LABELS, key=KEY)
        assert crafted.success.all() and crafted.logits.dtype == jnp.float32


@dataclasses.dataclass(frozen=True)
class _Half:
    dtype: object

    def __call__(self, params, image):
        return apply(params, image).astype(self.dtype)


def test_images_of_sixteen_bits_are_widened():
    images = jnp.asarray(IMAGES, jnp.bfloat16)
    crafted = craft(FGSM(0.1), apply, jnp.float32(1), images, LABELS, key=KEY)
    assert crafted.images.dtype == jnp.float32
    np.testing.assert_allclose(crafted.distance, [0.1] * 3, rtol=1e-6)


def test_a_grid_keeps_ids_targets_and_progress():
    told = []
    options = {"key": KEY, "tile": 4, "on_chunk": lambda *counts: told.append(counts)}
    attack = PGD(0.0, steps=2)
    images = np.linspace(0.35, 0.5, 24, dtype=np.float32).reshape(6, 2, 2, 1)
    labels, epsilons = np.zeros(6, int), [0.02, 0.08, 0.2]
    default = craft_grid(
        attack, apply, jnp.float32(1), images, labels, epsilons, ids=None, **options
    )
    by_id = craft_grid(
        attack,
        apply,
        jnp.float32(1),
        images,
        labels,
        epsilons,
        ids=np.arange(6),
        **options,
    )
    np.testing.assert_array_equal(default.images, by_id.images)
    assert {n for _, n in told} == {6} and told[-1] == (6, 6)
    aimed = craft_grid(
        attack,
        apply,
        jnp.float32(1),
        images,
        labels,
        epsilons,
        targets=[1] * 6,
        key=KEY,
    )
    np.testing.assert_array_equal(aimed.success, default.success)


def test_a_grid_of_a_nearest_attack_asks_once():
    grid = craft_grid(
        DeepFool(),
        apply,
        jnp.float32(1),
        IMAGES + 0.02,
        LABELS * 0 + 1,
        [0.01, 2.0],
        key=KEY,
    )
    np.testing.assert_array_equal(grid.success, [[0] * 3, [1] * 3])
    assert grid.queries.forwards[0].all() and not grid.queries.forwards[1].any()


@pytest.mark.parametrize(
    "epsilons",
    [
        *([-0.1, 0.1], [0.1, np.nan], [np.inf], [0.2, 0.1], [], [[0.1, 0.2]]),
        *(None, "0.1", [None], ["0.1"], [True], [[0.1], [0.1, 0.2]]),
    ],
    ids=repr,
)
def test_a_grid_is_of_budgets(epsilons):
    # Without the checks of types that tests add to it.
    grid = getattr(craft_grid, "__wrapped__", craft_grid)
    with pytest.raises(UsageError, match="^epsilons are .*; allowed: ") as error:
        grid(DeepFool(), apply, jnp.float32(1), IMAGES, LABELS, epsilons, key=KEY)
    assert "nan" not in str(error.value) or np.nan in epsilons


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attack": "fgsm(0.1)"}, "attack is 'fgsm"),
        ({"attack": FGSM}, "allowed: an attack, such as PGD"),
        ({"apply": None}, "apply is None; allowed: a function"),
        ({"key": 0}, "key is 0; allowed: a key such as"),
        ({"key": jax.random.split(KEY)}, r"key is an array \(2,\) of type key<fry>"),
        ({"ids": np.arange(9)}, "ids have shape"),
        ({"batch_size": 0}, "batch_size is 0; allowed: a whole number"),
    ],
)
@pytest.mark.parametrize("call", [craft, functools.partial(craft_grid, epsilons=[0.1])])
def test_misuse_gives_one_sentence(call, change, words):
    given = {
        "attack": FGSM(0.1),
        "apply": apply,
        "params": jnp.float32(1),
        "images": IMAGES,
        "labels": LABELS,
        "key": KEY,
    }
    untyped = getattr(call, "func", call)
    untyped = getattr(untyped, "__wrapped__", untyped)
    keywords = getattr(call, "keywords", {})
    with pytest.raises(UsageError, match=words):
        untyped(**given | change, **keywords)
