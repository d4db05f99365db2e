import io

import pandas as pd
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.findings.accuracy_tables import (
    cost_table,
    paper_table,
    paper_tables,
)
from robust_manifold.reporting.tables import (
    WRITERS,
    escape_latex,
    to_console,
    to_csv,
    to_latex,
    to_markdown,
)

CAPTION = (
    "Accuracy of Small CNN with its 95 % Wilson interval, n = 500 test images. "
    "Adversary: oblivious (the attack sees the bare classifier, not the defence). "
    "ε is the ℓ∞ budget on pixels in [0, 1] unless a row names another norm."
)

TITLE = "Accuracy by attack, oblivious attacks only"

MARKDOWN = f"""\
**{TITLE}.** {CAPTION}

| Attack                 |          No defence |   Invert and Classify |
|:-----------------------|--------------------:|----------------------:|
| Clean                  | 99.0 % [97.7, 99.6] |   84.2 % [80.7, 87.1] |
| FGSM ε=0.05            | 80.0 % [76.3, 83.3] |   83.0 % [79.5, 86.0] |
| FGSM ε=0.2             |    0.0 % [0.0, 0.8] |   73.2 % [69.2, 76.9] |
| PGD ℓ2 ε=1.5, 40 steps | 20.0 % [16.7, 23.7] |   70.0 % [65.8, 73.9] |
"""

LATEX = r"""% \usepackage{booktabs}
\begin{table}[htbp]
\centering
\caption{Accuracy by attack, oblivious attacks only. Accuracy of Small CNN with its 95 \% Wilson interval, n = 500 test images. Adversary: oblivious (the attack sees the bare classifier, not the defence). \ensuremath{\varepsilon} is the \ensuremath{\ell_\infty} budget on pixels in [0, 1] unless a row names another norm.}
\begin{tabular}{lrr}
\toprule
Attack & No defence & Invert and Classify \\
\midrule
Clean & 99.0 \% [97.7, 99.6] & 84.2 \% [80.7, 87.1] \\
FGSM \ensuremath{\varepsilon}=0.05 & 80.0 \% [76.3, 83.3] & 83.0 \% [79.5, 86.0] \\
FGSM \ensuremath{\varepsilon}=0.2 & 0.0 \% [0.0, 0.8] & 73.2 \% [69.2, 76.9] \\
PGD \ensuremath{\ell_2} \ensuremath{\varepsilon}=1.5, 40 steps & 20.0 \% [16.7, 23.7] & 70.0 \% [65.8, 73.9] \\
\bottomrule
\end{tabular}
\end{table}
"""  # noqa: E501

CONSOLE = f"""\
{TITLE}

 Attack                            No defence   Invert and Classify
 ──────────────────────────────────────────────────────────────────
 Clean                    99.0 % [97.7, 99.6]   84.2 % [80.7, 87.1]
 FGSM ε=0.05              80.0 % [76.3, 83.3]   83.0 % [79.5, 86.0]
 FGSM ε=0.2                  0.0 % [0.0, 0.8]   73.2 % [69.2, 76.9]
 PGD ℓ2 ε=1.5, 40 steps   20.0 % [16.7, 23.7]   70.0 % [65.8, 73.9]

Accuracy of Small CNN with its 95 % Wilson interval, n = 500 test images.
Adversary: oblivious (the attack sees the bare classifier, not the defence). ε
is the ℓ∞ budget on pixels in [0, 1] unless a row names another norm.
"""


@pytest.mark.parametrize(
    ("write", "expected"),
    [(to_markdown, MARKDOWN), (to_latex, LATEX), (to_console, CONSOLE)],
)
def test_texts_are_fixed(results, write, expected):
    assert write(paper_table(results)) == expected


def test_csv_holds_numbers_that_read_back(results):
    frame = pd.read_csv(io.StringIO(to_csv(paper_table(results))))
    assert frame["label"].tolist()[0] == "Clean"
    assert frame["attack"].tolist()[-1] == "pgd(epsilon=1.5, norm='l2', steps=40)"
    assert frame["No defence accuracy"].tolist() == [0.99, 0.8, 0.0, 0.2]
    assert frame["Invert and Classify n"].tolist() == [500] * 4
    assert frame["Invert and Classify accuracy_low"][0] == results["accuracy_low"][4]


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_equal_results_give_equal_bytes(results, suffix):
    other_times = results.assign(seconds=results["seconds"] + 1)
    for make in (paper_table, cost_table):
        first, second = make(results), make(other_times)
        assert WRITERS[suffix](first) == WRITERS[suffix](second)


def test_missing_cells_are_dashes_and_empty_numbers(results):
    table = paper_table(results.drop(index=6))
    assert table.text["Invert and Classify"].tolist()[2] == "–"
    frame = pd.read_csv(io.StringIO(to_csv(table)))
    assert frame["Invert and Classify n"].isna().tolist() == [False, False, True, False]
    assert "No defence accuracy" in frame


