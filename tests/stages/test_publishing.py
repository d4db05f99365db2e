"""A network is published with the facts of the run that trained it."""

import json

import jax
import numpy as np
import pytest

from robust_manifold import models, weights
from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import model_card
from robust_manifold.runtime import (
    published,
    read_params_metadata,
    save_params,
    weight_files,
)
from robust_manifold.stages.networks import publishing, trained

BUILD = {"image_shape": (4, 4, 1), "classes": 3}
KEY = jax.random.key(0)
KEPT = 8
"""The step whose parameters the training kept."""


def store(run, role, text, **metadata):
    """Stores a network as a stage does, and returns its parameters."""
    model = models.build(text, **BUILD)
    params = model.init(jax.random.key(metadata.pop("seed", 0)))
    shapes = {"input_shape": model.input_shape, "output_shape": model.output_shape}
    stored = {"model": text, "data": "npz:/home/me/digits.npz", "trained_on": "ab12"}
    stored |= {name: list(shape) for name, shape in shapes.items()}
    save_params(run / "checkpoints" / role / "params", params, stored | metadata)
    return params


def write_records(run, block, lines):
    """Writes what a run leaves beside its networks."""
    data = {"source": "npz:/home/me/digits.npz", "split_seed": 5, "data_dir": "/home"}
    config = {"seed": 3, "data": data, "measures": {"validation_examples": 7}}
    config |= {role: block for role in ("classifier", "generator", "encoder")}
    status = {
        "command": [
            "/home/me/robust_manifold/main.py",
            "--config=/home/me/experiments/tiny.py",
            f"--workdir={run}",
            "--config.seed=3",
            "--config.generator.from_run=/home/me/runs/gan",
        ],
        "stage_seconds": {"fit_classifier": 12.3},
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "devices": {"kind": "cpu", "devices": 2},
    }
    splits = {
        "train": {"examples": 60, "sha256": "ab12"},
        "validation": {"examples": 20, "sha256": "cd34"},
    }
    for name, value in {"config": config, "status": status, "data": splits}.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))


LINES = [
    {"stage": "fit_classifier", "step": 4, "validation_accuracy": 0.5},
    {"stage": "fit_classifier", "step": KEPT, "validation_accuracy": 0.9},
    {"stage": "fit_generator", "step": KEPT, "validation_error": 0.125},
    {"stage": "fit_encoder", "step": KEPT, "validation_error": 0.25},
    {"stage": "fit_classifier", "step": 12, "validation_accuracy": 0.85},
]


@pytest.fixture
def run(tmp_path):
    """Returns a run that trained a classifier."""
    folder = tmp_path / "trained"
    training = "cross_entropy"
    store(folder, "classifier", "linear", training=training, step=KEPT)
    block = {"training": training, "duration": "12 steps", "batch_size": 5}
    write_records(folder, block, LINES)
    return folder


def publish(run, role, tmp_path, name="mine"):
    """Publishes by the command, and returns the weights and the card."""
    folder = tmp_path / "pretrained"
    arguments = [f"--run={run}", f"--model={role}", f"--name={name}"]
    assert weights.main(["publish", *arguments, f"--folder={folder}"]) == 0
    return folder / f"{name}.safetensors", (folder / f"{name}.md").read_text()


def test_a_card_says_what_the_records_say(run, tmp_path):
    file, card = publish(run, "classifier", tmp_path)
    assert published.checksums(file.parent)[file.name] in card
    assert f"{file.stat().st_size:,} bytes" in card
    for fact in (
        "The classifier `linear`: 51 parameters, input 4x4x1, output 3.",
        "`npz:runs/digits.npz` with split_seed=5: 60 train, 20 validation images.",
        "| training | `cross_entropy` |",
        "| duration | `12 steps` |",
        "| steps | 12, of which the parameters after step 8 were kept |",
        "| seed | 3 |",
        # Wilson's interval of 18 of 20.
        "| accuracy | 90.0 % [69.9, 97.2] | 20 | validation, which chose the step |",
        "python 3.11.7, jax 0.10.2; device: 2 x cpu. Training took 12 s.",
        "python -m robust_manifold.main --config=experiments/tiny.py --config.seed=3 "
        "--config.generator.from_run=runs/gan\n",
    ):
        assert fact in card, fact
    # Nothing of the machine that it was made on.
    assert "/home" not in card and str(tmp_path) not in card


