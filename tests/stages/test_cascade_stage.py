"""A cascade in a run: its rows, its mistakes, its rounds, and what a report shows."""

import json
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from robust_manifold import models
from robust_manifold.config import Column, add_classifier, default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import SpannerParams
from robust_manifold.defenses import BitDepth, NoDefense
from robust_manifold.runtime.weight_files import WeightFile
from robust_manifold.stages.context import Context
from robust_manifold.stages.inputs import elsewhere
from robust_manifold.stages.table import donors
from robust_manifold.stages.table.crafting import together
from robust_manifold.stages.table.rows import check_rows, rows, rows_of

EFFORT = (
    "effort(steps=2, aimed_steps=2, views=2, all_steps=0, queries=2, "
    "dampings=(0.001,), pilot=3, samples=2)"
)
COLUMNS = ("none", "bit_depth")


def block(**values):
    config: Any = default_config()
    add_classifier(config, "robust")
    config.evaluation.update(values)
    return validate(config).evaluation


def attacked(evaluation):
    return [row for row in rows(evaluation) if row.attack]


def test_each_column_has_a_row_at_each_budget():
    evaluation = block(
        worst_case="cascade(effort='quick', linf=(0.2, 0.1), l2=1.5)",
        attacks=(),
        defences=("none", "bit_depth on robust"),
    )
    check_rows(evaluation)
    bare, behind = evaluation.columns
    names = [
        "in_ball(epsilon=0.1)",
        "in_ball(epsilon=0.2)",
        "in_ball(epsilon=1.5, norm='l2')",
    ]
    assert [(row.target, row.name) for row in attacked(evaluation)] == [
        *((bare, name) for name in names),
        *((behind, name) for name in names),
    ]
    adversaries = {row.adversary for row in attacked(evaluation)}
    assert adversaries == {"cascade(effort='quick')"}
    assert [row.name for row in rows_of(behind, evaluation)] == ["clean", *names]
    # What falls in one ball has fallen in the others that hold it.
    assert [len(group) for group in together(attacked(evaluation))] == [3, 3]


def test_without_balls_of_its_own_it_has_those_of_the_attacks():
    evaluation = block(
        worst_case="cascade",
        attacks=("fgsm(epsilon=0.1)", "pgd(epsilon=0.1)", "pgd(epsilon=2, norm='l2')"),
    )
    assert evaluation.budgets == (("linf", 0.1), ("l2", 2.0))
    # The attacks make their own rows as before.
    own = [row.name for row in attacked(evaluation) if row.adversary == "oblivious"]
    assert own == [
        "fgsm(epsilon=0.1)",
        "pgd(epsilon=0.1)",
        "pgd(epsilon=2.0, norm='l2')",
    ]


def test_fresh_keys_are_rows_of_their_own_where_there_is_a_defence():
    evaluation = block(
        worst_case="cascade(linf=(0.1,), keys='both')",
        attacks=(),
        adversaries=(),
        defences=COLUMNS,
    )
    bare, behind = Column(NoDefense()), Column(BitDepth())
    assert [(row.adversary, row.target) for row in attacked(evaluation)] == [
        ("cascade", bare),
        ("cascade", behind),
        ("cascade(keys='fresh')", behind),
    ]
    assert len({row.folder for row in rows(evaluation)}) == 4


