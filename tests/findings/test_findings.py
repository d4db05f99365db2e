"""The registry of findings, and the loops over it: stages, report, page of results."""

import json
import shutil

import pytest

from robust_manifold import findings
from robust_manifold.config import STAGES, default_config, validate
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import report
from robust_manifold.results.records import read_run
from robust_manifold.runtime import devices
from robust_manifold.runtime.run_folder import read_status, sealed

PATCH = "patch(steps=2, transformations=views(scale=(0.2, 0.3)))"


@pytest.fixture
def run(finished, program, tmp_path):
    """Returns the program on a copy of a finished run, and the copy."""
    work = tmp_path / "run"
    shutil.copytree(finished / "run", work)

    def call(*arguments):
        return program(
            f"--config={finished / 'tiny.py'}", f"--workdir={work}", *arguments
        )

    return call, work


def unfinish(work, stage):
    """Leaves a run as one that was killed before a stage had finished."""
    status = read_status(work)
    for output in status["finished_stages"].pop(stage):
        (work / output).unlink()
    (work / "status.json").write_text(json.dumps(sealed(status)))


def experiment(**keys):
    config = default_config()
    with config.unlocked():
        for key, value in keys.items():
            config.update_from_flattened_dict({key.replace("__", "."): value})
    return validate(config)


def test_names_are_given_once_and_every_stage_is_known():
    names = [finding.name for finding in findings.EVERY]
    assert len(set(names)) == len(names)
    every = findings.all_stages()
    assert len(set(every)) == len(every) and set(STAGES) <= set(every)
    for finding in findings.EVERY:
        assert (finding.name in every) is (finding.find is not None), finding.name
        assert not finding.after or finding.after in STAGES


def test_no_two_findings_write_to_one_place():
    places = [place for finding in findings.EVERY for place in finding.writes]
    for place in places:
        assert [other for other in places if other.startswith(place)] == [place]
    recorded = {f for finding in findings.EVERY for f in finding.recorded}
    assert recorded <= set(places)


def test_what_follows_a_stage_comes_after_it_where_the_config_asks_for_it():
    plain = experiment(stages=("evaluate", "audit", "report"))
    known = ("evaluate", "accuracy", "detection", "substitutes", "audit", "report")
    assert [s for s in findings.stages_of(plain) if s in known] == [
        *("evaluate", "accuracy", "detection", "audit", "report"),
    ]
    more = experiment(
        stages=("evaluate", "report"),
        overpowered__pairs=4,
        evaluation__adversaries=("oblivious", "latent", "substitute"),
        evaluation__validation_examples=0,
    )
    known = (*known, "on_manifold", "pairs", "given")
    assert [s for s in findings.stages_of(more) if s in known] == [
        *("evaluate", "accuracy", "on_manifold", "pairs", "substitutes", "report"),
    ]
    assert findings.stages_of(experiment(stages=("fit_classifier",))) == (
        "fit_classifier",
    )


def test_what_an_older_stage_stored_is_adopted():
    outputs = ["results.csv", "given.json", "given/a/b.npz", "outcomes/c.npz"]
    found = findings.adopted({"evaluate": outputs})
    assert found == {
        "evaluate": ["outcomes/c.npz"],
        "accuracy": ["results.csv"],
        "given": ["given.json", "given/a/b.npz"],
    }
    assert findings.adopted(found) == found


def test_a_finding_is_run_by_its_name_alone(run):
    call, work = run
    before = (work / "detection.csv").read_bytes()
    (work / "detection.csv").unlink()
    ended = call("--stages=detection")
    assert ended.code == 0, ended.error
    assert (work / "detection.csv").read_bytes() == before
    assert "accuracy" not in ended.error


