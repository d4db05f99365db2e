"""`evaluate`: closed forms, flags, resumption, and what it refuses."""

import jax
import numpy as np
import pytest

import robust_manifold
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import AUDIT_CHECKS
from robust_manifold.robustness import audited, one_call, told
from tests.robustness.pixels import (
    CLASSIFIER,
    EFFORT,
    EPSILONS,
    IMAGES,
    LABELS,
    PARAMS,
    N,
    apply,
    falls,
    levels,
    levels_in_numpy,
    noisy,
)

CHECKED = ("gradients of the defended classifier", "operations")


def evaluated(**options):
    arguments = {
        "classifier": CLASSIFIER,
        "images": IMAGES,
        "labels": LABELS,
        "epsilons": {"linf": EPSILONS},
        "effort": EFFORT,
        "on_progress": None,
    } | options
    return robust_manifold.evaluate(
        arguments.pop("classifier"),
        arguments.pop("images"),
        arguments.pop("labels"),
        **arguments,
    )


@pytest.fixture(autouse=True, scope="module")
def a_small_audit():
    """Makes two checks alone, of a few images, and rounds of some images."""
    left_out = tuple(name for name in AUDIT_CHECKS if name not in CHECKED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audited, "_STANDARD", audited._Size(8, left_out))
        patch.setattr(one_call, "_ROUND", 25)
        yield


@pytest.fixture(scope="module")
def rounded():
    return evaluated(defence=levels)


def test_of_a_linear_classifier_exactly_those_fall_that_can():
    found = evaluated()
    assert found.name == "none" and (found.clean == 0).all() and not found.notes
    for at, epsilon in zip(found.budgets, EPSILONS, strict=True):
        np.testing.assert_array_equal(at.broken, falls(epsilon))
        assert 0 < at.broken.sum() < N
        assert np.abs(at.images - IMAGES).max() <= epsilon + 1e-6
        assert sum(share.broken for share in at.shares) == at.broken.sum()
        # Without a defence there is one gradient alone, and no way through to be named.
        names = [share.member for share in at.shares]
        assert "its gradient, 6 steps from the worst so far" in names
    assert [check.verdict for check in found.audit] == ["SKIPPED", "PASS"]


def test_a_rounding_defence_is_flagged_and_attacked_straight_through(rounded):
    found = rounded
    assert [check.name for check in found.flags] == [*CHECKED]
    # Rounding moves no boundary by more than half a level: nobody stands for long.
    logits = np.array(jax.vmap(levels)(found.images(-1))).reshape(N, 4) @ PARAMS
    wrong = np.argmax(logits, -1) != LABELS
    np.testing.assert_array_equal(wrong, found.budgets[-1].broken)
    assert found.budgets[-1].accuracy < 0.2
    assert "straight_through (" in found.notes[0]


def test_out_of_jaxs_sight_the_same_defence_leaves_the_same(rounded):
    unseen = evaluated(defence=levels_in_numpy)
    for one, other in zip(rounded.budgets, unseen.budgets, strict=True):
        np.testing.assert_array_equal(one.broken, other.broken)
    assert unseen.flags[0].name == CHECKED[0]
    assert unseen.notes[0].startswith("JAX cannot trace levels_in_numpy: it was")
    assert "unrolled" not in unseen.notes[1]


ROWS = {"attacks": "fgsm(epsilon=0.1)", "adversaries": "straight_through"}
NOISY = {"defence": noisy, "epsilons": {"linf": 0.1}}


def test_a_random_defence_has_fresh_keys_unless_it_is_asked_otherwise():
    fresh = evaluated(**NOISY)
    assert ((fresh.clean > 0) & (fresh.clean < 1)).any()
    assert "a mean over 8 fresh keys" in fresh.notes[0]
    assert fresh.lines[1].accuracy == pytest.approx(1 - fresh.budgets[0].rate.mean())
    known = evaluated(**NOISY, worst_case=ROWS)
    assert set(np.unique(known.budgets[0].rate)) == {0, 1}
    assert "one key for each image, which the attack knew" in known.notes[0]
    names = [share.member for share in known.budgets[0].shares]
    assert names == ["clean", "straight_through, fgsm(epsilon=0.1)"]


