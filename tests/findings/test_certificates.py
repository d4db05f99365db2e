"""What a report shows of certificates."""

import numpy as np
import pytest

from robust_manifold.config import default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import certificates
from robust_manifold.reporting.figures import (
    CertifiedCurve,
    certified_curves,
    to_png,
)

LINE = {
    "column": "none on free",
    "norm": "l2",
    "box": False,
    "radius": 1.58,
    "n": 200,
    "clean": 190,
    "half_space": 120,
    "certified": 130,
    "standing": 131,
    "changed": 190,
}


def test_the_table_has_a_line_a_radius():
    boxed = LINE | {"box": True, "certified": 140, "standing": 140, "changed": 189}
    table = certificates.table_of([LINE, boxed])
    first, second = table.text.to_numpy().tolist()
    assert first[1:5] == ["ℓ2 1.58", "any", "95.0 %", "60.0 %"]
    assert first[5].startswith("65.0 % [") and first[6] == "65.5 %"
    assert second[2] == "[0, 1]" and second[5].startswith("70.0 % [")
    assert "200 images" in table.caption and "99.74 % change" in table.caption
    assert table.numbers["certified"].tolist() == [130, 140]


def test_distances_say_what_a_threshold_rejects():
    line = {"column": "none on free", "rate": 0.05, "threshold": 4.25, "n": 200}
    line |= {"rejected": 12, "wrong": 6, "wrong_rejected": 4}
    table = certificates.distances_table([line])
    (shown,) = table.text.to_numpy().tolist()
    assert shown[1:] == ["4.25", "6.0 %", "3.0 %", "1.0 %"]
    assert "5 % of validation images" in table.caption
    distances, wrong = np.array([1.0, 5.0, 6.0]), np.array([False, False, True])
    found = certificates.rejections(distances, wrong, np.arange(11.0), 0.5)
    assert found == {
        "threshold": 5.0,
        "n": 3,
        "rejected": 1,
        "wrong": 1,
        "wrong_rejected": 1,
    }


def test_a_run_without_a_codebook_asks_for_none():
    config = default_config()
    assert not certificates.FINDING.wanted(validate(config))
    config.classifier.model = "codebook(per_class=2)"
    config.classifier.training = "certified"
    assert certificates.FINDING.wanted(validate(config))
    config.evaluation.certificates = ("l0",)
    with pytest.raises(UsageError, match="allowed: l2, linf and l1"):
        validate(config)
    config.evaluation.certificates = ()
    assert not certificates.FINDING.wanted(validate(config))
    config.evaluation.certificates = ("l2",)
    # Behind a defence the codebook's radius is not that of the column.
    config.evaluation.defences = ("bit_depth",)
    assert not certificates.FINDING.wanted(validate(config))


def test_curves_end_where_no_image_is_certified():
    lower, upper = np.array([-1.0, 0.5, 2.0]), np.array([-1.0, 0.7, 2.0])
    curve = CertifiedCurve("free", lower, upper)
    figure = certified_curves({"radius in ℓ2": [curve], "radius in ℓ∞": [curve]})
    first, second = figure.axes
    (line,) = first.lines
    radii, shares = line.get_data()
    assert shares[0] == pytest.approx(2 / 3) and shares[-1] == 0
    assert shares[np.searchsorted(radii, 0.6)] == pytest.approx(1 / 3)
    assert second.get_xlabel() == "radius in ℓ∞"
    # Attacks take more than is known without them: the truth lies in what is shaded.
    attacked = [(0.0, 0.7), (0.6, 0.5), (1.8, 0.4)]
    network = CertifiedCurve("network", np.zeros(0), np.zeros(0), attacked)
    both = certified_curves({"l2": [curve._replace(attacked=attacked), network]})
    (axes,) = both.axes
    (legend,) = both.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["free", "network"]
    radii, left = axes.lines[0].get_data()
    places = np.searchsorted(radii, [0.1, 0.59, 0.65, 1.9])
    assert left[places].tolist() == [0.7, 0.7, 0.5, 0.4]
    shaded = axes.collections[0].get_paths()[0].vertices
    at = shaded[np.isclose(shaded[:, 0], radii[places[2]]), 1]
    assert (at.min(), at.max()) == (pytest.approx(1 / 3), 0.5)
    assert to_png(figure).startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="panels hold no certified curve"):
        certified_curves({"radius in ℓ2": []})
