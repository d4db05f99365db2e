"""`config.pretrained`: networks from published weights, or one sentence why not."""

import importlib.util
import json
import pathlib
import re

import jax
import numpy as np
import pytest

from robust_manifold import config, models, training
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import (
    load_params,
    published,
    read_params_metadata,
    save_params,
    weight_files,
)
from robust_manifold.stages.networks import publishing, trained

GENERATOR = "vae_decoder(latent_size=4, hidden=8)"
ENCODER = "vae_encoder(latent_size=4, hidden=8)"
TRAINING = f"vae(encoder={ENCODER})"
ROLES = {
    "classifier": "tiny_linear",
    "generator": "tiny_vae",
    "encoder": "tiny_encoder",
}
BUILD = {"image_shape": (28, 28, 1), "classes": 3}


def store(run, role, text, **more):
    """Stores a network beside the trained ones of a run, and returns its digest."""
    model = models.build(text, **BUILD)
    params = model.init(jax.random.key(len(role)))
    stored = {
        "model": text,
        "training": "inverting" if role == "encoder" else TRAINING,
        "step": 8,
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "data": "digits",
        "trained_on": json.loads((run / "data.json").read_text())["train"]["sha256"],
    }
    save_params(run / "checkpoints" / role / "params", params, stored | more)
    return trained.digest(text, params)


@pytest.fixture
def command(project, monkeypatch):
    """Returns the arguments of a run of three networks, each with a name published."""
    place = project / published.FOLDER
    monkeypatch.setattr(published, "PLACES", (place,))
    names = [f"--config.{role}.published={name}" for role, name in ROLES.items()]
    stages = ("fit_classifier", "fit_generator", "fit_encoder")
    return [
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        f"--config.stages={stages}",
        f"--config.generator.model={GENERATOR}",
        f"--config.generator.training={TRAINING}",
        f"--config.encoder.model={ENCODER}",
        *names,
    ]


@pytest.fixture
def folder(program, command, project):
    """Returns the folder with the three networks published, from a run of the data."""
    run = project / "source"
    ended = program(
        command[0],
        f"--workdir={run}",
        "--config.stages=('fit_classifier',)",
        *command[3:],
    )
    assert ended.code == 0, ended.error
    digest = store(run, "generator", GENERATOR)
    store(run, "encoder", ENCODER, **{trained.GENERATOR: digest})
    for role, name in ROLES.items():
        publishing.publish(str(run), role, name, str(project / published.FOLDER))
    return project / published.FOLDER


def test_a_run_trains_nothing(program, command, project, folder):
    ended = program(*command, "--config.pretrained=True")
    assert ended.code == 0, ended.error
    for role in ROLES:
        ours = load_params(project / f"run/checkpoints/{role}/params")
        theirs = load_params(project / f"source/checkpoints/{role}/params")
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        stored = read_params_metadata(project / f"run/checkpoints/{role}/params")
        assert stored.metadata["published"] == ROLES[role]
        assert stored.metadata["step"] in (8, 12)
    assert not (project / "run/metrics.jsonl").read_text()
    stored = read_params_metadata(project / "run/checkpoints/generator/params")
    # The table's caption says how it was trained.
    assert stored.metadata["training"] == TRAINING


def refused(ended, project, pattern):
    assert ended.code == 2, ended
    assert ended.error.count("robust_manifold:") == 1 and "Traceback" not in ended.error
    assert re.search(pattern, ended.error), ended.error
    assert not list((project / "run").glob("checkpoints/*"))


