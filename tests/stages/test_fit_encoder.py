"""The stage `fit_encoder`: what it stores, goes on from, and refuses."""

import json
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import config, data, models, weights
from robust_manifold.runtime import (
    GracefulStop,
    MetricsWriter,
    RunFolder,
    load_params,
    read_params_metadata,
)
from robust_manifold.stages import Context
from robust_manifold.stages.fitting import fit_encoder
from robust_manifold.stages.networks import trained
from tests.support import write_digits

BOTH = "--config.stages=('fit_generator','fit_encoder')"
VAE = "--config.generator.training=vae(vae_encoder(latent_size=4, hidden=8))"
PARAMS = "checkpoints/encoder/params"
ENCODED = ",'fit_encoder'"


@pytest.fixture
def command(project):
    """Returns the command of a run that fits a generator and its encoder."""
    return [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}", BOTH]


def context_of(work, changes, source="none.npz"):
    """Returns the context of a run of the default config with some changes."""
    values = config.default_config()
    changes = {"data.source": f"npz:{source}", "data.validation_examples": 20} | changes
    changes |= {"data.test_examples": 20, "encoder.batch_size": 16}
    values.update_from_flattened_dict(changes)
    folder, metrics, stop = (
        mock.create_autospec(kind, instance=True)
        for kind in (RunFolder, MetricsWriter, GracefulStop)
    )
    folder.path, stop.signal = work, None
    return Context(config.validate(values), folder, metrics, stop)


def logged(work):
    """Returns the lines of metrics.jsonl that the stage wrote."""
    lines = map(json.loads, (work / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["stage"] == "fit_encoder"]


def equal(params, others):
    """Returns whether two networks have the same parameters, to the last bit."""
    leaves = zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True)
    return all(np.array_equal(one, other) for one, other in leaves)


def test_a_run_stores_the_best_encoder_and_what_it_is_of(program, command, project):
    work = project / "run"
    ended = program(*command)
    assert ended.code == 0, ended.error
    assert "encoder  vae_encoder(latent_size=4, hidden=8): 6,352 param" in ended.error
    assert "goes on from" not in ended.error
    stored = read_params_metadata(work / PARAMS).metadata
    generator = load_params(work / "checkpoints/generator/params")
    text = "dcgan_generator(latent_size=4, width=2)"
    assert stored[trained.GENERATOR] == trained.digest(text, generator)
    assert stored["training"] == "inverting"
    errors = {
        line["step"]: line[fit_encoder.ERROR]
        for line in logged(work)
        if fit_encoder.ERROR in line
    }
    assert list(errors) == [4, 8]
    assert stored["step"] == min(errors, key=lambda step: errors[step])


def test_the_validation_error_is_that_of_the_guesses(program, command, project):
    work = project / "run"
    assert program(*command).code == 0
    source = f"npz:{project / 'digits.npz'}"
    part = data.load(source, validation_examples=20, test_examples=20).validation
    images = data.to_float(part.images)
    encoder = models.build("vae_encoder(latent_size=4, hidden=8)")
    generator = models.build("dcgan_generator(latent_size=4, width=2)")
    guesses = encoder.apply(load_params(work / PARAMS), jnp.asarray(images))
    params = load_params(work / "checkpoints/generator/params")
    error = np.mean((generator.apply(params, guesses[:, :4]) - images) ** 2)
    best = min(line.get(fit_encoder.ERROR, np.inf) for line in logged(work))
    np.testing.assert_allclose(error, best, rtol=1e-5)


def test_a_killed_training_goes_on_to_the_same_encoder(
    program, command, project, monkeypatch
):
    assert program(*command).code == 0
    whole = load_params(project / "run" / PARAMS)
    command[1] = f"--workdir={project / 'again'}"
    validate, seen = fit_encoder._validate, []

    def killed(context, generator, encoder):
        seen.append(encoder)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return validate(context, generator, encoder)

    monkeypatch.setattr(fit_encoder, "_validate", killed)
    with pytest.raises(KeyboardInterrupt):
        program(*command)
    assert not (project / "again" / PARAMS).exists()
    assert program(*command).code == 0
    # One at step 4, one cut short at step 8, and only that one again.
    assert len(seen) == 3
    assert equal(load_params(project / "again" / PARAMS), whole)


def test_a_vae_s_encoder_is_where_the_training_begins(program, command, project):
    work = project / "run"
    command += [VAE, "--config.encoder.model=auto"]
    command += ["--config.encoder.training=inverting(optimizer=momentum(1e-12))"]
    ended = program(*command)
    assert ended.code == 0, ended.error
    assert "goes on from the vae_encoder of this run" in ended.error
    partner = load_params(work / "checkpoints/vae_encoder/params")
    leaves = zip(
        jax.tree.leaves(load_params(work / PARAMS)),
        jax.tree.leaves(partner),
        strict=True,
    )
    for one, other in leaves:
        np.testing.assert_allclose(one, other, atol=1e-6)
    stored = read_params_metadata(work / PARAMS).metadata
    assert stored["model"] == "vae_encoder(latent_size=4, hidden=8)"
    # One of another model begins afresh.
    for hidden, kept in ((8, True), (9, False)):
        context = context_of(
            work,
            {
                "generator.training": VAE.split("=", 1)[1],
                "encoder.model": f"vae_encoder(latent_size=4, hidden={hidden})",
            },
        )
        assert (fit_encoder._of_partner(context) is not None) == kept


