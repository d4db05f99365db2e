import numpy as np
import pandas as pd
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import to_frame
from robust_manifold.reporting import (
    accuracy_curves,
    error_histogram,
    to_png,
    training_curves,
    worst_case_curves,
)


def titles_of(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def inside(figure):
    """Whether all texts lie inside the figure once it is laid out."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_accuracy_has_a_panel_for_each_attack_and_norm(results):
    figure = accuracy_curves(results)
    assert titles_of(figure) == ["FGSM ℓ∞", "PGD ℓ2, 40 steps"]
    first, second = figure.axes
    bare, inc = first.lines
    np.testing.assert_allclose(bare.get_xdata(), [0, 0.05, 0.2])
    np.testing.assert_allclose(bare.get_ydata(), [0.99, 0.8, 0.0])
    np.testing.assert_allclose(inc.get_ydata(), [0.842, 0.83, 0.732])
    np.testing.assert_allclose(second.lines[1].get_xdata(), [0, 1.5])
    assert first.get_xlabel() == "ε (ℓ∞, pixels in [0, 1])"
    assert "ℓ2" in second.get_xlabel()


def test_bands_are_the_intervals_of_the_results(results):
    axes = accuracy_curves(results).axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), results["accuracy_high"][0])
    for epsilon, row in [(0.05, 1), (0.2, 2)]:
        heights = band[np.isclose(band[:, 0], epsilon), 1]
        np.testing.assert_allclose(heights.min(), results["accuracy_low"][row])
        np.testing.assert_allclose(heights.max(), results["accuracy_high"][row])


def test_the_legend_names_defences_once(results):
    (legend,) = accuracy_curves(results).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "No defence",
        "Invert and Classify",
    ]


def test_lines_of_several_adversaries_are_told_apart(results):
    latent = results[results["attack"] != "clean"].assign(adversary="latent")
    figure = accuracy_curves(pd.concat([results, latent]))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert "Invert and Classify, Latent" in names and len(names) == 4
    styles = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(styles) == 4
    # Every line starts at the clean accuracy of its defence.
    assert {tuple(line.get_xdata())[0] for line in figure.axes[0].lines} == {0}


def test_worst_cases_have_a_figure_of_their_own(results, make_cell):
    worst = {"adversary": "worst case", "norm": "linf"}
    made = [
        make_cell(
            f"any_attack(norm='linf', epsilon={e})",
            400 - place,
            defence=defence,
            epsilon=e,
            **worst,
        )
        for place, e in enumerate([0.05, 0.2])
        for defence in ("none", "invert_and_classify(restarts=4)")
    ]
    every = pd.concat([results, to_frame(made)])
    assert titles_of(accuracy_curves(every)) == titles_of(accuracy_curves(results))
    figure = worst_case_curves(every)
    assert titles_of(figure) == ["Any attack ℓ∞"]
    bare, inc = figure.axes[0].lines
    np.testing.assert_allclose(bare.get_ydata(), [0.99, 0.8, 0.798])
    np.testing.assert_allclose(inc.get_ydata(), [0.842, 0.8, 0.798])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "No defence",
        "Invert and Classify",
    ]


def test_a_line_without_clean_accuracy_starts_at_its_first_budget(results):
    figure = accuracy_curves(results[results["attack"] != "clean"])
    assert figure.axes[0].lines[0].get_xdata()[0] == 0.05


def test_attacks_without_a_budget_have_no_curve(results, make_cell):
    frame = to_frame([make_cell("clean", 400), make_cell("deepfool", 3, norm="l2")])
    with pytest.raises(UsageError, match="no attack with a budget"):
        accuracy_curves(frame)


@pytest.mark.parametrize("panels", [1, 2, 4])
def test_panels_fill_rows_of_three(make_cell, panels):
    cells = [
        make_cell(f"pgd(epsilon=0.1, steps={n})", 300, norm="linf", epsilon=0.1)
        for n in range(1, panels + 1)
    ]
    figure = accuracy_curves(to_frame(cells))
    assert len(figure.axes) == panels
    assert inside(figure)


RECORDS = [
    {
        "stage": "fit_generator",
        "step": 1,
        "generator_loss": 2.0,
        "discriminator_loss": 1.0,
    },
    {
        "stage": "fit_generator",
        "step": 2,
        "generator_loss": 1.5,
        "discriminator_loss": 1.1,
    },
    {"stage": "fit_generator", "step": 2, "real": 0.6, "fake": 0.4, "seconds": 3.0},
    {"stage": "fit_classifier", "step": 50, "loss": 2.3, "accuracy": 0.1},
    {"stage": "fit_classifier", "step": 100, "loss": 0.5, "validation_accuracy": 0.8},
    {
        "stage": "fit_classifier",
        "step": 100,
        "loss": 0.4,
        "note": "resumed",
        "done": True,
    },
]


def test_training_has_a_panel_for_each_kind_of_quantity():
    figure = training_curves(RECORDS)
    assert titles_of(figure) == [
        "Fit generator: losses",
        "Fit generator: discriminator outputs",
        "Fit classifier: losses",
        "Fit classifier: accuracy",
    ]
    losses, outputs, loss, accuracy = figure.axes
    assert [line.get_label() for line in losses.lines] == ["generator", "discriminator"]
    assert [line.get_label() for line in outputs.lines] == ["real", "fake"]
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    assert loss.get_legend() is None and losses.get_legend() is not None


def test_a_step_logged_again_counts_once_with_its_last_value():
    loss = training_curves(RECORDS).axes[2].lines[0]
    np.testing.assert_allclose(loss.get_xdata(), [50, 100])
    np.testing.assert_allclose(loss.get_ydata(), [2.3, 0.4])


def test_steps_are_sorted_and_gaps_kept():
    records = [
        {"stage": "a", "step": step, "loss": value}
        for step, value in [(3, 1.0), (1, 3.0), (2, float("nan"))]
    ]
    (line,) = training_curves(records).axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(line.get_ydata(), [3.0, np.nan, 1.0])


def test_long_curves_show_a_running_mean_over_the_pale_original():
    noise = np.random.default_rng(0).normal(size=1000)
    records = [
        {"stage": "a", "step": i, "loss": 2 + float(x)} for i, x in enumerate(noise)
    ]
    records[500]["loss"] = float("inf")
    raw, mean = training_curves(records).axes[0].lines
    assert np.isnan(raw.get_ydata()[500])
    assert raw.get_alpha() < 0.5
    smooth = mean.get_ydata()
    assert np.isfinite(smooth).all()
    assert smooth.std() < 0.4 < noise.std()
    np.testing.assert_allclose(smooth[100], 2 + noise[90:110].mean(), atol=0.12)


def test_constant_quantities_keep_their_level():
    records = [{"stage": "a", "step": i, "loss": 0.7} for i in range(400)]
    smooth = training_curves(records).axes[0].lines[1].get_ydata()
    np.testing.assert_allclose(smooth, 0.7)


def test_training_without_quantities_is_refused():
    with pytest.raises(UsageError, match="no quantity"):
        training_curves([{"stage": "a", "step": 1, "seconds": 2.0, "loss": "NaN"}])


def errors(center, n=400):
    rng = np.random.default_rng(round(1000 * center))
    return rng.lognormal(np.log(center), 0.4, n).astype(np.float32)


def test_errors_have_a_panel_for_each_attack_with_clean_behind():
    clean, weak, strong = errors(0.005), errors(0.008), errors(0.03)
    figure = error_histogram(
        {"Clean": clean, "FGSM ε=0.05": weak, "FGSM ε=0.2": strong}, threshold=0.02
    )
    assert titles_of(figure) == [
        f"FGSM ε=0.05: median {np.median(weak):.2g}",
        f"FGSM ε=0.2: median {np.median(strong):.2g}",
    ]
    for axes, values in zip(figure.axes, (weak, strong), strict=True):
        assert axes.get_xscale() == "log"
        behind, shares, outline = (patch.get_data() for patch in axes.patches)
        np.testing.assert_allclose(behind.values.sum(), 1)
        np.testing.assert_allclose(
            shares.values, np.histogram(values, shares.edges)[0] / 400
        )
        assert (outline.values == shares.values).all()
        verticals = [line.get_xdata()[0] for line in axes.lines]
        np.testing.assert_allclose(
            verticals, [np.median(clean), np.median(values), 0.02], rtol=1e-6
        )
    note = figure._supxlabel.get_text()
    assert "gray: Clean" in note and "threshold 0.02" in note


def test_clean_errors_alone_have_one_panel():
    figure = error_histogram({"Clean": errors(0.005)})
    assert len(figure.axes) == 1 and len(figure.axes[0].patches) == 2


def test_errors_that_are_not_finite_are_counted():
    odd = np.array([0.1, np.nan, 0.0, np.inf], np.float32)
    none = np.full(3, np.nan, np.float32)
    figure = error_histogram({"Clean": errors(0.005), "odd": odd, "none": none})
    assert titles_of(figure) == [
        "odd: median 0.05 (2 of 4 not finite)",
        "none: no finite error (3 of 3 not finite)",
    ]


@pytest.mark.parametrize("given", [{}, {"Clean": np.full(3, np.nan, np.float32)}])
def test_no_errors_are_refused(given):
    with pytest.raises(UsageError, match="no finite value"):
        error_histogram(given)


def test_equal_errors_can_be_drawn():
    assert to_png(error_histogram({"Clean": np.full(3, 0.01, np.float32)}))


@pytest.mark.parametrize("make", ["accuracy", "training", "errors"])
def test_figures_are_laid_out_inside_and_repeat_byte_by_byte(results, make):
    def draw():
        if make == "accuracy":
            return accuracy_curves(results)
        if make == "training":
            return training_curves(RECORDS)
        return error_histogram({"Clean": errors(0.005), "FGSM": errors(0.03)})

    figure = draw()
    assert inside(figure)
    assert to_png(figure) == to_png(figure) == to_png(draw())


def test_step_numbers_do_not_run_into_each_other():
    records = [{"stage": "a", "step": 50 * i, "loss": 1.0} for i in range(4000)]
    figure = training_curves([*records, {"stage": "b", "step": 1, "loss": 1.0}])
    figure.draw_without_rendering()
    labels = [
        label.get_window_extent()
        for label in figure.axes[0].get_xticklabels()
        if label.get_text()
    ]
    shown = sorted(labels, key=lambda box: box.x0)
    for left, right in zip(shown, shown[1:], strict=False):
        assert left.x1 + 5 < right.x0


def test_ticks_are_whole_numbers_of_the_axis_with_nothing_to_add():
    records = [
        {"stage": "a", "step": i, "real": 0.5 + i * 1e-5, "fake": 0.5} for i in (1, 2)
    ]
    figure = training_curves(records)
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    assert axis.get_offset_text().get_text() == ""
    assert all(0.49 < float(t.get_text()) < 0.51 for t in axis.get_ticklabels())


@pytest.mark.parametrize("low, high", [(0.115, 0.15), (0.002, 0.009), (0.001, 0.2)])
def test_the_axis_of_errors_has_several_numbers(low, high):
    figure = error_histogram({"Clean": np.linspace(low, high, 9)})
    figure.draw_without_rendering()
    axis = figure.axes[0].xaxis
    left, right = figure.axes[0].get_xlim()
    texts = [text.get_text() for text in axis.get_ticklabels(which="both")]
    assert sum(left <= float(text) <= right for text in texts if text) >= 2
