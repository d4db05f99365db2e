import io
import math

import pandas as pd
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import GeneratorMeasures, measures_to_frame
from robust_manifold.findings.measures_table import measures_table
from robust_manifold.reporting import WRITERS, values_table
from robust_manifold.reporting.tables import to_console, to_csv, to_latex, to_markdown

LINE = GeneratorMeasures(
    generator="dcgan_generator(latent_size=64, width=32)",
    training="gan(loss='minimax', discriminator='dcgan_discriminator(width=32)')",
    data="tfds:mnist",
    classifier="small_cnn",
    solver="adam(steps=200)",
    restarts="10",
    n=1000,
    failed=0,
    error_mean=0.00512,
    error_mean_low=0.00498,
    error_mean_high=0.00526,
    error_median=0.0043,
    error_median_low=0.0041,
    error_median_high=0.0045,
    error_p95=0.0123,
    error_p95_low=0.0119,
    error_p95_high=None,
    projection_accuracy=0.976,
    projection_accuracy_low=0.9644,
    projection_accuracy_high=0.9839,
    clean_accuracy=0.991,
    features="input of the last dense layer of small_cnn",
    samples=5000,
    references=5000,
    k=5,
    frechet=12.3456,
    precision=0.87,
    recall=0.65,
    density=1.02,
    coverage=0.9,
    classes=10,
    classes_covered=10,
    steps=20000,
    seconds=605.0,
)
HINGE = LINE._replace(training=LINE.training.replace("minimax", "hinge"), recall=0.7)
VAE = LINE._replace(training="vae(encoder='conv_encoder')")


def rows_of(table):
    return {row[0]: list(row[1:]) for row in table.text.itertuples(index=False)}


def table_of(*lines, **options):
    return measures_table(measures_to_frame(lines), **options)


MARKDOWN = """\
| Measure                   |          GAN, loss minimax |            GAN, loss hinge |                        VAE |
|:--------------------------|---------------------------:|---------------------------:|---------------------------:|
| Error, mean ↓             | 0.00512 [0.00498, 0.00526] | 0.00512 [0.00498, 0.00526] | 0.00512 [0.00498, 0.00526] |
| Error, median ↓           | 0.00430 [0.00410, 0.00450] | 0.00430 [0.00410, 0.00450] | 0.00430 [0.00410, 0.00450] |
| Error, 95th percentile ↓  |       0.01230 [0.01190, –] |       0.01230 [0.01190, –] |       0.01230 [0.01190, –] |
| Accuracy on projections ↑ |        97.6 % [96.4, 98.4] |        97.6 % [96.4, 98.4] |        97.6 % [96.4, 98.4] |
| Accuracy on the images    |                     99.1 % |                     99.1 % |                     99.1 % |
| Fréchet distance ↓        |                      12.35 |                      12.35 |                      12.35 |
| Precision ↑               |                      0.870 |                      0.870 |                      0.870 |
| Recall ↑                  |                      0.650 |                      0.700 |                      0.650 |
| Density ↑                 |                      1.020 |                      1.020 |                      1.020 |
| Coverage ↑                |                      0.900 |                      0.900 |                      0.900 |
| Classes covered ↑         |                   10 of 10 |                   10 of 10 |                   10 of 10 |
"""  # noqa: E501


def test_generators_stand_side_by_side():
    text = to_markdown(table_of(LINE, HINGE, VAE))
    assert text.partition("\n\n")[2] == MARKDOWN


def test_the_caption_says_how_the_numbers_came_about():
    assert table_of(LINE, HINGE).caption == (
        "DCGAN Generator, latent size 64, width 32; 20,000 generator steps. Error: "
        "mean square over the pixels between each of 1,000 held-out images of "
        "tfds:mnist and its projection (Adam, 200 steps, best of 10 starts). Accuracy "
        "of Small CNN on them. Intervals of 95 %: bootstrap for the mean, order "
        "statistics for median and percentile, Wilson for the accuracy. Fréchet "
        "distance, precision, recall, density and coverage (k = 5) compare 5,000 "
        "samples with 5,000 test images in the features: input of the last dense layer "
        "of small_cnn. These are no Inception features, and numbers in other features "
        "do not compare. Covered: classes with a tenth of an equal share of the "
        "samples, or more."
    )
    assert "Intervals of 90 %:" in table_of(LINE, confidence=0.9).caption
    assert "Intervals: bootstrap" in table_of(LINE, confidence=None).caption


