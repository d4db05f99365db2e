"""Figures of a regression: what they draw, and what they refuse."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import figures

ERRORS = {"none": np.array([1.0, 3.0, 2.0, np.inf]), "defended": np.full(4, 2.0)}


def test_curves_are_the_shares_of_images_up_to_an_error():
    panels = {"clean": ERRORS, "ℓ2 1.5": {"defended": ERRORS["defended"]}}
    figure = figures.error_shares(panels, bound=2.5, axis="error (°)")
    clean, attacked = figure.axes
    assert (clean.get_title(loc="left") or clean.get_title()) == "clean"
    none, defended, bound = clean.get_lines()
    x, y = none.get_data()
    np.testing.assert_allclose(x[:4], [0, 1, 2, 3])
    # The image without a finite output is never reached.
    np.testing.assert_allclose(y, [0, 0.25, 0.5, 0.75, 0.75])
    assert bound.get_xdata()[0] == 2.5
    assert attacked.get_lines()[0].get_color() == defended.get_color()
    assert figures.to_png(figure).startswith(b"\x89PNG")
    for empty in ({}, {"clean": {}}):
        with pytest.raises(UsageError, match="no curve of errors"):
            figures.error_shares(empty, bound=1.0, axis="error")


def test_sheets_tell_numbers_green_within_the_bound():
    images = np.zeros((2, 4, 4, 1), np.float32)
    rows = [
        figures.TellingRow("clean", images, np.array([3.0, -20.4])),
        figures.TellingRow("projection", images),
    ]
    figure = figures.telling_sheet(rows, np.array([4.0, 0.0]), bound=10.0, unit="°")
    written = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert {"+4.0°", "+0.0°", "+3.0°", "-20°", "clean", "projection"} <= written.keys()
    assert written["+3.0°"] != written["-20°"]
    with pytest.raises(UsageError, match=r"rows have \[2\] images; allowed"):
        figures.telling_sheet(rows[:1], np.zeros(3), bound=1.0)
