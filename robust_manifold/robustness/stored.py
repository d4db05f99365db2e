"""The folder of an evaluation: rounds that are finished, and the evaluation itself."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_manifold import defenses
from robust_manifold.evaluation import Budget
from robust_manifold.evaluation.cascades import AtBudget, Share, Tried
from robust_manifold.robustness.making import Round


def arrays_of(budgets: Sequence[AtBudget]) -> dict[str, np.ndarray]:
    """Returns what was found at each budget as arrays by name, fit for an .npz."""
    arrays: dict[str, Any] = {
        "budgets": np.array(json.dumps([each.budget for each in budgets]))
    }
    for place, each in enumerate(budgets):
        arrays |= {
            f"{place}.images": each.images,
            f"{place}.rate": each.rate,
            f"{place}.margin": each.margin,
            f"{place}.member": each.member,
            f"{place}.shares": np.array(json.dumps(each.shares)),
        }
    return arrays


def budgets_from(arrays: Mapping[str, np.ndarray]) -> tuple[AtBudget, ...]:
    """Returns what `arrays_of` wrote."""
    return tuple(
        AtBudget(
            Budget(*budget),
            arrays[f"{place}.images"],
            arrays[f"{place}.rate"],
            arrays[f"{place}.margin"],
            arrays[f"{place}.member"],
            tuple(
                Share(*share) for share in json.loads(str(arrays[f"{place}.shares"]))
            ),
        )
        for place, budget in enumerate(json.loads(str(arrays["budgets"])))
    )


def round_arrays(found: Round) -> dict[str, np.ndarray]:
    """Returns a round as arrays by name."""
    tried = [
        {
            "adversary": defenses.adversaries.to_string(each.adversary),
            "rate": each.rate.tolist(),
            "margin": each.margin.tolist(),
            "passes": each.passes,
        }
        for each in found.tried
    ]
    return arrays_of(found.budgets) | {
        "clean": found.clean,
        "tried": np.array(json.dumps(tried)),
        "seconds": np.array(found.seconds),
    }


def round_from(arrays: Mapping[str, np.ndarray]) -> Round:
    """Returns what `round_arrays` wrote."""
    tried = tuple(
        Tried(
            defenses.adversaries.build(each["adversary"]),
            np.array(each["rate"]),
            np.array(each["margin"]),
            each["passes"],
        )
        for each in json.loads(str(arrays["tried"]))
    )
    return Round(arrays["clean"], budgets_from(arrays), tried, float(arrays["seconds"]))