@pytest.mark.parametrize(
    ("stage", "file", "told"),
    [
        ("accuracy", "worst_cases.csv", "lacks worst_cases.csv, which accuracy has"),
        ("measure", "measures.csv", "holds no results of the stage measure"),
    ],
)
def test_a_report_does_not_leave_out_what_was_deleted(run, stage, file, told):
    call, work = run
    (work / file).unlink()
    ended = call("--stages=report")
    assert ended.code == 2
    assert told in ended.error
    ended = call(f"--stages={stage},report")
    assert ended.code == 0, ended.error


def test_a_report_stands_without_the_accuracies(run):
    call, work = run
    unfinish(work, "accuracy")
    ended = call("--stages=report")
    assert ended.code == 0, ended.error
    assert "without accuracy, which has not finished" in ended.error
    table = (work / "report/table.md").read_text()
    assert "Rejection by reconstruction error" in table
    assert "Accuracy by attack" not in table


def test_what_follows_a_stage_that_runs_again_runs_again(run):
    call, work = run
    (work / "outcomes/none/clean/round-000.npz").unlink()
    ended = call("--stages=evaluate")
    assert ended.code == 0, ended.error
    assert "finished before" not in ended.error
    for stage in ("evaluate", "accuracy", "detection"):
        assert "--stages=evaluate" in read_status(work)["ran"][stage][-1]["command"]
    # Nothing is computed twice without need.
    assert call("--stages=evaluate").error.count("finished before") == 3


def test_without_validation_images_nothing_is_rejected(program, project):
    work = project / "run"
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={work}",
        "--config.data.validation_examples=0",
        "--config.generator.model=vae_decoder(latent_size=4, hidden=8)",
        "--config.generator.training=vae(encoder=vae_encoder(latent_size=4, hidden=8))",
        "--config.evaluation.attacks=()",
        "--config.stages=('fit_classifier','fit_generator','evaluate','report')",
    )
    assert ended.code == 0, ended.error
    assert not (work / "detection.csv").exists()
    assert "Rejection" not in (work / "report/table.md").read_text()
    assert "results.csv" in read_run(work).files


def test_results_refuse_a_run_that_lacks_a_finding(run):
    call, work = run
    unfinish(work, "detection")
    assert call("--stages=report").code == 0
    assert read_status(work)["state"] == "finished"
    with pytest.raises(UsageError, match="lacks the stage detection"):
        read_run(work)
    assert call().code == 0
    assert "detection.csv" in read_run(work).files


def test_the_report_asks_no_other_process(run, monkeypatch):
    call, work = run
    (work / "report/report.html").unlink()

    def alone(context, real=report._report):
        def ask(*_):
            raise AssertionError("the first process is alone here")

        with monkeypatch.context() as patch:
            for name in ("agreed", "any_process", "barrier"):
                patch.setattr(devices, name, ask)
            real(context)

    monkeypatch.setattr(report, "_report", alone)
    ended = call("--stages=report")
    assert ended.code == 0, ended.error
    assert (work / "report/report.html").exists()


def test_a_finding_of_ones_own_is_one_file(run, monkeypatch):
    from tests.findings import confidence_found

    monkeypatch.setattr(findings, "EVERY", [*findings.EVERY, confidence_found.FINDING])
    call, work = run
    ended = call()
    assert ended.code == 0, ended.error
    assert "surest" in read_status(work)["finished_stages"]
    table = (work / "report/table.md").read_text()
    assert "How sure the classifiers are" in table
    assert call("--stages=surest").error.count("finished before") == 1


def test_a_report_says_what_has_not_finished(run, monkeypatch):
    call, _ = run
    from tests.findings import confidence_found

    monkeypatch.setattr(findings, "EVERY", [*findings.EVERY, confidence_found.FINDING])
    ended = call("--stages=report")
    assert ended.code == 0
    assert "without surest, which has not finished" in ended.error


def test_records_need_no_finding_that_is_younger_than_they_are():
    assert findings.needed(["fit_classifier", "attack"]) == set()
    assert findings.needed(["fit_classifier", "evaluate"]) == {"results.csv"}
    assert findings.needed(["evaluate", "accuracy", "given"]) == {"results.csv"}
