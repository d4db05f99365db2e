"""docs/worst_case.md: its example runs, and its table has every effort."""

import doctest
import pathlib
import re

from robust_manifold.evaluation.cascades import EFFORTS

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "worst_case.md"


def test_the_example_runs():
    # Fences are cut out first: to doctest one would be part of the expected output.
    text = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 10
    told = []
    results = doctest.DocTestRunner().run(test, out=told.append)
    assert results.failed == 0, "".join(told)


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
            each.pilot,
            each.samples,
        ]
        for name, each in EFFORTS.items()
    }