def test_the_weights_are_the_run_s_and_say_what_they_are(run, tmp_path):
    file, _ = publish(run, "classifier", tmp_path)
    table, metadata = weight_files.read(file)
    model = models.build("linear", **BUILD)
    expected = model.init(jax.random.key(0))
    jax.tree.map(
        np.testing.assert_array_equal, models.from_table(model, table), expected
    )
    assert metadata == {
        "role": "classifier",
        "model": "linear",
        "image_shape": [4, 4, 1],
        "classes": 3,
        "data": "npz:/home/me/digits.npz",
        "trained_on": "ab12",
        "training": "cross_entropy",
        "step": KEPT,
    }


def test_a_network_taken_over_has_the_card_of_its_training(run, tmp_path):
    _, expected = publish(run, "classifier", tmp_path)
    between, last = tmp_path / "between", tmp_path / "last"
    store(between, "classifier", "linear", training="x", from_run=str(run))
    store(last, "classifier", "linear", training="x", from_run=str(between))
    write_records(last, {"training": "wrong"}, [])
    assert publish(last, "classifier", tmp_path)[1] == expected
    # A classifier with a name may have been another run's own.
    store(last, "classifier-robust", "linear", training="x", from_run=str(run))
    _, named = publish(last, "classifier-robust", tmp_path)
    assert named.partition("## Data")[2] == expected.partition("## Data")[2]


def test_generator_and_encoder(run, tmp_path):
    text = "vae_decoder(latent_size=2, hidden=3)"
    params = store(run, "generator", text, training="vae", step=KEPT)
    digest = trained.digest(text, params)
    encoder = "vae_encoder(latent_size=2, hidden=3)"
    own = {"training": "inverting", "step": KEPT, trained.GENERATOR: digest}
    store(run, "encoder", encoder, **own)
    _, alone = publish(run, "encoder", tmp_path)
    assert f"the generator with the digest `{digest}`." in alone
    _, card = publish(run, "generator", tmp_path, "decoder")
    # The first 7 of the 20 validation images are inverted.
    assert "squared error per pixel | 0.12500 | 7 | validation |" in card
    file, card = publish(run, "encoder", tmp_path)
    assert "It was made for the generator `decoder`." in card
    assert "| 0.25000 | 20 | validation, which chose the step |" in card
    assert weight_files.read(file).metadata[trained.GENERATOR] == digest


def test_measures_of_test_images_are_in_the_card(run, tmp_path):
    (run / "measures.csv").write_text(
        "n,solver,restarts,clean_accuracy,classifier\n50,adam,2,0.98,linear\n"
    )
    _, card = publish(run, "classifier", tmp_path)
    assert "| accuracy | 98.0 % [89.5, 99.6] | 50 | test |" in card


def test_the_command_of_a_card_is_the_one_that_trains():
    # As absl takes them too, and after the run was opened again for its report.
    command = ["main.py", "--config", "/x/experiments/a.py:b", "--workdir", "/y/c"]
    command += ["--stages", "report", "-stages=report", "-workdir=/y/c"]
    command += ["--config.encoder.from_run", "/y/d", "--noshow"]
    assert model_card.command_text(command) == (
        "python -m robust_manifold.main --config=experiments/a.py:b "
        "--config.encoder.from_run=runs/d --noshow"
    )


