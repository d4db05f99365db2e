"""Bars of unions: as high as the accuracies, unions last."""

import numpy as np
import pandas as pd
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures import union_bars

TEXT = "union(linf=0.3, l2=1.5)"


def _line(defence, norm, epsilon, accuracy):
    return {
        "classifier": "cnn",
        "defence": defence,
        "union": TEXT,
        "norm": norm,
        "epsilon": epsilon,
        "n": 10,
        "correct": round(10 * accuracy),
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.1,
        "accuracy_high": accuracy + 0.1,
        "alone": 0,
    }


def _lines():
    heights = {"none": (0.5, 0.6, 0.3), "invert_and_classify": (0.7, 0.2, 0.1)}
    balls = (("", np.nan), ("linf", 0.3), ("l2", 1.5))
    return pd.DataFrame(
        [
            _line(defence, *ball, accuracy)
            for defence, (linf, l2, union) in heights.items()
            for ball, accuracy in zip(balls, (union, linf, l2), strict=True)
        ]
    )


def test_a_bar_for_each_ball_and_the_union_in_every_column():
    figure = union_bars(_lines(), beside={"MSD 58.7 %": 0.587})
    (axes,) = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["ℓ∞ ε=0.3", "ℓ2 ε=1.5", "Any of ℓ∞ 0.3, ℓ2 1.5"]
    bars = [c for c in axes.containers if hasattr(c, "patches")]
    heights = [[bar.get_height() for bar in each.patches] for each in bars]
    np.testing.assert_allclose(heights, [[0.5, 0.7], [0.6, 0.2], [0.3, 0.1]])
    # Side by side within a column, none over another one.
    lefts = np.array([[bar.get_x() for bar in each.patches] for each in bars])
    widths = np.array([[bar.get_width() for bar in each.patches] for each in bars])
    assert np.all(lefts[1:] >= (lefts + widths)[:-1])
    assert np.all(lefts[:, 1] > (lefts + widths)[:, 0].max())
    assert "MSD 58.7 %" in [text.get_text() for text in axes.texts]


def test_no_line_is_told():
    with pytest.raises(UsageError, match="unions hold no line; allowed: 1 or more"):
        union_bars(_lines().iloc[:0])