REFUSED = {
    # key, value, what the sentence has to say
    "another architecture": (
        "classifier.model",
        "small_cnn",
        r"config\.classifier\.published: 'tiny_linear' is a 'linear', and "
        r"config\.classifier\.model is 'small_cnn'; they have to be equal",
    ),
    "a wider network": (
        "encoder.model",
        "vae_encoder(latent_size=4, hidden=9)",
        r"config\.encoder\.published: 'tiny_encoder' is a 'vae_encoder\(latent_size=4, "
        r"hidden=8\)', and config\.encoder\.model is .*hidden=9\)'; they have to be",
    ),
    "a generator for a classifier": (
        "classifier.published",
        "tiny_vae",
        r"config\.classifier\.published: 'tiny_vae' is a 'vae_decoder.*is 'linear'",
    ),
    "another training": (
        "generator.training",
        "gan",
        r"config\.generator\.published: 'tiny_vae' was trained by 'vae\(encoder=vae_enc"
        r".*', and config\.generator\.training is 'gan'; they have to be equal",
    ),
    "an unknown name": (
        "generator.published",
        "tiny_gae",
        r"config\.generator\.published: Unknown published weights 'tiny_gae'; known: "
        r"tiny_encoder, tiny_linear, tiny_vae\. Did you mean 'tiny_vae'",
    ),
    "no name": (
        "generator.published",
        "",
        r"config\.pretrained is True, and no weights are published for "
        r"config\.generator; allowed: False",
    ),
    "other images": (
        "data.split_seed",
        "1",
        r"'tiny_linear' was trained on other images of 'npz:.*; allowed: the "
        r"config\.data of its model card",
    ),
    "no truth": ("pretrained", "perhaps", "pretrained.*perhaps"),
}


def test_what_does_not_fit_is_refused_before_any_work(
    program, command, project, folder
):
    for key, value, pattern in REFUSED.values():
        change = f"--config.{key}={value}"
        refused(program(*command, "--config.pretrained=True", change), project, pattern)

    file = folder / "tiny_encoder.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    damaged = program(*command, "--config.pretrained=True")
    refused(damaged, project, r"config\.encoder\.published: .*encoder.* is damaged")

    # Of another generator.
    other = "0" * 64
    store(project / "source", "encoder", ENCODER, **{trained.GENERATOR: other})
    publishing.publish(str(project / "source"), "encoder", "tiny_encoder", str(folder))
    strange = program(*command, "--config.pretrained=True")
    pattern = r"published: the encoder in 'tiny_encoder' was made for another generator"
    refused(strange, project, pattern)


def test_an_encoder_for_a_file_of_another_generator_is_refused_before_any_work(
    program, command, project, folder
):
    model = models.build(GENERATOR, **BUILD)
    mine = project / "mine.npz"
    weight_files.write(mine, models.to_table(model.init(jax.random.key(1))))
    pretrained = "--config.pretrained=True"
    ended = program(*command, pretrained, f"--config.generator.weights={mine}")
    pattern = r"published: the encoder in 'tiny_encoder' was made for another generator"
    refused(ended, project, pattern)


def test_a_run_and_one_of_published_weights_are_two(program, command, project, folder):
    short = [*command[:2], "--config.stages=('fit_classifier',)", *command[3:]]
    assert program(*short).code == 0
    again = program(*short, "--config.pretrained=True")
    assert again.code == 2 and again.error.count("robust_manifold:") == 1
    assert "pretrained is true, stored false" in again.error
    # Its networks can be taken over beside published ones, and are.
    other = [*command[:1], f"--workdir={project / 'other'}", *command[2:]]
    own = f"--config.classifier.from_run={project / 'run'}"
    ended = program(*other, "--config.pretrained=True", own)
    assert ended.code == 0, ended.error
    stored = read_params_metadata(project / "other/checkpoints/classifier/params")
    assert stored.metadata["from_run"] == str(project / "run")
    assert "published" not in stored.metadata


def test_what_a_file_was_trained_on_stays_unknown_from_run_to_run(
    program, command, project, folder
):
    def taken(run, origin):
        ended = program(
            command[0],
            f"--workdir={project / run}",
            "--config.stages=('fit_classifier',)",
            f"--config.classifier.{origin}",
        )
        assert ended.code == 0, ended.error
        return ended.error

    taken("a", f"weights={folder / 'tiny_linear.safetensors'}")
    for run, other in (("b", "a"), ("c", "b")):
        told = taken(run, f"from_run={project / other}")
        assert "was trained on is not known; it came from a file" in " ".join(
            told.split()
        )


