"""A column that rejects, in a run: its threshold, its rows, and what is told of it."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_manifold.config import Column, add_network, default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import Rejecting
from robust_manifold.evaluation import rejection_threshold
from robust_manifold.stages.table.defended import predictions_of
from robust_manifold.stages.table.rows import check_networks, check_rows
from tests.stages.test_adversaries_stage import read
from tests.stages.test_cascade_stage import EFFORT

INNER = "invert_and_classify(solver=adam(steps=3), restarts=2)"
REJECTING = f"rejecting(defence={INNER}, rate=0.5)"
STAGES = "'fit_classifier','fit_generator','attack','evaluate'"
SETTINGS = [
    f"--config.stages=({STAGES},'report')",
    f"--config.evaluation.defences=('none','{INNER}','{REJECTING}')",
    "--config.evaluation.adversaries=('oblivious','straight_through')",
    "--config.evaluation.attacks=('fgsm(epsilon=0.2)',)",
    "--config.evaluation.validation_examples=8",
]
EVERY = [
    f"--config.stages=({STAGES},'audit','report')",
    f"--config.evaluation.defences=('none','{REJECTING}')",
    "--config.evaluation.adversaries=('oblivious','latent(steps=2, restarts=1)',"
    "'decision')",
    "--config.evaluation.attacks=('fgsm(epsilon=0.2)','square(epsilon=0.2, "
    "queries=4)')",
    f"--config.evaluation.worst_case=cascade(effort={EFFORT}, keys='fresh')",
    "--config.evaluation.validation_examples=8",
    "--config.audit.examples=4",
]


def column():
    return Column(Rejecting(INNER, rate=0.5))


def test_a_rejected_image_is_lost_where_it_is_clean_and_held_where_it_is_attacked():
    logits = np.array([[2, 0, 1], [0, 2, 1], [0, 1, 2], [np.nan, 0, 0]], np.float32)
    outcomes = {"logits": logits, "labels": np.zeros(4, int)}
    clean = predictions_of(column(), outcomes, attacked=False)
    np.testing.assert_array_equal(clean, [0, 1, 2, -1])
    held = predictions_of(column(), outcomes, attacked=True)
    np.testing.assert_array_equal(held, [0, 1, 0, -1])


def test_a_threshold_comes_from_validation_images_before_the_attack(program, project):
    work = project / "run"
    ended = program(f"--config={project / 'tiny.py'}", f"--workdir={work}", *SETTINGS)
    assert ended.code == 0, ended.error
    (threshold,) = json.loads((work / "thresholds.json").read_text()).values()
    # One set of errors for the column that rejects and for that which does not.
    (validation,) = (work / "validation").iterdir()
    errors = read(work, validation)["error"]
    assert threshold == rejection_threshold(errors, 0.5)
    assert np.mean(errors > threshold) == 0.5
    (own,) = (work / "outcomes").glob("rejecting*")
    (inner,) = (work / "outcomes").glob("invert_and_classify*")
    clean, bare = read(work, own / "clean"), read(work, inner / "clean")
    # It has the keys of the inner defence, and so its projections.
    np.testing.assert_array_equal(clean["error"], bare["error"])
    rejected = clean["logits"].argmax(1) == 3
    np.testing.assert_array_equal(rejected, clean["error"] > threshold)
    kept = clean["logits"][~rejected].argmax(1)
    np.testing.assert_array_equal(kept, bare["logits"][~rejected].argmax(1))
    _check_lines(work, {"none", "worst case", "oblivious", "straight_through"})
    told = " ".join((work / "report" / "report.html").read_text().split())
    assert "had to keep the error below it" in told
    assert "counts as held where it is attacked and as lost where it is clean" in told
    status = json.loads((work / "status.json").read_text())
    for stage in ("attack", "evaluate"):
        assert "thresholds.json" in status["finished_stages"][stage]


@pytest.mark.slow
def test_a_column_that_rejects_meets_every_adversary(program, project):
    work = project / "run"
    ended = program(f"--config={project / 'tiny.py'}", f"--workdir={work}", *EVERY)
    assert ended.code == 0, ended.error
    known = {"oblivious", "latent", "decision", "cascade"}
    _check_lines(work, {"none", "worst case", *known})


def _check_lines(work, adversaries):
    results = pd.read_csv(work / "results.csv", keep_default_na=False)
    own = results[results["defence"].str.startswith("rejecting")]
    assert {text.partition("(")[0] for text in own["adversary"]} == adversaries
    (folder,) = (work / "outcomes").glob("rejecting*")
    clean = read(work, folder / "clean")
    told = clean["logits"].argmax(1)
    right = (told == clean["labels"]).sum()
    assert own[own["attack"] == "clean"]["correct"].item() == right
    detection = pd.read_csv(work / "detection.csv", keep_default_na=False)
    lines = detection[detection["defence"].str.startswith("rejecting")]
    assert set(lines["false_positive_rate"]) == {0.5}
    assert lines[lines["attack"] == "clean"]["rejected"].item() == (told == 3).sum()
    # What ends well is what the table counts.
    both = own.merge(lines, on=["adversary", "attack"])
    assert len(both) == len(lines)
    np.testing.assert_array_equal(both["correct_x"], both["correct_y"])


def block(**values):
    config: Any = default_config()
    config.evaluation.update(values)
    return validate(config).evaluation


REFUSED = {
    "a defence that does not project": (
        "rejecting(defence=bit_depth)",
        "Rejecting.defence is .*; allowed: one that inverts",
    ),
    "a rate above 1": ("rejecting(rate=1.5)", "Rejecting.rate is 1.5; allowed: above"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_in_a_config_are_told_in_a_sentence(name):
    text, message = REFUSED[name]
    with pytest.raises(UsageError, match=message) as error:
        block(defences=("none", text))
    assert str(error.value).startswith("config.evaluation.defences")
    assert "\n" not in str(error.value)


def test_without_validation_images_there_is_no_threshold(program, project):
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        *SETTINGS,
        "--config.evaluation.validation_examples=0",
    )
    assert ended.code == 2
    assert "has its threshold from validation images" in ended.error


def test_who_learns_classes_cannot_meet_it():
    evaluation = block(
        defences=("none", "rejecting"),
        adversaries=("oblivious", "substitute"),
        attacks=("fgsm(epsilon=0.1)",),
    )
    with pytest.raises(UsageError, match="'substitute' cannot meet 'rejecting'"):
        check_rows(evaluation)


def test_a_threshold_is_no_network_of_a_config():
    evaluation = block(defences=("none", "rejecting"))
    check_networks(evaluation, {"generator", "threshold"})
    config: Any = default_config()
    with pytest.raises(UsageError, match="'threshold', which is reserved"):
        add_network(config, "threshold")
