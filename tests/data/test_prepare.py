import functools
import gzip
import http.server
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image as pil

from robust_manifold import data
from robust_manifold.core.errors import UsageError
from robust_manifold.data.prepare.__main__ import main
from robust_manifold.data.prepare.build import prepare


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


def rows(images, labels):
    """Returns the examples as a set, whatever their order."""
    pairs = zip(np.asarray(images), np.asarray(labels), strict=True)
    return sorted((image.tobytes(), int(label)) for image, label in pairs)


def assert_refused(capsys, arguments, *says):
    """Runs the command and checks for exit code 2 and one sentence."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2 and "Prepared" not in out
    assert err.count("\n") == 1
    for part in says:
        assert part in err


# ---------------------------------------------------------------- mnist


@pytest.fixture
def prepared(tmp_path, idx_folder):
    folder = tmp_path / "prepared"
    prepare("mnist", folder, idx_folder)
    return folder


def test_what_is_prepared_is_read_back(tmp_path, idx_folder, digits, capsys):
    folder = tmp_path / "prepared"
    arguments = ["mnist", f"--data_dir={folder}", f"--manual_dir={idx_folder}"]
    assert main(arguments) == 0
    assert f"Prepared: {folder}/mnist/3.0.1" in capsys.readouterr().out
    dataset = data.load("tfds:mnist", data_dir=folder)
    for split, part in (("train", dataset.train), ("test", dataset.test)):
        assert rows(part.images[..., 0], part.labels) == rows(*digits[split])
        np.testing.assert_array_equal(part.ids, np.arange(part.size))
    info = json.loads((folder / "mnist/3.0.1/dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    assert info["moduleName"] == "tensorflow_datasets.image_classification.mnist"
    # A second time, and without the original files, it is found as it is.
    assert main(["mnist", f"--data_dir={folder}"]) == 0


def test_other_files_for_what_is_prepared_are_refused(prepared, idx_folder, capsys):
    arguments = ["mnist", f"--data_dir={prepared}", f"--manual_dir={idx_folder}"]
    says = ("already holds the data set (60 train, 20 test images)", "delete that")
    assert_refused(capsys, arguments, str(idx_folder), *says)
    # Without them it says what is there, and how much.
    assert main(["mnist", f"--data_dir={prepared}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Prepared before: ")
    assert out.endswith("(60 train, 20 test images)\n")


def test_kin_of_mnist(tmp_path, idx_folder):
    prepare("fashion_mnist", tmp_path / "prepared", idx_folder)
    dataset = data.load("tfds:fashion_mnist", data_dir=tmp_path / "prepared")
    assert dataset.class_names[:2] == ("T-shirt/top", "Trouser")
    assert dataset.train.size == 60


def test_the_ids_do_not_depend_on_the_splits(prepared):
    for validation in (0, 5, 20):
        dataset = data.load(
            "tfds:mnist", data_dir=prepared, validation_examples=validation
        )
        whole = data.load("tfds:mnist", data_dir=prepared).train
        for split in (dataset.train, dataset.validation):
            np.testing.assert_array_equal(split.images, whole.images[split.ids])


def test_a_data_set_that_is_not_prepared_gives_the_command(tmp_path):
    with pytest.raises(UsageError) as error:
        data.load("tfds:mnist", data_dir=tmp_path)
    command = f"python -m robust_manifold.data.prepare mnist --data_dir={tmp_path}"
    assert str(error.value).endswith(command)
    with pytest.raises(UsageError, match="tfds.builder.'cifar10', data_dir="):
        data.load("tfds:cifar10", data_dir=tmp_path)


def test_the_default_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"in {tmp_path}/tensorflow_datasets;"):
        data.load("tfds:mnist")


@pytest.mark.parametrize("file_format", ["tfrecord", "parquet"])
def test_other_formats_are_told_what_to_do(prepared, file_format, capsys):
    path = prepared / "mnist/3.0.1/dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"fileFormat": file_format}))
    for shard in path.parent.glob("*.array_record-*"):
        shard.rename(str(shard).replace("array_record", file_format))
    with pytest.raises(UsageError) as error:
        data.load("tfds:mnist", data_dir=prepared)
    assert f"has the format {file_format}; allowed: array_record" in str(error.value)
    assert "prepare it with: python -m robust_manifold" in str(error.value)
    arguments = ["mnist", f"--data_dir={prepared}"]
    assert_refused(capsys, arguments, "in another format", "delete that folder")


@pytest.mark.parametrize("how", ["short", "flipped", "gone", "info", "no test"])
def test_damaged_data_sets_are_one_sentence(prepared, how):
    folder = prepared / "mnist/3.0.1"
    path = folder / "mnist-test.array_record-00000-of-00001"
    if how in ("info", "no test"):
        path = folder / "dataset_info.json"
    content = path.read_bytes()
    if how in ("short", "info"):
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        at = content.index(b"PNG") if b"PNG" in content else len(content) * 3 // 4
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    elif how == "no test":
        info = json.loads(content)
        info["splits"] = [s for s in info["splits"] if s["name"] == "test"]
        path.write_text(json.dumps(info))
    else:
        path.unlink()
    with pytest.raises(UsageError) as error:
        data.load("tfds:mnist", data_dir=prepared)
    assert "\n" not in str(error.value)
    if how == "no test":
        assert "has no training split; it has: test" in str(error.value)
    elif how == "info":
        assert f"in {prepared} cannot be opened" in str(error.value)
    else:
        assert f"{folder}, split test, is damaged or incomplete" in str(error.value)


def break_idx(folder, how):
    images = folder / "t10k-images-idx3-ubyte"
    labels = folder / "train-labels-idx1-ubyte"
    packed = folder / "train-images-idx3-ubyte.gz"
    content = images.read_bytes()
    match how:
        case "missing":
            images.unlink()
        case "short":
            images.write_bytes(content[:-1])
        case "header":
            images.write_bytes(content[:10])
        case "text":
            images.write_bytes(b"four score and seven years ago")
        case "shape":
            head = content[:4] + (20).to_bytes(4, "big") + (14).to_bytes(4, "big")
            images.write_bytes(head + (56).to_bytes(4, "big") + content[16:])
        case "gzip":
            packed.write_bytes(packed.read_bytes()[:-20])
        case "not gzip":
            packed.write_bytes(content)
        case "labels":
            labels.write_bytes(labels.read_bytes()[:-1] + bytes([10]))
        case "count":
            head = labels.read_bytes()[:4] + (59).to_bytes(4, "big")
            labels.write_bytes(head + labels.read_bytes()[8:-1])


@pytest.mark.parametrize(
    "how, says",
    [
        ("missing", "The file t10k-images-idx3-ubyte (or t10k-images-idx3-ubyte.gz)"),
        ("short", "t10k-images-idx3-ubyte holds 15679 values; allowed: 15680"),
        ("header", "t10k-images-idx3-ubyte is not an idx file"),
        ("text", "t10k-images-idx3-ubyte is not an idx file"),
        ("shape", "images of the shape (14, 56); allowed: (28, 28)"),
        ("gzip", "train-images-idx3-ubyte.gz is damaged"),
        ("not gzip", "train-images-idx3-ubyte.gz is damaged"),
        ("labels", "train-labels-idx1-ubyte holds the label 10; allowed: 0 to 9"),
        ("count", "holds 59 labels for the 60 images of train-images-idx3-ubyte.gz"),
    ],
)
def test_bad_idx_files_are_refused(tmp_path, idx_folder, capsys, how, says):
    break_idx(idx_folder, how)
    folder = tmp_path / "prepared"
    arguments = ["mnist", f"--data_dir={folder}", f"--manual_dir={idx_folder}"]
    assert_refused(capsys, arguments, says)
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "The following arguments are required: name, --data_dir"),
        (["mnist"], "The following arguments are required: --data_dir"),
        (["mnits", "--data_dir=x"], "invalid choice: 'mnits'"),
        (
            ["mnist", "--data_dir=x", "--manual_dir=/no/such"],
            "manual_dir is '/no/such'",
        ),
        (["mnist", "--data_dir=/dev/null"], "data_dir is '/dev/null', which is not"),
        (["mnist", "--data_dir=x", "--frobnicate"], "Unrecognized arguments"),
        (["celeb_a", "--data_dir=x"], "celeb_a is not downloaded here; give"),
    ],
)
def test_bad_arguments_are_one_sentence(capsys, arguments, says):
    assert_refused(capsys, arguments, says)


def test_unknown_names_are_refused_in_code_too(tmp_path):
    with pytest.raises(UsageError, match="The data set is 'cifar10'; allowed: mnist"):
        prepare("cifar10", tmp_path)


# ---------------------------------------------------------------- downloads


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A web server on this machine that MNIST is then downloaded from."""
    folder = tmp_path / "host"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setattr(tfds.builder_cls("mnist"), "URL", url)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_mnist_is_downloaded(tmp_path, host, idx_folder, digits):
    for path in idx_folder.iterdir():
        content = path.read_bytes()
        packed = content if path.suffix == ".gz" else gzip.compress(content)
        (host / f"{path.stem}.gz").write_bytes(packed)
    prepare("mnist", tmp_path / "prepared")
    test = data.load("tfds:mnist", data_dir=tmp_path / "prepared").test
    assert rows(test.images[..., 0], test.labels) == rows(*digits["test"])