def test_keys_and_ids_are_all_that_chance_depends_on():
    first, again = evaluated(**NOISY), evaluated(**NOISY)
    np.testing.assert_array_equal(first.images(0), again.images(0))
    for change in ({"key": jax.random.key(1)}, {"ids": np.arange(N) + N}):
        other = evaluated(**NOISY | change)
        assert not np.array_equal(first.budgets[0].rate, other.budgets[0].rate)


class Killed(Exception):
    """Stands for a signal in the middle of a round."""


def test_killed_and_called_again_it_goes_on_to_the_same(tmp_path, monkeypatch):
    options = NOISY | {"folder": tmp_path / "out"}
    whole = evaluated(**NOISY)

    def stop(done, of, doing):
        if done > 30:
            raise Killed

    with pytest.raises(Killed):
        evaluated(**options, on_progress=stop)
    stored = sorted(path.name for path in (tmp_path / "out").glob("round*"))
    assert stored == ["round-000.npz"]
    again: list[tuple[int, int]] = []
    found = evaluated(**options, on_progress=lambda *done: again.append(done[:2]))
    # It goes on behind the round that was finished.
    assert min(done for done, of in again if of == N) > 25
    for name in ("clean", "clean_images", "labels"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(found, name))
    for one, other in zip(whole.budgets, found.budgets, strict=True):
        for name in ("images", "rate", "margin", "member"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert [s[:-1] for s in one.shares] == [s[:-1] for s in other.shares]
    assert (whole.audit, whole.notes) == (found.audit, found.notes)
    # A finished one is read: nothing is made again.
    monkeypatch.setattr(one_call, "made", None)
    monkeypatch.setattr(one_call, "audited", None)
    read = evaluated(**options)
    assert str(read) == str(found)


OTHERS = {
    "defence": {"defence": levels},
    "images": {"images": IMAGES[::-1]},
    "labels": {"labels": (LABELS + 1) % 3},
    "params": {"classifier": (apply, 2 * PARAMS)},
    "outputs": {"classifier": (lambda p, x: 2 * apply(p, x), PARAMS)},
    "key": {"key": jax.random.key(1)},
    "ids": {"ids": np.arange(N) + 1},
    "worst_case": {"epsilons": {"linf": 0.1}},
    "effort": {"effort": "quick", "worst_case": "cascade(linf=0.1)"},
}


def test_the_folder_of_another_evaluation_is_refused_in_a_sentence(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(one_call, "audited", lambda *_: [])
    few = {"images": IMAGES[:6], "labels": LABELS[:6], "folder": tmp_path}
    evaluated(**few, epsilons={"linf": (0.1, 0.2)})
    for field, change in OTHERS.items():
        given = few | {"epsilons": {"linf": (0.1, 0.2)}} | change
        given |= {
            name: value[:6]
            for name, value in given.items()
            if name in ("images", "labels", "ids")
        }
        with pytest.raises(
            UsageError, match=f"another evaluation.*{field} is"
        ) as error:
            evaluated(**given)
        assert "choose another folder" in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="folder is 3; allowed: a path"):
        one_call._check_folder(3)


def test_the_default_tells_of_progress_though_nothing_set_up_a_log(capsys, monkeypatch):
    monkeypatch.setattr(one_call, "audited", lambda *_: [])
    few = {"images": IMAGES[:6], "labels": LABELS[:6], "epsilons": {"linf": 0.1}}
    evaluated(**few)
    assert capsys.readouterr() == ("", "")
    evaluated(**few, on_progress="print")
    assert "worst case  6/6 images  100 %" in capsys.readouterr().err
    with pytest.raises(UsageError, match="on_progress is 1; allowed: 'print', None"):
        told.check(1)
