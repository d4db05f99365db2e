"""Titles say where no attack on a defence knew of it: they are what is pasted."""

import pandas as pd
import pytest

from robust_manifold.findings.accuracy_tables import cost_table, paper_table
from robust_manifold.findings.projections import separation_table
from robust_manifold.reporting import WRITERS, accuracy_curves, worst_case_curves
from robust_manifold.reporting.tables import lines_of, oblivious_only, with_threat

WORDS = "oblivious attacks only"


def adaptive(results):
    """Returns the results with an adversary that knows of the defence."""
    behind = (results["defence"] != "none") & (results["attack"] != "clean")
    return results.assign(
        adversary=results["adversary"].mask(behind, "unrolled(samples=4)")
    )


def bare(results):
    return results[results["defence"] == "none"]


@pytest.mark.parametrize("change", [adaptive, bare])
def test_who_knows_and_who_need_not(results, change):
    assert oblivious_only(lines_of(results))
    assert not oblivious_only(lines_of(change(results)))
    assert with_threat("Title", lines_of(results)) == f"Title, {WORDS}"
    assert with_threat("Title", lines_of(change(results))) == "Title"


def test_tables_say_so_in_every_format(results):
    for table in (paper_table(results), cost_table(results)):
        assert table.title.endswith(WORDS)
        for suffix in ("md", "tex", "txt"):
            assert WORDS in WRITERS[suffix](table)
    assert WORDS not in WRITERS["txt"](paper_table(bare(results)))
    assert "not the defence" not in paper_table(bare(results)).caption


@pytest.mark.parametrize("curves", [accuracy_curves, worst_case_curves])
def test_figures_say_so_in_the_picture(results, curves):
    worst = results[results["attack"] != "clean"].assign(adversary="worst case")
    every = pd.concat([results, worst], ignore_index=True)
    written = curves(every)._suptitle
    assert written.get_text() == "Oblivious attacks only"
    for change in (adaptive, bare):
        changed = pd.concat([change(results), worst], ignore_index=True)
        assert curves(changed)._suptitle is None


def test_errors_of_images_that_were_attacked_so(results):
    del results
    row = {"defence": "defense_gan", "attack": "clean", "norm": "", "n": 8}
    row |= dict.fromkeys(("low_quartile", "median", "high_quartile"), 0.1)
    row |= {"adversary": "none", "auc": None, "auc_low": None, "auc_high": None}
    attacked = row | {"attack": "fgsm(epsilon=0.1)", "adversary": "oblivious"}
    knows = attacked | {"adversary": "bpda"}
    assert separation_table([row]).title == "Reconstruction errors of clean images"
    assert separation_table([row, attacked]).title.endswith(WORDS)
    assert WORDS not in separation_table([row, attacked, knows]).title


def test_a_table_without_projections_speaks_of_none(results):
    assert "Error" in cost_table(results).text.columns
    table = cost_table(bare(results))
    assert "Error" not in table.text.columns and "projection" not in table.caption
