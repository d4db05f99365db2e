"""Every experiment can be read, and is what its docstring says one types."""

import importlib.util
import pathlib
from typing import Any

import pytest

from robust_manifold.config import validate
from robust_manifold.defenses import (
    AnalysisBySynthesis,
    DefenseGAN,
    Diffusion,
    InvertAndClassify,
    NoDefense,
    Voting,
)
from robust_manifold.stages.inputs import needed
from robust_manifold.stages.table.rows import check_rows, rows

FOLDER = pathlib.Path(__file__).parents[1] / "experiments"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
BUDGETED = ("celeba_gender", "defense_gan", "mnist_robust", "overpowered")


def module_of(name) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(name, *arguments) -> Any:
    experiment = validate(module_of(name).get_config(*arguments))
    check_rows(experiment.evaluation)
    return experiment


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_is_one_and_says_its_command(name):
    checked(name)
    text = module_of(name).__doc__
    assert f"experiments/{name}.py" in text or "make quickstart" in text


@pytest.mark.parametrize("name", BUDGETED)
def test_a_full_budget_looks_at_more_images_than_the_small_one(name):
    small, full = checked(name, "small"), checked(name, "full")
    assert checked(name) == small
    assert full.evaluation.examples > small.evaluation.examples
    assert full.evaluation.budgets == small.evaluation.budgets
    # They ask the same question: the attacks have the same budgets.
    budgets = [[a.budget for a in e.evaluation.attacks] for e in (small, full)]
    assert budgets[0] == budgets[1]
    with pytest.raises(ValueError, match="budget is 'large'; allowed: small, full"):
        module_of(name).get_config("large")


@pytest.mark.parametrize("budget", ["small", "full"])
def test_the_overpowered_term_is_all_that_sets_the_control_apart(budget):
    named = checked("mnist_robust", budget).classifiers
    with_term, without = named["overpowered"], named["control"]
    assert with_term.training.weight > 0 and without.training.weight == 0
    assert with_term.training.attack == without.training.attack
    for field in ("model", "duration", "batch_size", "start"):
        assert getattr(with_term, field) == getattr(without, field)
    assert with_term.start == "classifier"


def test_all_of_defense_gans_classifiers_meet_all_adversaries():
    evaluation = checked("defense_gan").evaluation
    behind = [c for c in evaluation.columns if isinstance(c.defence, DefenseGAN)]
    assert [column.classifier for column in behind] == list("abcdef")
    for column in behind:
        own = {row.adversary.partition("(")[0] for row in rows(evaluation)}
        made = {
            row.adversary.partition("(")[0]
            for row in rows(evaluation)
            if row.attack and row.target == column
        }
        assert made == own - {"none", "oblivious"}


@pytest.mark.parametrize("kind", ["vae", "gan", "pgd"])
def test_regressions_of_all_kinds_are_attacked_alike(kind):
    experiment, first = checked("mnist_regression", kind), checked("mnist_regression")
    for field in ("worst_case", "attacks", "examples", "bound"):
        own, other = (getattr(e.evaluation, field) for e in (experiment, first))
        assert own == other
    assert experiment.classifier == first.classifier and experiment.regression
    assert experiment.generator.model == first.generator.model
    assert checked("mnist_regression", f"{kind}:tiny").evaluation.examples < 20
    with pytest.raises(ValueError, match="allowed: vae, vae:tiny, gan, gan:tiny, pgd"):
        module_of("mnist_regression").get_config(f"{kind}:large")


WORST = (
    "celeba_gender",
    "defense_gan",
    "mnist_adaptive",
    "mnist_enhanced",
    "mnist_manifolds",
    "mnist_robust",
    "overpowered",
)


@pytest.mark.parametrize("name", WORST)
def test_a_published_worst_case_is_a_cascade_on_every_column(name):
    evaluation = checked(name).evaluation
    assert evaluation.worst_case.effort == "standard"
    made = [(r.target, r.attack.norm, r.budget) for r in rows(evaluation) if r.attack]
    attacked = {(a.norm, a.budget) for a in evaluation.attacks if a.budget}
    # No attack is made at a budget that the cascade leaves out.
    assert attacked <= set(evaluation.budgets)
    for column in evaluation.columns:
        for norm, epsilon in evaluation.budgets:
            assert (column, norm, epsilon) in made