def test_what_differs_is_a_row_and_not_in_the_caption():
    other = LINE._replace(
        generator="dcgan_generator(latent_size=32, width=32)",
        data="mnist_5k",
        restarts="1",
        n=500,
        steps=100,
        features="pixels",
        classifier="linear",
    )
    table = table_of(LINE, other)
    rows = rows_of(table)
    assert list(table.text.columns)[1:] == [
        "DCGAN Generator, latent size 64: GAN",
        "DCGAN Generator, latent size 32: GAN",
    ]
    assert rows["Data"] == ["tfds:mnist", "mnist_5k"]
    assert rows["Inversion"] == [
        "Adam, 200 steps, best of 10 starts",
        "Adam, 200 steps, one start",
    ]
    halved = LINE._replace(restarts="restarts(count=8, halve_at=(2, 4))")
    shown = rows_of(table_of(LINE, halved))["Inversion"]
    assert shown[1] == "Adam, 200 steps, best of 8 starts (halve at (2, 4))"
    assert rows["Generator steps"] == ["20,000", "100"]
    assert rows["Test images"] == ["1,000", "500"]
    assert rows["Classifier"] == ["Small CNN", "Linear"]
    assert rows["Features"][1] == "pixels"
    for absent in ("tfds:mnist", "Adam", "20,000", "1,000", "Small CNN", "layer"):
        assert absent not in table.caption
    assert "Training" not in rows


def test_one_generator_is_described_in_the_caption():
    table = table_of(LINE)
    assert list(table.text.columns) == ["Measure", "GAN"]
    assert "loss minimax" in table.caption and "Training" not in rows_of(table)


def test_named_columns_show_the_trainings_in_a_row():
    table = table_of(LINE, HINGE, names=["first", "second"])
    assert list(table.text.columns) == ["Measure", "first", "second"]
    assert rows_of(table)["Training"] == ["GAN, loss minimax", "GAN, loss hinge"]
    with pytest.raises(UsageError, match="names are 1; allowed: 2"):
        table_of(LINE, HINGE, names=["first"])


def test_generators_of_one_training_are_numbered():
    heads = list(table_of(LINE, LINE, VAE).text.columns)
    assert heads == ["Measure", "GAN (1)", "GAN (2)", "VAE"]


def test_times_are_shown_on_demand_only():
    lines = LINE, HINGE._replace(seconds=None)
    assert rows_of(table_of(*lines, times=True))["Training time"] == [
        "10 min 05 s",
        "–",
    ]
    first, second = (
        table_of(LINE._replace(seconds=seconds)) for seconds in (1.0, None)
    )
    for write in WRITERS.values():
        assert write(first) == write(second)


def test_what_was_not_measured_is_a_dash():
    bare = LINE._replace(
        error_mean=None,
        error_mean_low=None,
        error_mean_high=None,
        clean_accuracy=None,
        samples=0,
        references=0,
        frechet=None,
        precision=None,
        classes_covered=None,
        failed=1000,
    )
    table = table_of(bare)
    rows = rows_of(table)
    for name in ("Error, mean ↓", "Accuracy on the images", "Precision ↑"):
        assert rows[name] == ["–"]
    assert rows["Fréchet distance ↓"] == rows["Classes covered ↑"] == ["–"]
    assert rows["Failed inversions"] == ["1,000"]
    assert "Inception" not in table.caption


def test_csv_holds_the_whole_lines():
    frame = pd.read_csv(io.StringIO(to_csv(table_of(LINE, VAE, names=["a", "b"]))))
    assert frame["name"].tolist() == ["a", "b"]
    assert frame["training"].tolist() == [LINE.training, VAE.training]
    assert frame["error_mean"].tolist() == [0.00512, 0.00512]
    assert math.isnan(frame["error_p95_high"][0]) and "seconds" not in frame


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_console_and_latex_show_every_column(count):
    lines = [
        LINE._replace(training=f"gan(loss='loss_{n}', gradient_penalty={n}.5)")
        for n in range(count)
    ]
    text = to_console(table_of(*lines), width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for n in range(count):
        assert count == 1 or f"loss_{n}" in text
    assert text.count("12.35") == count
    latex = to_latex(table_of(*lines))
    assert r"Error, mean \ensuremath{\downarrow}" in latex
    assert rf"\begin{{tabular}}{{l{'r' * count}}}" in latex


def test_no_generators_are_refused():
    with pytest.raises(UsageError, match="0 generators"):
        table_of()


def test_values_stand_beside_their_names():
    table = values_table(
        {"Total variation": 0.0123456, "Steps": 3000, "Data": "normal"},
        title="Distances",
        caption="At the end.",
    )
    assert rows_of(table) == {
        "Total variation": ["0.01235"],
        "Steps": ["3000"],
        "Data": ["normal"],
    }
    assert "Total variation,0.0123456" in to_csv(table)
    assert "| Steps " in to_markdown(table)
