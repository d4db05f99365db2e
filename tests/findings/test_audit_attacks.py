"""The audit attacks the columns anew: a stronger pass, and the active test."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.config import Column
from robust_manifold.defenses import (
    BPDA,
    BitDepth,
    NoDefense,
    Oblivious,
    StraightThrough,
    Unrolled,
)
from robust_manifold.evaluation import AUDIT_CHECKS
from robust_manifold.evaluation.audits.binarisation import ACTIVE
from robust_manifold.evaluation.audits.strength import STRENGTH
from robust_manifold.findings import audit, audit_attacks, audit_rows
from robust_manifold.stages import Context
from robust_manifold.stages.table.rows import InBall, Row

N = 40
BARE, DEFENDED = Column(NoDefense()), Column(BitDepth())


def stored(attack, broken, adversary="oblivious", target=DEFENDED):
    """Returns a row that broke the first so many images."""
    return audit_rows.Stored(
        row=Row(attack, adversary, target),
        images=np.zeros((N, 2, 2, 1), np.float32),
        broken=np.arange(N) < broken,
        errors=None,
        logits=np.zeros((N, 3)),
        norm=attack.norm,
        epsilon=attack.budget,
        forwards=1.0,
        backwards=1.0,
    )


class Run(Context):
    """A run with these adversaries."""

    def __init__(self, *adversaries):
        block = SimpleNamespace(adversaries=adversaries)
        vars(self).update(experiment=SimpleNamespace(evaluation=block))


def attacked(column, rows, *adversaries):
    return audit_attacks.attacked_by(Run(*adversaries), column, rows)


def test_the_headline_of_a_bare_column_is_its_worst_climb():
    rows = [
        stored(attacks.FGSM(0.3), 39, target=BARE),
        stored(attacks.PGD(0.1, steps=40), 5, target=BARE),
        stored(attacks.PGD(0.2, steps=40), 9, target=BARE),
        stored(attacks.Square(0.2), 11, target=BARE),
    ]
    made = attacked(BARE, rows, "oblivious")
    assert made == (attacks.PGD(0.2, steps=40), None, 1)
    assert attacked(BARE, rows[:1]).attack.budget > 0


def test_behind_a_defence_it_is_who_sees_it_that_breaks_most():
    bpda = "bpda(stand_in=bit_depth)"
    rows = [
        stored(attacks.PGD(0.3, steps=40), 30),
        stored(attacks.PGD(0.1, steps=40), 5, "straight_through"),
        stored(attacks.PGD(0.2, steps=40), 9, bpda),
    ]
    texts = "oblivious", "straight_through", bpda
    made = attacked(DEFENDED, rows, *texts)
    assert made.attack.budget == 0.2 and isinstance(made.adversary, BPDA)
    # Where none sees it, the first of the run would.
    blind = attacked(DEFENDED, rows[:1], *texts)
    assert blind == (attacks.PGD(0.3, steps=40), StraightThrough(), 1)
    assert attacked(DEFENDED, rows[:1], "oblivious").adversary is None


def test_a_cascade_climbs_by_the_best_way_of_its_pilot(monkeypatch):
    ways = [Oblivious(), StraightThrough(), Unrolled()]
    monkeypatch.setattr(audit_attacks, "piloted", lambda context, column: ways)
    made = attacked(DEFENDED, [stored(InBall(0.2), 20, "cascade")])
    # Away from the label, and at the three nearest classes.
    assert made == (attacks.APGD(0.2, steps=50), StraightThrough(), 4)
    assert made.of_two_classes == attacks.APGD(0.2, steps=50, restarts=4)
    few = "cascade(effort='effort(steps=9, aimed_steps=0, views=1, all_steps=0, "
    few += "queries=0, dampings=(0.001,), pilot=3, samples=1)')"
    made = attacked(DEFENDED, [stored(InBall(0.2), 20, few)])
    assert made == (attacks.APGD(0.2, steps=9), StraightThrough(), 1)
    assert made.of_two_classes == made.attack


def test_the_ball_that_parts_the_images_is_that_of_half_of_them():
    balls = [
        stored(InBall(0.1), 4, "cascade"),
        stored(InBall(0.2), 17, "cascade"),
        stored(InBall(0.3), 40, "cascade"),
        stored(InBall(2.0, "l2"), 20, "cascade"),
        stored(attacks.PGD(0.3, steps=40), 20),
    ]
    assert audit_attacks.half_broken(balls[2], balls) is balls[1]
    assert audit_attacks.half_broken(balls[3], balls) is balls[3]
    assert audit_attacks.half_broken(balls[4], balls) is balls[4]
    slower = stored(attacks.PGD(0.2, steps=80), 39)
    assert audit_attacks.half_broken(slower, [*balls, slower]) is slower


SETTINGS = [
    "--config.stages=('fit_classifier','attack','evaluate','audit')",
    "--config.measures.validation_examples=0",
    "--config.evaluation.validation_examples=0",
    "--config.evaluation.adversaries=('straight_through',)",
    "--config.evaluation.attacks=('pgd(epsilon=0.3, steps=2, step_size=0.001)',)",
    "--config.evaluation.defences=('none','bit_depth(bits=4)')",
    "--config.evaluation.examples=12",
    "--config.audit.effort=effort(steps=5, aimed_steps=2, views=1, all_steps=0, "
    "queries=0, dampings=(0.001,), pilot=3, samples=1)",
    "--config.audit.stronger=8",
    "--config.audit.left_out="
    + str(tuple(name for name in AUDIT_CHECKS if name not in (STRENGTH, ACTIVE))),
]


def test_a_weak_attack_is_found_out_in_every_column(program, project):
    work = project / "run"
    ended = program(f"--config={project / 'tiny.py'}", f"--workdir={work}", *SETTINGS)
    assert ended.code == 0, ended.error
    checks = json.loads((work / audit.SUMMARY).read_text())
    made = [check for check in checks if check["verdict"] != "SKIPPED"]
    assert [(check["column"], check["name"]) for check in made] == [
        (column, name)
        for column in ("none", "bit_depth(bits=4)")
        for name in (STRENGTH, ACTIVE)
    ]
    assert {check["verdict"] for check in made} == {"FLAG"}, made
    for strength in made[::2]:
        assert "a stronger pass broke" in strength["sentence"]
        assert "They fell to" in strength["sentence"]
    for active in made[1::2]:
        assert active["value"] == 0 and "a plane in the features" in active["sentence"]


@pytest.mark.parametrize(
    "setting, says",
    [
        ("stronger=-1", "stronger is -1; allowed: 0 or more"),
        ("effort=strong", "Unknown effort 'strong'"),
    ],
)
def test_misuse_is_one_sentence(program, project, setting, says):
    work = f"--workdir={project / 'other'}"
    command = f"--config={project / 'tiny.py'}", work, f"--config.audit.{setting}"
    ended = program(*command)
    assert ended.code == 2 and says in ended.error
