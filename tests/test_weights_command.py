"""Weights from PyTorch to a run and back; every mistake is one sentence and code 2."""

import re

import jax
import numpy as np
import pytest

from robust_manifold import models, weights
from robust_manifold.runtime import load_params, save_params, weight_files
from tests.conftest import Ended


@pytest.fixture
def command(capsys):
    """Returns the command as a function of its arguments, run in this process."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            code = weights.main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = ending.code
        return Ended(code, *capsys.readouterr())

    return run


def state_dict(text, **build):
    random = np.random.default_rng(0)
    shapes = models.torch_table(text, **build)
    return {
        name: random.standard_normal(shape, np.float32) * np.float32(0.05)
        for name, shape in shapes.items()
    }


def store(run, role, text, params=None, **build):
    """Stores parameters as the end of a training does, and returns them."""
    model = models.build(text, **build)
    params = params or model.init(jax.random.key(0))
    metadata = {
        "model": text,
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "data": "mnist_5k",
    }
    save_params(run / "checkpoints" / role / "params", params, metadata)
    return params


def test_from_pytorch_to_a_run_and_back(command, program, project):
    state = state_dict("linear", classes=3)
    weight_files.write(project / "state.npz", state)
    ours, back = project / "ours.safetensors", project / "back.npz"
    ended = command(
        "import",
        f"--from_torch={project / 'state.npz'}",
        "--model=linear",
        "--classes=3",
        f"--output={ours}",
    )
    assert ended.code == 0, ended.error
    assert "params/Dense_0/kernel  float32  (784, 3)" in ended.out

    run = project / "run"
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={run}",
        f"--config.classifier.weights={ours}",
        "--stages=fit_classifier",
    )
    assert ended.code == 0, ended.error
    stored = load_params(run / "checkpoints/classifier/params")
    np.testing.assert_array_equal(
        stored["params"]["Dense_0"]["kernel"], state["1.weight"].reshape(3, -1).T
    )

    ended = command(
        "export", f"--run={run}", "--model=classifier", f"--output={back}", "--to_torch"
    )
    assert ended.code == 0, ended.error
    table, metadata = weight_files.read(back)
    assert table.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(table[name], array)
    assert metadata["layout"] == "torch"


ROLES = {
    "classifier": ("small_cnn(width=2, hidden=3)", (28, 28, 1), 4),
    "generator": ("dcgan_generator(latent_size=4, width=2)", (24, 24, 3), 0),
    "discriminator": ("dcgan_discriminator(width=2)", (28, 28, 11), 0),
    "encoder": ("vae_encoder(latent_size=3, hidden=5)", (8, 8, 1), 0),
    "vae_encoder": ("vae_encoder(latent_size=3, hidden=5)", (8, 8, 1), 0),
    "classifier-robust": ("linear", (8, 8, 1), 3),
}


@pytest.mark.parametrize("extension", ["npz", "safetensors"])
@pytest.mark.parametrize("role", ROLES)
def test_export_of_every_role(role, extension, command, tmp_path):
    text, image_shape, classes = ROLES[role]
    params = store(tmp_path, role, text, image_shape=image_shape, classes=classes or 10)
    file = tmp_path / f"weights.{extension}"
    ended = command(
        "export", f"--run={tmp_path}", f"--model={role}", f"--output={file}"
    )
    assert ended.code == 0, ended.error
    table, metadata = weight_files.read(file)
    assert metadata == {
        "model": text,
        "image_shape": list(image_shape),
        "classes": classes,
        "data": "mnist_5k",
    }
    model = models.build(text, image_shape=image_shape, classes=classes or 10)
    back = models.from_table(model, table)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    shown = command("show", file)
    assert shown.code == 0 and shown.out == ended.out


def test_export_of_a_conditional_generator(command, tmp_path):
    text = "dcgan_generator(latent_size=4, width=2, conditional=True)"
    store(tmp_path, "generator", text, classes=3)
    file = tmp_path / "weights.npz"
    ended = command(
        "export", f"--run={tmp_path}", "--model=generator", f"--output={file}"
    )
    assert ended.code == 0, ended.error
    assert weight_files.read(file).metadata["classes"] == 3


def test_names_are_shown_in_their_order(command, tmp_path):
    table = {f"{n}.weight": np.zeros((n, 1), np.float32) for n in (10, 2, 1)}
    weight_files.write(tmp_path / "a.safetensors", table)
    lines = command("show", tmp_path / "a.safetensors").out.splitlines()
    assert lines == [
        "1.weight   float32  (1, 1)",
        "2.weight   float32  (2, 1)",
        "10.weight  float32  (10, 1)",
        "3 arrays, 13 numbers",
    ]


def test_the_pytorch_network_is_shown(command):
    ended = command("torch", "--model=linear", "--image_shape=4,4,2", "--classes=3")
    assert ended.code == 0
    assert re.search(
        r"Sequential\(\n +Flatten\(\), +# 0\n +Linear\(32, 3\),", ended.out
    )
    assert re.search(r"1\.weight +\(3, 32\)\n1\.bias +\(3,\)\n$", ended.out)


IMPORT = ("import", "--from_torch={}/state.npz", "--output={}/new.npz")
EXPORT = ("export", "--run={}/run", "--output={}/new.npz")

MISTAKES = {
    # arguments, where {} is the folder, and what the sentence has to say
    "no command": ((), "COMMAND"),
    "unknown command": (("exprot",), "exprot.*'export'"),
    "unknown flag": ((*IMPORT, "--model=linear", "--classez=3"), "classez"),
    "no model": (IMPORT, "required: --model"),
    "unknown model": ((*IMPORT, "--model=wong_cn"), "'wong_cn'.*'wong_cnn'"),
    "unknown field": ((*IMPORT, "--model=small_cnn(widht=3)"), "widht.*width"),
    "another network": (
        (*IMPORT, "--model=wong_cnn"),
        r"state\.npz: .*'wong_cnn'; missing: 0\.weight .*7\.bias .*unexpected: 1\.",
    ),
    "another number of classes": (
        (*IMPORT, "--model=linear", "--classes=4"),
        r"1\.weight \(3, 784\) instead of \(4, 784\), 1\.bias \(3,\) instead of",
    ),
    "no sequence": ((*IMPORT, "--model=residual_cnn"), "residual_cnn.*no plain seq"),
    "one class": ((*IMPORT, "--model=linear", "--classes=1"), "classes is 1"),
    "classes in words": ((*IMPORT, "--model=linear", "--classes=ten"), "classes.*ten"),
    "unreadable shape": (
        ("torch", "--model=linear", "--image_shape=28x28"),
        "image_shape is '28x28'; allowed",
    ),
    "impossible shape": (
        ("torch", "--model=linear", "--image_shape=28,0,1"),
        r"image_shape is \(28, 0, 1\)",
    ),
    "no state dict": (
        ("import", "--from_torch={}/no.npz", "--model=linear", "--output={}/new.npz"),
        "no.npz cannot be read",
    ),
    "a PyTorch file": (
        ("import", "--from_torch=a.pth", "--model=linear", "--output={}/new.npz"),
        r"'a\.pth'; allowed.*save_file",
    ),
    "pickled": (("show", "{}/pickled.npz"), "pickled.npz.*pickled objects"),
    "damaged": (("show", "{}/damaged.safetensors"), "damaged.safetensors.*damaged"),
    "another ending": (
        ("import", "--from_torch={}/state.npz", "--model=linear", "--classes=3")
        + ("--output={}/new.txt",),
        r"new\.txt'; allowed.*\.safetensors",
    ),
    "unwritable": (
        ("import", "--from_torch={}/state.npz", "--model=linear", "--classes=3")
        + ("--output={}/state.npz/new.npz",),
        "new.npz cannot be written",
    ),
    "unknown role": ((*EXPORT, "--model=clasifier"), "clasifier.*classifier"),
    "no such role": ((*EXPORT, "--model=encoder"), "no finished encoder.*a classifier"),
    "no such run": (
        ("export", "--run={}/none", "--model=encoder", "--output={}/new.npz"),
        "none', which holds no finished encoder",
    ),
    "a damaged checkpoint": (
        ("export", "--run={}/broken", "--model=classifier", "--output={}/new.npz"),
        "damaged",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a folder with files of weights, whole and otherwise, and two runs."""
    folder = tmp_path_factory.mktemp("weights")
    weight_files.write(folder / "state.npz", state_dict("linear", classes=3))
    np.savez(folder / "pickled.npz", w=np.array([{}], dtype=object))
    (folder / "damaged.safetensors").write_bytes(b"\0" * 20)
    for run in ("run", "broken"):
        store(folder / run, "classifier", "linear", image_shape=(4, 4, 1), classes=3)
    params = folder / "broken/checkpoints/classifier/params"
    [data, *_] = sorted(path for path in params.rglob("d/*") if path.is_file())
    data.write_bytes(data.read_bytes()[::-1])
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name, command, files):
    arguments, pattern = MISTAKES[name]
    before = sorted(files.rglob("*"))
    ended = command(*(argument.format(files) for argument in arguments))
    assert ended.code == 2, ended
    assert ended.error.startswith("robust_manifold: ")
    assert ended.error.count("\n") == 1 and "Traceback" not in ended.error
    assert re.search(r"[.?]\n$", ended.error)
    assert re.search(pattern, ended.error), f"{ended.error!r} lacks {pattern!r}"
    assert sorted(files.rglob("*")) == before