def test_each_rival_trains_what_it_needs_and_no_more():
    inverting = ("classifier", "generator", "encoder")
    denoising = (Diffusion, "classifier", "network-denoiser")
    columns = {
        "none": (NoDefense, "classifier"),
        "robust": (NoDefense, "classifier-robust"),
        "inc": (InvertAndClassify, *inverting),
        "enhanced": (InvertAndClassify, *inverting, "classifier-enhanced"),
        "defense_gan": (DefenseGAN, *inverting),
        "abs": (AnalysisBySynthesis, "classifier", "generator"),
        "abs_binary": (AnalysisBySynthesis, "classifier", "generator"),
        "diffusion": denoising,
        "diffusion_fresh": denoising,
        "diffusion_flow": denoising,
        "diffusion_one_step": denoising,
        "diffusion_vote": (Voting, *denoising[1:]),
        "codebook": (NoDefense, "classifier-begun", "classifier-free"),
        "nearest_neighbour": (NoDefense, "classifier-nearest"),
        "smoothing": (NoDefense, "classifier", "classifier-noisy"),
    }
    assert list(columns) == list(module_of("mnist_rivals").COLUMNS)
    for column, (rival, *networks) in columns.items():
        experiment = checked("mnist_rivals", column)
        found = needed.networks(experiment, experiment.stages)
        assert found == tuple(networks), column
        (own,) = experiment.evaluation.columns
        assert isinstance(own.defence, rival)
        fresh = experiment.evaluation.worst_case.keys == "fresh"
        assert fresh == (column == "diffusion_fresh")
    codebook = checked("mnist_rivals", "codebook")
    # The same codebook as the one whose certificates are shown.
    assert codebook.classifiers == {
        name: checked("mnist_certified").classifiers[name] for name in ("begun", "free")
    }
    config = module_of("mnist_rivals").get_config("codebook")
    config.pretrained = True
    assert validate(config).classifiers["free"].published == "mnist_codebook"
    adaptive = checked("mnist_adaptive", "inc").evaluation
    assert codebook.evaluation.budgets == adaptive.budgets
    with pytest.raises(ValueError, match="column is 'gan'; allowed: none, robust,"):
        checked("mnist_rivals", "gan")


def test_each_column_of_fashion_trains_what_it_needs_and_no_more():
    for column, networks in {
        "none": ("classifier",),
        "robust": ("classifier-robust",),
        "inc_gan": ("classifier", "generator", "encoder"),
        "inc_vae": ("classifier", "generator", "encoder"),
    }.items():
        experiment = checked("fashion", column)
        assert needed.networks(experiment, experiment.stages) == networks
        assert len(experiment.evaluation.columns) == 1
    gan, vae = (checked("fashion", name) for name in ("inc_gan", "inc_vae"))
    # The manifold is all that sets them apart.
    assert gan.evaluation == vae.evaluation and gan.classifier == vae.classifier
    assert type(gan.generator.training) is not type(vae.generator.training)
    robust = checked("fashion", "robust")
    # Trained at a radius that every column is attacked at.
    trained = robust.classifiers["robust"].training.attack
    budgets = {(b.norm, b.epsilon) for b in gan.evaluation.budgets}
    assert (trained.norm, trained.budget) in budgets
    with pytest.raises(ValueError, match="column is 'vae'; allowed: none, robust, inc"):
        checked("fashion", "vae")


def test_every_column_of_the_union_is_attacked_in_the_same_balls():
    balls = None
    for column, networks in {
        "none": ("classifier",),
        "robust": ("classifier", "classifier-robust"),
        "msd": ("classifier", "classifier-robust", "classifier-msd"),
        "inc": ("classifier", "generator", "encoder"),
        "codebook": ("classifier", "classifier-begun", "classifier-free"),
    }.items():
        experiment = checked("mnist_union", column)
        assert set(networks) <= set(needed.networks(experiment, experiment.stages))
        block = experiment.evaluation
        balls = balls or block.budgets
        assert block.budgets == balls and len(block.columns) == 1
        assert {ball for union in block.unions for ball in union.budgets} == set(balls)
    # The training goes into the balls of the first union, and the network is the same
    # as in the experiment that trained it.
    training = checked("mnist_union", "msd").classifiers["msd"].training
    (first, _) = checked("mnist_union", "none").evaluation.unions
    assert training.balls == first.budgets
    adaptive = checked("mnist_adaptive", "robust").classifiers["robust"]
    assert checked("mnist_union", "robust").classifiers["robust"] == adaptive
    with pytest.raises(ValueError, match="column is 'gan'; allowed: none, robust, msd"):
        checked("mnist_union", "gan")


def test_the_forms_of_the_certified_experiment():
    whole = checked("mnist_certified")
    assert whole.evaluation.examples == 10_000 and not whole.evaluation.attacked
    attacked = checked("mnist_certified", "attacked")
    assert attacked.evaluation.columns == whole.evaluation.columns
    assert attacked.evaluation.worst_case and attacked.evaluation.examples == 200
    for form, digits, draws in (
        ("smoothing_0.5", 100, 100_000),
        ("many_1.0", 500, 10_000),
        ("inversion_1.0", 100, 1000),
    ):
        evaluation = checked("mnist_certified", form).evaluation
        (smoothing,) = evaluation.smoothing
        assert smoothing.sigma == float(form.partition("_")[2])
        assert (evaluation.examples, smoothing.n) == (digits, draws)
    manifold = checked("mnist_certified", "manifold")
    assert len(manifold.evaluation.columns) == 3
    compared = ("free", "on_manifold", "reconstructions")
    assert {manifold.classifiers[name].model for name in compared} == {
        whole.classifiers["free"].model
    }
    with pytest.raises(ValueError, match="form is 'large'; allowed: those of"):
        checked("mnist_certified", "large")
