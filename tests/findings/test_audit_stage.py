"""The stage `audit`: its checks of stored rows, what it computes, how it goes on."""

import json

import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.config import Column
from robust_manifold.defenses import NoDefense
from robust_manifold.evaluation import AUDIT_CHECKS, Check
from robust_manifold.evaluation.audits import (
    budgets,
    gradients,
    ordering,
    projections,
    repetition,
    search,
)
from robust_manifold.findings import audit, audit_rows, pairs
from robust_manifold.findings.audit_attacks import Attacked
from robust_manifold.stages.table.rows import Row

INC = "invert_and_classify(solver=adam(steps=2), restarts=2)"
PAIRS = "overpowered(28.0, steps=4, restarts=2)"
SETTINGS = [
    "--config.stages=('fit_classifier','fit_generator','attack','evaluate','audit')",
    "--config.generator.model=vae_decoder(latent_size=4, hidden=8)",
    "--config.generator.training=vae(vae_encoder(latent_size=4, hidden=8))",
    "--config.generator.duration=1 steps",
    "--config.measures.validation_examples=0",
    "--config.evaluation.validation_examples=0",
    "--config.evaluation.adversaries=('oblivious','straight_through')",
    "--config.evaluation.attacks=('fgsm(epsilon=0.1)','pgd(epsilon=0.1, steps=4)')",
    f"--config.evaluation.defences=('none','{INC}')",
    "--config.overpowered.pairs=6",
    f"--config.overpowered.searches=('{PAIRS}',)",
    "--config.audit.examples=6",
    # Each of them compiles an attack of its own.
    "--config.audit.left_out=('more restarts','scale of the logits',"
    "'scores against white box','unfinished search','silent success',"
    "'stronger pass','active test')",
]
N = 40


def test_a_run_audits_every_column_and_goes_on_where_it_was(program, project):
    work = project / "run"
    command = [f"--config={project / 'tiny.py'}", f"--workdir={work}", *SETTINGS]
    ended = program(*command)
    assert ended.code == 0, ended.error
    text = (work / audit.SUMMARY).read_text()
    found = json.loads(text)
    assert {tuple(check) for check in found} == {
        ("column", "name", "verdict", "value", "sentence")
    }
    names = {}
    for check in found:
        assert check["verdict"] in ("PASS", "FLAG", "SKIPPED") and check["sentence"]
        names.setdefault(check["column"], []).append(check["name"])
    assert list(names) == ["none", INC]
    for listed in names.values():
        assert listed == [name for name in AUDIT_CHECKS if name in listed]
    # A bare classifier has no projections, and a projecting one is random.
    assert projections.IN_RANGE not in names["none"]
    made = {c["name"] for c in found if c["column"] == INC and c["value"] is not None}
    of_stages = (gradients.CLASSIFIER, gradients.DEFENDED, gradients.SEEN)
    assert made >= {
        *map(gradients.of_stage, of_stages),
        budgets.WITHIN_BUDGET,
        ordering.SINGLE_STEP,
        ordering.TRANSFER,
        projections.ERRORS,
        projections.NOISE_ERROR,
        repetition.KEYS,
        search.COST,
        projections.PAIRS,
    }
    _check_pairs(work)
    told = {c["sentence"] for c in found if c["name"] == gradients.LOGIT_SCALE}
    assert told == {"Not checked: config.audit.left_out names it."}

    rounds = work / "pairs/classifier/overpowered-eta=28.0-steps=4-restarts=2"
    lost = rounds / "round-001.npz"
    before = _arrays(lost)
    lost.unlink()
    summary = (work / pairs.SUMMARY).read_bytes()
    verdicts = (rounds / "verdicts.npz").read_bytes()
    (work / audit.SUMMARY).unlink()
    kept = work / "audit/none.json"
    (other,) = set((work / "audit").iterdir()) - {kept}
    other.unlink()
    time = kept.stat().st_mtime_ns
    assert program(*command).code == 0
    assert (work / audit.SUMMARY).read_text() == text
    assert other.exists() and kept.stat().st_mtime_ns == time
    for name, array in _arrays(lost).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert (work / pairs.SUMMARY).read_bytes() == summary
    assert (rounds / "verdicts.npz").read_bytes() == verdicts


def _arrays(path):
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if name != "seconds"}


