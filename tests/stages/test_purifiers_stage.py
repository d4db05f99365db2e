"""Purifiers that are no inversion in a run: who attacks them, and what is stored."""

import collections
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_manifold.config import default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import BitDepth, Defended
from robust_manifold.findings import audit
from robust_manifold.inversion import Inversion
from robust_manifold.stages import RUNS
from robust_manifold.stages.table.defended import arrays_of
from robust_manifold.stages.table.rows import check_networks, check_rows
from tests.defenses.registered import register_median
from tests.stages.test_adversaries_stage import read

BITS, MEDIAN = "bit_depth(bits=2)", "median(size=3)"
FOLDERS = {BITS: "bit_depth-bits=2", MEDIAN: "median"}
BPDA = "bpda(stand_in=median(size=5))"
ADVERSARIES = (
    "oblivious",
    "straight_through",
    "unrolled",
    BPDA,
    "decision",
    "substitute",
)
ATTACKS = ("fgsm(epsilon=0.2)", "square(epsilon=0.2, queries=4)")
SETTINGS = [
    # No stage of these fits a generator.
    "--config.stages=('fit_classifier','attack','evaluate','audit','report')",
    f"--config.evaluation.adversaries={ADVERSARIES!r}",
    f"--config.evaluation.attacks={ATTACKS!r}",
    f"--config.evaluation.defences=('none','{BITS}','{MEDIAN}')",
    "--config.evaluation.substitute="
    "substitute(model=linear, seeds=6, rounds=1, epochs=1, batch_size=4)",
    "--config.audit.examples=4",
    "--config.audit.left_out=('stronger pass','active test')",
]


def test_purifiers_meet_every_adversary_without_a_generator(
    program, project, monkeypatch
):
    register_median(monkeypatch)
    work = project / "run"
    ended = program(f"--config={project / 'tiny.py'}", f"--workdir={work}", *SETTINGS)
    assert ended.code == 0, ended.error
    results = pd.read_csv(work / "results.csv")
    attacked = results[results["attack"] != "clean"]
    attacked = attacked[attacked["adversary"] != "worst case"]
    median = "median"  # size=3 is its default.
    for defence in (BITS, median):
        counts = collections.Counter(
            attacked[attacked["defence"] == defence]["adversary"]
        )
        assert counts == {
            "oblivious": 2,
            "straight_through": 1,
            "unrolled": 1,
            BPDA: 1,
            "decision": 1,
            "substitute": 2,
        }
    _check_stored(work)
    found = json.loads((work / audit.SUMMARY).read_text())
    by_column = collections.defaultdict(dict)
    for check in found:
        by_column[check["column"]][check["name"]] = check["verdict"]
    assert set(by_column) == {"none", BITS, median}
    # Rounding has no gradient, and the audit says so; what is no inversion has none.
    assert by_column[BITS]["gradients of the defended classifier"] == "FLAG"
    assert by_column[median]["gradients of the defended classifier"] == "PASS"
    assert by_column[BITS]["gradients of the view"] == "PASS"
    assert by_column[BITS]["projections in the range"] == "SKIPPED"
    page = (work / "report/report.html").read_text()
    for words in (
        "Bit Depth",
        "Median",
        "gradients are those of another defence",
        "purified images by",
    ):
        assert words in page, words


def _check_stored(work):
    """Holds the stored images to the defences' own arithmetic."""
    clean = read(work, f"outcomes/{FOLDERS[BITS]}/clean")
    bare = read(work, "outcomes/none/clean")
    assert "purified" in clean and "error" not in clean
    assert len(np.unique(clean["purified"])) <= 4 and "purified" not in bare
    for folder in FOLDERS.values():
        for row in (work / f"adversarial/{folder}").glob("*/*"):
            crafted = read(work, row.relative_to(work).as_posix())
            name = row.relative_to(work / "adversarial").as_posix()
            outcomes = read(work, f"outcomes/{folder}/{name}")
            assert outcomes["purified"].shape == crafted["images"].shape
            wrong = np.argmax(outcomes["logits"], axis=-1) != outcomes["labels"]
            if "substitute" not in name:
                np.testing.assert_array_equal(crafted["success"], wrong, err_msg=name)


