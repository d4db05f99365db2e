"""What sheets of pixels take for the width of a line of text."""

import numpy as np
import pytest

from robust_manifold.reporting import SheetGroup, SheetRow, projection_sheet
from robust_manifold.reporting.figures.canvas import styled
from robust_manifold.reporting.figures.pixels import (
    GAP,
    TITLE_SIZE,
    figure_of,
    heading,
    pixel_axes,
    text_width,
)

LONG = "PGD ℓ∞ ε=0.1, 40 steps on the substitute of Invert and Classify, 4 restarts"


@styled
def drawn_width(text):
    axes = pixel_axes(2000, 50)
    written = axes.text(GAP, 20, text, **heading())
    figure = figure_of(axes)
    figure.draw_without_rendering()
    return written.get_window_extent().width


@pytest.mark.parametrize("text", ["fgsm", LONG, LONG + " " + LONG])
def test_a_line_is_as_wide_as_it_is_drawn(text):
    np.testing.assert_allclose(
        styled(text_width)(text, TITLE_SIZE), drawn_width(text), atol=2
    )


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_no_title_is_cut_off(columns):
    images = np.zeros((columns, 28, 28, 1), np.float32)
    group = SheetGroup(LONG, np.zeros(columns, int), [SheetRow("test image", images)])
    figure = projection_sheet([group], class_names=["0", "1", "2"])
    figure.draw_without_rendering()
    width = figure.get_size_inches()[0] * figure.dpi
    title = next(t for t in figure.axes[0].texts if t.get_text() == LONG)
    assert title.get_window_extent().x1 <= width - GAP / 2