AUTO = {
    "conv_encoder(latent_size=7, width=32)": ("gan", (28, 28, 1)),
    "vae_encoder(latent_size=7)": ("gan", (10, 9, 1)),
    "vae_encoder(latent_size=7, hidden=3)": (
        "vae(encoder=vae_encoder(latent_size=7, hidden=3))",
        (28, 28, 1),
    ),
}


@pytest.mark.parametrize("expected", AUTO)
@pytest.mark.parametrize("conditional", [False, True])
def test_auto_fits_the_generator(expected, conditional, tmp_path):
    training, shape = AUTO[expected]
    changes = {
        "generator.model": f"vae_decoder(latent_size=7, conditional={conditional})",
        "generator.training": training,
        "encoder.model": "auto",
    }
    write_digits(tmp_path / "digits.npz", images=np.zeros((120, *shape), np.uint8))
    context = context_of(tmp_path, changes, tmp_path / "digits.npz")
    assert trained.model_text(context, "encoder") == expected
    assert context.networks.encoder_setting.partner.output_shape == (14,)
    assert context.networks.spanner.encode is context.networks.encoder.apply


@pytest.fixture
def source(program, command, project):
    """Returns the workdir of a finished run, whose encoder others may take."""
    assert program(*command).code == 0
    command[1] = f"--workdir={project / 'other'}"
    return project / "run"


def test_an_encoder_is_taken_over_with_its_generator(program, command, project, source):
    ended = program(
        *command,
        f"--config.generator.from_run={source}",
        f"--config.encoder.from_run={source}",
    )
    assert ended.code == 0, ended.error
    taken = project / "other" / PARAMS
    assert equal(load_params(taken), load_params(source / PARAMS))
    stored = read_params_metadata(taken).metadata
    assert stored["from_run"] == str(source) and stored["training"] == "inverting"


@pytest.mark.parametrize("taken", ["from_run", "weights"])
def test_an_encoder_of_another_generator_is_refused(
    taken, program, command, project, source
):
    place = source
    if taken == "weights":
        place = project / "encoder.npz"
        arguments = ["export", f"--run={source}", "--model=encoder"]
        assert weights.main([*arguments, f"--output={place}"]) == 0
    ended = program(*command, "--config.seed=1", f"--config.encoder.{taken}={place}")
    assert ended.code == 2
    assert ended.error.count("robust_manifold:") == 1
    assert f"config.encoder.{taken}: the encoder in" in ended.error
    assert "was made for another generator; allowed: one that" in ended.error
    # With both from elsewhere it is seen before any work.
    other = project / "third"
    command[1] = f"--workdir={other}"
    ended = program(
        *command,
        f"--config.generator.from_run={project / 'other'}",
        f"--config.encoder.{taken}={place}",
    )
    assert ended.code == 2 and "made for another generator" in ended.error
    assert not (other / "checkpoints").exists()


def test_weights_are_read_where_they_fit(program, command, project, source):
    file = project / "encoder.npz"
    arguments = ["export", f"--run={source}", "--model=encoder", f"--output={file}"]
    assert weights.main(arguments) == 0
    ended = program(
        *command,
        f"--config.generator.from_run={source}",
        f"--config.encoder.weights={file}",
    )
    assert ended.code == 0, ended.error
    taken = load_params(project / "other" / PARAMS)
    assert equal(taken, load_params(source / PARAMS))


REFUSED = {
    "another latent": ("model", "vae_encoder(3)", "latents of size 3; allowed: 4"),
    "a batch larger than the data": ("batch_size", "81", "81 images.*80 training"),
    "no duration": ("duration", "0 steps", "config.encoder: .*0 steps"),
    "no such run": ("from_run", "runs/none", "'runs/none'.*no finished encoder"),
    "no such weights": ("weights", "no.npz", r"config.encoder.weights: .*no\.npz"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_any_work(name, program, command, project):
    key, value, pattern = REFUSED[name]
    ended = program(*command, f"--config.encoder.{key}={value}")
    assert ended.code == 2 and ended.error.count("robust_manifold:") == 1
    assert re.search(pattern, ended.error), ended.error
    assert not (project / "run" / "checkpoints").exists()


def test_an_encoder_of_another_width_is_named(program, command, source):
    model = "--config.encoder.model=vae_encoder(latent_size=4, hidden=9)"
    ended = program(*command, model, f"--config.encoder.from_run={source}")
    assert ended.code == 2
    assert "which does not fit config.encoder.model at 'params/Dense_0" in ended.error


def test_stages_that_use_it_want_it_made_first(program, command, source):
    # In a new folder, where only the generator is made.
    every = "('fit_classifier','fit_generator','fit_encoder','measure')"
    command[2] = f"--config.stages={every}"
    ended = program(*command, "--stages=fit_classifier,fit_generator,measure")
    assert ended.code == 2 and "Traceback" not in ended.error
    assert "holds no finished encoder; run the stage fit_encoder first" in ended.error


def test_inversions_with_and_without_an_encoder_are_not_mixed(program, command):
    stages = "'fit_classifier','fit_generator'{},'measure'"
    without = f"--config.stages=({stages.format('')})"
    together = f"--config.stages=({stages.format(ENCODED)})"
    assert program(*command[:2], without).code == 0
    refused = program(*command[:2], together)
    assert refused.code == 2
    assert "holds inversions without an encoder" in refused.error
    assert program(*command[:2], without).code == 0