def test_names_of_published_weights_are_of_no_effect_by_themselves(
    program, command, project
):
    short = [*command[:2], "--config.stages=('fit_classifier',)", *command[3:-3]]
    assert program(*short).code == 0
    # A run of before there were such names goes on.
    again = program(*short, *command[-3:])
    assert again.code == 0 and "finished before" in again.error
    stored = json.loads((project / "run/config.json").read_text())
    assert [stored[role]["published"] for role in ROLES] == ["", "", ""]


def named(**changes):
    """Returns a config whose networks have published weights, but for `changes`."""
    made = config.default_config()
    made.pretrained = True
    for role in ROLES:
        made[role].published = changes.get(role, role)
    return made


def test_another_origin_of_the_user_s_own_comes_first():
    made = named(encoder="")
    made.encoder.from_run = "runs/mine"
    made.generator.weights = "mine.npz"
    experiment = config.validate(made)
    assert experiment.classifier.taken_from == "classifier"
    assert experiment.generator.taken_from == "mine.npz"
    assert experiment.encoder.taken_from == "runs/mine"
    assert not experiment.generator.published
    made.classifier.from_run = made.encoder.from_run
    assert config.validate(made).classifier.taken_from == "runs/mine"


def test_a_classifier_that_starts_from_another_is_trained():
    made = named()
    config.add_classifier(made, "enhanced", start="classifier")
    config.add_classifier(made, "ready", start="classifier", published="ready")
    config.add_classifier(made, "mine", start="classifier", from_run="runs/mine")
    experiment = config.validate(made)
    assert not experiment.classifiers["enhanced"].taken_over
    assert experiment.classifiers["ready"].taken_from == "ready"
    assert experiment.starts_of("ready") == ("classifier",)
    assert experiment.starts_of("mine") == ("classifier",)
    assert experiment.trained_for("ready") == experiment.trained_for("mine") == ()
    assert experiment.trained_for("enhanced") == ("classifier",)
    config.add_classifier(made, "anew")
    with pytest.raises(UsageError, match=r"published for config\.classifiers\.anew;"):
        config.validate(made)


def test_what_a_published_classifier_once_started_from_needs_no_weights():
    made = named()
    config.add_classifier(made, "begun")
    config.add_classifier(made, "ended", start="begun", published="ended")
    made.evaluation.defences = ("none on ended",)
    assert config.validate(made).classifiers["ended"].taken_from == "ended"
    config.add_classifier(made, "mine", start="begun", from_run="runs/mine")
    assert config.validate(made).classifiers["mine"].taken_over
    made.evaluation.defences = ("none on ended", "none on begun")
    with pytest.raises(UsageError, match=r"published for config\.classifiers\.begun;"):
        config.validate(made)


def test_an_experiment_without_published_weights_says_so():
    made = config.default_config()
    made.pretrained = True
    with pytest.raises(UsageError, match=r"published for config\.classifier; allowed"):
        config.validate(made)
    made.stages = ("convergence",)
    with pytest.raises(UsageError, match="published for this experiment; allowed"):
        config.validate(made)


def test_a_stage_that_is_left_out_needs_no_weights():
    made = named(generator="", encoder="")
    made.stages = ("fit_classifier", "report")
    assert config.validate(made).classifier.taken_over


def test_a_budget_follows_pretrained_until_it_is_set():
    made = config.default_config()
    made.measures.examples = config.where_pretrained(made, 10, otherwise=500)
    made.stages = config.where_pretrained(made, ("report",), otherwise=made.stages)
    assert made.measures.examples == 500 and len(made.stages) > 1
    made.pretrained = True
    assert config.plain_values(made)["measures"]["examples"] == 10
    assert made.stages == ("report",)
    made.measures.examples = 20
    assert made.measures.examples == 20
    made.pretrained = False
    assert made.measures.examples == 20 and len(made.stages) > 1


BUDGET = """
from robust_manifold.config import default_config, where_pretrained


def get_config():
    config = default_config()
    config.classifier.published = "tiny_linear"
    config.stages = where_pretrained(config, ("report",), otherwise=("fit_classifier",))
    config.evaluation.examples = where_pretrained(config, 5, otherwise=9)
    return config
"""


