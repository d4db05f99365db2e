"""Adversaries in a run: who makes which rows, by which keys, and what is stored."""

import collections
import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_manifold import data
from robust_manifold.config import Column, add_classifier, default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import Defended, Defense, InvertAndClassify, NoDefense
from robust_manifold.defenses import registry as defences
from robust_manifold.evaluation import Budget, broken_by
from robust_manifold.findings.accuracy import cell_of
from robust_manifold.robustness import evaluate, one_call
from robust_manifold.stages import RUNS
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.rows import (
    adversarial_folder,
    check_rows,
    rows,
    rows_of,
)

INC = "invert_and_classify(solver=adam(steps=2), restarts=1)"
FOLDER = "invert_and_classify-solver=adam-steps=2-restarts=1"
FRESH = "straight_through(keys='fresh')"
ATTACKS = ("fgsm(epsilon=0.05)", "fgsm(epsilon=0.3)", "square(epsilon=0.1, queries=4)")
SETTINGS = [
    "--config.stages=('fit_classifier','fit_generator','attack','evaluate')",
    "--config.generator.duration=1 steps",
    "--config.measures.validation_examples=0",
    f"--config.evaluation.adversaries=('oblivious','straight_through',\"{FRESH}\","
    "'latent(steps=2, restarts=1)','decision')",
    f"--config.evaluation.attacks={ATTACKS!r}",
    f"--config.evaluation.defences=('none','{INC}')",
]


@pytest.fixture(scope="module")
def block():
    """Returns the evaluation of a config with several columns and adversaries."""
    config: Any = default_config()
    add_classifier(config, "robust")
    config.evaluation.attacks = ("pgd(epsilon=0.1)", "square(epsilon=0.2)", "deepfool")
    config.evaluation.adversaries = (
        "oblivious",
        "unrolled(samples=1)",
        "latent",
        "substitute",
        "decision",
    )
    config.evaluation.defences = (
        "none",
        "invert_and_classify",
        "none on robust",
        "invert_and_classify on robust",
    )
    return validate(config).evaluation


def test_rows_of_columns(block):
    every = rows(block)
    own = InvertAndClassify()
    assert {row.target for row in every if row.adversary == "oblivious"} == {
        Column(NoDefense()),
        Column(NoDefense(), "robust"),
    }
    # A view of no defence is the bare classifier, which the oblivious one has seen.
    for adversary in ("unrolled", "decision", "latent"):
        targets = {row.target for row in every if row.adversary == adversary}
        assert targets == {Column(own), Column(own, "robust")}, adversary
    taught = {row.target for row in every if row.adversary == "substitute"}
    assert taught == set(block.columns)
    named = [(row.adversary, row.name) for row in rows_of(Column(own, "robust"), block)]
    attacks = ["pgd(epsilon=0.1)", "square(epsilon=0.2)", "deepfool"]
    assert named == [
        ("none", "clean"),
        *(("oblivious", attack) for attack in attacks),
        # No attack on scores differentiates; no other gets by on scores.
        *(("unrolled", attack) for attack in (attacks[0], attacks[2])),
        ("latent", "on_manifold(epsilon=0.1)"),
        *(("substitute", attack) for attack in attacks),
        ("decision", "square(epsilon=0.2)"),
    ]
    assert len({row.folder for row in every}) == len(every)


def test_without_the_oblivious_adversary_the_others_meet_the_bare_classifier():
    config: Any = default_config()
    config.evaluation.adversaries = ("straight_through",)
    block = validate(config).evaluation
    met = rows_of(Column(NoDefense()), block)
    assert [row.adversary for row in met] == ["none", "straight_through"]


def checked(**values):
    """Checks the rows of a config whose evaluation has some values changed."""
    config: Any = default_config()
    config.evaluation.update(values)
    check_rows(validate(config).evaluation)


