import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import (
    SolverLine,
    read_solvers,
    separation,
    solvers_to_csv,
)
from robust_manifold.findings.diagnostics_tables import checks_table, solvers_table
from robust_manifold.findings.projections import separation_table
from robust_manifold.reporting import WRITERS
from robust_manifold.reporting.labels import restarts_label

LINE = SolverLine(
    solver="adam(steps=200)",
    restarts="restarts(count=4, scale='unit')",
    n=50,
    failed=0,
    steps=200,
    passes=1600.0,
    error_mean=0.00512,
    error_mean_low=0.00498,
    error_mean_high=0.00526,
    error_median=0.0000043,
    near_best=0.625,
    near_best_low=0.5,
    near_best_high=0.75,
)
REPETITION = {
    "n": 50,
    "failed": 0,
    "error": 0.0045,
    "again_error": 1.96e-15,
    "distance": 1.876,
    "again_distance": 1.24e-6,
}
RECOVERY = {
    "n": 100,
    "limit": 1e-4,
    "recovered": 97,
    "share": 0.97,
    "low": 0.9155,
    "high": 0.9897,
    "error_median": 1.2e-8,
    "distance_median": 0.5,
    "apart_median": None,
}


def rows_of(table):
    return {row[0]: list(row[1:]) for row in table.text.itertuples(index=False)}


def solvers_of(*lines):
    return solvers_table(read_solvers(solvers_to_csv(lines)), near=0.05)


def test_a_row_a_solver():
    other = LINE._replace(solver="levenberg_marquardt", steps=12, passes=1104.0)
    table = solvers_of(LINE, other)
    mean = "0.00512 [0.00498, 0.00526]"
    assert rows_of(table) == {
        "Adam": ["200", "1,600", mean, "4.30e-06", "62 % [50, 75]"],
        "Levenberg-Marquardt": ["12", "1,104", mean, "4.30e-06", "62 % [50, 75]"],
    }
    assert table.caption.startswith(
        "How inversion does, on 50 test images from the same starts for all solvers: "
        "best of 4 starts (scale unit)."
    )
    assert "within 5 % of the error" in table.caption
    for write in WRITERS.values():
        assert "Levenberg" in write(table) or "levenberg" in write(table)
    with pytest.raises(UsageError, match="0 lines"):
        solvers_of()


def test_failures_are_shown_where_there_are_any():
    nothing = LINE._replace(
        failed=50, **{f"error_{name}": None for name in ("mean", "median")}
    )
    table = solvers_of(LINE, nothing._replace(solver="lbfgs"))
    assert list(table.text["Failed"]) == ["0", "50"]
    assert rows_of(table)["L-BFGS"][2:4] == ["–", "–"]


def test_checks_of_projections_and_recoveries():
    summary = {"repetition": REPETITION, "recovery": RECOVERY}
    table = checks_table(summary, solver="lbfgs", restarts="1")
    rows = rows_of(table)
    assert rows["Error of P(P(x)) against P(x)"] == ["1.96e-15"]
    assert rows["ℓ2 distance from x to P(x)"] == ["1.88"]
    assert rows["x = G(z) found again"] == ["97.0 % [91.5, 99.0]"]
    assert rows["Distance of two such z"] == ["–"]
    assert "Projections P by L-BFGS, one start." in table.caption
    assert "an error of at most 0.0001" in table.caption
    assert "no finite" not in table.caption
    assert table.numbers["value"][4] == 0.97


def test_what_was_not_measured_is_not_shown():
    nothing = REPETITION | {"failed": 50, "error": None, "again_error": None}
    table = checks_table(
        {"repetition": nothing, "recovery": None}, solver="lbfgs", restarts="4"
    )
    assert len(table.text) == 4 and "G(z)" not in table.caption
    assert rows_of(table)["Error of P(x) against x"] == ["–"]
    assert "50 images had no finite projection" in table.caption


def separated(defence="invert_and_classify", **changes):
    clean = np.linspace(0.001, 0.01, 100)
    named = {"defence": defence, "norm": "", "adversary": "none"}
    rows = [{"attack": "clean", **named, **separation(clean)._asdict()}]
    named |= {"norm": "linf", "adversary": "oblivious", "attack": "fgsm(epsilon=0.2)"}
    return [*rows, named | separation(2 * clean, clean)._asdict() | changes]


def test_errors_of_clean_and_adversarial_images():
    table = separation_table(separated())
    assert list(table.text.columns) == [
        "Attack",
        "1st quartile",
        "Median",
        "3rd quartile",
        "AUC",
    ]
    clean, attacked = rows_of(table).values()
    assert clean == ["0.00318", "0.00545", "0.00773", "–"]
    assert attacked[:3] == ["0.00636", "0.0109", "0.0155"]
    assert attacked[3].startswith("0.800 [0.7")
    assert "its projection by Invert and Classify, for 100 images" in table.caption
    assert table.names == 1
    for write in WRITERS.values():
        assert "FGSM" in write(table) or "fgsm" in write(table)


def test_several_defences_and_adversaries_are_told_apart():
    rows = separated() + separated(
        "invert_and_classify(restarts=2)", adversary="latent"
    )
    table = separation_table(rows)
    assert list(table.text.columns)[:3] == ["Defence", "Attack", "Adversary"]
    assert table.names == 3 and len(set(table.text["Defence"])) == 2
    with pytest.raises(UsageError, match="0 sets"):
        separation_table([])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("restarts(scale='unit')", "best of 4 starts (scale unit)"),
        ("restarts(count=1, encoded=0)", "one start (encoded 0)"),
        ("unheard_of(3)", "unheard_of(3)"),
    ],
)
def test_starts_are_put_into_words(text, words):
    assert restarts_label(text) == words