REFUSED = {
    "an unknown effort": ("cascade(effort='huge')", "Unknown effort 'huge'"),
    "an effort without a field": ("cascade(effort=effort(steps=2))", "lacks the arg"),
    "a radius of 0": ("cascade(linf=(0.1, 0))", r"Cascade.linf is \(0.1, 0\); allowed"),
    "a radius twice": ("cascade(l2=(1.0, 1.0))", "each once"),
    "a text": ("cascade(l1=('a',))", r"Cascade.l1 is \('a',\); allowed: finite radii"),
    "other keys": ("cascade(keys='old')", "Unknown value of cascade.keys: 'old'"),
    "another attack": ("pgd(epsilon=0.1)", "Unknown worst case 'pgd'"),
    "no ball": ("cascade", "worst_case is 'cascade'; allowed: with a ball"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_in_a_worst_case_are_told_in_a_sentence(name):
    text, message = REFUSED[name]
    with pytest.raises(UsageError, match=message) as error:
        block(worst_case=text, attacks=())
    assert str(error.value).startswith("config.evaluation")
    assert "\n" not in str(error.value)


def test_attacks_that_neither_are_made_nor_give_balls_are_refused():
    values = {"attacks": ("fgsm(epsilon=0.1)",), "adversaries": ()}
    check_rows(block(worst_case="cascade", **values))
    with pytest.raises(UsageError, match="'fgsm.*', which no adversary makes; allow"):
        check_rows(block(worst_case="cascade(linf=(0.2,))", **values))


def test_without_a_cascade_there_must_be_an_adversary():
    with pytest.raises(UsageError, match="adversaries is .*; allowed: one or more"):
        block(adversaries=())


@pytest.fixture
def command(project):
    settings = [
        "--config.stages=('fit_classifier','attack','evaluate','report')",
        f"--config.evaluation.worst_case=cascade(effort={EFFORT}, linf=(0.1, 0.3), "
        "keys='both')",
        "--config.evaluation.attacks=()",
        "--config.evaluation.adversaries=()",
        f"--config.evaluation.defences={COLUMNS!r}",
        "--config.evaluation.validation_examples=0",
        "--config.evaluation.exchange=True",
    ]
    return [
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        *settings,
    ]


def test_a_run_of_a_cascade(program, project, command):
    ended = program(*command)
    assert ended.code == 0, ended.error
    work = project / "run"
    results = pd.read_csv(work / "results.csv")
    made = results[results["attack"].str.startswith("in_ball")]
    assert sorted(set(made["defence"])) == ["bit_depth", "none"]
    assert sorted(set(made["epsilon"])) == [0.1, 0.3]
    _check_pilots(work)
    _check_yields(work, made)
    _check_keys(work, results)
    _check_exchange(work, made)
    _check_report(work)
    # Nothing is left of the first round of a column, and nothing of its pilot.
    every = sorted((work / "adversarial/bit_depth").glob("*/in_ball-*"))
    rounds = [each / "round-000.npz" for each in every if "fresh" not in str(each)]
    pilot = rounds[0].parents[1] / "pilot.json"
    before, told = [*map(_stored, rounds)], pilot.read_text()
    assert len(rounds) == 2
    for file in (*rounds, pilot):
        file.unlink()
    assert program(*command, "--stages=attack").code == 0
    assert pilot.read_text() == told
    for was, now in zip(before, map(_stored, rounds), strict=True):
        for name in was:
            np.testing.assert_array_equal(now[name], was[name], err_msg=name)
    # Here the rounds that are left have been made by what the pilot had found.
    later = [file.with_name("round-001.npz") for file in rounds]
    before = [*map(_stored, later)]
    for file in later:
        file.unlink()
    assert program(*command, "--stages=attack").code == 0
    for was, now in zip(before, map(_stored, later), strict=True):
        for name in was:
            np.testing.assert_array_equal(now[name], was[name], err_msg=name)


def _stored(file):
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored}
    shares = json.loads(str(arrays.pop("shares")[0]))
    for share in shares:
        share.pop("seconds")
    arrays.pop("seconds")
    return arrays | {"shares": np.array(json.dumps(shares))}


def _check_pilots(work):
    """Holds the pilots to what they were asked."""
    found = json.loads(
        next(work.glob("adversarial/bit_depth/*/pilot.json")).read_text()
    )
    assert len(found) > 1
    # Of a bare network there is one way alone.
    bare = json.loads(next(work.glob("adversarial/none/*/pilot.json")).read_text())
    assert bare == []
    for line in found:
        assert line["n"] == 3 and 0 <= line["rate"] <= 1 and line["margin"] <= 0
        assert line["passes"] > 0


def _check_yields(work, made):
    """Holds the yields of members to the accuracies, whose keys are fixed."""
    lines = pd.read_csv(work / "cascade.csv")
    assert set(lines["n"]) == {8}
    lines = lines[~lines["adversary"].str.contains("fresh")]
    made = made[~made["adversary"].str.contains("fresh")]
    for (defence, epsilon), own in lines.groupby(["defence", "epsilon"]):
        row = made[(made["defence"] == defence) & (made["epsilon"] == epsilon)]
        assert 8 - own["broken"].sum() == row["correct"].item()
        assert (own["broken"] <= own["images"]).all()
        np.testing.assert_allclose(
            own["backwards"].sum() / 8, row["backwards_mean"].item(), atol=1e-3
        )
    for file in work.glob("adversarial/*/*/*/round-*.npz"):
        with np.load(file) as stored:
            names = [x["member"] for x in json.loads(str(stored["shares"][0]))]
            assert set(stored["member"]) <= set(names)
            assert (stored["success"] == (stored["rate"] >= 1)).all()
            assert (stored["distance"] <= 0.3 + 1e-6).all()


def _check_keys(work, results):
    """Holds a defence that draws nothing to the same figure under any key."""
    own = results[results["defence"] == "bit_depth"]
    lines = json.loads((work / "random_keys.json").read_text())
    assert [line["epsilon"] for line in lines] == [None, 0.1, 0.3]
    for line in lines:
        fresh = own["adversary"].str.contains("keys='fresh'")
        clean = own["attack"] == "clean"
        row = own[fresh & (own["epsilon"] == line["epsilon"])]
        row = own[clean] if line["epsilon"] is None else row
        expected = row["accuracy"].item()
        assert line["mean"] == line["always"] == line["vote"] == expected
        assert line["mean_low"] == pytest.approx(row["accuracy_low"].item(), abs=1e-6)


def _check_exchange(work, made):
    """Holds the second pass to the cascade's own figures, which it leaves alone."""
    lines = json.loads((work / "exchange.json").read_text())
    known = made[~made["adversary"].str.contains("fresh")]
    assert len(lines) == len(known) == 4
    for line in lines:
        row = known[
            (known["defence"] == line["column"]) & (known["epsilon"] == line["epsilon"])
        ]
        assert line["before"] == row["correct"].item()
        assert line["before"] - line["after"] == sum(line["by"].values())


def _check_report(work):
    """Holds the report to what a reader asks: who, at what price, who is left."""
    page = (work / "report/report.html").read_text()
    for words in (
        "What the cascade broke",
        "Yield of each member of the cascade",
        "What the pilot tried",
        "Who broke what: No defence",
        "Who broke what: Bit Depth",
        "Random defences under fresh keys",
        "What columns lend each other",
    ):
        assert words in page, words
    assert "What nothing broke" in page or "What broke last" in page
    assert "What the cascade broke" in (work / "report/table.md").read_text()
    # A run that is made again has the same tables.
    assert "seconds" not in (work / "report/table.csv").read_text()


def test_more_pilots_than_validation_images_are_refused_before_any_work(
    program, command
):
    text = EFFORT.replace("pilot=3", "pilot=21")
    ended = program(
        *command, f"--config.evaluation.worst_case=cascade(effort={text}, linf=(0.1,))"
    )
    assert ended.code == 2
    assert "on 21 validation images; allowed: at most the 20" in ended.error


class Run(Context):
    """A run, as far as donors look at it; its training images are "these"."""

    def __init__(self, needs_generator):
        shape, classes = (28, 28, 1), 10
        self.__dict__["data"] = SimpleNamespace(
            digests={"train": {"sha256": "these"}},
            dataset=SimpleNamespace(
                image_shape=shape, class_names=range(classes), outputs=None
            ),
        )
        self.__dict__["experiment"] = SimpleNamespace(wants=None)
        generator, _ = network("dcgan_generator(latent_size=3, width=2)")
        self.__dict__["networks"] = SimpleNamespace(
            roles_of=lambda stages: ("generator",) if needs_generator else (),
            classifier_of=lambda name: network("linear")[0],
            spanner=donors.Spanner(
                generator.apply, generator.input_shape, generator.starts, None
            ),
        )


def network(text):
    model = models.build(text, image_shape=(28, 28, 1), classes=10)
    return model, model.init(jax.random.key(0))


def published(**metadata):
    _, params = network(metadata["model"])
    return WeightFile(models.to_table(params), metadata)


@pytest.fixture
def files(monkeypatch):
    """Returns published weights by name, which a test may change."""
    decoder = "vae_decoder(latent_size=3, hidden=4)"
    made = elsewhere.digest(decoder, network(decoder)[1])
    own = {"trained_on": "these"}
    found = {
        "a_decoder": published(role="generator", model=decoder, **own),
        "its_encoder": published(
            role="encoder",
            model="vae_encoder(latent_size=3, hidden=4)",
            generator_sha256=made,
            **own,
        ),
        "of_others": published(role="generator", model=decoder, trained_on="others"),
        "a_classifier": published(role="classifier", model="linear", **own),
    }
    monkeypatch.setattr(donors.published, "names", lambda: list(found))
    monkeypatch.setattr(donors.published, "read", found.get)
    loaded = {"load_classifier": None, "load_spanner": SpannerParams(None, None)}
    for name, params in loaded.items():
        monkeypatch.setattr(donors.trained, name, lambda *_, params=params: params)
    return found


BARE, BEHIND = Column(NoDefense()), Column(BitDepth())


def test_donors_are_the_bare_network_and_the_published_generators(files):
    found = donors.donors_of(Run(True), BEHIND)
    assert [donor.name for donor in found] == [
        "the bare network",
        "a short inversion on a_decoder",
    ]
    # With its encoder, from whose guess one of two starts is.
    assert found[1].judged.defence.restarts.encoded == 1
    assert found[1].judged.params.networks["generator"].encoder is not None
    # Bare, it is no donor of its own.
    assert [d.name for d in donors.donors_of(Run(True), BARE)] == [found[1].name]


def test_where_none_fits_the_run_has_its_own_generator(files):
    files.clear()
    own = donors.donors_of(Run(True), BEHIND)
    assert own[-1].name == "a short inversion on the generator"
    assert own[-1].judged.defence.restarts.encoded == 0
    assert [d.name for d in donors.donors_of(Run(False), BEHIND)] == [
        "the bare network"
    ]