LEFT_OUT = {
    "a search without a budget": (
        {"attacks": ("deepfool",), "adversaries": ("oblivious", "latent")},
        "'latent' can make none of the attacks deepfool.*a budget in linf or l2",
    ),
    "scores for an attack on gradients": (
        {"attacks": ("deepfool",), "adversaries": ("oblivious", "decision")},
        "'decision' can make none of the attacks deepfool",
    ),
    "gradients for an attack on scores": (
        {
            "attacks": ("fgsm(epsilon=0.1)", "square(epsilon=0.1)"),
            "adversaries": ("straight_through", "implicit"),
        },
        "'square.*' sees scores, and none of the adversaries straight_through, implic",
    ),
    "gradients without a defence": (
        {
            "attacks": ("fgsm(epsilon=0.1)",),
            "adversaries": ("oblivious", "straight_through"),
            "defences": ("none",),
        },
        "'straight_through' has no defence to attack among the columns none; allowed",
    ),
    "a search without a projection": (
        {
            "attacks": ("fgsm(epsilon=0.1)",),
            "adversaries": ("latent",),
            "defences": ("none",),
        },
        "'latent' has no defence to attack .*; allowed: with one that projects",
    ),
    "one folder for two": (
        {
            "attacks": (
                "patch('square(size=0.5)', printable=(0.0, 0.5, 1.0))",
                "patch('square(size=0.5)', printable=((0.0, 0.5, 1.0),))",
            )
        },
        "would be stored in one folder, 'patch-",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_nothing_is_left_out_without_a_word(name):
    values, pattern = LEFT_OUT[name]
    with pytest.raises(UsageError, match=pattern):
        checked(**values)


def test_what_some_adversary_can_make_is_allowed():
    checked(
        attacks=("deepfool", "square(epsilon=0.1)"),
        adversaries=("straight_through", "decision"),
    )


@dataclasses.dataclass(frozen=True)
class Brighter(Defense):
    """A defence that purifies nothing."""

    def defend(self, key, networks, classify, image):
        """Returns the logits of a brighter image."""
        del key, networks
        return Defended(classify(image**0.5))


def test_a_defence_that_an_adversary_cannot_meet_is_refused_before_any_work(
    monkeypatch, program, project
):
    monkeypatch.setitem(defences._classes, "brighter", Brighter)
    monkeypatch.setitem(defences._names, Brighter, "brighter")
    fit = []
    monkeypatch.setitem(RUNS, "fit_classifier", lambda context: fit.append(1) or [])
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        "--config.evaluation.adversaries=('oblivious','straight_through')",
        "--config.evaluation.defences=('none','brighter')",
    )
    assert ended.code == 2 and not fit
    assert "'straight_through' cannot meet 'brighter'" in ended.error
    assert "none, or one that purifies the image" in ended.error


def test_a_report_of_what_no_stage_makes_is_refused_before_any_work(
    monkeypatch, program, project
):
    fit = []
    monkeypatch.setitem(RUNS, "fit_classifier", lambda context: fit.append(1) or [])
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        "--stages=fit_classifier,report",
    )
    assert ended.code == 2 and not fit
    assert "holds no results of the stage measure to report" in ended.error


def test_a_run_without_a_defence_is_told_of_in_words_that_fit(program, project):
    work = project / "run"
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={work}",
        "--config.stages=('fit_classifier','attack','evaluate','report')",
        "--config.evaluation.defences=('none',)",
    )
    assert ended.code == 0, ended.error
    page, _, _ = (work / "report/report.html").read_text().partition('id="config"')
    assert "<h1>Classifiers under attack</h1>" in page
    for word in ("Invert and Classify", "G(z*)", "projection", "oblivious attacks"):
        assert word not in page, word


