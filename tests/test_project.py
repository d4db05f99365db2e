"""A user's images through the command: good ones, bad ones, killed and resumed."""

import csv
import io
import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image as pil

from robust_manifold import models, project
from robust_manifold.runtime import save_params
from robust_manifold.runtime.output_folder import OutputFolder
from robust_manifold.stages.networks import trained
from robust_manifold.stages.projecting import projection
from tests.conftest import Ended

GENERATOR = "vae_decoder(latent_size=4, hidden=5)"
SETTINGS = ("--solver=adam(steps=3)", "--restarts=2", "--batch_size=2")


@pytest.fixture
def command(capsys, monkeypatch):
    """Returns the command as a function of its arguments, run in this process."""
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    monkeypatch.setattr(project.devices, "initialise", lambda: None)

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            code = project.main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = ending.code
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def inversions(monkeypatch):
    """Returns the number of images of every inversion, as they are made."""
    sizes, invert = [], projection.inversion.invert

    def counted(generate, params, images, **options):
        sizes.append(len(images))
        return invert(generate, params, images, **options)

    monkeypatch.setattr(projection.inversion, "invert", counted)
    return sizes


def store(run, role, text, made_for=None, **build):
    """Stores a fresh network as the end of a training does, and returns it."""
    model = models.build(text, **build)
    params = model.init(jax.random.key(1))
    metadata = {
        "model": text,
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "data": "mnist_5k",
        **({"generator_sha256": made_for} if made_for else {}),
    }
    save_params(run / "checkpoints" / role / "params", params, metadata)
    return model, params


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    store(run, "generator", GENERATOR)
    data = {"data": {"crop": "20", "image_size": 28}}
    (run / "config.json").write_text(json.dumps(data))
    return run


def pixels(seed, *shape, dtype=np.uint8, high=256):
    return np.random.default_rng(seed).integers(0, high, shape or (28, 28), dtype)


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pil.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Returns a folder of five good images."""
    images = tmp_path / "images"
    for seed, name in enumerate(["a.png", "b.png", "sub/c.PNG", "sub/sub/d.png"]):
        write(images / name, pixels(seed))
    write(images / "e.jpg", pixels(4))
    return images


def arguments(run, images, output, *more):
    return (f"--run={run}", f"--input={images}", f"--output={output}", *SETTINGS, *more)


def lines(output):
    text = (output / "projections.csv").read_text()
    return {line["name"]: line for line in csv.DictReader(io.StringIO(text))}


def contents(output):
    """Returns every result of a folder by its path."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_a_folder_of_good_images(command, run_folder, folder, tmp_path):
    output = tmp_path / "new/out"
    ended = command(*arguments(run_folder, folder, output))
    assert ended.code == 0, ended.error
    assert "projected  5\nskipped    0\n" in ended.out
    assert "5 of 5 images, 2 at a time" in ended.error
    assert "solver adam(steps=3); restarts 2; encoder none" in ended.error

    found = lines(output)
    names = ["a.png", "b.png", "e.jpg", "sub/c.PNG", "sub/sub/d.png"]
    assert list(found) == names and "rejected" not in found["a.png"]
    written = sorted(
        p.relative_to(output / "projections").as_posix()
        for p in (output / "projections").rglob("*.*")
    )
    assert written == sorted(n + ".png" if n == "e.jpg" else n for n in names)
    assert [p.name for p in (output / "pictures").iterdir()] == ["sheet-001.png"]

    for name, file in zip(names[:2], written[:2], strict=True):
        with pil.open(output / "projections" / file) as image:
            assert (image.mode, image.size) == ("L", (28, 28))
            difference = np.asarray(image) / 255 - pixels(names.index(name)) / 255
        line = found[name]
        # Pixels are rounded in the file, by at most 1 / 510.
        norm = np.linalg.norm(difference)
        assert abs(float(line["norm"]) - norm) < 28 / 510
        np.testing.assert_allclose(
            float(line["error"]), float(line["norm"]) ** 2 / 784, rtol=1e-4
        )
        assert line["status"] == "FINISHED" and line["reason"] == ""
        assert float(line["near_best"]) in (0.5, 1.0)
    median = np.median([float(line["error"]) for line in found.values()])
    assert f"median {median:.3g}"[:-1] in ended.out


