"""Published figures: what they are, and the rows of ours they stand beside."""

import pytest

from robust_manifold import evaluation
from robust_manifold.results.beside import beside_table, training_of
from robust_manifold.results.page import read_page

PAGE = read_page()
INC = "invert_and_classify(restarts=4)"
CONFIG = {
    "data": {"source": "tfds:mnist"},
    "classifier": {"training": "cross_entropy(optimizer=adam(0.1))"},
    "classifiers": {"robust": {"training": "adversarial(attack=pgd(epsilon=0.3))"}},
}


def beside(text, config=CONFIG):
    return beside_table(
        evaluation.read_results(text),
        config,
        interval="95 %",
        published=PAGE.published,
    )


def rows(table, *columns):
    return table.text[list(columns)].to_numpy().tolist()


def test_the_slides_stand_beside_our_rows(lines):
    table = beside(lines()["results.csv"])
    slides = table.text[table.text["Source"].str.startswith("Slides")]
    kept = table._replace(text=slides)
    assert rows(kept, "Budget", "Defence", "Measured", "Published", "Difference") == [
        ["Clean", "No defence", "97.0 % [91.5, 99.0]", "97 %", "+0.0"],
        ["ℓ∞ ε=0.1", "No defence", "60.0 % [50.2, 69.1]", "0 %", "+60.0"],
        ["ℓ0, no budget", "No defence", "0.0 % [0.0, 3.7]", "0 %", "+0.0"],
        ["Clean", "Invert and Classify", "95.0 % [88.8, 97.8]", "84 %", "+11.0"],
        ["ℓ∞ ε=0.1", "Invert and Classify", "90.0 % [82.6, 94.5]", "80 %", "+10.0"],
        ["ℓ0, no budget", "Invert and Classify", "70.0 % [60.4, 78.1]", "65 %", "+5.0"],
    ]
    assert slides["We are"].tolist() == [
        *("level", "higher", "level", "higher", "higher", "level")
    ]


def test_a_worse_figure_of_ours_is_called_lower(lines):
    text = lines({INC: (50, 50, 0)})["results.csv"]
    assert rows(beside(text), "We are") == [["lower"]] * 3


AWARE = (
    ("clean", "none", "", None),
    ("pgd(epsilon=4.0, norm='l2')", "straight_through", "l2", 4.0),
    ("on_manifold(epsilon=4.0, norm='l2')", "latent(steps=9)", "l2", 4.0),
)


def test_adaptive_figures_stand_beside_adversaries_that_know_as_much(lines):
    table = beside(lines({"defense_gan": (97, 50, 40)}, AWARE)["results.csv"])
    found = {(a, s.partition(":")[0]) for a, s in rows(table, "Adversary", "Source")}
    assert found - {("–", "SOAP"), ("–", "FBGAN")} == {
        ("Straight Through", "Athalye et al."),
        ("Latent, 9 steps", "Ilyas et al."),
        ("Worst case", "Athalye et al."),
        ("Worst case", "Ilyas et al."),
    }


def test_figures_of_other_trainings_stay_away(lines):
    l2 = (
        ("clean", "none", "", None),
        ("pgd(epsilon=1.5, norm='l2')", "oblivious", "l2", 1.5),
    )
    for classifier, published in (("small_cnn", "8 %"), ("robust", "35 %")):
        text = lines({"none": (97, 20)}, l2, classifier=classifier)["results.csv"]
        table = beside(text)
        worst = table.text[table.text["Adversary"] == "Worst case"]
        assert worst["Published"].tolist() == [published]
        assert "Oblivious" not in set(table.text["Adversary"])


def test_nothing_stands_beside_other_data(lines):
    config = CONFIG | {"data": {"source": "tfds:celeb_a"}}
    assert beside(lines()["results.csv"], config) is None
    nothing = (
        ("clean", "none", "", None),
        ("fog(epsilon=0.7)", "oblivious", "l2", 0.7),
    )
    text = lines({"some_defence": (97, 20)}, nothing)["results.csv"]
    assert beside(text) is None


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ("cross_entropy", "cross_entropy"),
        ("adversarial", "adversarial linf"),
        ("adversarial(attack=pgd(epsilon=1.5, norm='l2'))", "adversarial l2"),
        ("trades(epsilon=1.5, norm='l2')", "trades l2"),
        ("enhanced_inc(mu=0.5, search=overpowered(eta=1.5))", "enhanced_inc"),
    ],
)
def test_trainings_are_told_by_what_they_are_robust_to(training, told):
    assert training_of({"classifier": {"training": training}}, "small_cnn") == told


def test_every_figure_has_a_source_and_is_a_share():
    assert {figure.source for figure in PAGE.published} == set(PAGE.sources)
    for figure in PAGE.published:
        assert 0 <= figure.accuracy <= 100, figure
        assert (figure.attack == "clean") == (figure.norm == ""), figure


def test_no_figure_is_there_twice():
    assert len(set(map(repr, PAGE.published))) == len(PAGE.published)


def test_the_slides_table_is_that_of_the_slides():
    slides = [figure for figure in PAGE.published if figure.source == "Slides"]
    told = {of: [f.accuracy for f in slides if f.of == of] for of in ("no defence",)}
    assert told["no defence"] == [97, 1, 0, 0, 0, 0, 0]
    defended = [f.accuracy for f in slides if f.defence == "invert_and_classify"]
    assert defended == [84, 82, 80, 73, 77, 65, 66]