@pytest.mark.parametrize(
    ("more", "examples", "work"),
    [
        ((), 9, "runs/budget"),
        (("--config.pretrained=True",), 5, "runs/budget-pretrained"),
        (("--config.pretrained", "--config.evaluation.examples=7"), 7, None),
        (("--config.evaluation.examples=7", "--config.pretrained=True"), 7, None),
    ],
)
def test_a_budget_on_the_command_line(more, examples, work, tmp_path, monkeypatch):
    from absl import flags

    from robust_manifold import command_line

    (tmp_path / "budget.py").write_text(BUDGET)
    values = flags.FlagValues()
    command_line.define_flags(values)
    argv = ["main.py", f"--config={tmp_path / 'budget.py'}", *more]
    monkeypatch.setattr("sys.argv", argv)
    command_line.parse(argv, values)
    parsed = command_line.arguments(values)
    assert parsed.experiment.evaluation.examples == examples
    assert parsed.config["evaluation"]["examples"] == examples
    assert work is None or str(parsed.workdir) == work


EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
NAMING = (
    "mnist",
    "mnist_adaptive",
    "mnist_certified",
    "mnist_enhanced",
    "mnist_rivals:diffusion",
)
"""The experiments that can do without training."""


def config_of(name):
    """Returns the config of an experiment of the repository, "NAME" or "NAME:FORM"."""
    name, _, form = name.partition(":")
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*filter(None, [form]))


def pretrained_blocks(name):
    """Returns an experiment without training, and its networks' blocks by roles."""
    made = config_of(name)
    made.pretrained = True
    experiment = config.validate(made)
    blocks = {role: getattr(experiment, role) for role in ROLES}
    named = {f"classifier-{k}": v for k, v in experiment.classifiers.items()}
    further = {f"network-{k}": v for k, v in experiment.networks.items()}
    return experiment, blocks | named | further


REGISTRIES = {
    "generator": training.generator_trainings,
    "encoder": training.encoder_trainings,
    "network-denoiser": training.network_trainings,
}


@pytest.mark.parametrize("name", NAMING)
def test_an_experiment_names_published_weights_that_fit_it(name):
    experiment, blocks = pretrained_blocks(name)
    digests = {}
    for role, block in blocks.items():
        if not block.published:
            # What published ones started from, or what is trained on from such.
            assert block.start or role == "classifier-begun", role
            continue
        table, metadata = published.read(block.published)
        known = REGISTRIES.get(role, training.classifier_trainings)
        assert metadata["training"] == known.to_string(block.training)
        assert metadata["data"] == experiment.data.source
        text = metadata["model"]
        # The encoder's may be left to the generator.
        if block.model is not None:
            assert text == models.registry.to_string(block.model)
        build = {key: metadata[key] for key in ("image_shape", "classes")}
        params = models.from_table(models.build(text, **build), table)
        digests[role] = trained.digest(text, params)
        card = published.PLACES[0] / f"{block.published}.md"
        split = f"with validation_examples={experiment.data.validation_examples}:"
        assert split in card.read_text()
    assert digests.keys() >= ROLES.keys()
    made_for = published.read(blocks["encoder"].published).metadata[trained.GENERATOR]
    assert made_for == digests["generator"]


def test_all_that_is_published_is_taken_by_an_experiment():
    sums = published.checksums(published.PLACES[0])
    names = {file for file in sums if file.endswith(published.EXTENSION)}
    taken = (pretrained_blocks(name)[1].values() for name in NAMING)
    assert names == {
        f"{block.published}{published.EXTENSION}"
        for blocks in taken
        for block in blocks
        if block.published
    }


def test_the_slides_table_without_training_has_the_slides_rows():
    trained_anew = config.validate(config_of("mnist"))
    experiment, _ = pretrained_blocks("mnist")
    assert experiment.evaluation.attacks == trained_anew.evaluation.attacks
    assert experiment.evaluation.columns == trained_anew.evaluation.columns
    # As many images as minutes allow.
    assert experiment.evaluation.examples < trained_anew.evaluation.examples
    assert {"attack", "evaluate", "report"} <= set(experiment.stages)
