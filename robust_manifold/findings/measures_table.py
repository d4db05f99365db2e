"""The table of what a generator is worth to inversion."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.labels import differing_labels, label_of, restarts_label
from robust_manifold.reporting.tables import MISSING, Table, lines_of
from robust_manifold.runtime.progress import duration

_SETTINGS: Mapping[str, Callable[[Any], str]] = {
    "Generator": lambda line: line.generator,
    "Training": lambda line: line.training,
    "Generator steps": lambda line: f"{line.steps:,}" if line.steps else MISSING,
    "Data": lambda line: line.data,
    "Classifier": lambda line: label_of(line.classifier),
    "Inversion": lambda line: _inversion(line),
    "Test images": lambda line: f"{line.n:,}",
    "Features": lambda line: line.features or MISSING,
    "Samples": lambda line: _samples(line),
}


def measures_table(
    measures: pd.DataFrame,
    *,
    names: Sequence[str] | None = None,
    confidence: float | None = 0.95,
    times: bool = False,
) -> Table:
    """Returns the measures of one or several generators side by side.

    What is the same for all of them (the data, the solver, the features) stands in
    the caption, what differs in a row.  Errors read "0.00512 [0.00498, 0.00526]".

    Args:
      measures: the lines of measures.csv, one generator each.
      names: heads of the columns; by default what tells the trainings apart.
      confidence: coverage of the intervals in `measures`, for the caption; None where
        it is not known.
      times: whether to show the wall time of the trainings; without it, equal runs
        give equal tables.

    Raises:
      UsageError: for no generator, or another number of names.
    """
    lines = lines_of(measures)
    if not lines:
        raise UsageError("measures hold 0 generators; allowed: 1 or more.")
    heads = _heads(lines) if names is None else list(names)
    if len(heads) != len(lines):
        raise UsageError(
            f"names are {len(heads)}; allowed: {len(lines)}, one for each generator."
        )
    rows = {name: cells for name, cells in _settings(lines).items() if cells != heads}
    rows |= _measured(lines)
    if times:
        rows["Training time"] = [_time(line.seconds) for line in lines]
    text = pd.DataFrame([[name, *cells] for name, cells in rows.items()])
    # Not in one call: two generators may have one head.
    text.columns = pd.Index(["Measure", *heads])
    numbers = measures if times else measures.drop(columns="seconds")
    numbers = numbers.copy()
    numbers.insert(0, "name", heads)
    title = "The generator" if len(lines) == 1 else "Generators compared"
    return Table(title, _caption(lines, confidence), text, numbers)


def _heads(lines: list[Any]) -> list[str]:
    """Returns the shortest labels that tell the generators apart, numbered at need."""
    trainings = differing_labels([line.training for line in lines])
    networks = differing_labels([line.generator for line in lines])
    if len(set(networks)) == 1:
        heads = trainings
    else:
        heads = [f"{n}: {t}" for n, t in zip(networks, trainings, strict=True)]
    return [
        head if heads.count(head) == 1 else f"{head} ({heads[:place].count(head) + 1})"
        for place, head in enumerate(heads)
    ]


def _settings(lines: list[Any]) -> dict[str, list[str]]:
    """Returns a row for each setting that is not the same for all generators."""
    rows = {}
    for name, of in _SETTINGS.items():
        cells = [of(line) for line in lines]
        if len(set(cells)) > 1:
            named = name in ("Generator", "Training")
            rows[name] = differing_labels(cells) if named else cells
    if any(line.failed for line in lines):
        rows["Failed inversions"] = [f"{line.failed:,}" for line in lines]
    return rows


def _measured(lines: list[Any]) -> dict[str, list[str]]:
    """Returns the rows of the measures; an arrow says which way is better."""
    rows: dict[str, Callable[[Any], str]] = {
        "Error, mean ↓": lambda x: _error(x, "mean"),
        "Error, median ↓": lambda x: _error(x, "median"),
        "Error, 95th percentile ↓": lambda x: _error(x, "p95"),
        "Accuracy on projections ↑": _accuracy,
        "Accuracy on the images": lambda x: _share(x.clean_accuracy),
        "Fréchet distance ↓": lambda x: _number(x.frechet, "#.4g"),
        "Precision ↑": lambda x: _number(x.precision, ".3f"),
        "Recall ↑": lambda x: _number(x.recall, ".3f"),
        "Density ↑": lambda x: _number(x.density, ".3f"),
        "Coverage ↑": lambda x: _number(x.coverage, ".3f"),
        "Classes covered ↑": _classes,
    }
    return {name: [of(line) for line in lines] for name, of in rows.items()}


def _caption(lines: list[Any], confidence: float | None) -> str:
    """Returns how the numbers came about, as far as all lines agree."""
    first = lines[0]

    def common(of: Callable[[Any], Any], text: str) -> str:
        return text if len({of(line) for line in lines}) == 1 else ""

    generator = common(lambda x: x.generator, f"{label_of(first.generator)}")
    training = common(lambda x: x.training, f"{label_of(first.training)}")
    steps = ""
    if first.steps:
        steps = common(lambda x: x.steps, f"{first.steps:,} generator steps")
    budget = "; ".join(filter(None, (generator, training, steps)))
    data = common(lambda x: x.data, f" of {first.data}")
    inversion = common(_inversion, f" ({_inversion(first)})")
    count = common(lambda x: x.n, f"{first.n:,} ")
    classifier = common(lambda x: x.classifier, f" of {label_of(first.classifier)}")
    covered = "" if confidence is None else f" of {100 * confidence:g} %"
    sentences = [
        *([f"{budget}."] if budget else []),
        f"Error: mean square over the pixels between each of {count}held-out images"
        f"{data} and its projection{inversion}.",
        f"Accuracy{classifier or ' of the classifier'} on them.",
        f"Intervals{covered}: bootstrap for the mean, order statistics for median and "
        "percentile, Wilson for the accuracy.",
    ]
    if any(line.samples for line in lines):
        features = common(lambda x: x.features, f" in the features: {first.features}")
        samples = common(_samples, _samples(first)) or "samples with test images"
        ks = common(lambda x: x.k, f" (k = {first.k})")
        sentences += [
            f"Fréchet distance, precision, recall, density and coverage{ks} compare "
            f"{samples}{features}. These are no Inception features, and numbers in "
            "other features do not compare.",
            "Covered: classes with a tenth of an equal share of the samples, or more.",
        ]
    return " ".join(sentences)


def _inversion(line: Any) -> str:
    return f"{label_of(line.solver)}, {restarts_label(line.restarts)}"


def _samples(line: Any) -> str:
    if not line.samples:
        return MISSING
    return f"{line.samples:,} samples with {line.references:,} test images"


def _error(line: Any, kind: str) -> str:
    low = _number(getattr(line, f"error_{kind}_low"), ".5f")
    high = _number(getattr(line, f"error_{kind}_high"), ".5f")
    value = _number(getattr(line, f"error_{kind}"), ".5f")
    return value if value == MISSING else f"{value} [{low}, {high}]"


def _accuracy(line: Any) -> str:
    low, high = line.projection_accuracy_low, line.projection_accuracy_high
    interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
    return f"{_share(line.projection_accuracy)} {interval}"


def _classes(line: Any) -> str:
    if math.isnan(line.classes_covered):
        return MISSING
    return f"{line.classes_covered:.0f} of {line.classes}"


def _time(seconds: float) -> str:
    return MISSING if math.isnan(seconds) else duration(seconds)


def _share(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else format(value, form)
