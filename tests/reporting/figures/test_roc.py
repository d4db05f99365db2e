"""ROC curves, by what is drawn."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import RocCurve, roc_curves, to_png


def curve(name="PGD ε=0.1", auc=0.75, chosen=None):
    shares = np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.5, 1.0, 1.0])
    return RocCurve(name, *shares, auc, chosen)


def test_a_panel_for_each_entry_and_a_curve_for_each_attack():
    figure = roc_curves(
        {"Oblivious": [curve(), curve("FGSM ε=0.1")], "Unrolled": [curve()]}
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        *("Oblivious", "Unrolled")
    ]
    diagonal, first, _ = figure.axes[0].lines
    assert diagonal.get_linestyle() == ":"
    np.testing.assert_allclose(first.get_ydata(), curve().true_positives)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == [
        *("PGD ε=0.1: 0.750", "FGSM ε=0.1: 0.750")
    ]


def test_the_threshold_in_use_is_a_point_on_its_curve():
    figure = roc_curves({"Oblivious": [curve(chosen=(0.05, 0.6))]})
    (point,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert (point.get_xdata(), point.get_ydata()) == ([0.05], [0.6])


def test_many_curves_are_told_apart():
    lines = roc_curves({"A": [curve(str(i)) for i in range(14)]}).axes[0].lines[1:]
    styles = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(styles) == 14


@pytest.mark.parametrize("panels", [1, 2, 4])
def test_all_is_inside_and_repeats_byte_by_byte(panels):
    given = {f"Adversary {i}": [curve()] * (3 + i) for i in range(panels)}
    figure = roc_curves(given)
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert to_png(figure) == to_png(roc_curves(given))


@pytest.mark.parametrize("panels", [{}, {"A": []}])
def test_no_curve_is_refused(panels):
    with pytest.raises(UsageError, match="no ROC curve"):
        roc_curves(panels)