def test_a_file_that_the_host_lacks(tmp_path, host, capsys):
    folder = tmp_path / "prepared"
    arguments = ["mnist", f"--data_dir={folder}"]
    assert_refused(capsys, arguments, "mnist cannot be downloaded (", "--manual_dir")
    assert list((folder / "mnist").iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "nonsense"])
def test_a_host_that_does_not_answer(tmp_path, monkeypatch, capsys, url):
    monkeypatch.setattr(tfds.builder_cls("mnist"), "URL", url)
    arguments = ["mnist", f"--data_dir={tmp_path}"]
    assert_refused(capsys, arguments, f"since {url} does not answer")


# ---------------------------------------------------------------- celeb_a


def landmarks(faces):
    from tensorflow_datasets.datasets.celeb_a import celeb_a_dataset_builder as official

    lines = [f"{i:06d}.jpg " + " ".join([str(i)] * 10) for i in range(1, 5)]
    text = "\n".join(["4", " ".join(official.LANDMARK_HEADINGS), *lines, ""])
    (faces / "list_landmarks_align_celeba.txt").write_text(text)


@pytest.mark.parametrize("unpacked", [False, True])
def test_faces_are_read_back(tmp_path, faces, unpacked):
    archive = faces / "img_align_celeba.zip"
    originals = {}
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            originals[name.rsplit("/", 1)[-1]] = packed.read(name)
        if unpacked:
            packed.extractall(faces)
            landmarks(faces)
            (faces / "identity_CelebA.txt").write_text("000004.jpg 77\n")
    if unpacked:
        archive.unlink()
    prepare("celeb_a", tmp_path / "prepared", faces)
    dataset = data.load("tfds:celeb_a", data_dir=tmp_path / "prepared", label="Male")
    sizes = [s.size for s in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [2, 1, 1]
    assert dataset.image_shape == (218, 178, 3)
    found = {
        (int(image[0, 0, 0]), int(label))
        for split in (dataset.train, dataset.validation, dataset.test)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == {(0, 1), (60, 0), (120, 1), (180, 0)}
    raw = tfds.data_source(
        "celeb_a",
        split="test",
        data_dir=tmp_path / "prepared",
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )[0]
    assert raw["image"] == originals["000004.jpg"]
    assert raw["landmarks"]["nose_x"] == (4 if unpacked else -1)
    assert raw["identity"]["Identity_No"] == (77 if unpacked else -1)


def break_faces(folder, how):
    attributes = folder / "list_attr_celeba.txt"
    partition = folder / "list_eval_partition.txt"
    archive = folder / "img_align_celeba.zip"
    lines = attributes.read_text().splitlines()
    match how:
        case "no images":
            archive.unlink()
        case "zip":
            archive.write_bytes(archive.read_bytes()[:-30])
        case "no attributes":
            attributes.unlink()
        case "no partition":
            partition.unlink()
        case "partition":
            partition.write_text("000001.jpg 3\n")
        case "empty":
            partition.write_text("\n")
        case "header":
            attributes.write_text("\n".join([lines[0], "Male Young", *lines[2:]]))
        case "row":
            attributes.write_text("\n".join([*lines[:-1], "000004.jpg 1 -1"]))
        case "word":
            lines[3] = lines[3].replace("-1", "no", 1)
            attributes.write_text("\n".join(lines))
        case "bytes":
            partition.write_bytes(partition.read_bytes() + b"\xff\xfe 1\n\x89PNG")
        case "bytes instead":
            attributes.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
        case "locked":
            data = bytearray(archive.read_bytes())
            for sign, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
                data[data.index(sign) + place] |= 1
            archive.write_bytes(bytes(data))
        case "no row":
            attributes.write_text("\n".join(lines[:-1]))
        case "no face":
            partition.write_text(partition.read_text() + "000005.jpg 2\n")
            attributes.write_text("\n".join([*lines, lines[-1].replace("4", "5", 1)]))
        case "not jpeg" | "wild":
            archive.unlink()
            with zipfile.ZipFile(archive, "w") as packed:
                for i in range(1, 5):
                    pil.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "x.jpg")
                    if how == "not jpeg":
                        (folder / "x.jpg").write_text("not an image")
                    packed.write(folder / "x.jpg", f"img_align_celeba/{i:06d}.jpg")


@pytest.mark.parametrize(
    "how, says",
    [
        ("no images", "holds neither img_align_celeba.zip nor the folder"),
        ("zip", "img_align_celeba.zip is damaged or not a zip file"),
        ("no attributes", "list_attr_celeba.txt does not exist"),
        ("no partition", "list_eval_partition.txt does not exist"),
        ("partition", "list_eval_partition.txt holds the partitions [3]; allowed: 0"),
        ("empty", "list_eval_partition.txt holds the partitions []"),
        ("header", "list_attr_celeba.txt, line 2, names 2 columns; allowed: 40"),
        ("row", "list_attr_celeba.txt, line 6, cannot be read"),
        ("word", "list_attr_celeba.txt, line 4, cannot be read"),
        ("bytes", "list_eval_partition.txt, line 6, cannot be read"),
        ("bytes instead", "list_attr_celeba.txt, line 2, names 1 columns; allowed: 40"),
        ("locked", "000001.jpg is not a whole JPEG file"),
        ("no row", "list_attr_celeba.txt lacks 000004.jpg"),
        ("no face", "img_align_celeba.zip lacks 000005.jpg"),
        ("not jpeg", "000001.jpg is not a whole JPEG file"),
        ("wild", "000001.jpg has 9x9 pixels; allowed: 178x218"),
    ],
)
def test_bad_faces_are_refused(tmp_path, faces, capsys, how, says):
    break_faces(faces, how)
    folder = tmp_path / "prepared"
    arguments = ["celeb_a", f"--data_dir={folder}", f"--manual_dir={faces}"]
    assert_refused(capsys, arguments, says)
    with pytest.raises(UsageError, match="is not prepared in"):
        data.load("tfds:celeb_a", data_dir=folder, label="Male")


# ---------------------------------------------------------------- processes


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_a_killed_preparation_is_not_taken_for_whole(tmp_path, idx_folder, digits):
    folder = tmp_path / "prepared"
    killed = run(
        """
        import os, signal, sys
        from robust_manifold.data.prepare import build, idx

        def examples(images, labels, original=idx.examples):
            for i, example in enumerate(original(images, labels)):
                if i == 10 and len(images) == 20:  # in the midst of the second split
                    os.kill(os.getpid(), signal.SIGKILL)
                yield example

        idx.examples = examples
        build.prepare("mnist", *sys.argv[1:])
        """,
        folder,
        idx_folder,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((folder / "mnist").iterdir()), "nothing was written before the kill"
    with pytest.raises(UsageError, match="is not prepared in"):
        data.load("tfds:mnist", data_dir=folder)
    prepare("mnist", folder, idx_folder)
    train = data.load("tfds:mnist", data_dir=folder).train
    assert rows(train.images[..., 0], train.labels) == rows(*digits["train"])


def test_tensorflow_is_never_imported(tmp_path, idx_folder):
    fake = tmp_path / "path" / "tensorflow"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    result = run(
        """
        import sys
        from robust_manifold import data
        from robust_manifold.data.prepare.build import prepare

        prepare("mnist", sys.argv[1], sys.argv[2])
        dataset = data.load("tfds:mnist", data_dir=sys.argv[1])
        print(dataset.train.size, next(iter(data.training_batches(
            dataset.train, batch_size=10, seed=0))).images.shape)
        try:
            import tensorflow
        except SystemExit:
            print("and an import would have been seen")
        """,
        tmp_path / "prepared",
        idx_folder,
        PYTHONPATH=str(fake.parent),
    )
    assert result.returncode == 0, result.stderr
    assert "60 (10, 28, 28, 1)\nand an import would have been seen" in result.stdout


def test_the_module_runs_as_a_command(tmp_path, idx_folder):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "robust_manifold.data.prepare",
            "mnist",
            f"--data_dir={tmp_path / 'prepared'}",
            f"--manual_dir={idx_folder}",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "Prepared: " in result.stdout
    assert "Generating train examples" in result.stderr  # progress is shown
    assert "Traceback" not in result.stderr
