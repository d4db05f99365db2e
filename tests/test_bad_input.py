"""Every mistake of a user ends in one sentence and exit code 2; nothing is lost."""

import csv
import fcntl
import hashlib
import json
import pathlib
import re
import shutil

import numpy as np
import PIL.Image
import pytest

from robust_manifold import models
from robust_manifold.runtime import load_params, weight_files
from robust_manifold.runtime.run_folder import read_status, sealed
from tests.support import CONFIG, write_digits


def _one_sentence(ended, pattern: str) -> None:
    lines = [line for line in ended.error.splitlines() if "robust_manifold:" in line]
    assert ended.code == 2, ended
    assert len(lines) == 1, ended.error
    assert "Traceback" not in ended.error
    # A sentence, or one that ends with the command to type.
    assert re.search(r"[.?]$|--data_dir=\S+$", ended.error.rstrip())
    assert re.search(pattern, lines[0]), f"{lines[0]!r} lacks {pattern!r}"


OVERRIDES = {
    # key, value, what the sentence has to say
    "unknown key": ("classifer.model", "x", r"classifer\.model.*classifier\.model"),
    "ill-typed integer": ("seed", "many", r"seed.*many"),
    "ill-typed number": ("evaluation.confidence", "high", "confidence.*high"),
    "ill-typed block": ("data", "3", "config.data"),
    "unknown classifier": ("classifier.model", "madry_cn", "madry_cn.*'madry_cnn'"),
    "unknown generator": ("generator.model", "gan", "Unknown model 'gan'"),
    "a generator as classifier": (
        "classifier.model",
        "dcgan_generator",
        "classifier.model.*no classifier",
    ),
    "a classifier as discriminator": (
        "generator.training",
        "gan(discriminator=small_cnn)",
        "generator.training.*discriminator is 'small_cnn'; allowed",
    ),
    "unknown model field": ("classifier.model", "small_cnn(widht=3)", "widht.*width"),
    "impossible width": ("classifier.model", "small_cnn(width=0)", r"width is 0"),
    "impossible latent": (
        "generator.model",
        "dcgan_generator(latent_size=0)",
        "latent_size is 0",
    ),
    "unknown attack": ("evaluation.attacks", "('fgms(epsilon=1)',)", "fgms.*'fgsm'"),
    "unknown attack field": (
        "evaluation.attacks",
        "('fgsm(eps=0.1)',)",
        "eps.*'epsilon'",
    ),
    "attack without budget": ("evaluation.attacks", "('fgsm',)", "lacks.*'epsilon'"),
    "negative budget": (
        "evaluation.attacks",
        "('fgsm(epsilon=-0.1)',)",
        "epsilon is -0.1; allowed",
    ),
    "budget of a text": (
        "evaluation.attacks",
        "('fgsm(epsilon=\"big\")',)",
        "epsilon is 'big'; allowed: a number",
    ),
    "no steps": (
        "evaluation.attacks",
        "('pgd(epsilon=0.1, steps=0)',)",
        "steps is 0",
    ),
    "unknown norm": (
        "evaluation.attacks",
        "('pgd(epsilon=0.1, norm=\"l3\")',)",
        "norm.*l3",
    ),
    "unreadable attack": ("evaluation.attacks", "('fgsm(',)", "cannot be read"),
    "attack of code": (
        "evaluation.attacks",
        "('fgsm(epsilon=open(1))',)",
        r"epsilon is 'open\(1\)'; allowed: a number",
    ),
    "attack twice": (
        "evaluation.attacks",
        "('fgsm(epsilon=0.1)','fgsm(0.1)')",
        "no entry twice",
    ),
    "unknown defence": ("evaluation.defences", "('pray',)", "defence 'pray'"),
    "no defence": ("evaluation.defences", "()", "defences"),
    "zero restarts": (
        "evaluation.defences",
        "('invert_and_classify(restarts=0)',)",
        "restarts is 0; allowed",
    ),
    "unknown solver": (
        "evaluation.defences",
        "('invert_and_classify(solver=\"adma\")',)",
        "adma.*'adam'",
    ),
    "no adversary": ("evaluation.adversaries", "()", "adversaries"),
    "an infinite learning rate": (
        "classifier.training",
        "cross_entropy(adam(1e999))",
        "learning_rate is inf",
    ),
    "a budget too large": (
        "evaluation.attacks",
        f"('fgsm(epsilon=1{'0' * 400})',)",
        "too large",
    ),
    "no test images": ("data.test_examples", "0", "config.data.test_examples"),
    "an adversary that no attack suits": (
        "evaluation.adversaries",
        "('oblivious','decision')",
        "'decision' can make none of the attacks fgsm.*sees scores or labels",
    ),
    "no search for pairs": ("overpowered.searches", "('pgd(0.1)',)", "overpowered"),
    "no such check": ("audit.left_out", "('more stps',)", "'more stps'.*'more steps'"),
    "fewer pairs than none": (
        "overpowered.pairs",
        "-1",
        "OverpoweredBlock.pairs is -1",
    ),
    "unknown adversary": ("evaluation.adversaries", "('blind',)", "'blind'"),
    "an adversary of no samples": (
        "evaluation.adversaries",
        "('unrolled(samples=0)',)",
        r"config\.evaluation\.adversaries: .*samples is 0; allowed",
    ),
    "an adversary twice": (
        "evaluation.adversaries",
        "('implicit','implicit(samples=1)')",
        "no entry twice",
    ),
    "a column of no classifier": (
        "evaluation.defences",
        "('none on robust',)",
        "config.evaluation.defences: Unknown classifier 'robust'",
    ),
    "a column twice": (
        "evaluation.defences",
        "('none','none on classifier')",
        "defences is .*no entry twice",
    ),
    "a share above 1": ("detection.false_positive_rate", "1.5", "rate is 1.5; allowed"),
    "a training before its generator": (
        "classifier.training",
        "enhanced_inc",
        "config.classifier.training needs the generator.*classifiers",
    ),
    "a key of no classifier": (
        "classifiers.robust.duration",
        "1 steps",
        "config.classifiers has no 'robust'",
    ),
    "no key of a classifier": (
        "classifiers.robust.duratoin",
        "1 steps",
        "'duratoin'.*'duration'",
    ),
    "unknown training": ("generator.training", "gam", "'gam'.*'gan'"),
    "a generator's training as a classifier's": ("classifier.training", "gan", "'gan'"),
    "unknown loss": ("generator.training", "gan(loss='wgan')", "'wgan'.*'wgan_gp'"),
    "unknown optimizer": (
        "generator.training",
        "gan(optimizer=adamm(0.1))",
        "adamm.*'adam'",
    ),
    "zero learning rate": (
        "classifier.training",
        "cross_entropy(adam(0.0))",
        "learning_rate is 0",
    ),
    "an encoder of another latent": (
        "generator.training",
        "vae(encoder=vae_encoder(latent_size=3))",
        "latent",
    ),
    "a critic with batch normalisation": (
        "generator.training",
        "gan(discriminator=dcgan_discriminator(batch_norm=True), loss='wgan_gp')",
        "batch normalisation.*allowed",
    ),
    "a discriminator of larger images": (
        "generator.training",
        "gan(discriminator=inc_celeba_discriminator)",
        "inc_celeba_discriminator.*28.*allowed.*64",
    ),
    "a network that no stage makes": (
        "stages",
        "('fit_generator','measure','report')",
        "no finished classifier.*fit_classifier first.*config.stages",
    ),
    "an unknown encoder": ("generator.training", "vae(encoder=vae)", "'vae'"),
    "a generator as encoder": (
        "encoder.model",
        "vae_decoder",
        "encoder.model.*'vae_decoder' is no encoder; allowed: .*vae_encoder",
    ),
    "unknown encoder training": ("encoder.training", "invertin", "'inverting'"),
    "a negative weight of latents": (
        "encoder.training",
        "inverting(latent_weight=-1)",
        "encoder.training.*latent_weight is -1.0; allowed",
    ),
    "zero batch of the encoder": ("encoder.batch_size", "0", "batch_size is 0"),
    "an unknown stage": ("stages", "('fit_generater',)", "'fit_generator'"),
    "no stage": ("stages", "()", "stages"),
    "no such weights": (
        "classifier.weights",
        "no.npz",
        r"classifier\.weights.*no\.npz",
    ),
    "no neighbours": ("measures.neighbours", "0", "neighbours is 0"),
    "fewer samples than neighbours": ("measures.samples", "5", "samples is 5"),
    "zero restarts in measures": ("measures.restarts", "0", "restarts is 0"),
    "a guess without an encoder": (
        "measures.restarts",
        "restarts(count=2, encoded=1)",
        "config.measures.restarts: Restarts.encoded is 1; allowed: 0 or None",
    ),
    "a guess in a defence without an encoder": (
        "evaluation.defences",
        "('invert_and_classify(restarts=restarts(count=2, encoded=1))',)",
        "config.evaluation.defences: Restarts.encoded is 1; allowed: 0 or None",
    ),
    "a guess in an adversary without an encoder": (
        "evaluation.adversaries",
        "('bpda(restarts=restarts(count=2, encoded=1))',)",
        "config.evaluation.adversaries: Restarts.encoded is 1; allowed: 0 or None",
    ),
    "more measured than there is": ("measures.examples", "21", "21.*20 test"),
    "an unknown crop": ("data.crop", "defence_gan", "'defence_gan'.*defense_gan"),
    "too large a crop": ("data.crop", "29", "29"),
    "too few class names": ("data.class_names", "('a','b')", "class_names.*3"),
    "unknown density": ("convergence.density", "norml", "'norml'.*'normal'"),
    "a vae in one dimension": ("convergence.training", "vae", "'vae'.*gan"),
    "one frame": ("convergence.frames", "1", "frames is 1"),
    "unreadable duration": ("classifier.duration", "a while", "'a while'; allowed"),
    "no duration": ("generator.duration", "0 steps", "0 steps"),
    "zero batch": ("classifier.batch_size", "0", "batch_size is 0"),
    "zero discriminator steps": (
        "generator.training",
        "gan(discriminator_steps=0)",
        "is 0",
    ),
    "a batch larger than the data": (
        "classifier.batch_size",
        "1000",
        "1000 images a step.*80 training",
    ),
    "negative seed": ("seed", "-1", "seed is -1"),
    "confidence over 1": ("evaluation.confidence", "1.5", "confidence is 1.5"),
    "NaN": ("evaluation.confidence", "nan", "confidence is nan"),
    "zero round": ("evaluation.round_size", "0", "round_size is 0"),
    "more examples than there are": ("evaluation.examples", "21", "21.*20 test"),
    "more validation than there is": ("data.validation_examples", "500", "500"),
    "zero pictures": ("report.pictures", "0", "pictures is 0"),
    "unknown source": ("data.source", "mnist5k", "mnist5k.*mnist_5k"),
    "no such npz": ("data.source", "npz:no.npz", r"no\.npz"),
    "no such folder": ("data.source", "folder:nowhere", "nowhere"),
    "data set not prepared": (
        "data.source",
        "tfds:mnist",
        r"robust_manifold\.data\.prepare mnist",
    ),
    "no such run": ("generator.from_run", "runs/none", "from_run.*'runs/none'"),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_override(name, program, project):
    key, value, pattern = OVERRIDES[name]
    work = project / "run"
    given = [f"--config.{key}={value}"]
    if value == "tfds:mnist":
        given.append(f"--config.data.data_dir={project / 'empty'}")
    ended = program(f"--config={project / 'tiny.py'}", f"--workdir={work}", *given)
    _one_sentence(ended, pattern)
    # Before any work: nothing was trained, and the folder is free for another config.
    assert not (work / "checkpoints").exists()
    assert not (work / "data.json").exists()


COMMANDS = {
    "no config": ([], "--config is missing"),
    "a key of no config": (
        ["--config.data.source=mnist_5k"],
        "--config.data.source is given, but no --config .*--config=NAME before it",
    ),
    "no file as config": (["--config="], "--config is '.*existing file"),
    "nothing as config": (["--workdir={dir}/run", "--config"], "--config is '"),
    "no such config": (["--config=none.py"], "none.py.*existing file"),
    "unknown flag": (["--config={config}", "--wrokdir=x"], "wrokdir"),
    "a stray argument": (["--config={config}", "fast"], "'fast' is no flag"),
    "no stage": (["--config={config}", "--stages="], "--stages is empty"),
    "unknown stage": (["--config={config}", "--stages=atack"], "atack.*'attack'"),
    "a stage too early": (
        ["--config={config}", "--workdir={dir}/run", "--stages=attack"],
        "fit_classifier first",
    ),
    "a report too early": (
        ["--config={config}", "--workdir={dir}/run", "--stages=report"],
        "no results of the stage measure to report",
    ),
    "a file as workdir": (["--config={config}", "--workdir={config}"], "workdir"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_line(name, program, project):
    arguments, pattern = COMMANDS[name]
    places = {"config": project / "tiny.py", "dir": project}
    _one_sentence(program(*(a.format(**places) for a in arguments)), pattern)


CONFIG_FILES = {
    "a syntax error": ("def get_config(:", "SyntaxError"),
    "an exception": ("def get_config():\n    raise RuntimeError('boo')", "boo"),
    "a missing module": ("import no_such_module", "no_such_module"),
    "an end": ("import sys\nsys.exit(3)", r"ends the program \(3\)"),
    "a fraction for a whole number": (
        "from robust_manifold.config import default_config\n"
        "def get_config():\n    c = default_config()\n"
        "    c.seed = 1.5\n    return c",
        "TypeError.*seed",
    ),
    "no get_config": ("x = 1", "get_config"),
    "a dictionary": ("def get_config():\n    return {'seed': 1}", "get_config"),
    "another config": (
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'sed': 1})",
        "'sed'.*'seed'",
    ),
    "a lost key": (
        CONFIG.replace("return config", "del config.seed; return config").replace(
            "default_config()", "default_config().unlock()"
        ),
        "lacks the key 'seed'",
    ),
    "numbers for texts": (
        "from robust_manifold.config import default_config\n"
        "def get_config():\n    c = default_config()\n"
        "    c.evaluation.attacks = (1, 2)\n    return c",
        "tuple of texts",
    ),
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_config_file(name, program, project):
    text, pattern = CONFIG_FILES[name]
    (project / "bad.py").write_text(text)
    work = f"--workdir={project / 'run'}"
    _one_sentence(program(f"--config={project / 'bad.py'}", work), pattern)


def _truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


CLASSIFIERS = {
    # arguments of add_classifier, in their order, and what the sentence has to say
    "an unknown start": (["'a', start='b'"], r"a\.start: Unknown classifier 'b'"),
    "a circle": (
        ["'a', start='b'", "'b', start='a'"],
        r"classifiers\.a\.start is 'b', which leads in a circle",
    ),
    "a reserved name": (["'small_cnn'"], "'small_cnn', which is reserved"),
    "the name of the own one": (["'classifier'"], "'classifier', which is reserved"),
    "an impossible name": (["'A b'"], "'A b'; allowed: small letters"),
    "a long name": ([f"'{'a' * 61}'"], "of 61 characters; allowed: at most 60"),
    "a name twice": (["'a'", "'a'"], "'a' twice"),
    "an unknown key": (["'a', trainin='x'"], "'trainin'.*'training'"),
    "an unknown training": (
        ["'a', training='enhanced_ink'"],
        r"config\.classifiers\.a\.training.*'enhanced_inc'",
    ),
    "a start of another model": (
        ["'a', start='classifier', model='small_cnn'"],
        "'linear'; allowed: a classifier of the same model, 'small_cnn'",
    ),
    "a batch larger than the data": (
        ["'a', batch_size=1000"],
        r"config\.classifiers\.a\.batch_size asks for 1000",
    ),
    "no such run": (
        ["'a', from_run='runs/none'"],
        r"config\.classifiers\.a\.from_run is 'runs/none', which holds no finished",
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name, program, project):
    added, pattern = CLASSIFIERS[name]
    lines = "".join(f"\n    add_classifier(config, {each})" for each in added)
    text = (project / "tiny.py").read_text().replace("\n    return config", lines)
    text = text.replace(
        "import default_config", "import add_classifier, default_config"
    )
    (project / "bad.py").write_text(text + "\n    return config\n")
    work = project / "run"
    ended = program(
        f"--config={project / 'bad.py'}",
        f"--workdir={work}",
        "--config.stages=('fit_classifier','fit_classifiers')",
    )
    _one_sentence(ended, pattern)
    assert not (work / "checkpoints").exists()


DATA_FILES = {
    "truncated": (_truncate, r"digits\.npz"),
    "empty": (lambda path: path.write_bytes(b""), r"digits\.npz"),
    "no labels": (
        lambda path: np.savez(path, images=np.zeros((9, 28, 28), np.uint8)),
        "labels",
    ),
    "flat images": (
        lambda path: write_digits(path, images=np.zeros((120, 784), np.uint8)),
        r"images",
    ),
    "pixels above 1": (
        lambda path: write_digits(path, images=np.full((120, 28, 28), 3.0)),
        r"images",
    ),
    "NaN pixels": (
        lambda path: write_digits(path, images=np.full((120, 28, 28), np.nan)),
        r"images",
    ),
    "fewer labels than images": (
        lambda path: write_digits(path, labels=np.zeros(7, int)),
        r"labels",
    ),
    "labels with fractions": (
        lambda path: write_digits(path, labels=np.full(120, 0.5)),
        r"labels",
    ),
    "images of a size no model takes": (
        lambda path: write_digits(path, images=np.zeros((120, 9, 11), np.uint8)),
        r"9.*11",
    ),
}


@pytest.mark.parametrize("name", DATA_FILES)
def test_data_file(name, program, project):
    spoil, pattern = DATA_FILES[name]
    spoil(project / "digits.npz")
    work = f"--workdir={project / 'run'}"
    _one_sentence(program(f"--config={project / 'tiny.py'}", work), pattern)


def _spoil_image(folder: pathlib.Path) -> None:
    path = folder / "one" / "0.png"
    path.write_bytes(path.read_bytes()[:45])


def _other_size(folder: pathlib.Path) -> None:
    PIL.Image.new("L", (30, 28)).save(folder / "one" / "0.png")


@pytest.mark.parametrize("spoil", [_spoil_image, _other_size])
def test_image_folder(spoil, program, project):
    for name in ("one", "two"):
        (project / "images" / name).mkdir(parents=True)
        for number in range(30):
            picture = PIL.Image.new("L", (28, 28), number)
            picture.save(project / "images" / name / f"{number}.png")
    spoil(project / "images")
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        f"--config.data.source=folder:{project / 'images'}",
    )
    _one_sentence(ended, r"0\.png")


def _contents(folder: pathlib.Path) -> dict[str, str]:
    """Returns the checksums of all that a run must not lose."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("status.json", "lock")
    }


def _flip(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _damage_round(work):
    _flip(next(work.glob("outcomes/**/round-000.npz")))


def _damage_params(work):
    next((work / "outcomes").rglob("*.npz")).unlink()
    files = work.glob("checkpoints/classifier/params/**/*")
    _flip(max((f for f in files if f.is_file()), key=lambda f: f.stat().st_size))


def _damage_config(work):
    (work / "config.json").write_text("{")


def _damage_sums(work):
    (work / "checksums.json").write_text("[]")


def _damage_results(work):
    _flip(work / "results.csv")


DAMAGES = {
    "a round": (_damage_round, r"round-000\.npz is damaged"),
    "parameters": (_damage_params, "params.* is damaged"),
    "config.json": (_damage_config, r"config\.json is damaged"),
    "checksums.json": (_damage_sums, r"checksums\.json is damaged"),
    "results.csv": (_damage_results, r"results\.csv is damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_artefact(name, program, finished, tmp_path):
    damage, pattern = DAMAGES[name]
    work = tmp_path / "run"
    shutil.copytree(finished / "run", work)
    damage(work)
    before = _contents(work)
    ended = program(f"--config={finished / 'tiny.py'}", f"--workdir={work}")
    _one_sentence(ended, pattern)
    after = _contents(work)
    assert {name: after.get(name) for name in before} == before


def test_other_config(program, finished):
    before = _contents(finished / "run")
    ended = program(
        f"--config={finished / 'tiny.py'}",
        f"--workdir={finished / 'run'}",
        "--config.classifier.duration=13 steps",
        "--config.seed=4",
    )
    _one_sentence(ended, r"classifier\.duration is .13 steps.*12 steps.*seed is 4")
    assert _contents(finished / "run") == before


def test_workdir_in_use(program, finished):
    with open(finished / "run" / "lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = program(
            f"--config={finished / 'tiny.py'}", f"--workdir={finished / 'run'}"
        )
    _one_sentence(ended, "in use")


def test_other_images(program, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    write_digits(tmp_path / "other.npz", images=np.zeros((120, 28, 28), np.uint8))
    config = tmp_path / "copy" / "tiny.py"
    # The same config, but its file holds other images now.
    shutil.copy(finished / "digits.npz", tmp_path / "kept.npz")
    try:
        shutil.copy(tmp_path / "other.npz", finished / "digits.npz")
        work = tmp_path / "copy" / "run"
        _one_sentence(program(f"--config={config}", f"--workdir={work}"), "changed")
    finally:
        shutil.copy(tmp_path / "kept.npz", finished / "digits.npz")


def test_latent_size_of_another_run(program, finished, tmp_path):
    ended = program(
        f"--config={finished / 'tiny.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.generator.from_run={finished / 'run'}",
        "--config.generator.model=dcgan_generator(latent_size=5, width=2)",
    )
    _one_sentence(ended, "latent_size 4.*5")


def test_other_training_images_of_another_run(program, finished, tmp_path):
    ended = program(
        f"--config={finished / 'tiny.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.classifier.from_run={finished / 'run'}",
        "--config.data.split_seed=1",
    )
    _one_sentence(ended, "trained on other images")


def test_a_corrected_mistake_finds_the_folder_free(program, project):
    command = [f"--config={project / 'tiny.py'}", f"--workdir={project / 'run'}"]
    ended = program(*command, "--config.classifier.batch_size=1000")
    _one_sentence(ended, "1000 images a step")
    assert program(*command).code == 0


def test_networks_taken_over_outlive_their_run(program, finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "other")
    command = [
        f"--config={finished / 'tiny.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.classifier.from_run={tmp_path / 'other'}",
    ]
    assert program(*command).code == 0
    shutil.rmtree(tmp_path / "other")
    assert program(*command).code == 0


def test_width_of_another_run(program, finished, tmp_path):
    ended = program(
        f"--config={finished / 'tiny.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.generator.from_run={finished / 'run'}",
        "--config.generator.model=dcgan_generator(latent_size=4, width=3)",
    )
    _one_sentence(ended, "does not fit")


def test_too_few_test_images_for_the_neighbours(program, project):
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        "--config.measures.samples=30",
        "--config.measures.neighbours=20",
    )
    _one_sentence(ended, "measures.neighbours is 20; allowed: less than the 20 test")
    assert not (project / "run/checkpoints").exists()


def test_keys_of_stages_that_are_not_run_may_hold_anything(program, project):
    ended = program(
        f"--config={project / 'tiny.py'}",
        f"--workdir={project / 'run'}",
        "--config.stages=('fit_classifier',)",
        "--config.evaluation.examples=1000",
        "--config.measures.examples=1000",
    )
    assert ended.code == 0, ended.error


WITHOUT_REPORT = "--stages=fit_classifier,fit_generator,measure,attack,evaluate"
"""The report takes longer than all else."""


def _forget_stage(work, name):
    """Makes a run one that was killed when all outputs of a stage were stored."""
    status = read_status(work)
    del status["finished_stages"][name]
    (work / "status.json").write_text(json.dumps(sealed(status)))


def test_killed_after_the_networks_were_stored(program, finished, tmp_path):
    work = tmp_path / "run"
    shutil.copytree(finished / "run", work)
    before = (work / "measures.csv").read_text()
    for name in ("fit_classifier", "fit_generator", "measure"):
        _forget_stage(work, name)
    command = [f"--config={finished / 'tiny.py'}", f"--workdir={work}", WITHOUT_REPORT]
    ended = program(*command)
    assert ended.code == 0, ended.error
    after = (work / "measures.csv").read_text()
    # Equal but for the last column, the time.
    for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
        assert old.rpartition(",")[0] == new.rpartition(",")[0]
    assert program(*command).error.count("finished before") == 7


def _lines(path):
    return csv.DictReader(path.read_text().splitlines())


def test_a_generator_taken_over_is_called_what_it_is(program, finished, tmp_path):
    taken = program(
        f"--config={finished / 'tiny.py'}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.generator.from_run={finished / 'run'}",
        "--config.generator.training=vae(encoder=vae_encoder(latent_size=4))",
        "--config.stages=('fit_classifier','fit_generator','measure')",
    )
    assert taken.code == 0, taken.error
    (line,) = _lines(tmp_path / "run/measures.csv")
    assert line["training"].startswith("gan") and line["steps"] == "8"

    table = models.to_table(load_params(finished / "run/checkpoints/generator/params"))
    weight_files.write(tmp_path / "digits.npz", table)
    read = program(
        f"--config={finished / 'tiny.py'}",
        f"--workdir={tmp_path / 'other'}",
        f"--config.generator.weights={tmp_path / 'digits.npz'}",
        "--config.stages=('fit_classifier','fit_generator','measure','report')",
    )
    assert read.code == 0, read.error
    (line,) = _lines(tmp_path / "other/measures.csv")
    assert line["training"] == "weights of digits.npz" and line["steps"] == "0"
    caption = (tmp_path / "other/report/table.md").read_text()
    assert "weights of digits.npz" in caption and "generator steps" not in caption


def test_deleted_round_is_computed_again(program, finished, tmp_path):
    work = tmp_path / "run"
    shutil.copytree(finished / "run", work)
    path = next(work.glob("adversarial/**/round-001.npz"))
    stored = np.load(path)["images"]
    path.unlink()
    command = [f"--config={finished / 'tiny.py'}", f"--workdir={work}", WITHOUT_REPORT]
    assert program(*command).code == 0
    np.testing.assert_array_equal(np.load(path)["images"], stored)
    assert json.loads((work / "status.json").read_text())["state"] == "finished"