def checked(known=("generator",), **values):
    """Checks the rows of a config whose evaluation has some values changed."""
    config: Any = default_config()
    config.evaluation.update({"attacks": ("fgsm(epsilon=0.1)",)} | values)
    block = validate(config).evaluation
    check_rows(block)
    check_networks(block, known)


REFUSED = {
    "a stand-in that is missing": (
        {"adversaries": ("bpda",), "defences": ("bit_depth",)},
        "'bpda' cannot meet 'bit_depth': BPDA.stand_in is None",
    ),
    "no inversion to differentiate": (
        {"adversaries": ("implicit",), "defences": ("none", "bit_depth")},
        "'implicit' cannot meet 'bit_depth': .*or one that inverts a generator",
    ),
    "no range to search": (
        {"adversaries": ("latent",), "defences": ("none", "bit_depth")},
        "'latent' has no defence to attack among the columns none, bit_depth",
    ),
    "a defence's encoder": (
        {"adversaries": ("oblivious",), "defences": ("encode_and_generate",)},
        "defences: 'encode_and_generate' needs the network 'encoder'; allowed",
    ),
    "a stand-in's encoder": (
        {
            "adversaries": ("bpda(stand_in=encode_and_generate)",),
            "defences": ("bit_depth",),
        },
        "adversaries: 'bpda.*' needs the network 'encoder'; allowed: generator",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_met_is_refused(name):
    values, pattern = REFUSED[name]
    with pytest.raises(UsageError, match=pattern):
        checked(**values)


def test_what_has_its_networks_is_allowed():
    checked(
        known=("generator", "encoder"),
        adversaries=("unrolled", "bpda(stand_in=encode_and_generate)", "decision"),
        attacks=("fgsm(epsilon=0.1)", "square(epsilon=0.1)"),
        defences=("none", "bit_depth", "encode_and_generate", "invert_and_classify"),
    )


def test_a_stand_in_that_is_missing_is_refused_before_any_work(
    monkeypatch, program, project
):
    fit = []
    monkeypatch.setitem(RUNS, "fit_classifier", lambda context: fit.append(1) or [])
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        "--config.evaluation.adversaries=('oblivious','bpda')",
        "--config.evaluation.defences=('none','bit_depth')",
    )
    assert ended.code == 2 and not fit
    assert re.search("'bpda' cannot meet 'bit_depth': BPDA.stand_in", ended.error)


def test_a_stand_in_with_a_generator_has_one_fitted_first(program, project):
    """The defence itself asks for none."""
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        "--config.stages=('fit_classifier','attack')",
        "--config.evaluation.adversaries="
        "('bpda(stand_in=invert_and_classify(solver=adam(steps=2), restarts=1))',)",
        "--config.evaluation.defences=('bit_depth',)",
    )
    assert ended.code == 2
    assert "fit_generator" in ended.error


def test_details_are_stored_by_their_names():
    inversion = Inversion(*np.arange(6.0).reshape(6, 1))
    found = arrays_of(Defended(np.zeros((1, 3)), inversion.image, inversion))
    fields = {"latent", "error", "restart_errors", "status", "restart_status"}
    assert set(found) == {"logits", "projections", *fields}
    assert found["projections"] == 1
    own = Defended(np.zeros((1, 3)), None, {"radius": np.ones(1), "votes": (2, 3)})
    found = arrays_of(own)
    assert set(found) == {
        "logits",
        "details.radius",
        "details.votes.0",
        "details.votes.1",
    }
    assert set(arrays_of(Defended(np.zeros((1, 3))))) == {"logits"}
    assert BitDepth().needs == ()
