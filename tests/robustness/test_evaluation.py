"""How an evaluation prints, draws, compares and stores itself."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import Budget, Check
from robust_manifold.evaluation.cascades import AtBudget, Share
from robust_manifold.robustness import Evaluation
from robust_manifold.robustness.comparison import compared

RNG = np.random.default_rng(0)
CLEAN = RNG.uniform(size=(4, 8, 8, 1)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1])
FLAGS = (
    Check("operations", "FLAG", 1.0, "No path <passes> a gradient."),
    Check("zero budget", "PASS", 0.0, "Nothing changes."),
    Check("cost", "SKIPPED", None, "Not checked: for a reason."),
)


def at(epsilon, rate, norm="linf"):
    rate = np.array(rate, float)
    shares = (
        Share("clean", 4, 1, 0, 0, 0.0),
        Share("unrolled, 4 steps", 3, int((rate >= 1).sum()) - 1, 40, 36, 1.5),
    )
    images = np.clip(CLEAN + np.float32(epsilon / 3), 0, 1)
    member = (rate >= 1).astype(int)
    return AtBudget(Budget(norm, epsilon), images, rate, rate - 0.5, member, shares)


EVALUATION = Evaluation(
    name="levels",
    clean_images=CLEAN,
    labels=LABELS,
    clean=np.array([1.0, 0, 0, 0]),
    budgets=(at(0.1, [1, 0, 1, 0]), at(0.2, [1, 1, 1, 0]), at(1.5, [1, 0, 0, 0], "l2")),
    audit=FLAGS,
    notes=("A note.",),
    effort="quick",
    seconds=75.0,
)
PRINTED = """\
levels: 4 images, effort quick
FLAG operations: No path <passes> a gradient.

           right  95 % interval  gradients  outputs
clean     75.0 %   [30.1, 95.4]
linf 0.1  50.0 %   [15.0, 85.0]          9       10
linf 0.2  25.0 %    [4.6, 69.9]          9       10
l2 1.5    75.0 %   [30.1, 95.4]          9       10

