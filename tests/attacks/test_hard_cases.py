"""Every registered attack on hard cases: what is in its reach is found, and no more.

A new attack needs a row in `ROWS`.  Pixels that are all black or white, masked classes,
tiny and huge logits, ties, constant logits and images that are wrong already are in one
batch, and each must come out as the closed form of its linear classifier says.

The table holds in all four cells of float32 or float64 images, with or without
`jax_enable_x64`; without it JAX has no float64, and such images are taken as float32.
What is not asked of an attack, since it cannot hold, says so beside its row.
"""

import dataclasses
import warnings
from typing import NamedTuple

import jax
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
)
from robust_manifold.attacks.base import Attack
from tests.attacks import hard_cases
from tests.attacks.hard_cases import CHANCE, FOUND, NEVER, SPARE, TIED


class Row(NamedTuple):
    """An attack, and how far it gets."""

    spec: Attack
    """A budget is set to `SPARE` times the distance."""
    factor: float = SPARE
    """What is found is at most so many times as far as the boundary."""
    reach: str = "box"
    """As for `hard_cases.batch`."""
    near: float = 1.0
    """Likewise."""
    left_out: tuple[str, ...] = ()
    """Cases that cannot hold."""
    most_values: float = np.inf
    """Larger images are left out."""


CLOSE = 1.1
ONE_MORE = 4 / 3
"""Four values changed in place of three."""
MASK = "square(size=0.6)"

ROWS = {
    "apgd": [
        Row(APGD(1.0, steps=20)),
        Row(APGD(1.0, "l2", steps=20)),
        # It begins in a larger ball, where other classes may be nearer.
        Row(APGD(1.0, "l1", steps=40, restarts=2)),
        # With two rivals alike the ratio is -1 wherever the label leads.
        Row(APGD(1.0, steps=20, loss="dlr"), left_out=("two rivals alike",)),
        Row(APGD(1.0, steps=20, loss="targeted_dlr")),
        Row(APGD(1.0, "l2", steps=20, decay=0.75)),
    ],
    "auto_attack": [
        Row(AutoAttack(1.0, version="rand", steps=20)),
        Row(AutoAttack(1.0, steps=20, queries=500)),
        Row(AutoAttack(1.0, "l2", steps=20, queries=500)),
        Row(AutoAttack(1.0, "l1", steps=40, queries=500)),
    ],
    "bim": [Row(BIM(1.0))],
    "carlini_wagner": [
        Row(CarliniWagner(), CLOSE),
        Row(CarliniWagner("l0"), ONE_MORE),
        Row(CarliniWagner("linf"), CLOSE),
    ],
    "ddn": [Row(DDN(), CLOSE)],
    "deepfool": [Row(DeepFool("l2"), CLOSE), Row(DeepFool("linf"), CLOSE)],
    # It minimises the l1 norm and some of the squared l2 norm.
    "elastic_net": [Row(ElasticNet(), 1.25)],
    "fab": [
        Row(FAB("linf", steps=20), CLOSE),
        Row(FAB("l2", steps=20), CLOSE),
        Row(FAB("l1", steps=20), CLOSE),
        Row(FAB("linf", steps=20, targets=9), CLOSE),
        Row(FAB("linf", steps=20, epsilon=1.0)),
    ],
    "fgsm": [Row(FGSM(1.0))],
    "fmn": [
        Row(FMN("linf"), CLOSE),
        Row(FMN("l2"), CLOSE),
        Row(FMN("l1"), CLOSE),
        # Values are chosen by their slopes, whatever room they have.
        Row(FMN("l0"), 2.0),
    ],
    # It has to meet an adversarial image at random.
    "hop_skip_jump": [
        Row(HopSkipJump("l2", queries=4000, starts=400), 1.5, "chance", 0.3),
        Row(HopSkipJump("linf", queries=6000, starts=400), 1.5, "chance", 0.3),
    ],
    # Pixels are raised alone, in pairs; each must lower the sum of the other classes,
    # and there is no such pixel where of three classes two rise alike.
    "jsma": [
        Row(JSMA(gamma=1.0), 2.0, "up", left_out=("two rivals alike",)),
        Row(JSMA(gamma=1.0, classes="all"), 2.0, "up", left_out=("two rivals alike",)),
    ],
    "momentum_pgd": [Row(MomentumPGD(1.0)), Row(MomentumPGD(1.0, "l2"))],
    "parsimonious": [Row(Parsimonious(1.0))],
    # The sticker may change as it likes what it covers: there is no distance.
    "patch": [
        Row(Patch(MASK, transformations="transformations()", steps=60), reach=MASK)
    ],
    "pgd": [Row(PGD(1.0)), Row(PGD(1.0, "l2")), Row(PGD(1.0, "l1", steps=100))],
    "rand_fgsm": [Row(RandFGSM(1.0, alpha=0.01))],
    # Far from the image it meets other classes, and may stay with one of them.
    "sigma_zero": [Row(SigmaZero(), 2.0)],
    "sparse_rs": [Row(SparseRS(3.0, "l0", queries=3000), most_values=200)],
    "spsa": [
        Row(SPSA(1.0, samples=32)),
        Row(SPSA(1.0, "l2", samples=32)),
        # Few pixels move, from one end of the box to the other.
        Row(SPSA(1.0, "l1", samples=32, learning_rate=0.02)),
    ],
    # In l2 and l1, windows on larger images are of 3 by 3 pixels at least: no sum of
    # them is like slopes that differ from pixel to pixel.
    "square": [
        Row(Square(1.0, queries=1000)),
        Row(Square(1.0, "l2"), most_values=200),
        Row(Square(1.0, "l1", restarts=2), most_values=200),
    ],
}

