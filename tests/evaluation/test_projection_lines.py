import csv
import io

import numpy as np

from robust_manifold.evaluation import (
    ProjectionLine,
    projections_to_csv,
    share_near_best,
    summarise_projections,
)

LINES = [
    ProjectionLine(f"{n}.png", n / 100, 1.0, "FINISHED", 0.5, n > 8)
    for n in range(1, 11)
]
SKIPPED = ProjectionLine("bad, file.png", reason='has "16" bits')


def test_restarts_near_the_best():
    errors = np.array(
        [[1.0, 1.04, 1.06, np.inf], [np.inf] * 4, [0.0, 0.0, 1.0, np.nan]]
    )
    np.testing.assert_array_equal(share_near_best(errors[:2]), [0.5, 0.0])
    np.testing.assert_array_equal(share_near_best(errors[2:, :3]), [2 / 3])


def test_lines_as_csv():
    rows = list(csv.DictReader(io.StringIO(text(limited=True))))
    assert [row["rejected"] for row in rows] == 8 * ["no"] + 2 * ["yes"] + [""]
    assert rows[0]["error"] == "0.01" and rows[-1]["error"] == ""
    assert rows[-1]["name"] == SKIPPED.name and rows[-1]["reason"] == SKIPPED.reason
    assert "rejected" not in text(limited=False)


def text(limited):
    return projections_to_csv([*LINES, SKIPPED], limited=limited)


def test_the_summary():
    found = summarise_projections([*LINES, SKIPPED], limited=True)
    assert (found.projected, found.skipped, found.rejected) == (10, 1, 2)
    np.testing.assert_allclose([found.error_median, found.error_90], [0.055, 0.09])
    assert found.statuses == {"FINISHED": 10}


def test_the_summary_of_nothing():
    found = summarise_projections([SKIPPED], limited=False)
    assert found.error_median is None and found.error_90 is None
    assert found.rejected is None and found.statuses == {}
