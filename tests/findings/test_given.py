"""Attacked images that a file gives, in a run: classified, judged, shown, refused."""

import json

import numpy as np
import pandas as pd
import pytest

from robust_manifold.findings import given

INC = "invert_and_classify(solver=adam(steps=2), restarts=1)"
SETTINGS = [
    "--config.stages=('fit_classifier','fit_generator','attack','evaluate','report')",
    "--config.generator.duration=1 steps",
    "--config.measures.validation_examples=0",
    "--config.evaluation.validation_examples=0",
    "--config.evaluation.attacks=()",
    f"--config.evaluation.defences=('none','{INC}')",
]
N = 6


@pytest.fixture
def theirs(project):
    """Returns the text of images that read as the next class, and their arrays."""
    digits = np.load(project / "digits.npz")
    originals, labels = digits["images"][:N], digits["labels"][:N]
    images = digits["images"][1 : N + 1]
    arrays = {"images": images, "originals": originals, "labels": labels}
    np.savez(project / "theirs.npz", **arrays)
    return f"attacked_images(file='{project / 'theirs.npz'}')", arrays


def test_every_column_meets_the_given_images_beside_their_originals(
    program, project, theirs
):
    text, arrays = theirs
    work = project / "run"
    command = [f"--config={project / 'tiny.py'}", f"--workdir={work}", *SETTINGS]
    command.append(f'--config.evaluation.given=("{text}",)')
    ended = program(*command)
    assert ended.code == 0, ended.error
    lines = json.loads((work / given.SUMMARY).read_text())
    assert [line["column"] for line in lines] == ["none", INC]
    for line in lines:
        (folder,) = work.glob(
            f"given/theirs-{line['sha256'][:8]}/{line['column'][:6]}*"
        )
        right = {}
        for name in given._SETS:
            stored = np.load(folder / name / "round-001.npz")
            first = np.load(folder / name / "round-000.npz")
            logits = np.concatenate([first["logits"], stored["logits"]])
            right[name] = logits.argmax(-1) == arrays["labels"]
            assert line[name]["right"] == right[name].sum()
            assert ("projections" in stored) == (line["column"] == INC)
        broken = np.flatnonzero(right["originals"] & ~right["images"])
        verdicts = np.load(folder / "verdicts.npz")
        assert verdicts["places"].tolist() == broken.tolist()
        assert line["broken"] == len(broken) and line["n"] == N
    # Bars in another row of the image are another class, and no linear classifier
    # misses that.
    bare = lines[0]
    assert (bare["originals"]["right"], bare["images"]["right"]) == (N, 0)
    assert {(j["verdict"], j["pairs"]) for j in bare["judges"]} >= {("changed", N)}
    moved = (arrays["images"].astype(float) - arrays["originals"]) / 255
    assert bare["linf_max"] == pytest.approx(np.abs(moved).max(), rel=1e-6)
    norms = np.sqrt((moved**2).sum((1, 2)))
    assert bare["l2_mean"] == pytest.approx(norms.mean(), rel=1e-5)

    page = (work / "report/report.html").read_text()
    assert "Attacked images given" in page and "theirs: No defence" in page
    # They are no rows of the run's own table.
    results = pd.read_csv(work / "results.csv")
    assert results["attack"].unique().tolist() == ["clean"]


def test_attacks_of_one_file_are_told_apart_and_changed_files_refused(
    program, project, theirs
):
    text, arrays = theirs
    both = arrays | {"other": arrays["originals"]}
    np.savez(project / "theirs.npz", **both)
    second = text.replace("(", "(images='other', ")
    command = [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"]
    command += [*SETTINGS[:-1], "--config.evaluation.defences=('none',)"]
    command.append(f'--config.evaluation.given=("{text}", "{second}")')
    ended = program(*command, "--stages=fit_classifier,fit_generator,attack,evaluate")
    assert ended.code == 0, ended.error
    lines = json.loads((project / "run" / given.SUMMARY).read_text())
    assert [line["file"] for line in lines] == ["theirs, images", "theirs, other"]
    assert [line["broken"] for line in lines] == [N, 0]
    np.savez(project / "theirs.npz", **(both | {"images": arrays["images"][::-1]}))
    ended = program(*command)
    assert ended.code == 2
    assert "given: theirs, images has changed since" in ended.error


def test_what_cannot_be_classified_is_refused_before_any_work(program, project, theirs):
    text, arrays = theirs
    np.savez(project / "theirs.npz", **(arrays | {"labels": np.arange(N)}))
    ended = program(
        *(f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"),
        *SETTINGS,
        f'--config.evaluation.given=("{text}",)',
    )
    assert ended.code == 2
    assert "config.evaluation.given: " in ended.error and "0 to 2" in ended.error
    assert not (project / "run" / "checkpoints").exists()
