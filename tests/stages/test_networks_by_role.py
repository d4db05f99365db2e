"""Networks of `config.networks` in a run: who gets them, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest

from robust_manifold import weights
from robust_manifold.config import DefenceNetwork, add_network, default_config
from robust_manifold.core.errors import UsageError
from robust_manifold.models import registry
from robust_manifold.runtime import load_params, weight_files
from robust_manifold.stages.inputs import by_role, elsewhere
from tests.defenses.registered import register
from tests.stages.test_adversaries_stage import read

SETTINGS = [
    "--config.stages=('fit_classifier','attack','evaluate')",
    "--config.evaluation.adversaries=('oblivious','straight_through')",
]


@pytest.fixture
def user(project, monkeypatch):
    """Returns a function that writes a config with lines of its own; see `register`."""
    register(monkeypatch, "denoisers")
    for name, gain in {"half": 0.5, "whole": 1.0, "double": 2.0}.items():
        table = {"params/gain": np.full(1, gain, np.float32)}
        weight_files.write(project / f"{name}.npz", table, {"model": "gain"})

    def write(*lines, defences=("none", "denoised")):
        added = "".join(
            f"\n    {line}"
            for line in (
                "from robust_manifold.config import add_network",
                f"config.evaluation.defences = {defences!r}",
                *lines,
            )
        )
        text = (project / "tiny.py").read_text()
        text = text.replace("\n    return config", added + "\n    return config")
        (project / "user.py").write_text(text.replace("HERE", str(project)))
        return [f"--config={project / 'user.py'}", f"--workdir={project / 'run'}"]

    return write


def test_a_defence_is_given_its_networks(program, project, user):
    command = user(
        "add_network(config, 'denoiser', model='gain', weights='HERE/whole.npz')",
        "add_network(config, 'denoisers', model='gain',"
        " weights=('HERE/half.npz', 'HERE/whole.npz'))",
        defences=("none", "denoised", "denoised_by_all"),
    )
    command += SETTINGS
    command.append(f"--config.networks.denoiser.weights={project / 'half.npz'}")
    ended = program(*command)
    assert ended.code == 0, ended.error
    work = project / "run"
    for row in ("clean", "none/oblivious/fgsm-epsilon=0.1"):
        half, mean = (
            read(work, f"outcomes/{name}/{row}")["purified"]
            for name in ("denoised", "denoised_by_all")
        )
        # The mean of halves and wholes.
        np.testing.assert_allclose(mean, 1.5 * half, rtol=1e-6)
    images = read(work, "adversarial/none/oblivious/fgsm-epsilon=0.1")["images"]
    np.testing.assert_allclose(half, images / 2, rtol=1e-6)
    for name in ("denoised", "denoised_by_all"):
        place = f"{name}/straight_through/fgsm-epsilon=0.1"
        crafted = read(work, f"adversarial/{place}")
        outcomes = read(work, f"outcomes/{name}/{place}")
        wrong = np.argmax(outcomes["logits"], axis=-1) != outcomes["labels"]
        np.testing.assert_array_equal(crafted["success"], wrong, err_msg=name)

    stored = json.loads((work / by_role.FILE).read_text())
    half, whole = (
        elsewhere.digest("gain", {"params": {"gain": np.full(1, g, np.float32)}})
        for g in (0.5, 1.0)
    )
    assert stored["denoiser"]["sha256"] == [half]
    assert stored["denoisers"]["sha256"] == [half, whole]
    assert stored["denoiser"]["weights"] == str(project / "half.npz")

    # The file is another one by now.
    (project / "half.npz").write_bytes((project / "double.npz").read_bytes())
    ended = program(*command)
    assert ended.code == 2
    assert "config.networks.denoiser has other parameters than" in ended.error


GAIN = "model='gain', weights='HERE/half.npz'"
REFUSED = {
    # lines of the config, and what the sentence has to say
    "a file that is missing": (
        ["add_network(config, 'denoiser', model='gain', weights='HERE/no.npz')"],
        r"config\.networks\.denoiser\.weights: .*no\.npz cannot be read",
    ),
    "other shapes": (
        ["add_network(config, 'denoiser', model='linear', weights='HERE/half.npz')"],
        r"config\.networks\.denoiser\.weights: The weights do not fit the model",
    ),
    "one of a stack": (
        [
            "add_network(config, 'denoiser', model='gain',"
            " weights='HERE/half.npz,HERE/no.npz')"
        ],
        r"config\.networks\.denoiser\.weights: .*no\.npz cannot be read",
    ),
    "images that the model can't take": (
        ["add_network(config, 'denoiser', model='resnet', weights='HERE/half.npz')"],
        r"config\.networks\.denoiser",
    ),
    "no such run": (
        [
            "add_network(config, 'denoiser', model='linear', from_run='HERE/none',"
            " role='classifier')"
        ],
        r"config\.networks\.denoiser\.from_run is '.*none', which holds no finished "
        "classifier",
    ),
    "a role that no defence needs": (
        [
            f"add_network(config, 'denoiser', {GAIN})",
            f"add_network(config, 'purifier', {GAIN})",
        ],
        "config.networks has the role 'purifier', which no defence",
    ),
    "a role that is missing": (
        [],
        "'denoised' needs the network 'denoiser'; allowed: .*roles of config.networks",
    ),
    **{
        f"the name {name}": (
            [f"add_network(config, {name!r}, {GAIN})"],
            f"networks has the name '{name}', which is reserved",
        )
        for name in ("generator", "encoder", "classifier")
    },
    "an impossible name": (
        [f"add_network(config, 'De noiser', {GAIN})"],
        "networks has the name 'De noiser'; allowed: small letters",
    ),
    "a role twice": (
        [f"add_network(config, 'denoiser', {GAIN})"] * 2,
        "networks has 'denoiser' twice",
    ),
    "no model": (
        ["add_network(config, 'denoiser', weights='HERE/half.npz')"],
        r"config\.networks\.denoiser\.model: ",
    ),
    "an unknown model": (
        ["add_network(config, 'denoiser', model='gian', weights='HERE/half.npz')"],
        r"config\.networks\.denoiser\.model: .*'gian'.*'gain'",
    ),
    "no origin": (
        ["add_network(config, 'denoiser', model='gain')"],
        r"config\.networks\.denoiser: DefenceNetwork\.weights is ''; allowed: a file, "
        "or none and a run",
    ),
    "two origins": (
        [f"add_network(config, 'denoiser', {GAIN}, from_run='x', role='y')"],
        r"DefenceNetwork\.weights is .*; allowed: a file, or none and a run",
    ),
    "a run without a role": (
        ["add_network(config, 'denoiser', model='gain', from_run='x')"],
        r"DefenceNetwork\.role is ''; allowed: that of a network in from_run",
    ),
    "an unknown key": (
        ["add_network(config, 'denoiser', wieghts='HERE/half.npz')"],
        "key of networks.denoiser: 'wieghts'.*'weights'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_any_work(name, program, project, user):
    lines, pattern = REFUSED[name]
    ended = program(*user(*lines), *SETTINGS)
    assert ended.code == 2
    (sentence,) = [
        line for line in ended.error.splitlines() if "robust_manifold:" in line
    ]
    pytest.raises(UsageError, _refuse, sentence).match(pattern)
    assert not (project / "run/checkpoints").exists()


def _refuse(sentence):
    raise UsageError(sentence)


def test_keys_on_the_command_line_are_checked(program, user):
    command = user(f"add_network(config, 'denoiser', {GAIN})")
    ended = program(*command, "--config.networks.denoiser.wieghts=x")
    assert ended.code == 2 and "'wieghts'" in ended.error and "weights" in ended.error
    ended = program(*command, "--config.networks.denioser.weights=x")
    assert ended.code == 2 and "config.networks has no 'denioser'" in ended.error


def given(**values):
    """Returns the network that a block with these values names."""
    config: Any = default_config()
    add_network(config, "critic", **values)
    block = DefenceNetwork.build(config.networks.critic.to_dict())
    shape = {"image_shape": (28, 28, 1), "classes": 3}
    return by_role.read("critic", block, **shape, trained_on=TRAINED_ON)


TRAINED_ON = "of the run"


@pytest.mark.parametrize("role", ["discriminator", "classifier", "generator"])
def test_a_network_of_another_run_and_of_its_exported_file(
    role, finished, tmp_path, monkeypatch
):
    """A run's networks do for any role; so do the files that `export` writes."""
    run, file = finished / "run", tmp_path / "exported.safetensors"
    splits = json.loads((run / "data.json").read_text())
    monkeypatch.setitem(globals(), "TRAINED_ON", splits["train"]["sha256"])
    asked = ["export", f"--run={run}", f"--model={role}", f"--output={file}"]
    assert weights.main(asked) == 0
    model = weight_files.read(file).metadata["model"]
    stored = load_params(run / elsewhere.folder(role))
    digest = elsewhere.digest(registry.to_string(registry.build(model)), stored)
    taken = given(model=model, from_run=str(run), role=role)
    exported = given(model=model, weights=str(file))
    pair = given(model=model, weights=(str(file), str(file)))
    assert taken.sha256 == exported.sha256 == [digest] and pair.sha256 == [digest] * 2
    assert taken.network == exported.network and pair.network == (taken.network,) * 2
    assert taken.origin["from_run"] == str(run) and "training" in taken.origin
    assert given(model=model, weights=(str(file),)).network == (taken.network,)


def test_another_runs_network_has_to_fit(finished):
    run = str(finished / "run")
    with pytest.raises(UsageError, match="critic.from_run: .* other images of"):
        given(model="linear", from_run=run, role="classifier")
    with pytest.raises(UsageError, match="the classifier .* has the number of classes"):
        given(model="vae_encoder(latent_size=4)", from_run=run, role="classifier")