def test_caption_gives_the_range_of_n_and_the_confidence(results):
    caption = paper_table(results.assign(n=[100, *[1500] * 7]), confidence=0.9).caption
    assert "90 % Wilson" in caption and "n = 100 to 1,500 test images" in caption


def test_caption_of_clean_results_speaks_of_no_attack(results):
    clean = results[results["attack"] == "clean"]
    (table,) = paper_tables(clean)
    assert "dversary" not in table.caption and "ε" not in table.caption
    assert len(table.text) == 1


def test_one_table_for_each_classifier_and_adversary(results):
    attacked = results[results["attack"] != "clean"]
    latent = attacked.assign(adversary="latent")
    other = results[results["attack"] == "clean"].assign(classifier="madry_cnn")
    everything = pd.concat([results, latent, other])
    tables = paper_tables(everything)
    assert [len(table.text) for table in tables] == [4, 4, 1]
    assert "latent (the attack moves the latent" in tables[1].caption
    assert "Madry CNN" in tables[2].caption
    assert tables[1].text["Attack"][0] == "Clean"
    with pytest.raises(UsageError, match="hold 2; allowed: small_cnn, madry_cnn"):
        paper_table(everything)
    with pytest.raises(UsageError, match="hold 2; allowed: oblivious, latent"):
        paper_table(everything, classifier="small_cnn")
    assert paper_table(
        everything, classifier="small_cnn", adversary="latent"
    ).caption == (tables[1].caption)


def test_unknown_and_missing_choices_are_refused(results):
    with pytest.raises(UsageError, match="Did you mean 'small_cnn'"):
        paper_table(results, classifier="smal_cnn")
    with pytest.raises(UsageError, match="Unknown adversary"):
        paper_table(results, adversary="psychic")
    with pytest.raises(UsageError, match="hold 0"):
        paper_table(results.iloc[:0])
    with pytest.raises(UsageError, match="16 cells at 8 places"):
        paper_table(pd.concat([results, results]))


def test_labels_can_be_given(results):
    table = paper_table(results, labels={"none": "Bare", "fgsm(epsilon=0.2)": "Fast"})
    assert list(table.text.columns) == ["Attack", "Bare", "Invert and Classify"]
    assert table.text["Attack"][2] == "Fast"


def test_cost_table_lists_every_cell(results):
    table = cost_table(results)
    assert len(table.text) == 8 and table.names == 2
    row = dict(table.text.iloc[5])
    assert row == {
        "Attack": "FGSM ε=0.05",
        "Defence": "Invert and Classify",
        "Fooled": "50.0 %",
        "‖δ‖₂": "1.250",
        "‖δ‖∞": "0.050",
        "Error": "0.01230",
        "Forwards": "1,234",
        "Backwards": "41",
    }
    assert set(table.text.iloc[0][2:]) == {"–"}
    assert "seconds" not in table.numbers
    assert r"\ensuremath{\|\delta\|_\infty}" in to_latex(table)


def test_cost_table_names_adversaries_where_there_are_several(results):
    latent = results[results["attack"] != "clean"].assign(adversary="latent")
    table = cost_table(pd.concat([results, latent]))
    assert table.names == 3
    assert table.text["Adversary"].tolist() == [
        *(["–"] + ["Oblivious"] * 3) * 2,
        *["Latent"] * 6,
    ]


@pytest.mark.parametrize("defences", range(1, 7))
@pytest.mark.parametrize("width", [60, 80, 120])
def test_console_fits_its_width_and_loses_nothing(make_cell, defences, width):
    from robust_manifold.evaluation import to_frame

    frame = to_frame(
        make_cell(
            "clean", 100 + place, defence=f"invert_and_classify(restarts={place})"
        )
        for place in range(2, 2 + defences)
    )
    text = to_console(paper_table(frame), width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    for place in range(2, 2 + defences):
        assert f"{(100 + place) / 5:.1f} %" in text
    assert text.count("[") == defences


def test_latex_escapes_every_special_sign():
    assert escape_latex("a_b & 5 % $x$ #1 {y} ~ ^ \\ <|> –\nℓ∞ ε ‖δ‖₂") == (
        r"a\_b \& 5 \% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{} \textless{}\textbar{}\textgreater{} -- "
        r"\ensuremath{\ell_\infty} \ensuremath{\varepsilon} "
        r"\ensuremath{\|\delta\|_2}"
    )


def test_hostile_names_stay_in_their_cells(results):
    hostile = results.replace({"small_cnn": "a|b\\<i>*x*`y`\n& 50% of_it"})
    signs = {"none": "a|b [red]c[/red]", "clean": "[bold]d[/bold]"}
    table = paper_table(hostile, labels=signs)
    markdown = to_markdown(table).splitlines()
    assert len(markdown) == len(MARKDOWN.splitlines())
    assert r"a\|b" in markdown[0] and "<i>" not in markdown[0]
    assert markdown[2].count(" | ") == 2
    assert r"\& 50\% of\_it" in to_latex(table)
    assert "[red]c[/red]" in to_console(table)
    assert "[bold]d[/bold]" in to_console(table)
