"""docs/worst_case.md: its table has every effort."""

import pathlib
import re

from robust_manifold.evaluation.cascades import EFFORTS

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "worst_case.md"


def test_every_effort_has_a_row():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(), flags=re.MULTILINE)
    told = {
        name: [int(cell.replace("-", "0")) for cell in cells.split(" | ")]
        for name, cells in rows
    }
    assert told == {
        name: [
            each.steps,
            each.aimed_steps,
            each.views,
            each.all_steps,
            each.queries,
            each.corner_queries,
            each.pilot,
            each.samples,
        ]
        for name, each in EFFORTS.items()
    }