def write_bad(folder):
    """Adds images that cannot be used; returns what is said of each."""
    write(folder / "bad/large.png", pixels(0, 30, 32))
    write(folder / "bad/colour.png", pixels(0, 28, 28, 3))
    write(folder / "bad/alpha.png", pixels(0, 28, 28, 4))
    write(folder / "bad/sixteen.png", pixels(0, 28, 28, dtype=np.uint16, high=65536))
    frames = [pil.fromarray(pixels(seed)) for seed in range(3)]
    frames[0].save(folder / "bad/animated.png", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "bad/picture.gif")
    clear = pil.fromarray(pixels(0))
    clear.save(folder / "bad/clear.png", transparency=0)
    whole = (folder / "a.png").read_bytes()
    (folder / "bad/short.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bad/empty.jpg").write_bytes(b"")
    (folder / "bad/notes.txt").write_text("no image")
    (folder / "bad/link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "bad/pipe.png")
    (folder / "bad/two\nlines.png").write_bytes(b"")
    (folder / ".hidden.png").write_bytes(b"")
    write(folder / "e.jpg.png", pixels(0))
    return {
        "bad/large.png": "has 30x32 pixels; allowed: 28x28",
        "bad/colour.png": "is in colour",
        "bad/alpha.png": "alpha channel",
        "bad/clear.png": "alpha channel",
        "bad/sixteen.png": "16 bits",
        "bad/animated.png": "3 frames",
        "bad/picture.gif": "another format",
        "bad/short.png": "damaged",
        "bad/empty.jpg": "damaged",
        "bad/notes.txt": "another format",
        "bad/link.png": "cannot be read",
        "bad/pipe.png": "a pipe or a device, no file",
        r"bad/two\nlines.png": "damaged",
        "e.jpg.png": "e.jpg would have one projection file",
    }


def test_bad_images_are_named_and_skipped(
    command, run_folder, folder, tmp_path, inversions
):
    good, mixed = tmp_path / "good", tmp_path / "mixed"
    assert command(*arguments(run_folder, folder, good)).code == 0
    bad = write_bad(folder)
    ended = command(*arguments(run_folder, folder, mixed))
    assert ended.code == 1
    assert f"projected  5\nskipped    {len(bad)}\n" in ended.out
    found = lines(mixed)
    assert found.keys() == lines(good).keys() | bad.keys()
    for name, reason in bad.items():
        assert reason in found[name]["reason"]
        assert found[name]["error"] == found[name]["status"] == ""
        [said] = [line for line in ended.error.splitlines() if f": {name} " in line]
        assert reason in said
    # An image's result does not depend on what lies beside it.
    assert {name: found[name] for name in lines(good)} == lines(good)
    for file in (good / "projections").rglob("*.png"):
        assert file.read_bytes() == (mixed / file.relative_to(good)).read_bytes()

    inversions.clear()
    again = command(*arguments(run_folder, folder, mixed))
    assert (again.code, again.out, inversions) == (1, ended.out, [])


def test_strict_stops_before_anything_is_projected(
    command, run_folder, folder, tmp_path, inversions
):
    write(folder / "b.png", pixels(0, 30, 32))
    output = tmp_path / "out"
    ended = command(*arguments(run_folder, folder, output, "--strict"))
    one_sentence(ended, r"b\.png has 30x32 pixels")
    assert not inversions and not output.exists()


def test_the_other_images_change_nothing(command, run_folder, folder, tmp_path):
    command(*arguments(run_folder, folder, tmp_path / "all"))
    (folder / "a.png").unlink()
    os.rename(folder / "b.png", folder / "z.png")
    command(*arguments(run_folder, folder, tmp_path / "less"))
    before, after = lines(tmp_path / "all"), lines(tmp_path / "less")
    assert after["z.png"] == before["b.png"] | {"name": "z.png"}
    assert after["e.jpg"] == before["e.jpg"]
    # Another seed begins elsewhere.
    other = tmp_path / "other"
    command(*arguments(run_folder, folder, other, "--seed=1"))
    assert lines(other)["e.jpg"]["error"] != before["e.jpg"]["error"]


def test_a_killed_command_goes_on_where_it_was(
    command, run_folder, folder, tmp_path, monkeypatch, inversions
):
    monkeypatch.setattr(projection, "_ROUND", 2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(*arguments(run_folder, folder, whole)).code == 0
    assert inversions == [2, 2, 1]

    def die(self, relative, arrays):
        if relative.endswith("1.npz"):
            raise MemoryError
        write_npz(self, relative, arrays)

    write_npz = OutputFolder.write_npz
    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "write_npz", die)
        with pytest.raises(MemoryError):
            command(*arguments(run_folder, folder, killed))
    (killed / "rounds/.round-00001.npz.partial").write_bytes(b"half")
    inversions.clear()
    assert command(*arguments(run_folder, folder, killed)).code == 0
    assert inversions == [2, 1]
    assert contents(killed) == contents(whole)

    # What the end writes is written again from what is stored.
    inversions.clear()
    (killed / "summary.json").unlink()
    shutil.rmtree(killed / "projections")
    assert command(*arguments(run_folder, folder, killed)).code == 0
    assert not inversions and contents(killed) == contents(whole)


def test_a_signal_stores_the_round_and_stops(
    command, run_folder, folder, tmp_path, monkeypatch, inversions
):
    monkeypatch.setattr(projection, "_ROUND", 2)
    output, write_npz = tmp_path / "out", OutputFolder.write_npz

    def signalled(self, relative, arrays):
        signal.raise_signal(signal.SIGTERM)
        write_npz(self, relative, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "write_npz", signalled)
        ended = command(*arguments(run_folder, folder, output))
    assert ended.code == 128 + signal.SIGTERM
    assert "the same command goes on" in ended.error and inversions == [2]
    assert command(*arguments(run_folder, folder, output)).code == 0
    assert inversions == [2, 2, 1]


def test_another_command_is_refused(command, run_folder, folder, tmp_path):
    output = tmp_path / "out"
    assert command(*arguments(run_folder, folder, output)).code == 0
    before = contents(output)
    for change in ("--seed=1", "--restarts=3", "--reject_above=0.5", "--pictures=1"):
        flag = change[2:].partition("=")[0]
        ended = command(*arguments(run_folder, folder, output, change))
        one_sentence(ended, f"another command.*{flag} is .*, stored")
    other = tmp_path / "other"
    store(other, "generator", GENERATOR)
    one_sentence(command(*arguments(other, folder, output)), "run is .*other")
    write(folder / "new.png", pixels(9))
    one_sentence(command(*arguments(run_folder, folder, output)), "images_sha256")
    assert contents(output) == before


def test_images_above_the_limit_are_rejected(command, run_folder, folder, tmp_path):
    output = tmp_path / "plain"
    command(*arguments(run_folder, folder, output))
    errors = {name: float(line["error"]) for name, line in lines(output).items()}
    limit = float(np.median(list(errors.values())))
    marked = tmp_path / "marked"
    ended = command(
        *arguments(run_folder, folder, marked, f"--reject_above={limit * 1.0001}")
    )
    assert ended.code == 0 and "rejected   2, with an error above" in ended.out
    for name, line in lines(marked).items():
        assert line["rejected"] == ("yes" if errors[name] > limit else "no")
    # The pictures show it.
    sheets = [o / "pictures/sheet-001.png" for o in (output, marked)]
    assert sheets[0].read_bytes() != sheets[1].read_bytes()


def test_an_archive(command, run_folder, tmp_path):
    images = np.stack([pixels(seed) for seed in range(4)]) / 255
    images[1, 0, 0], images[2, 3, 3] = np.nan, 1.5
    file, output = tmp_path / "images.npz", tmp_path / "out"
    labels = np.array([{}], dtype=object)
    np.savez(file, images=images, labels=labels)
    ended = command(*arguments(run_folder, file, output))
    assert ended.code == 1
    found = lines(output)
    assert "not finite" in found["images[1]"]["reason"]
    assert "1.5" in found["images[2]"]["reason"]
    with np.load(output / "projections.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    assert arrays["rows"].tolist() == [0, 3]
    assert arrays["images"].shape == (2, 28, 28, 1)
    assert arrays["latents"].shape == (2, 4)
    assert arrays["restart_errors"].shape == (2, 2)
    assert arrays["statuses"].tolist() == ["FINISHED", "FINISHED"]
    np.testing.assert_array_equal(arrays["errors"], arrays["restart_errors"].min(1))
    # The same pixels in a file have the same result.
    write(tmp_path / "files/x.png", pixels(3))
    command(*arguments(run_folder, tmp_path / "files", tmp_path / "of_file"))
    of_file = lines(tmp_path / "of_file")["x.png"]
    assert of_file | {"name": "images[3]"} == found["images[3]"]


def test_images_are_cut_and_resized_as_the_runs(command, run_folder, tmp_path):
    write(tmp_path / "in/photo.png", pixels(0, 40, 30))
    write(tmp_path / "in/small.png", pixels(0, 19, 40))
    output = tmp_path / "out"
    ended = command(*arguments(run_folder, tmp_path / "in", output, "--resize"))
    assert ended.code == 1
    found = lines(output)
    assert found["photo.png"]["status"] == "FINISHED"
    assert "at least the crop, 20x20" in found["small.png"]["reason"]


def test_equal_channels_for_a_grey_generator(command, run_folder, folder, tmp_path):
    grey = np.repeat(pixels(0)[..., None], 3, axis=-1)
    write(folder / "equal.png", grey)
    assert command(*arguments(run_folder, folder, tmp_path / "out")).code == 0
    found = lines(tmp_path / "out")
    assert found["equal.png"] == found["a.png"] | {"name": "equal.png"}


def test_an_encoder_gives_the_first_guess(command, tmp_path):
    text = GENERATOR.replace(")", ", conditional=True)")
    store(tmp_path, "generator", text, classes=3, image_shape=(8, 8, 1))
    encoder = "vae_encoder(latent_size=4, hidden=3)"
    model, params = store(tmp_path, "encoder", encoder, image_shape=(8, 8, 1))
    np.savez(tmp_path / "in.npz", images=pixels(0, 2, 8, 8))
    ended = command(
        f"--run={tmp_path}",
        f"--input={tmp_path / 'in.npz'}",
        f"--output={tmp_path / 'out'}",
        "--solver=adam(steps=1, learning_rate=1e-9)",
        "--restarts=1",
    )
    assert ended.code == 0 and f"encoder {encoder}" in ended.error
    with np.load(tmp_path / "out/projections.npz") as stored:
        latents = stored["latents"]
    images = pixels(0, 2, 8, 8, 1).astype(np.float32) / 255
    guesses = model.apply(params, jax.numpy.asarray(images))[:, :4]
    np.testing.assert_allclose(latents[:, :4], guesses, atol=1e-6)


def test_an_encoder_that_does_not_fit_is_not_used(command, folder, tmp_path):
    store(tmp_path / "run", "generator", GENERATOR)
    store(tmp_path / "run", "encoder", "vae_encoder(latent_size=3, hidden=3)")
    ended = command(*arguments(tmp_path / "run", folder, tmp_path / "out"))
    assert ended.code == 0
    assert "for another generator" in ended.error and "encoder none" in ended.error


def test_an_encoder_of_another_generator_is_not_used(command, folder, tmp_path):
    _, params = store(tmp_path / "run", "generator", GENERATOR)
    encoder = "vae_encoder(latent_size=4, hidden=3)"
    own = trained.digest(GENERATOR, params)
    for place, digest in enumerate([own, "0" * 64]):
        store(tmp_path / "run", "encoder", encoder, made_for=digest)
        output = tmp_path / f"out{place}"
        ended = command(*arguments(tmp_path / "run", folder, output))
        assert ended.code == 0, ended.error
        assert ("for another generator" in ended.error) == (digest != own)


def test_names_that_leave_no_file_for_the_projection(command, run_folder, tmp_path):
    """Too long with the ending of a projection, or that of a folder of others."""
    images = tmp_path / "images"
    write(images / "good.png", pixels(0))
    write(images / f"{'a' * 245}.jpg", pixels(1))
    write(images / "b.png/inner.png", pixels(2))
    write(images / "b.jpg", pixels(3))
    (images / "b.jpg").rename(images / "b")
    ended = command(*arguments(run_folder, images, tmp_path / "out"))
    assert ended.code == 1
    table = lines(tmp_path / "out")
    assert "too long a name" in table[f"{'a' * 245}.jpg"]["reason"]
    assert (tmp_path / "out/projections/good.png").is_file()
    clashing = {name: table[name]["reason"] for name in ("b", "b.png/inner.png")}
    assert sum("one projection file" in reason for reason in clashing.values()) == 1


def one_sentence(ended, pattern):
    assert (ended.code, ended.out) == (2, ""), ended
    mistakes = [
        line
        for line in ended.error.splitlines()
        if line.startswith("robust_manifold: ")
    ]
    assert len(mistakes) == 1 and "Traceback" not in ended.error
    assert re.search(pattern, mistakes[0]), f"{mistakes[0]!r} lacks {pattern!r}"


MISTAKES = {
    # flags that replace the good ones, where {} is the folder, and the sentence
    "no such run": ("--run={}/none", "none', which holds no finished generator"),
    "no generator": ("--run={}/encoder_only", "no finished generator.*an? encoder"),
    "no such input": ("--input={}/none", "none', which does not exist"),
    "input is no archive": ("--input={}/notes.txt", "notes.txt', which is neither"),
    "an empty folder": ("--input={}/empty", "empty', which is empty"),
    "a damaged archive": (
        "--input={}/damaged.npz",
        "damaged.npz cannot be used: it is damaged",
    ),
    "no images": ("--input={}/labels.npz", r"lacks the array 'images' .*labels"),
    "pickled images": ("--input={}/pickled.npz", "'images' holds pickled objects"),
    "images of a wrong type": ("--input={}/int64.npz", "int64; allowed: uint8"),
    "images of a wrong shape": ("--input={}/shape.npz", r"\(2, 3, 3, 1\).*3x3 pixels"),
    "images of a wrong rank": ("--input={}/rank.npz", r"the shape \(3,\)"),
    "an empty archive": ("--input={}/none.npz", "which is empty"),
    "output is a file": ("--output={}/notes.txt", "notes.txt', which cannot be used"),
    "output in a file": ("--output={}/notes.txt/x", "x', which cannot be used"),
    "output holds others": ("--output={}/images", "images', which holds other files"),
    "output in the input": ("--output={}/images/o", "do not lie within each other"),
    "input in the output": ("--output={}", "do not lie within each other"),
    "an unknown solver": ("--solver=adamm", "'adamm'.*'adam'"),
    "an unknown field": ("--solver=adam(step=3)", "step.*steps"),
    "no steps": ("--solver=adam(steps=0)", "steps is 0"),
    "bad restarts": ("--restarts=0", "restarts is 0"),
    "restarts in words": ("--restarts=many", "--restarts: .*many"),
    "encoded without encoder": ("--restarts=restarts(2, encoded=1)", "no encoder"),
    "a negative seed": ("--seed=-1", "seed is -1; allowed"),
    "a seed in words": ("--seed=one", "--seed: invalid int value: 'one'"),
    "no batch": ("--batch_size=0", "batch_size is 0; allowed: 1"),
    "no limit": ("--reject_above=nan", "reject_above is nan"),
    "pictures": ("--pictures=-1", "pictures is -1"),
    "an unknown flag": ("--pixels=3", "--pixels"),
    "no config": ("--resize", "config.json is missing"),
}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    store(folder / "run", "generator", GENERATOR)
    store(folder / "encoder_only", "encoder", "vae_encoder(latent_size=3, hidden=3)")
    write(folder / "in/a.png", pixels(0))
    write(folder / "images/a.png", pixels(0))
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no image")
    (folder / "damaged.npz").write_bytes(b"PK\3\4 and no more")
    archives = {
        "labels": {"labels": np.arange(3)},
        "pickled": {"images": np.array([{}], dtype=object)},
        "int64": {"images": pixels(0, 2, 28, 28, dtype=np.int64)},
        "shape": {"images": pixels(0, 2, 3, 3)},
        "rank": {"images": pixels(0, 3)},
        "none": {"images": np.zeros((0, 28, 28), np.uint8)},
    }
    for name, arrays in archives.items():
        np.savez(folder / name, **arrays)
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name, command, mistaken, tmp_path):
    flag, pattern = MISTAKES[name]
    flags = {
        "--run": mistaken / "run",
        "--input": mistaken / ("images" if name == "output in the input" else "in"),
        "--output": tmp_path / "out",
    }
    flag, _, value = flag.format(mistaken).partition("=")
    flags[flag] = value
    one_sentence(command(*(f"{k}={v}" if v else k for k, v in flags.items())), pattern)
    assert not list(tmp_path.glob("out/projections*"))


def test_resizing_is_advised_only_where_it_would_help(command, tmp_path):
    """Not without the run's config, and not for images that are no squares."""
    build = {"latent_size": 4, "hidden": 5}
    text = f"vae_decoder({', '.join(f'{k}={v}' for k, v in build.items())})"
    write(tmp_path / "in/large.png", pixels(0, 30, 32))
    config = json.dumps({"data": {"crop": "20", "image_size": 0}})
    cases = {"square": (28, 28, 1), "oblong": (28, 20, 1), "lost": (28, 28, 1)}
    for name, shape in cases.items():
        run = tmp_path / name
        store(run, "generator", text, image_shape=shape)
        if name != "lost":
            (run / "config.json").write_text(config)
        output = tmp_path / f"{name}_out"
        ended = command(*arguments(run, tmp_path / "in", output))
        said = f"has 30x32 pixels; allowed: {shape[0]}x{shape[1]}"
        advice = ", or any with --resize" if name == "square" else ""
        assert f"{said}{advice}." in ended.error
        # The advice is followed.
        again = command(
            *arguments(run, tmp_path / "in", tmp_path / f"{name}_again", "--resize")
        )
        assert (again.code == 0) == (name == "square")


def test_names_in_other_scripts(command, run_folder, tmp_path):
    for name in ("日本.png", "二.png", "é.png"):
        write(tmp_path / "in" / name, pixels(0))
    output = tmp_path / "out"
    ended = command(*arguments(run_folder, tmp_path / "in", output))
    assert ended.code == 0 and "Glyph" not in ended.error
    assert set(lines(output)) == {"日本.png", "二.png", "é.png"}


def test_photos_are_projected_upright(command, run_folder, tmp_path):
    """As phones write them: on their side, with a preview."""
    image = np.zeros((28, 28), np.uint8)
    image[:4] = 255  # a bright upper edge
    notes = pil.Exif()
    notes[0x0112] = 6  # to be turned clockwise
    upright, stored = pil.fromarray(image), pil.fromarray(np.rot90(image))
    (tmp_path / "in").mkdir()
    upright.save(tmp_path / "in/a.png")
    stored.save(tmp_path / "in/b.png", exif=notes)
    colour = stored.convert("RGB")
    colour.save(
        tmp_path / "in/c.jpg", "MPO", save_all=True, append_images=[colour], exif=notes
    )
    assert command(*arguments(run_folder, tmp_path / "in", tmp_path / "out")).code == 0
    found = lines(tmp_path / "out")
    assert found["b.png"] == found["a.png"] | {"name": "b.png"}
    assert found["c.jpg"]["status"] == "FINISHED"
