import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import SolverCurve, error_decades, solver_curves, to_png

CURVES = {
    "Adam": SolverCurve(np.array([0.2, 0.1, 0.05, 0.04]), 8.0 * np.arange(4)),
    "L-BFGS": SolverCurve(np.array([0.2, 0.02, 0.0]), 12.0 * np.arange(3)),
}
ERRORS = {
    "P(x)": np.array([1e-3, 2e-3, 5e-3, np.inf]),
    "P(P(x))": np.array([0.0, 1e-15, 3e-7, 1e-6]),
}


def inside(figure):
    """Whether all texts lie inside the figure once it is laid out."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def ticks_of(axis):
    texts = [text.get_text() for text in axis.get_ticklabels(which="both")]
    return [text for text in texts if text]


def test_a_line_a_solver_against_steps_and_passes():
    figure = solver_curves(CURVES)
    steps, passes = figure.axes
    adam, lbfgs = steps.lines
    np.testing.assert_array_equal(adam.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(adam.get_ydata(), CURVES["Adam"].error[1:])
    # No logarithm shows 0.
    assert 0 < lbfgs.get_ydata()[-1] < 1e-9
    np.testing.assert_array_equal(passes.lines[0].get_xdata(), [8, 16, 24])
    np.testing.assert_array_equal(passes.lines[1].get_xdata(), [12, 24])
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(CURVES)
    styles = {(line.get_color(), line.get_linestyle()) for line in steps.lines}
    assert len(styles) == 2


def test_narrow_errors_are_labelled_between_powers_of_ten():
    figure = solver_curves({"Adam": CURVES["Adam"]})
    figure.draw_without_rendering()
    assert "0.05" in ticks_of(figure.axes[0].yaxis)
    figure = solver_curves(CURVES)
    figure.draw_without_rendering()
    assert "0.05" not in ticks_of(figure.axes[0].yaxis)


def test_a_solver_whose_errors_are_not_finite_is_drawn_as_nothing():
    broken = SolverCurve(np.full(3, np.nan), np.arange(3.0))
    figure = solver_curves({**CURVES, "Broken": broken})
    assert np.isnan(figure.axes[0].lines[2].get_ydata()).all()


def test_bars_are_shares_of_the_images():
    figure = error_decades(ERRORS)
    upper, lower = figure.axes
    for axes, count in ((upper, 3), (lower, 4)):
        heights, edges, _ = axes.patches[0].get_data()
        assert heights.sum() == pytest.approx(1)
        assert edges[0] == pytest.approx(1e-12) and edges[-1] == pytest.approx(1e-2)
        assert heights.max() * count == pytest.approx(count // 2)
    # What is 0 but for rounding is in the first bin.
    assert lower.patches[0].get_data().values[0] == 0.5
    assert upper.get_title(loc="left") == "P(x): median 0.002 (1 of 4 not finite)"
    figure.draw_without_rendering()
    assert ticks_of(lower.xaxis)[0] == "≤ 1e-12"


def test_the_axis_begins_where_the_errors_do():
    figure = error_decades({"P(x)": ERRORS["P(x)"]}, limit=1e-4)
    (axes,) = figure.axes
    assert axes.get_xlim() == pytest.approx((1e-4, 1e-2))
    assert [line.get_xdata()[0] for line in axes.lines] == [1e-4]
    figure.draw_without_rendering()
    assert ticks_of(axes.xaxis) == ["0.0001", "0.001", "0.01"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: solver_curves(CURVES),
        lambda: error_decades(ERRORS, limit=1e-4),
        lambda: error_decades({"all found": np.zeros(3)}),
    ],
)
def test_texts_lie_inside_and_equal_figures_give_equal_bytes(draw):
    figure = draw()
    assert inside(figure)
    assert to_png(figure) == to_png(draw())


NO_CURVES = {
    "no solver": {},
    "no step": {"Adam": SolverCurve(np.ones(1), np.zeros(1))},
    "no finite error": {"Adam": SolverCurve(np.full(3, np.nan), np.arange(3.0))},
}


@pytest.mark.parametrize("name", NO_CURVES)
def test_what_has_no_curve_is_refused(name):
    with pytest.raises(UsageError, match="no finite error after a step"):
        solver_curves(NO_CURVES[name])


def test_no_errors_are_refused():
    with pytest.raises(UsageError, match="no finite value"):
        error_decades({"P(x)": np.array([np.nan, np.inf])})