FIRST = [rows[0] for rows in ROWS.values()]
ALL = [row for rows in ROWS.values() for row in rows]
ODD = (5, 9, 3), 4
"""The shape and the number of classes of the quick tests."""
PROBLEMS = [
    ((1, 1, 1), 4),
    ((1, 40, 1), 4),
    ((1, 256, 1), 4),
    ((16, 4, 1), 4),
    ((4, 4, 1), 2),
    ((4, 4, 1), 3),
    ((4, 4, 1), 1000),
]
KEY = jax.random.key(0)


def rows(chosen: list[Row], *marks):
    """Returns the rows as parameters; an attack's programs are of one process."""
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(
                row,
                id=str(row.spec),
                marks=(pytest.mark.xdist_group(f"hard {row.spec}"), *marks),
            )
            for row in chosen
        ],
    )


def crafted(row: Row, cases: hard_cases.Batch, dtype):
    """Returns the spec with its budget, and what it makes of the cases."""
    spec = row.spec
    if spec.budget is not None:
        spec = dataclasses.replace(spec, epsilon=SPARE * cases.distance)  # type: ignore[type-var]
    with warnings.catch_warnings():
        # Such classifiers are warned of, as other tests see to.
        warnings.simplefilter("ignore", attacks.AttackWarning)
        made = attacks.craft(
            spec,
            hard_cases.classify,
            (cases.weights.astype(dtype), cases.biases.astype(dtype)),
            cases.images.astype(dtype),
            cases.labels,
            key=KEY,
            fixed_keys=cases.places,
            tile=len(cases.names),
        )
    return spec, jax.tree.map(np.asarray, made)


def faults(row: Row, shape: tuple[int, int, int], classes: int, dtype) -> list[str]:
    """Returns a sentence for all that is not as it should be."""
    cases = hard_cases.batch(shape, classes, row.spec.norm, row.reach, row.near)
    spec, made = crafted(row, cases, dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    assert made.images.dtype == made.logits.dtype == made.distance.dtype == dtype
    clean = cases.images.astype(dtype).astype(np.float64)
    told = []
    for place, name in enumerate(cases.names):
        if name in row.left_out:
            continue
        delta = made.images[place] - clean[place]
        wrong = outside(spec, made.images[place], length(delta, spec.norm))
        wrong += misjudged(
            row,
            cases.expected[place],
            bool(made.success[place]),
            length(delta, spec.norm) / cases.distance,
        )
        told += [f"{name}: {text}" for text in wrong]
    return told


def outside(spec: Attack, image: np.ndarray, distance: float) -> list[str]:
    """Returns what is said of an image outside the box or the ball."""
    told = []
    if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        told.append("outside the box")
    if spec.budget is not None and distance > spec.budget * (1 + 1e-6):
        told.append(f"outside the ball, at {distance}")
    return told


def misjudged(row: Row, right: str, success: bool, ratio: float) -> list[str]:
    """Returns what is said of an image that is not as the closed form says.

    Args:
      row: of the attack.
      right: one of `hard_cases`' kinds.
      success: whether the image is adversarial.
      ratio: of its distance to that of the boundary.
    """
    if right != CHANCE and success != (right != NEVER):
        return [f"success is {success}"]
    if row.reach == MASK:
        return []
    if right in (FOUND, CHANCE) and success:
        near_enough = 1 - 1e-4 <= ratio <= row.factor + 1e-6
        return [] if near_enough else [f"{ratio:.4f} times as far as the boundary"]
    if row.spec.budget is not None:
        # With a budget it is the loss that counts, not the distance.
        return []
    # Next to a tie there is an adversarial image, in l0 a value or a pair away.
    allowed = {TIED: 1.0 if row.spec.norm == "l0" else 0.1}.get(right, 0)
    return [] if ratio <= allowed else [f"moved, {ratio:.4f} times as far"]


def length(delta: np.ndarray, norm: str) -> float:
    """Returns the norm of a perturbation, in float64."""
    flat = np.abs(delta).ravel()
    lengths = {"linf": np.max, "l2": np.linalg.norm, "l1": np.sum}
    return float(lengths.get(norm, np.count_nonzero)(flat))


def test_no_attack_is_left_out():
    assert sorted(ROWS) == attacks.registry.names


@rows(FIRST)
def test_what_is_in_reach_is_found(row):
    assert not faults(row, *ODD, np.float32)


@rows(ALL, pytest.mark.slow)
@pytest.mark.parametrize(("shape", "classes"), PROBLEMS, ids=str)
def test_it_is_found_in_every_shape_and_among_any_classes(row, shape, classes):
    if np.prod(shape) > row.most_values:
        pytest.skip("left out: see the row")
    assert not faults(row, shape, classes, np.float32)


@rows(ALL, pytest.mark.slow)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
def test_it_is_found_in_every_precision(row, dtype, x64):
    with jax.enable_x64(x64):
        assert not faults(row, *ODD, dtype)