def _check_pairs(work):
    """Holds what is said of latent pairs to what is stored of them."""
    (line,) = json.loads((work / pairs.SUMMARY).read_text())
    folder = work / "pairs/classifier/overpowered-eta=28.0-steps=4-restarts=2"
    rounds = [_arrays(path) for path in sorted(folder.glob("round-*.npz"))]
    assert [len(arrays["found"]) for arrays in rounds] == [4, 2]
    found = np.concatenate([arrays["found"] for arrays in rounds])
    logits = np.concatenate([arrays["logits"] for arrays in rounds])
    apart = np.argmax(logits[:, 0], -1) != np.argmax(logits[:, 1], -1)
    np.testing.assert_array_equal(found, apart)
    assert line["n"] == 6 and line["found"] == found.sum() > 0
    # Each of the pairs has its own latents, whatever its round.
    latents = np.concatenate([arrays["latents"] for arrays in rounds])
    assert len(np.unique(latents[:, 0], axis=0)) == 6
    with np.load(folder / "verdicts.npz") as stored:
        assert len(stored["verdicts"]) == len(stored["reads"]) == line["found"]


def stored(attack, broken, adversary="oblivious", **changes):
    """Returns a row that broke the first so many images."""
    row = Row(attack, adversary, Column(NoDefense()))
    fields = {
        "row": row,
        "images": np.zeros((N, 2, 2, 1), np.float32),
        "broken": np.arange(N) < broken,
        "errors": None,
        "logits": np.zeros((N, 3)),
        "norm": attack.norm,
        "epsilon": attack.epsilon,
        "forwards": 1.0,
        "backwards": 1.0,
    }
    return audit_rows.Stored(**(fields | changes))


def verdicts(checks) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


@pytest.mark.parametrize("at_large, verdict", [(30, "PASS"), (10, "FLAG")])
def test_stored_curves_fall(at_large, verdict):
    rows = [
        stored(attacks.PGD(0.2), at_large),
        stored(attacks.PGD(0.1), 20),
        # Another attack is another curve.
        stored(attacks.FGSM(0.3), 3),
    ]
    assert verdicts(audit_rows._growing(rows)) == {budgets.GROWING_BUDGET: verdict}
    assert not list(audit_rows._growing(rows[1:]))


def test_rows_of_one_budget_are_ordered():
    pgd, fgsm = attacks.PGD(0.1), attacks.FGSM(0.1)
    square, other = attacks.Square(0.1), attacks.Square(0.2)
    sound = [stored(pgd, 20), stored(fgsm, 10), stored(square, 19), stored(other, 39)]
    assert verdicts(audit_rows._orders(sound, bare=True)) == {
        ordering.SINGLE_STEP: "PASS",
        ordering.SCORES: "PASS",
    }
    masked = [stored(pgd, 0), stored(fgsm, 10), stored(square, 30)]
    assert verdicts(audit_rows._orders(masked, bare=True)) == {
        ordering.SINGLE_STEP: "FLAG",
        ordering.SCORES: "FLAG",
    }


def test_behind_a_defence_oblivious_images_are_transferred():
    pgd = attacks.PGD(0.1)
    for broken, verdict in {10: "PASS", 30: "FLAG"}.items():
        rows = [stored(pgd, 12, "unrolled"), stored(pgd, broken)]
        found = verdicts(audit_rows._orders(rows, bare=False))
        assert found == {ordering.TRANSFER: verdict}


def test_a_flag_speaks_for_all_rows():
    rows = [stored(attacks.PGD(0.1), 5), stored(attacks.PGD(0.2), 5)]
    checks = [Check("cost", "PASS", 1.0, "Fine."), Check("cost", "FLAG", 2.0, "Bad.")]
    joined = audit_rows._joined(zip(rows, checks, strict=True))
    assert joined.verdict == "FLAG" and joined.value == 2.0
    assert joined.sentence == "pgd(epsilon=0.2) by oblivious: Bad."


def test_the_attack_that_is_made_anew_is_in_few_steps():
    made = audit._attack(Attacked(attacks.PGD(0.2, steps=40), None))
    assert made == attacks.PGD(0.2, steps=20)


def test_one_check_of_each_name_is_kept():
    first = Check("cost", "FLAG", 1.0, "a.")
    second = Check("cost", "PASS", 2.0, "b.")
    other = Check("zero budget", "SKIPPED", None, "c.")
    assert audit._merged([first, second, other]) == [other, first]
    assert audit._merged([second, first._replace(verdict="PASS")])[0].sentence == "a."