Broken at linf 0.1: 1 clean, 1 by unrolled, 4 steps.
Broken at linf 0.2: 2 by unrolled, 4 steps, 1 clean.
Broken at l2 1.5: 1 clean.
Cost: 27 gradients and 30 outputs an image, 1 min 15 s with compilation.
A note."""


def test_it_prints_flags_figures_members_and_cost():
    assert str(EVALUATION) == repr(EVALUATION) == PRINTED
    without = dataclasses.replace(EVALUATION, audit=FLAGS[1:], name="none")
    first, second, *_ = str(without).splitlines()
    assert first == "no defence: 4 images, effort quick"
    # Of a random defence some images are lost under some keys alone.
    random = dataclasses.replace(EVALUATION, budgets=(at(0.1, [1, 0.5, 0.25, 0]),))
    assert "linf 0.1  56.2 %" in str(random)
    assert "Broken at linf 0.1: 1 clean; 2 more under some keys.\n" in str(random)
    # What was broken, and is so under some keys of the last look, is no other image.
    shares = (Share("clean", 4, 2, 0, 0, 0.0),)
    spared = at(0.1, [1, 0.5, 0.25, 0])._replace(shares=shares)
    random = dataclasses.replace(EVALUATION, budgets=(spared,))
    assert "Broken at linf 0.1: 2 clean; 1 more under some keys.\n" in str(random)
    assert second == "No flag in 1 check, which is no proof of robustness."


def test_in_a_notebook_it_is_a_table_and_a_picture_without_pyplot():
    page = EVALUATION._repr_html_()
    assert "<td>linf 0.2</td><td>25.0 %</td><td>[4.6, 69.9]</td>" in page
    assert "No path &lt;passes&gt; a gradient." in page and "A note." in page
    figure = EVALUATION.plot()
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.format == "PNG" and picture.width > 500
    line = figure.axes[0].lines[0]
    points = [[0, 0.75], [0.1, 0.5], [0.2, 0.25]]
    np.testing.assert_allclose(line.get_xydata(), points)


def test_frame_and_latex_have_the_same_figures():
    frame = EVALUATION.to_frame()
    assert list(frame["accuracy"]) == [0.75, 0.5, 0.25, 0.75]
    assert list(frame["norm"]) == ["", "linf", "linf", "l2"]
    text = EVALUATION.to_latex()
    assert r"\toprule" in text and r"25.0 \% [4.6, 69.9]" in text


def test_images_are_those_of_a_budget():
    for row in (1, -2, ("linf", 0.2), Budget("linf", 0.2), "linf 0.2"):
        np.testing.assert_array_equal(
            EVALUATION.images(row), EVALUATION.budgets[1].images
        )
    for row in (3, ("linf", 0.3), "linf 0.3"):
        with pytest.raises(UsageError, match="row is .*; allowed: 0 to 2, or one of"):
            EVALUATION.images(row)


def test_it_is_stored_to_the_last_bit(tmp_path):
    EVALUATION.save(tmp_path / "a/b")
    found = Evaluation.load(tmp_path / "a/b")
    assert str(found) == PRINTED and found.audit == FLAGS
    for one, other in zip(EVALUATION.budgets, found.budgets, strict=True):
        for mine, its in zip(one[1:5], other[1:5], strict=True):
            np.testing.assert_array_equal(mine, its)
            assert mine.dtype == its.dtype
        assert one.shares == other.shares
    np.testing.assert_array_equal(found.clean_images, CLEAN)
    lines = pd.read_csv(tmp_path / "a/b/lines.csv")
    assert list(lines["accuracy"]) == [0.75, 0.5, 0.25, 0.75]
    page = (tmp_path / "a/b/report.html").read_text()
    assert "1 flag: operations" in page and "25.0 %" in page
    assert page.count("data:image/png") >= 4 and "http" not in page.split("<main>")[1]
    # Again into the same folder.
    found.save(tmp_path / "a/b")
    with pytest.raises(UsageError, match="holds no evaluation.json; allowed"):
        Evaluation.load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        EVALUATION.save(tmp_path / "file")


def other(**changes):
    return dataclasses.replace(EVALUATION, **{"name": "other"} | changes)


def test_several_are_paired_image_by_image():
    rates = np.zeros(4), np.array([0, 0, 1, 0.5])
    budgets = (at(0.1, [0, 1, 1, 1]), at(0.3, [1, 1, 1, 1]))
    found = EVALUATION.compare(other(budgets=budgets), other(clean=rates[0]))
    first, second = found.pairs
    assert found.names == ("levels", "other (1)", "other (2)")
    assert [pair.first[:2] for pair in first] == [("", 0.0), ("linf", 0.1)]
    assert (first[1].only_first, first[1].only_other) == (1, 2)
    assert first[1].p == 1.0 and first[0].p == 1.0
    assert (second[0].only_first, second[0].only_other) == (1, 0)
    assert list(found.to_frame()["only_other_broken"]) == [0, 2, 0, 0, 0, 0]
    assert "linf 0.1  50.0 %     25.0 %" in str(found)
    assert len(found.plot().axes) == 2


def test_the_test_is_mcnemars_exact_one():
    many = {
        "clean_images": np.zeros((12, 2, 2, 1), np.float32),
        "labels": np.zeros(12, int),
    }
    one, two = (
        other(**many, clean=np.array(rate, float), budgets=(
            AtBudget(
                Budget("linf", 0.1), many["clean_images"], np.zeros(12), np.zeros(12),
                np.zeros(12, int), (Share("clean", 12, 0, 0, 0, 0.0),),
            ),
        ))
        for rate in ([0] * 12, [1] * 7 + [0] * 5)
    )  # fmt: skip
    pair = one.compare(two).pairs[0][0]
    assert (pair.only_first, pair.only_other) == (0, 7)
    assert pair.p == pytest.approx(2 * 0.5**7)


def test_other_images_and_budgets_cannot_be_compared():
    for change in ({"clean_images": CLEAN[::-1]}, {"labels": LABELS[::-1]}):
        with pytest.raises(
            UsageError, match="'other' on other images; allowed"
        ) as told:
            EVALUATION.compare(other(**change))
        assert "\n" not in str(told.value)
    with pytest.raises(UsageError, match="no budget in common with the first"):
        EVALUATION.compare(other(budgets=(at(0.3, [1, 1, 1, 1]),)))
    with pytest.raises(UsageError, match="is given 3; allowed: evaluations"):
        compared((EVALUATION, 3))
    with pytest.raises(UsageError, match="is given 0 evaluations; allowed: 1 or more"):
        EVALUATION.compare()


def test_the_call_needs_no_data_sets_and_no_drawing():
    program = (
        "import sys, robust_manifold\n"
        "assert 'robust_manifold.robustness' not in sys.modules\n"
        "robust_manifold.evaluate, robust_manifold.Evaluation\n"
        "heavy = {'tensorflow_datasets', 'tensorflow', 'matplotlib', 'grain'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
