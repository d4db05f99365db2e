import math

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    MEASURE_COLUMNS,
    class_coverage,
    density_coverage,
    error_summary,
    frechet_distance,
    measure_samples,
    measures_to_csv,
    measures_to_frame,
    precision_recall,
    read_measures,
    summarise_generator,
    wilson_interval,
)

N = 80
LABELS = np.arange(N) % 4
WRONG = np.where(np.arange(N) < 8, -1, LABELS)
ERRORS = np.linspace(0.001, 0.008, N)
REAL, FAKE = np.random.default_rng(0).normal(size=(2, 30, 5))
SAMPLES = measure_samples(REAL, FAKE, np.arange(30) % 3, classes=4, k=3)


def summarised(**changes):
    given = {
        "generator": "dcgan_generator(latent_size=4)",
        "training": "gan(loss='hinge')",
        "data": "npz:digits.npz",
        "classifier": "linear",
        "solver": "adam(steps=3)",
        "restarts": "10",
        "steps": 2000,
        "classes": 4,
        "errors": ERRORS,
        "labels": LABELS,
        "predictions": WRONG,
        "clean_predictions": LABELS,
        "features": "the last layer",
        "samples": SAMPLES,
        "seconds": 12.3456,
    }
    return summarise_generator(**(given | changes))


def test_samples_are_measured_by_the_measures_of_the_same_names():
    assert SAMPLES.frechet == frechet_distance(REAL, FAKE)
    assert SAMPLES[4:6] == precision_recall(REAL, FAKE, 3)
    assert SAMPLES[6:8] == density_coverage(REAL, FAKE, 3)
    assert SAMPLES.classes_covered == 3 == class_coverage(np.arange(30) % 3, 4).covered
    assert SAMPLES[:3] == (30, 30, 3)


def test_the_line_holds_every_measure():
    line = summarised()
    assert line.n == N and line.failed == 0
    errors = error_summary(ERRORS)
    assert line[8:17] == errors[1:]
    assert (line.error_mean, line.error_p95_high) == (errors.mean, errors.p95_high)
    assert line.projection_accuracy == 0.9 and line.clean_accuracy == 1
    assert line[18:20] == wilson_interval(72, N)
    assert line[22:30] == SAMPLES[:8]
    assert (line.classes, line.classes_covered) == (4, 3)


def test_confidence_reaches_every_interval():
    line = summarised(confidence=0.5)
    assert line[18:20] == wilson_interval(72, N, 0.5)
    assert line[8:17] == error_summary(ERRORS, 0.5)[1:]


def test_what_was_not_measured_is_empty():
    line = summarised(samples=None, clean_predictions=None, seconds=None, features="")
    assert line.frechet is None and line.classes_covered is None
    assert (line.samples, line.references, line.k) == (0, 0, 0)
    frame = measures_to_frame([line])
    assert math.isnan(frame["frechet"][0]) and math.isnan(frame["clean_accuracy"][0])


def test_failed_inversions_are_counted_and_left_out():
    errors = np.where(np.arange(N) < 5, np.nan, ERRORS)
    line = summarised(errors=errors)
    assert line.failed == 5 and line.error_mean == pytest.approx(ERRORS[5:].mean())
    nothing = summarised(errors=np.full(N, np.inf))
    assert nothing.failed == N and nothing.error_mean is nothing.error_p95_high is None


def test_the_text_is_fixed():
    header, line = measures_to_csv([summarised()]).splitlines()
    assert header == ",".join(MEASURE_COLUMNS)
    assert line.startswith(
        "dcgan_generator(latent_size=4),gan(loss='hinge'),npz:digits.npz,linear,"
        "adam(steps=3),10,80,0,0.00450000,"
    )
    assert ",0.900000,0.814893,0.948452,1.000000,the last layer,30,30,3," in line
    assert line.endswith(",4,3,2000,12.346")


def test_equal_runs_differ_in_the_last_column_only():
    texts = [measures_to_csv([summarised(seconds=s)]) for s in (1.0, 2.0)]
    assert texts[0] != texts[1]
    assert len({text.rstrip().rpartition(",")[0] for text in texts}) == 1


def test_round_trip():
    halved = "restarts(scale='unit', halve_at=(2, 4))"
    lines = [summarised(), summarised(training="vae", samples=None, restarts=halved)]
    frame = read_measures(measures_to_csv(lines))
    assert tuple(frame.columns) == MEASURE_COLUMNS
    assert frame["training"].tolist() == ["gan(loss='hinge')", "vae"]
    assert frame["restarts"].tolist() == ["10", halved]
    assert frame["steps"].dtype == np.int64
    assert frame["error_median"][0] == pytest.approx(lines[0].error_median, abs=1e-8)
    assert frame["classes_covered"][0] == 3 and math.isnan(frame["classes_covered"][1])
    assert read_measures(measures_to_csv([])).empty


GOOD = measures_to_csv([summarised()])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", r"measures.csv has the columns \(none\)"),
        (GOOD.replace("generator,", "", 1), "measures.csv has the columns training"),
        (GOOD.replace("12.346", "long"), "seconds in line 2 of measures.csv is 'long'"),
        (GOOD.replace(",10,80,0,", ",10,80,81,"), "81 failed of n = 80"),
        (GOOD.replace(",10,80,0,", ",10,many,0,"), "n in line 2 .* 'many'"),
        (GOOD.replace(",0.900000,", ",,"), "projection_accuracy in line 2"),
        (GOOD.rpartition(",")[0], "line 2 of measures.csv has"),
    ],
)
def test_damaged_text_is_refused(text, named):
    with pytest.raises(UsageError, match=named):
        read_measures(text)


def test_no_images_are_refused():
    nothing = np.zeros(0, int)
    with pytest.raises(UsageError, match="n is 0"):
        summarised(
            errors=np.zeros(0),
            labels=nothing,
            predictions=nothing,
            clean_predictions=None,
        )