def test_time_is_told_only_where_it_is_one_network_s(run, tmp_path):
    store(run, "classifier-robust", "linear", training="trades", step=KEPT)
    config, status = (
        json.loads((run / f"{n}.json").read_text()) for n in ("config", "status")
    )
    status["stage_seconds"]["fit_classifiers"] = 77.0
    (run / "status.json").write_text(json.dumps(status))
    for others, told in (({}, True), ({"fast": {}}, False)):
        config["classifiers"] = {"robust": config["classifier"]} | others
        (run / "config.json").write_text(json.dumps(config))
        _, card = publish(run, "classifier-robust", tmp_path)
        assert ("Training took 77 s." in card) == told
    assert "--config.classifiers.robust.weights=pretrained/mine.safetensors" in card
    # Nothing was logged: what is stored beside the parameters is known all the same.
    assert f"| steps | {KEPT} |" in card


def test_foreign_files_beside_them_are_left_alone(run, tmp_path):
    folder = tmp_path / "pretrained"
    weight_files.write(
        folder / "foreign.safetensors", {"a": np.zeros(3, dtype=np.float32)}
    )
    store(
        run, "encoder", "vae_encoder", training="inverting", **{trained.GENERATOR: "1"}
    )
    _, card = publish(run, "encoder", tmp_path)
    assert "It was made for the generator with the digest `1`." in card
    assert "foreign" not in (folder / published.CHECKSUMS).read_text()


def test_what_is_not_on_record_is_not_published(run, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "pretrained"

    def refused(of, pattern):
        with pytest.raises(UsageError, match=pattern):
            publishing.publish(str(of), "classifier", "mine", str(folder))
        assert not folder.exists()

    other = tmp_path / "other"
    store(other, "classifier", "linear", training="x", weights="a.npz")
    refused(other, "came from a file of weights; allowed: a network that a run")
    store(other, "classifier", "linear", training="x", from_run=str(tmp_path / "gone"))
    refused(other, r"gone', which holds no finished classifier")
    store(other, "classifier", "linear", training="x", from_run=str(run), seed=1)
    refused(other, r"taken over from .*trained', which holds another one by now")
    # Made anew from a run that had taken it from here.
    store(other, "classifier", "linear", training="x", from_run=str(tmp_path / "back"))
    back = tmp_path / "back"
    store(back, "classifier", "linear", training="x", from_run=str(other))
    refused(other, r"other' is on record as its own origin; allowed: a network that a")
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "LARGEST", 100)
        refused(run, r"takes \d,?\d+ bytes; allowed: at most 100 for published")
    (run / "status.json").unlink()
    refused(run, r"status\.json cannot be read")
    store(run, "discriminator", "linear", training="x")
    mistakes = {
        ("classifier", "mine"): "status.json cannot be read",
        ("discriminator", "mine"): "--model is 'discriminator'; allowed: classifier, ",
        ("classifier", "my own"): "--name is 'my own'; allowed: letters",
    }
    for (role, name), sentence in mistakes.items():
        arguments = [f"--run={run}", f"--model={role}", f"--name={name}"]
        assert weights.main(["publish", *arguments, f"--folder={folder}"]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and sentence in told
        assert not folder.exists()


def test_numbers_of_half_precision_take_half_the_bytes_and_stay_the_same(run, tmp_path):
    model = models.build("codebook(per_class=2)", **BUILD)
    rounded = jax.tree.map(
        lambda array: np.asarray(array).astype(np.float16).astype(np.float32),
        model.init(KEY),
    )
    stored = run / "checkpoints/classifier/params"
    metadata = read_params_metadata(stored).metadata | {"training": "certified"}
    metadata["model"] = "codebook(per_class=2)"
    for params, kind in ((rounded, np.float16), (model.init(KEY), np.float32)):
        save_params(stored, params, metadata)
        file, _ = publish(run, "classifier", tmp_path)
        (array,) = weight_files.read(file).table.values()
        assert array.dtype == kind
        read = models.from_table(model, weight_files.read(file).table)
        jax.tree.map(np.testing.assert_array_equal, read, params)
