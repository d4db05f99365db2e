"""Networks of `config.networks` that the run trains: used, taken over, published."""

import json
import re

import jax
import numpy as np
import pytest

from robust_manifold import config, weights
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import load_params, published
from robust_manifold.stages import RUNS
from tests.stages.test_adversaries_stage import read

MODEL = "denoiser(width=2, bottleneck=2)"
TRAINING = "denoising(most=1.0)"
DEFENCE = "diffusion(level=0.3, steps=2)"
STAGES = "('fit_classifier','fit_networks','attack','evaluate')"
FOLDER = "checkpoints/network-denoiser/params"


@pytest.fixture
def command(project):
    """Returns the arguments of a run of a diffusion purifier, but for its folder."""
    text = (project / "tiny.py").read_text()
    added = f"""
    from robust_manifold.config import add_network
    config.stages = {STAGES}
    config.evaluation.defences = ("{DEFENCE}",)
    config.evaluation.adversaries = ("unrolled",)
    add_network(config, "denoiser", model="{MODEL}", training="{TRAINING}",
                duration="8 steps", batch_size=8, published="tiny_denoiser")
    return config
"""
    (project / "user.py").write_text(text.replace("\n    return config\n", added))
    return [f"--config={project / 'user.py'}"]


FITTING = "--config.stages=('fit_classifier','fit_networks')"


def fit_lines(run):
    """The lines of metrics that the network's training wrote."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["stage"] == "fit_network-denoiser"]


def test_a_run_trains_its_network_and_attacks_behind_it(program, command, project):
    work = project / "run"
    ended = program(*command, f"--workdir={work}")
    assert ended.code == 0, ended.error
    own = fit_lines(work)
    assert own[-1]["step"] == 8
    assert {"loss", "error", "validation_loss"} <= {key for line in own for key in line}
    assert not (work / "networks.json").exists()
    (place,) = {path.parent for path in work.glob("outcomes/*/*/unrolled/*/*.npz")}
    outcomes = read(work, place)
    row = "/".join(place.parts[-3:])
    crafted = read(work, f"adversarial/{row}")
    assert np.abs(outcomes["purified"] - crafted["images"]).max() > 0.1
    # What was attacked and what is evaluated are one function, of fixed keys.
    wrong = np.argmax(outcomes["logits"], axis=-1) != outcomes["labels"]
    np.testing.assert_array_equal(crafted["success"], wrong)


def test_it_is_published_taken_over_and_read_back(
    program, command, project, monkeypatch
):
    place, source = project / published.FOLDER, project / "trained"
    monkeypatch.setattr(published, "PLACES", (place,))
    ended = program(*command, f"--workdir={source}", FITTING)
    assert ended.code == 0, ended.error
    for role, name in (
        ("network-denoiser", "tiny_denoiser"),
        ("classifier", "tiny_linear"),
    ):
        publish = ["publish", f"--run={source}", f"--model={role}", f"--name={name}"]
        assert weights.main([*publish, f"--folder={place}"]) == 0
    card = (place / "tiny_denoiser.md").read_text()
    for fact in (
        f"The network-denoiser `{MODEL}`",
        "input 28x28x2, output 28x28x1",
        f"| training | `{TRAINING}` |",
        "| duration | `8 steps` |",
        "`--config.networks.denoiser.weights=pretrained/tiny_denoiser.safetensors`",
        "| validation loss |",
    ):
        assert fact in card, fact
    given = ["--config.pretrained=True", "--config.classifier.published=tiny_linear"]
    origins = {
        "run": [f"--config.networks.denoiser.from_run={source}"],
        "published": given,
        "file": [
            f"--config.networks.denoiser.weights={place}/tiny_denoiser.safetensors"
        ],
    }
    for name, origin in origins.items():
        work = project / name
        ended = program(*command, f"--workdir={work}", FITTING, *origin)
        assert ended.code == 0, ended.error
        ours, theirs = (load_params(run / FOLDER) for run in (work, source))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        assert not fit_lines(work)
    # Another training is another network.
    other = "--config.networks.denoiser.training=denoising(most=2.0)"
    ended = program(*command, f"--workdir={project / 'other'}", FITTING, *given, other)
    assert ended.code == 2
    assert "was trained by 'denoising(most=1.0)'" in ended.error


REFUSED = {
    "a model of other shapes": (
        "model=linear",
        r"config\.networks\.denoiser\.model: Denoising has a network from \(28, 28",
    ),
    "images that the model cannot take": (
        "model=denoiser(width=0)",
        r"Denoiser\.width is 0",
    ),
    "too long a batch": (
        "batch_size=1000",
        r"config\.networks\.denoiser\.batch_size asks for 1000 images a step",
    ),
    "a duration that is none": ("duration=long", r"config\.networks\.denoiser"),
    "a role beside a training": ("role=encoder", r"role is 'encoder'; allowed: empty"),
    "a stack": ("weights=a.npz,b.npz", r"weights is .*; allowed: one file"),
    "no such training": ("training=denoise", r"Unknown network training 'denoise'"),
    "no training and no file": ("training=", r"published is .*; allowed: empty"),
    "no such run": ("from_run=nowhere", r"holds no finished network-denoiser"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_told_before_any_work(
    program, command, project, name, monkeypatch
):
    change, told = REFUSED[name]
    fit = []
    monkeypatch.setitem(RUNS, "fit_classifier", lambda context: fit.append(1) or [])
    run = f"--workdir={project / 'run'}"
    ended = program(*command, run, f"--config.networks.denoiser.{change}")
    assert ended.code == 2 and not fit
    assert re.search(told, ended.error), ended.error


def test_without_a_stage_that_trains_it_the_attack_is_refused(
    program, command, project
):
    only = "--config.stages=('fit_classifier','attack','evaluate')"
    ended = program(*command, f"--workdir={project / 'run'}", only)
    assert ended.code == 2
    assert "holds no finished network-denoiser; run the stage fit_networks" in (
        ended.error
    )


def test_a_network_with_a_training_brings_its_stage():
    made = config.default_config()
    before = made.stages
    config.add_network(made, "given", model="denoiser", weights="mine.npz")
    assert made.stages == before and "fit_networks" not in before
    config.add_network(made, "denoiser", model="denoiser", training="denoising")
    place = before.index("measure")
    assert made.stages == (*before[:place], "fit_networks", *before[place:])


def test_pretrained_asks_for_published_weights():
    made = config.default_config()
    made.pretrained = True
    for role in ("classifier", "generator", "encoder"):
        made[role].published = role
    config.add_network(made, "denoiser", model="denoiser", training="denoising")
    with pytest.raises(UsageError, match=r"published for config\.networks\.denoiser;"):
        config.validate(made)
    made.networks.denoiser.published = "mine"
    assert config.validate(made).networks["denoiser"].taken_from == "mine"
    made.networks.denoiser.weights = "mine.npz"
    assert not config.validate(made).networks["denoiser"].published
