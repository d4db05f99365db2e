"""The table of views: one line an attack, and what tells equal attacks apart."""

from robust_manifold.findings.views import ViewsLine, views_table
from robust_manifold.reporting import to_markdown

LINE = ViewsLine(
    attack="patch(mask=square(size=0.3), steps=50)",
    norm="l0",
    adversary="oblivious",
    target="none",
    n=12,
    views=100,
    clean=0.027,
    attacked=0.301,
)


def test_one_adversary_is_not_named():
    text = to_markdown(views_table([LINE, LINE._replace(attacked=0.689)]))
    assert "12 × 100" in text and "30.1 %" in text and "68.9 %" in text
    assert "Adversary" not in text


def test_equal_attacks_are_told_apart():
    other = LINE._replace(adversary="substitute", target="invert_and_classify")
    frame = views_table([LINE, other]).text
    assert frame["Adversary"].tolist() == ["oblivious", "substitute"]
    assert len(set(frame["Made against"])) == 2
