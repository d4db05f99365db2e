"""A regression from its config to its report: linear, small, and with closed forms."""

import json
import sys

import numpy as np
import pytest

from robust_manifold import evaluation
from robust_manifold.config import add_classifier, default_config, validate
from robust_manifold.core.criterion import Deviates, Farthest
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import load_params
from tests.support import write_digits

WORST = (
    "cascade(linf=(0.05,), effort=effort(steps=30, aimed_steps=2, views=1, "
    "all_steps=2, queries=2, dampings=(0.001,), pilot=3, samples=1, boundary_steps=2))"
)
CONFIG = f"""
from robust_manifold.config import add_classifier, default_config


def get_config():
    config = default_config()
    config.stages = (
        "fit_classifier", "fit_classifiers", "attack", "evaluate", "report",
    )
    config.data.source = "npz:DATA"
    config.data.target = "array(name='height', unit='px')"
    config.data.validation_examples = 20
    config.data.test_examples = 20
    config.classifier.model = "linear"
    config.classifier.training = "squared_error(optimizer=adam(0.01))"
    config.classifier.duration = "40 steps"
    config.classifier.batch_size = 16
    add_classifier(
        config,
        "attacked",
        model="linear",
        training="squared_error(attack=pgd(epsilon=0.05, steps=2))",
        duration="4 steps",
        batch_size=16,
    )
    config.measures.validation_examples = 0
    config.evaluation.examples = 8
    config.evaluation.round_size = 4
    config.evaluation.attacks = ("pgd(epsilon=0.05, steps=3)",)
    config.evaluation.adversaries = ("oblivious",)
    config.evaluation.bound = 4.0
    config.evaluation.worst_case = {WORST!r}
    config.evaluation.defences = (
        "none",
        "none on attacked",
        "bit_depth",
    )
    config.training.log_every = 4
    config.training.checkpoint_every = 4
    return config
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    heights = 4 + 8 * (np.arange(120) % 3) + np.linspace(-1, 1, 120)
    write_digits(folder / "bars.npz", height=heights)
    file = folder / "config.py"
    file.write_text(CONFIG.replace("DATA", str(folder / "bars.npz")))
    return file


def run(config_file, folder, *arguments):
    """Runs the program to its end, in this process."""
    from absl import flags

    from robust_manifold import command_line, experiment

    values = flags.FlagValues()
    command_line.define_flags(values)
    places = (f"--config={config_file}", f"--workdir={folder}")
    argv = ["main.py", *places, *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
        patch.setenv("ROBUST_MANIFOLD_CACHE", "off")
        patch.setattr("sys.argv", argv)
        sys.modules.pop("config_config", None)
        command_line.parse(argv, values)
        return experiment.run(*command_line.arguments(values), command=argv)


@pytest.fixture(scope="module")
def finished(config_file):
    folder = config_file.parent / "run"
    # Stopped after a stage and taken up again, as a killed run is.
    assert run(config_file, folder, "--stages=fit_classifier") == 0
    assert run(config_file, folder) == 0
    return folder


def test_a_run_tells_errors_in_place_of_accuracies(finished):
    files = {path.name for path in finished.glob("*")}
    assert {"errors.csv", "largest.json"} <= files
    assert not files & {"results.csv", "worst_cases.csv", "detection.csv"}
    lines = evaluation.read_errors((finished / "errors.csv").read_text())
    assert set(lines["n"]) == {8}
    assert [*lines["adversary"]].count("worst case") == 3
    text = (finished / "report/table.md").read_text()
    for words in (
        "Mean error of the height, worst case",
        "above 4px",
        "95th percentile",
    ):
        assert words in text
    shown = {path.name for path in (finished / "report/figures").glob("*.png")}
    assert {"errors.png", "told-none.png", "training.png"} <= shown
    metrics = (finished / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in metrics if "validation_error" in line]
    assert {line["stage"] for line in told} == {
        "fit_classifier",
        "fit_classifier-attacked",
    }


def test_the_worst_case_of_a_linear_network_is_its_closed_form(finished, config_file):
    lines = evaluation.read_errors((finished / "errors.csv").read_text())
    params = load_params(finished / "checkpoints/classifier/params")["params"][
        "Dense_0"
    ]
    weights, bias = (
        np.asarray(params[name], np.float64) for name in ("kernel", "bias")
    )
    (clean,) = sorted((finished / "outcomes/none/clean").glob("round-000.npz"))
    with np.load(clean) as stored:
        ids, targets, told = stored["ids"], stored["labels"], stored["logits"]
    with np.load(config_file.parent / "bars.npz") as source:
        images = source["images"][ids].reshape(len(ids), -1) / 255
        heights = source["height"][ids]
    np.testing.assert_allclose(targets[:, 0], heights, rtol=1e-6)
    np.testing.assert_allclose(told, images @ weights + bias, rtol=1e-4, atol=1e-4)
    largest = []
    for way in (-1, 1):
        moved = np.clip(images + way * 0.05 * np.sign(weights[:, 0]), 0, 1)
        largest.append(np.abs(moved @ weights + bias - heights[:, None])[:, 0])
    folder = next((finished / "adversarial/none").glob("cascade*"))
    row = folder.relative_to(finished / "adversarial")
    # By column, and then by the target that the images were made against.
    place = finished / "outcomes/none" / row / "in_ball-epsilon=0.05/round-000.npz"
    with np.load(place) as stored:
        found = np.abs(stored["logits"] - stored["labels"])[:, 0]
    # No attack finds more, and this short one all but as much.
    most = np.max(largest, axis=0)
    assert (found <= most * 1.0001).all()
    np.testing.assert_allclose(found, most, rtol=5e-3)
    own = lines[(lines["defence"] == "none") & (lines["adversary"] != "worst case")]
    assert (own["mean"].iloc[1:] >= own["mean"].iloc[0]).all()


def test_a_worst_case_is_no_smaller_than_any_row(finished):
    lines = evaluation.read_errors((finished / "errors.csv").read_text())
    for _, own in lines.groupby(["classifier", "defence"]):
        worst = own[own["adversary"] == "worst case"]
        for measure in ("mean", "tail", "share"):
            assert (worst[measure].max() >= own[measure] - 1e-6).all()


def test_a_second_call_computes_nothing_anew(finished, config_file):
    before = {
        path: path.stat().st_mtime_ns
        for path in finished.rglob("*")
        if path.is_file()
        and path.name in ("errors.csv", "largest.json")
        or path.suffix == ".npz"
    }
    table = (finished / "report/table.md").read_bytes()
    assert run(config_file, finished) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert (finished / "report/table.md").read_bytes() == table


def test_members_that_need_classes_are_left_out(finished):
    lines = json.loads((finished / "largest.json").read_text())
    assert len(lines) == 3
    for line in lines:
        assert sum(line["members"].values()) == line["n"] == 8
        names = " ".join(line["members"])
        assert "aimed" not in names and "boundaries" not in names


def settled(**changes):
    config = default_config()
    config.stages = ("fit_classifier", "attack", "evaluate", "report")
    config.data.target = "rotation"
    config.classifier.training = "squared_error"
    for name, value in changes.items():
        place, _, key = name.rpartition("__")
        block = config[place] if place else config
        block[key] = value
    return config


def test_what_attacks_want_follows_from_the_target():
    assert validate(default_config()).wants is None
    assert not validate(default_config()).regression
    experiment = validate(settled())
    assert experiment.regression and experiment.wants == Farthest()
    wanted = validate(settled(evaluation__criterion="deviates(tolerance=10.0)")).wants
    assert wanted == Deviates(10.0)


REFUSED = [
    ({"classifier__training": "cross_entropy"}, "training is 'cross_entropy'; allowed"),
    ({"data__target": ""}, "training is 'squared_error'; allowed where .* is empty"),
    ({"data__target": "turns"}, "Unknown target 'turns'"),
    ({"data__flip": True}, "flip is True; allowed: False beside target"),
    ({"data__class_names": ("a", "b")}, r"allowed: \(\) beside target"),
    ({"stages": ("fit_classifier", "measure")}, "'measure', which needs classes"),
    ({"stages": ("fit_classifier", "audit")}, "'audit', which needs classes"),
    (
        {"evaluation__defences": ("rejecting(defence=invert_and_classify)",)},
        "rejecting.* which needs classes",
    ),
    ({"evaluation__adversaries": ("latent",)}, "'latent', which needs classes"),
    ({"evaluation__adversaries": ("substitute",)}, "'substitute', which needs"),
    ({"evaluation__attacks": ("deepfool",)}, "DeepFool, which needs logits of classes"),
    ({"evaluation__attacks": ("pgd(epsilon=0.1, loss='ce')",)}, "PGD.loss is 'ce'"),
    ({"evaluation__smoothing": ("smoothing(sigma=0.5)",)}, "evaluation.smoothing has"),
    ({"evaluation__exchange": True}, "evaluation.exchange has True"),
    ({"overpowered__pairs": 3}, "overpowered.pairs has 3, which needs classes"),
    ({"evaluation__criterion": "misclassified"}, "is no criterion on numbers"),
    ({"evaluation__bound": -1.0}, "bound is -1.0; allowed"),
    ({"evaluation__criterion": "deviates(tolerance=1.0)"}, "stops attacks at an error"),
    ({"evaluation__criterion": "farthest(period=360.0)"}, "criterion has a period"),
    (
        {
            "evaluation__unions": ("union(linf=0.1, l2=1.0)",),
            "evaluation__worst_case": "cascade(linf=(0.1,), l2=(1.0,))",
        },
        "evaluation.unions has",
    ),
    ({"evaluation__worst_case": "cascade(l0=(3,))"}, "a ball of l0, which needs"),
    ({"evaluation__defences": ("voting(defence=bit_depth)",)}, "voting.* which needs"),
    ({"evaluation__attacks": ("fmn(norm='l2')",)}, "looks for a first success"),
    (
        {"evaluation__attacks": ("auto_attack(epsilon=0.1)",)},
        "which needs|first success",
    ),
]


@pytest.mark.parametrize("changes, sentence", REFUSED)
def test_what_needs_classes_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(UsageError, match=sentence) as error:
        validate(settled(**changes))
    assert "\n" not in str(error.value)


def test_a_criterion_without_a_target_is_refused():
    config = default_config()
    config.evaluation.criterion = "farthest"
    with pytest.raises(UsageError, match="allowed: empty where config.data.target is"):
        validate(config)


def test_a_named_classifier_has_to_learn_numbers_too():
    config = settled()
    add_classifier(config, "other", training="cross_entropy")
    with pytest.raises(UsageError, match="classifiers.other.training is 'cross_ent"):
        validate(config)
