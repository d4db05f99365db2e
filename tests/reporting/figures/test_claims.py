"""Claims beside worst cases: a line for each defence, a panel for each budget."""

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures import Claim, claims_and_worst_cases, to_png

PANELS = {
    "ℓ∞ ε=0.2": {
        "No defence": Claim(0.1, 0.05, 0.2),
        "Projection": Claim(0.4, 0.3, 0.5, oblivious=0.9),
    },
    "ℓ2 ε=1.5": {"Projection": Claim(0.6, 0.5, 0.7, oblivious=0.95)},
}


def points(axes):
    """Returns where the markers of a panel stand, by what the legend says of them."""
    drawn = zip(*axes.get_legend_handles_labels(), strict=True)
    found = {}
    for handle, label in drawn:
        line = handle[0] if isinstance(handle, tuple) else handle
        for place in line.get_xydata():
            found.setdefault(label.split(",")[0], []).append(tuple(place))
    return found


def test_each_defence_has_its_worst_case_and_its_claim():
    linf, l2 = claims_and_worst_cases(PANELS).axes
    assert [label.get_text() for label in linf.get_yticklabels()] == [
        *("No defence", "Projection")
    ]
    worst = "worst case over all attacks"
    oblivious = "attacks that do not know of the defence"
    assert points(linf) == {worst: [(10, 0), (40, 1)], oblivious: [(90, 1)]}
    # What a budget lacks leaves its line empty.
    assert points(l2) == {worst: [(60, 1)], oblivious: [(95, 1)]}
    assert linf.get_title(loc="left") == "ℓ∞ ε=0.2"


def test_equal_claims_give_equal_bytes():
    figures = [to_png(claims_and_worst_cases(PANELS)) for _ in range(2)]
    assert figures[0] == figures[1]


def test_no_budget_is_refused():
    with pytest.raises(UsageError, match="hold no budget"):
        claims_and_worst_cases({})
