"""The audit of an evaluation: what it asks of a defence that projects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.evaluation import AUDIT_CHECKS
from robust_manifold.evaluation.audits import projections
from robust_manifold.robustness import audited
from robust_manifold.robustness.asked import asked
from robust_manifold.robustness.making import Round
from robust_manifold.robustness.subject import Part, subject_of
from tests.robustness.pixels import CLASSIFIER, EFFORT, IMAGES, LABELS

RANGE = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(4, 2)))[0])
OF_PROJECTIONS = (
    projections.IN_RANGE,
    projections.NOISE_ERROR,
    projections.ERRORS,
    projections.BASIN,
    projections.TWICE,
    projections.FOUND_AGAIN,
)


def plane(basis, latent):
    return (0.4 + 0.1 * basis @ latent).reshape(2, 2, 1)


@pytest.fixture
def checks(monkeypatch):
    """Returns what the audit says of a defence's projections, by name."""
    others = tuple(name for name in AUDIT_CHECKS if name not in OF_PROJECTIONS)
    monkeypatch.setattr(audited, "_STANDARD", audited._Size(8, others))

    def made(defence, on_progress=None):
        spanner = Spanner(plane, (2,)), SpannerParams(RANGE)
        networks = {"generator": spanner}
        key = jax.random.key(0)
        subject = subject_of(CLASSIFIER, defence, networks, IMAGES, key)
        rows = {"attacks": "fgsm(epsilon=0.1)", "adversaries": "oblivious"}
        wanted = asked(rows, {}, EFFORT, subject.judged.defence)
        first = Round(np.zeros(8), (), (), 0.0)
        part = Part(IMAGES, LABELS, np.arange(len(LABELS)))
        names = audited.checks_of(EFFORT, None)
        found = audited.audited(
            subject, wanted, first, part, EFFORT, names, on_progress
        )
        return {check.name: check for check in found}

    return made


def test_a_projection_of_the_package_is_looked_at(checks):
    # Onto a plane, one step of Levenberg-Marquardt projects exactly, from anywhere.
    found = checks(
        "invert_and_classify(solver='levenberg_marquardt(steps=4)', restarts=2)"
    )
    assert {name: check.verdict for name, check in found.items()} == dict.fromkeys(
        OF_PROJECTIONS, "PASS"
    )
    assert found[projections.IN_RANGE].value == 0
    assert found[projections.BASIN].value == 1
    assert found[projections.TWICE].value == pytest.approx(0, abs=1e-4)
    assert found[projections.FOUND_AGAIN].value == 1


def test_a_search_that_ends_too_soon_is_flagged(checks):
    # One small step does not find an image of the plane again.
    found = checks(
        "invert_and_classify(solver='gradient_descent(steps=1)', restarts=1)"
    )
    assert found[projections.FOUND_AGAIN].verdict == "FLAG"
    assert found[projections.BASIN].verdict == "SKIPPED"


def test_what_does_not_project_has_no_projections(checks):
    told = []
    found = checks(None, lambda *progress: told.append(progress))
    assert {check.verdict for check in found.values()} == {"SKIPPED"}
    # None was made, so there is nothing to tell of.
    assert not told
