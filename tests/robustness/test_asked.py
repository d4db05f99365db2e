"""What a worst case is taken over, and what is refused before any work."""

import pytest

from robust_manifold.attacks import PGD
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import BitDepth, InvertAndClassify, Oblivious
from robust_manifold.evaluation.cascades import Cascade
from robust_manifold.robustness.asked import EPSILONS, Rows, asked, budgets_of
from robust_manifold.robustness.functions import OpaqueDefence
from tests.robustness.pixels import EFFORT, levels_in_numpy


def wanted(worst_case=None, epsilons=EPSILONS, effort="quick", defence=BitDepth()):  # noqa: B008
    return asked(worst_case, epsilons, effort, defence)


def test_by_default_a_cascade_of_the_effort_under_fresh_keys():
    assert wanted() == Cascade("quick", linf=(0.1, 0.2), keys="fresh")
    assert wanted(epsilons={"l2": 1.5}, effort=EFFORT) == Cascade(
        EFFORT, l2=(1.5,), keys="fresh"
    )


def test_a_text_says_its_own_effort_keys_and_balls():
    text = "cascade(effort='thorough', linf=(0.3,))"
    assert wanted(text) == Cascade("thorough", linf=(0.3,))
    # Without balls it has those of the call.
    assert wanted("cascade(keys='fresh')") == Cascade(linf=(0.1, 0.2), keys="fresh")


def test_rows_are_written_as_in_a_config():
    rows = wanted(
        {
            "attacks": ("pgd(epsilon=0.2)", PGD(0.1), "pgd(epsilon=1.5, norm='l2')"),
            "adversaries": "oblivious",
        }
    )
    assert isinstance(rows, Rows)
    assert rows.attacks[:2] == (PGD(0.2), PGD(0.1))
    assert rows.adversaries == (Oblivious(),)
    assert budgets_of(rows) == (("linf", 0.1), ("linf", 0.2), ("l2", 1.5))
    assert str(rows) == (
        "pgd(epsilon=0.2), pgd(epsilon=0.1), pgd(epsilon=1.5, norm='l2') by oblivious"
    )


ROW = {"attacks": ["pgd(epsilon=0.1)"], "adversaries": ["oblivious"]}
REFUSED = {
    "another effort": ({"effort": "huge"}, "Unknown effort 'huge'"),
    "no mapping": ({"epsilons": 0.1}, "epsilons is 0.1; allowed: radii by norm"),
    "no ball": ({"epsilons": {"linf": ()}}, "allowed: with one radius or more"),
    "another norm": ({"epsilons": {"l3": 1}}, "Unknown norm of epsilons: 'l3'"),
    "half a value": ({"epsilons": {"l0": 1.5}}, "epsilons of l0 .*allowed: whole num"),
    "a radius of 0": ({"epsilons": {"l2": 0.0}}, "epsilons of l2 is .*allowed: finite"),
    "an attack": ({"worst_case": "pgd(epsilon=0.1)"}, "Unknown worst case 'pgd'"),
    "a number": ({"worst_case": 3}, "worst_case is 3; allowed: None, a text"),
    "both keys": ({"worst_case": "cascade(keys='both')"}, "has keys='both'; allowed"),
    "another field": (
        {"worst_case": ROW | {"norms": 1}},
        "'norms'; known: adversaries",
    ),
    "no adversary": (
        {"worst_case": ROW | {"adversaries": ()}},
        "with adversaries, and",
    ),
    "no budget": ({"worst_case": ROW | {"attacks": "deepfool"}}, "that has a budget"),
    "a substitute": (
        {"worst_case": ROW | {"adversaries": ["substitute"]}},
        "which trains a network; allowed: in a run",
    ),
    "latents without a range": (
        {"worst_case": ROW | {"adversaries": ["latent"]}},
        "'latent'; allowed with a defence that projects",
    ),
    "scores for gradients": (
        {"worst_case": ROW | {"adversaries": ["decision"]}},
        "'decision' can make none of the attacks",
    ),
    "gradients for scores": (
        {
            "worst_case": {
                "attacks": ["pgd(epsilon=0.1)", "square(epsilon=0.1)"],
                "adversaries": ["unrolled"],
            }
        },
        "'square.*' sees scores, and none of the adversaries can make it",
    ),
    "a view of what is not seen": (
        {
            "worst_case": ROW | {"adversaries": ["unrolled"]},
            "defence": OpaqueDefence(levels_in_numpy),
        },
        "one that JAX can trace",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused_in_a_sentence(name):
    arguments, message = REFUSED[name]
    with pytest.raises(UsageError, match=message) as error:
        wanted(**arguments)
    assert "\n" not in str(error.value)


def test_a_defence_that_projects_meets_the_latent_adversary():
    rows = wanted(ROW | {"adversaries": ["latent"]}, defence=InvertAndClassify())
    assert len(rows.adversaries) == 1