def read(work, folder):
    """Returns the arrays of all rounds of one folder, joined."""
    parts = [np.load(path) for path in sorted((work / folder).glob("round-*.npz"))]
    names = [name for name in parts[0] if name != "seconds"]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def test_a_run_of_adversaries(program, project, monkeypatch):
    work, contexts = project / "run", []
    run = RUNS["evaluate"]
    monkeypatch.setitem(
        RUNS, "evaluate", lambda context: contexts.append(context) or run(context)
    )
    command = [f"--config={project / 'tiny.py'}", f"--workdir={work}", *SETTINGS]
    ended = program(*command)
    assert ended.code == 0, ended.error
    results = pd.read_csv(work / "results.csv")
    attacked = results[results["attack"] != "clean"]
    known = attacked[attacked["adversary"] != "worst case"]
    of_inc = known[known["defence"] == INC]
    counts = collections.Counter(of_inc["adversary"])
    assert counts == {
        "oblivious": 3,
        "straight_through": 2,
        FRESH: 2,
        "latent(steps=2, restarts=1)": 2,
        "decision": 1,
    }
    assert set(known[known["defence"] == "none"]["adversary"]) == {"oblivious"}

    for folder in sorted((work / f"adversarial/{FOLDER}").glob("*/*")):
        row = folder.relative_to(work / "adversarial").as_posix()
        crafted = read(work, f"adversarial/{row}")
        outcomes = read(work, f"outcomes/{FOLDER}/{row}")
        wrong = np.argmax(outcomes["logits"], axis=-1) != outcomes["labels"]
        if "fresh" in row:
            # The attack never saw the keys that its images are evaluated with.
            assert not np.allclose(crafted["logits"], outcomes["logits"])
            continue
        np.testing.assert_allclose(crafted["logits"], outcomes["logits"], atol=1e-4)
        np.testing.assert_array_equal(crafted["success"], wrong, err_msg=row)
    _check_carried(work)
    _check_worst(results)
    monkeypatch.setattr(one_call, "audited", lambda *_: [])
    _check_one_call(contexts[0])

    # One round of a group is lost: it is made again, as it was.
    lost = work / f"adversarial/{FOLDER}/straight_through/fgsm-epsilon=0.3"
    lost, before = lost / "round-001.npz", _images(lost / "round-001.npz")
    kept = lost.parent.parent / "fgsm-epsilon=0.05/round-001.npz"
    time = kept.stat().st_mtime_ns
    lost.unlink()
    assert program(*command, "--stages=attack,evaluate").code == 0
    np.testing.assert_array_equal(_images(lost), before)
    assert kept.stat().st_mtime_ns == time


def _check_one_call(context):
    """Holds `evaluate` to the run, image by image: the rows, and the run's key."""
    block, column = context.experiment.evaluation, context.columns[1]
    params = trained.load_column(context, column)
    found = evaluate(
        (context.networks.classifier_of(column.classifier).apply, params.classifier),
        data.to_float(context.data.test.images),
        context.data.test.labels,
        defence=INC,
        networks={
            role: (network, params.networks[role])
            for role, network in context.networks.of_defences.items()
        },
        worst_case={"attacks": block.attacks, "adversaries": block.adversaries},
        key=context.key,
        ids=context.data.test.ids,
        on_progress=None,
    )
    every = rows_of(column, block)
    outcomes = [cell_of(context, column, row)[1] for row in every]
    np.testing.assert_array_equal(found.clean == 0, outcomes[0].right)
    budgets = [Budget("linf", epsilon) for epsilon in (0.05, 0.1, 0.3)]
    assert [each.budget for each in found.budgets] == budgets
    stored = {
        f"{row.adversary}, {row.name}": read(
            context.folder.path, adversarial_folder(row)
        )["images"]
        for row in every
        if row.attack and row.adversary != "latent(steps=2, restarts=1)"
    }
    for at in found.budgets:
        broken = broken_by(outcomes, at.budget).any(axis=0)
        np.testing.assert_array_equal(at.broken, broken, err_msg=str(at.budget))
        assert 0 < broken.sum() < len(broken) or at.budget.epsilon != 0.1
        for place, member in enumerate(at.member):
            images = stored.get(at.shares[member].member)
            if images is not None:
                np.testing.assert_array_equal(at.images[place], images[place])
    # Each adversary's rows are told by what they broke first.
    told = [share.member for share in found.budgets[-1].shares]
    assert told[:2] == ["clean", "oblivious, fgsm(epsilon=0.05)"]
    assert "latent(steps=2, restarts=1), linf 0.3" in told and len(told) == 11


def _images(path):
    with np.load(path) as stored:
        return stored["images"]


def _check_carried(work):
    """Holds the larger budget to the images that fell at the smaller one."""
    small, large = (
        read(work, f"adversarial/{FOLDER}/straight_through/fgsm-epsilon={e}")
        for e in (0.05, 0.3)
    )
    fell = small["success"]
    assert large["success"][fell].all()
    np.testing.assert_array_equal(large["images"][fell], small["images"][fell])
    assert (large["forwards"][fell] == 0).all()
    assert (large["forwards"][~fell] > 0).all()


def _check_worst(results):
    """Holds the worst case to the rows that it is of."""
    own = results[results["defence"] == INC]
    worst = own[own["adversary"] == "worst case"].set_index("epsilon")["correct"]
    rest = own[own["adversary"] != "worst case"]
    clean = rest[rest["attack"] == "clean"]["correct"].item()
    for epsilon, correct in worst.items():
        inside = rest[rest["epsilon"] <= epsilon]["correct"]
        assert correct <= min(clean, inside.min())
    assert list(worst.index) == [0.05, 0.1, 0.3]
