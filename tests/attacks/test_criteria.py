"""Attacks on linear networks of every criterion, against the exact distance."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import (
    APGD,
    BIM,
    DDN,
    FGSM,
    FMN,
    PGD,
    SPSA,
    AutoAttack,
    CarliniWagner,
    ElasticNet,
    HopSkipJump,
    MomentumPGD,
    Parsimonious,
    Patch,
    RandFGSM,
    SigmaZero,
    SparseRS,
    Square,
    region,
)
from robust_manifold.core.criterion import AnyLabelWrong, Deviates, SignFlips, Targeted
from robust_manifold.core.errors import UsageError

SHAPE = (4, 4, 1)
IMAGES = np.full((3, *SHAPE), 0.5, np.float32)
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
WEIGHTS = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)


def regression(params, image):
    return params["weights"] @ image.reshape(-1)


def one_logit(params, image):
    return params["weights"][0] @ (image.reshape(-1) - 0.5) + params["bias"]


def labelled(params, image):
    return params["weights"] @ (image.reshape(-1) - 0.5) + params["bias"]


def _tasks():
    """Yields a criterion, its network, parameters, labels, and gap over slope."""
    rows = {"weights": WEIGHTS}
    clean = np.tile(WEIGHTS @ np.full(16, 0.5, np.float32), (3, 1))
    one = {"weights": WEIGHTS[:1]}
    tolerance = 0.3
    distance = {n: tolerance / _norm(WEIGHTS[0], q) for n, q in DUAL.items()}
    yield Deviates(tolerance), regression, one, clean[:, :1], distance
    bias = {"weights": WEIGHTS, "bias": np.float32([0.4, -0.2])}
    gaps = {
        n: min(0.4 / _norm(WEIGHTS[0], q), 0.2 / _norm(WEIGHTS[1], q))
        for n, q in DUAL.items()
    }
    answers = np.tile([True, False], (3, 1))
    yield AnyLabelWrong(), labelled, bias, answers, gaps
    single = {**rows, "bias": np.float32(-0.3)}
    distance = {n: 0.3 / _norm(WEIGHTS[0], q) for n, q in DUAL.items()}
    yield SignFlips(), one_logit, single, np.zeros(3, int), distance


def _norm(row, order):
    return float(np.linalg.norm(row, order))


TASKS = {type(task[0]).__name__: task for task in _tasks()}
BUDGETED = [
    FGSM(0.1),
    RandFGSM(0.1, alpha=0.001),
    BIM(0.1),
    PGD(0.1, steps=10),
    PGD(0.1, "l2", steps=10),
    PGD(0.1, "l1", steps=40),
    MomentumPGD(0.1),
    APGD(0.1, steps=10),
    APGD(0.1, "l2", steps=10),
    Square(0.1, queries=1000),
    SPSA(0.1, steps=20, samples=32),
    AutoAttack(0.1, steps=10, queries=50),
    Parsimonious(0.1),
]
NEAREST = {
    CarliniWagner(): 1.02,
    CarliniWagner("linf"): 1.05,
    DDN(steps=100): 1.02,
    FMN("linf", steps=100): 1.02,
    FMN("l2", steps=100): 1.02,
    HopSkipJump(queries=3000): 1.3,
}


def on_every_task(attacks_of):
    """Parametrises by attack and task: each attack meets one, all others are slow.

    The tasks go around, so each is met by attacks of every kind.
    """
    pairs = [
        pytest.param(
            attack,
            name,
            id=f"{attack}-{name}",
            marks=() if at % len(TASKS) == task else pytest.mark.slow,
        )
        for at, attack in enumerate(attacks_of)
        for task, name in enumerate(TASKS)
    ]
    return pytest.mark.parametrize("attack,name", pairs)


def _crafted(attack, task, **options):
    criterion, apply, params, labels, _ = task
    return attacks.craft(
        attack,
        apply,
        params,
        IMAGES,
        labels,
        criterion=criterion,
        key=jax.random.key(0),
        **options,
    )


@on_every_task(BUDGETED)
def test_a_budget_is_enough_from_the_exact_distance_on(attack, name):
    task = TASKS[name]
    exact = task[-1][attack.norm]
    # A search at random needs some room; what steps along signs needs none.
    room = 1.4 if isinstance(attack, Square | SPSA | RandFGSM) else 1.05
    for share, wanted in ((0.95, False), (room, True)):
        made = _crafted(dataclasses.replace(attack, epsilon=share * exact), task)
        assert made.success.all() == made.success.any() == wanted, (share, made)
        outputs = jax.vmap(functools.partial(task[1], task[2]))(made.images)
        np.testing.assert_allclose(made.logits, outputs, rtol=1e-5, atol=1e-5)


@on_every_task(NEAREST)
def test_the_nearest_is_near_the_exact_distance(attack, name):
    task = TASKS[name]
    exact = task[-1][attack.norm]
    made = _crafted(attack, task)
    assert made.success.all()
    assert (made.distance >= 0.999 * exact).all()
    assert (made.distance <= NEAREST[attack] * exact).all(), made.distance / exact


@on_every_task([ElasticNet(), SigmaZero(steps=100), CarliniWagner("l0")])
def test_attacks_on_few_pixels_find_something(attack, name):
    assert _crafted(attack, TASKS[name]).success.all()


@pytest.mark.parametrize(
    "attack",
    [attacks.DeepFool(), attacks.FAB(), attacks.JSMA()],
    ids=lambda attack: type(attack).__name__,
)
def test_what_needs_classes_is_refused_without_them(attack):
    with pytest.raises(UsageError, match="needs logits of classes"):
        _crafted(attack, TASKS["Deviates"])


@pytest.mark.parametrize("attack", [PGD(0.1, loss="ce"), APGD(0.1, loss="dlr")])
def test_a_criterion_brings_its_own_loss(attack):
    with pytest.raises(UsageError, match="loss is .*Deviates brings its own"):
        _crafted(attack, TASKS["Deviates"])


def _classes(params, image):
    return jnp.stack([*(params @ image.reshape(-1)), 0.0])


def test_targets_are_a_shorthand_of_a_criterion():
    attack, key = PGD(0.3, steps=10), jax.random.key(0)
    arguments = attack, _classes, WEIGHTS, IMAGES
    labels = np.asarray(jax.vmap(functools.partial(_classes, WEIGHTS))(IMAGES)).argmax(
        1
    )
    wanted = (labels + 1) % 3
    short = attacks.craft(*arguments, labels, targets=wanted, key=key)
    long = attacks.craft(*arguments, wanted, criterion=Targeted(), key=key)
    jax.tree.map(np.testing.assert_array_equal, short, long)
    with pytest.raises(UsageError, match="beside targets"):
        attacks.craft(
            *arguments, labels, targets=wanted, criterion=Deviates(1.0), key=key
        )


def test_an_attack_begins_where_it_is_told():
    task = TASKS["Deviates"]
    starts = np.clip(IMAGES + 0.2 * np.sign(WEIGHTS[0]).reshape(SHAPE), 0, 1)
    attack = PGD(task[-1]["linf"] * 1.05, steps=1, step_size=1e-9)
    assert not _crafted(attack, task).success.any()
    made = _crafted(attack, task, starts=starts)
    assert made.success.all()
    assert (made.distance <= attack.epsilon).all()
    with pytest.raises(UsageError, match="begins by itself"):
        _crafted(Patch("square(size=0.6)"), task, starts=starts)
    with pytest.raises(UsageError, match="starts have the shape"):
        _crafted(attack, task, starts=starts[:1])


STARTED = [
    APGD(0.2, steps=5),
    APGD(0.2, steps=5, loss="dlr", targets=1, restarts=2),
    BIM(0.2),
    CarliniWagner(steps=5),
    CarliniWagner("l0", steps=5),
    CarliniWagner("linf", steps=5),
    DDN(steps=5),
    attacks.DeepFool(steps=5),
    ElasticNet(steps=5),
    attacks.FAB(steps=5),
    attacks.FAB(steps=5, restarts=2, targets=2, epsilon=0.2),
    attacks.FAB("l2", steps=5, epsilon=0.5),
    FMN("linf", steps=5),
    FMN("l2", steps=5),
    FMN("l1", steps=5),
    FMN("l0", steps=5),
    HopSkipJump(queries=30, starts=5),
    MomentumPGD(0.2, steps=5),
    Parsimonious(0.2, 10),
    PGD(0.2, steps=5, restarts=2),
    PGD(0.5, "l2", steps=5),
    PGD(1.0, "l1", steps=5),
    SPSA(0.2, steps=5, samples=8),
    SigmaZero(steps=5),
    SparseRS(7.0, queries=10, restarts=2),
    SparseRS(7.0, "l0", queries=10),
    Square(0.2, queries=10, restarts=2),
    Square(0.5, "l2", queries=10),
    Square(1.0, "l1", queries=10),
    AutoAttack(0.2, steps=5, queries=10),
]
"""Attacks that take a start, with few steps."""


def _sees_one_image(params, image):
    """Flat everywhere: class 1 within a thousandth of one image, class 0 elsewhere."""
    there = jnp.max(jnp.abs(image - params)) < 1e-3
    return jnp.where(there, jnp.array([0.0, 1.0, -1.0]), jnp.array([1.0, 0.0, -1.0]))


def test_every_attack_that_takes_a_start_is_tested():
    names = {cls.__name__ for cls in map(type, STARTED)} - {"AutoAttack"}
    registry = attacks.registry
    assert names == {
        registry[name].__name__ for name in registry.names if registry[name].takes_start
    }


@pytest.mark.filterwarnings("ignore:the gradients of apply are zero")
@pytest.mark.parametrize("attack", STARTED, ids=str)
def test_a_start_that_succeeds_is_found_where_no_slope_leads(attack):
    """Far starts are brought into the ball of attacks that have one."""
    image = IMAGES[:1]
    pattern = np.where(np.arange(16).reshape(SHAPE) % 3, 0.375, -0.25)
    starts = jnp.asarray(image + pattern, jnp.float32)
    there = starts[0]
    if attack.budget is not None:
        clean = jnp.asarray(image[0])
        there = region.projection(clean, attack.budget, attack.norm)(there)
        assert float(jnp.max(jnp.abs(there - starts[0]))) > 0.01

    made = attacks.craft(
        attack,
        _sees_one_image,
        there,
        image,
        np.zeros(1, int),
        key=jax.random.key(0),
        starts=starts,
    )
    # No search comes so near to one image but by its start.
    assert made.success.all()
    cost = attack.cost(3)
    assert (made.queries.forwards <= cost.forwards).all()
    assert (made.queries.backwards <= cost.backwards).all()


@pytest.mark.parametrize("attack", [a for a in STARTED if a.budget is None], ids=str)
def test_a_start_changes_nothing_for_an_image_that_is_wrong_already(attack):
    starts = np.float32(IMAGES[:1] + 0.25)
    made = attacks.craft(
        attack,
        _sees_one_image,
        jnp.zeros(SHAPE),
        IMAGES[:1],
        np.ones(1, int),
        key=jax.random.key(0),
        starts=starts,
    )
    np.testing.assert_array_equal(made.images, IMAGES[:1])
    assert made.success.all()


@dataclasses.dataclass(frozen=True)
class _Vector(Deviates):
    def loss(self, output, target):
        return super().loss(output, target) * jnp.ones(3)


@pytest.mark.parametrize("attack", [attacks.PGD(0.1), attacks.Square(0.1)], ids=str)
def test_a_loss_of_several_numbers_is_refused(attack):
    with pytest.raises(UsageError, match=r"_Vector\.loss gives .*\(3,\); allowed: one"):
        attacks.craft(
            attack,
            lambda params, image: jnp.mean(image) * params,
            1.0,
            np.full((2, 2, 2, 1), 0.5, np.float32),
            [0.5, 0.5],
            criterion=_Vector(0.1),
            key=jax.random.key(0),
        )
