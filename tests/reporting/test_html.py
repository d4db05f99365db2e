import base64
import html as html_text
import re
from html.parser import HTMLParser

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.findings.accuracy import Evaluated, opening
from robust_manifold.findings.accuracy_tables import cost_table, paper_tables
from robust_manifold.findings.audit import audit_table
from robust_manifold.reporting import (
    Notice,
    Report,
    ReportFigure,
    Section,
    render_html,
    sample_grid,
    to_png,
)
from robust_manifold.reporting.figures.canvas import new_figure

HOSTILE = "<script>alert(\"x\")</script><img src='http://evil.example/x.png'>"


class Page(HTMLParser):
    """Collects elements, their attributes and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def report(results, digits):
    png = to_png(sample_grid(digits))
    return Report(
        title="Digits",
        tables=paper_tables(results),
        figures=[
            ReportFigure("Samples", "Eight of them.", png),
            ReportFigure("Again", "The same eight.", png),
        ],
        stage_seconds={"fit_generator": 185.0, "attack": 0.42},
        config={
            "seed": 3,
            "data": {"source": "mnist_5k", "deep": {"er": 1.5}, "data_dir": ""},
            "evaluation": {"attacks": ("fgsm(epsilon=0.1)", "pgd(epsilon=0.2)")},
            "nothing_in_it": {},
        },
        environment={"jax": "0.10.2", "devices": ["cpu:0", "cpu:1"]},
        command="python -m robust_manifold.main --config=x.py",
        folded_tables=[cost_table(results)],
    )


def test_every_figure_is_embedded(report):
    images = Page(render_html(report)).of("img")
    assert len(images) == 2
    for image, figure in zip(images, report.figures, strict=True):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == figure.png
        assert image["alt"] == f"{figure.title}: {figure.caption}"
        assert int(image["width"]) > 100


def test_broad_pictures_can_be_moved_sideways(report):
    narrow = to_png(new_figure(3.9, 1.0))
    broad = to_png(new_figure(9.6, 1.0))
    figures = [ReportFigure("A", "a", narrow), ReportFigure("B", "b", broad)]
    page = Page(render_html(report._replace(figures=figures, tables=[])))
    classes = [a["class"] for a in page.of("div") if "picture" in a.get("class", "")]
    assert classes == ["picture", "picture broad"]


def test_nothing_is_loaded_from_outside(report):
    text = render_html(report)
    page = Page(text)
    assert not page.open
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "url(" not in text and "@import" not in text
    policy = [a for a in page.of("meta") if "http-equiv" in a]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_the_page_shows_everything(report):
    text = " ".join(Page(render_html(report)).texts)
    for wanted in (
        "Digits",
        "99.0 %",
        "[97.7, 99.6]",
        "Wilson interval",
        "1,234",
        "Eight of them.",
        "fit generator",
        "3 min 05 s",
        "0 s",
        "total",
        "deep.er",
        "1.5",
        "fgsm(epsilon=0.1)",
        "(empty)",
        "0.10.2",
        "cpu:1",
        "python -m robust_manifold.main --config=x.py",
    ):
        assert wanted in text, wanted
    assert "nothing_in_it" not in text


def test_links_lead_to_sections(report):
    page = Page(render_html(report))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {attributes["href"].removeprefix("#") for attributes in page.of("a")}
    assert (
        links
        == ids
        == {*("results", "figures", "times", "reproduce", "config", "environment")}
    )


def test_an_empty_report_leaves_its_sections_out(report):
    empty = Report("Nothing", [], [], {}, {}, {}, "true")
    page = Page(render_html(empty))
    assert {a["id"] for a in page.of("section")} == {"reproduce"}
    assert not page.of("table") and not page.of("img")


def test_hostile_texts_are_text(report, results):
    hostile = report._replace(
        title=HOSTILE,
        explanation=HOSTILE,
        command=HOSTILE,
        tables=paper_tables(
            results.replace({"small_cnn": HOSTILE}), labels={"none": HOSTILE}
        ),
        figures=[ReportFigure(HOSTILE, HOSTILE, report.figures[0].png)],
        stage_seconds={HOSTILE: 1.0},
        config={HOSTILE: {HOSTILE: HOSTILE}},
        environment={HOSTILE: HOSTILE},
    )
    text = render_html(hostile)
    page = Page(text)
    assert not page.of("script")
    assert len(page.of("img")) == 1
    assert page.of("img")[0]["alt"] == f"{HOSTILE}: {HOSTILE}"
    assert HOSTILE not in text
    assert html_text.unescape(text).count(HOSTILE) >= 12


def test_an_animation_moves_only_where_it_may(report):
    still = report.figures[0].png
    moving = ReportFigure(
        "Training", "Over time.", still, b"GIF89a" + bytes([0, 3, 0, 1])
    )
    page = Page(render_html(report._replace(figures=[moving])))
    assert not page.open
    (image,), (source,) = page.of("img"), page.of("source")
    assert image["src"].startswith("data:image/gif;base64,")
    assert image["alt"] == "Training: Over time."
    assert image["width"] == "512"  # 768 pixels at one and a half a dot
    kind, _, data = source["srcset"].partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data) == still
    assert "prefers-reduced-motion" in source["media"] and "print" in source["media"]
    with pytest.raises(UsageError, match="allowed: the bytes of a GIF file"):
        render_html(report._replace(figures=[moving._replace(gif=still)]))


@pytest.mark.parametrize("explanation", ["A generator G makes images.", ""])
def test_a_paragraph_below_the_heading_explains(report, explanation):
    text = render_html(report._replace(explanation=explanation))
    assert explanation in html_text.unescape(text)
    assert ("<p>" in text.partition("</header>")[0]) is bool(explanation)


INC = "Invert and Classify"
COLUMNS = {
    "one that projects": (
        Evaluated([INC]),
        r"Invert and Classify replaces an image x by its projection G\(z\*\), .*, and "
        "classifies the projection. .* with and without a defence. Their captions say",
    ),
    "two that project, nothing bare": (
        Evaluated([INC, "Defense-GAN"], bare=False),
        "Invert and Classify and Defense-GAN replace an image .* and classify the "
        "projection. .*, behind a defence.",
    ),
    "nothing that projects": (
        Evaluated(other=["Smoothing"]),
        "The tables give the accuracy on clean and on adversarial images, with and",
    ),
    "no defence": (
        Evaluated(),
        "The tables give the accuracy .*, of classifiers without a defence. Accuracy "
        "under the attacks",
    ),
    "no attack": (
        Evaluated([INC], attacked=False),
        "Invert and Classify .*on clean images, with and without a defence.$",
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_explanation_speaks_of_the_columns_that_are_there(name):
    evaluated, pattern = COLUMNS[name]
    heading, text = opening(evaluated)
    assert re.match(pattern, text), text
    if INC not in evaluated.projecting:
        assert INC not in text
        assert INC not in heading
    if not evaluated.projecting:
        assert "G(z*)" not in text
    if not evaluated.attacked:
        assert "attack" not in text


def test_a_notice_stands_under_the_heading_and_leads_down(report):
    checks = audit_table(
        [{"name": "steps", "verdict": "FLAG", "value": 1.0, "sentence": "Too few."}]
    )
    section = Section("Sanity checks", "", [checks])
    notice = Notice("1 of 9 checks says <that>: steps.", "Sanity checks")
    text = render_html(report._replace(sections=[section], notice=notice))
    head = text.partition("</h1>")[2].lstrip()
    assert head.startswith(
        '<p class="notice"><a href="#sanity-checks">1 of 9 checks says &lt;that&gt;'
    )
    assert {"id": "sanity-checks"} in Page(text).of("section")
    assert 'class="notice"' not in render_html(report)


def test_every_table_has_a_heading(report, results):
    text = render_html(report)
    tables = re.findall(r"(<h3>[^<]+</h3>\s*)?<div class=\"scroll\">", text)
    assert len(tables) == 2 and all(tables)
    assert "<h3>Accuracy by attack, oblivious attacks only</h3>" in text


def test_sentences_have_the_whole_width_of_a_phone(report):
    checks = audit_table(
        [{"name": "steps", "verdict": "FLAG", "value": 1.0, "sentence": "Too few."}]
    )
    text = render_html(report._replace(tables=[checks]))
    assert "told" in Page(text).of("table")[0]["class"].split()
    narrow = re.search(r"@media \(max-width: 640px\) \{(.*?)\n\}", text, re.S)
    assert re.search(r"\.told td \{ display: block; \}", narrow[1])
    assert "td.prose { min-width: 0; }" in narrow[1]


def test_equal_reports_give_equal_text(report):
    assert render_html(report) == render_html(report)


def test_text_is_readable_in_dark_and_light(report):
    text = render_html(report)
    assert "prefers-color-scheme: dark" in text
    variables = set(re.findall(r"var\((--[a-z]+)\)", text))
    defined = set(re.findall(r"(--[a-z]+):", text))
    assert variables <= defined


def test_a_figure_that_is_no_png_is_refused(report):
    broken = report._replace(figures=[ReportFigure("Odd", "", b"GIF89a")])
    with pytest.raises(UsageError, match="'Odd' starts with b'GIF89a'"):
        render_html(broken)


def test_sections_have_headings_of_their_own_and_links_to_them(report):
    checks = audit_table(
        [{"name": "steps", "verdict": "FLAG", "value": 1.0, "sentence": "Too few <b>."}]
    )
    section = Section("Sanity checks", "What was looked for.", [checks], report.figures)
    page = Page(render_html(report._replace(sections=[section])))
    assert not page.open
    assert {"href": "#sanity-checks"} in page.of("a")
    assert {"id": "sanity-checks"} in page.of("section")
    text = " ".join(page.texts)
    for wanted in ("What was looked for.", "Too few <b>.", "Steps", "FLAG"):
        assert wanted in text
    assert len(page.of("img")) == 2 * len(report.figures)
    # Sentences are broken into lines, and flags can be seen.
    classes = [attributes.get("class") for attributes in page.of("td")]
    assert "name prose" in classes and {"scope": "row", "class": "flag"} in page.of(
        "th"
    )
