"""Files of weights: whole, plain, and read with one sentence for whatever is wrong."""

import os
import re
import zipfile

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import weight_files

TABLE = {
    "params/Conv_0/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "params/Conv_0/bias": np.array([1.5, -0.0], np.float32),
    "batch_stats/count": np.array(7, np.int64),
}
METADATA = {"model": "wong_cnn", "image_shape": [28, 28, 1], "classes": 10}
EXTENSIONS = ("npz", "safetensors")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_is_written_is_read(extension, tmp_path):
    path = tmp_path / "new" / f"weights.{extension}"
    weight_files.write(path, TABLE, METADATA)
    table, metadata = weight_files.read(path)
    assert metadata == METADATA
    assert table.keys() == TABLE.keys()
    for name, array in TABLE.items():
        assert table[name].dtype == array.dtype
        np.testing.assert_array_equal(table[name], array, strict=True)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_arrays_in_any_order_of_axes(extension, tmp_path):
    path = tmp_path / f"weights.{extension}"
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T[::-1]
    weight_files.write(path, {"w": turned})
    np.testing.assert_array_equal(weight_files.read(path).table["w"], turned)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_equal_weights_give_equal_bytes(extension, tmp_path):
    one, other = (tmp_path / f"{name}.{extension}" for name in "ab")
    weight_files.write(one, TABLE, METADATA)
    weight_files.write(other, dict(reversed(TABLE.items())), METADATA)
    assert one.read_bytes() == other.read_bytes()


def test_files_of_other_programs_have_no_metadata(tmp_path):
    np.savez(tmp_path / "a.npz", **{"0.weight": TABLE["params/Conv_0/kernel"]})
    safetensors.numpy.save_file(
        {"0.weight": TABLE["params/Conv_0/kernel"]},
        tmp_path / "a.safetensors",
        metadata={"format": "pt"},
    )
    for extension in EXTENSIONS:
        table, metadata = weight_files.read(tmp_path / f"a.{extension}")
        assert metadata == {}
        assert list(table) == ["0.weight"]
        np.testing.assert_array_equal(table["0.weight"], TABLE["params/Conv_0/kernel"])


def test_ours_are_files_that_other_programs_read(tmp_path):
    for extension in EXTENSIONS:
        weight_files.write(tmp_path / f"a.{extension}", TABLE, METADATA)
    tables = [
        dict(np.load(tmp_path / "a.npz", allow_pickle=False)),
        safetensors.numpy.load_file(tmp_path / "a.safetensors"),
    ]
    for table in tables:
        for name, array in TABLE.items():
            np.testing.assert_array_equal(table[name], array, strict=True)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_flipped_byte_is_noticed_or_harmless(extension, tmp_path):
    path = tmp_path / f"weights.{extension}"
    weight_files.write(path, TABLE, METADATA)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        )
        try:
            table, metadata = weight_files.read(path)
        except UsageError as error:
            refused += 1
            assert str(error).startswith(f"{path} is no file of weights: ")
            assert str(error).count("\n") == 0 and str(error).endswith(".")
        else:
            # Dates in a zip file, and such; or the metadata is not seen as ours.
            assert metadata in (METADATA, {})
            for name, array in TABLE.items():
                np.testing.assert_array_equal(table[name], array, strict=True)
    assert refused > len(whole) / 7 / 3


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_file_cut_short(extension, tmp_path):
    path = tmp_path / f"weights.{extension}"
    weight_files.write(path, TABLE, METADATA)
    whole = path.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError, match="is no file of weights: it is damaged"):
            weight_files.read(path)


def _pickled(path):
    np.savez(path, weight=np.array([{"a": 1}], dtype=object))


def _pickle_alone(path):
    path.write_bytes(b"\x80\x04K\x01.")


def _text_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no array")


def _torch_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04K\x01.")


def _brain_floats(path):
    # By hand, for what writes them differs by the version of safetensors.
    header = b'{"w":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(6))


def _foreign_metadata(path):
    safetensors.numpy.save_file(
        {"w": np.zeros(2, np.float32)}, path, metadata={"robust_manifold": "[]"}
    )


def _null_metadata(path):
    header = (
        b'{"__metadata__":null,"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def _deep_metadata(path):
    safetensors.numpy.save_file(
        {"w": np.zeros(2, np.float32)},
        path,
        metadata={"robust_manifold": "[" * 100_000},
    )


def _with_header(path, header):
    """Writes an .npz file whose array has this text as its header, and 24 bytes."""
    text = header.encode() + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        start = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little")
        archive.writestr("w.npy", start + text + bytes(24))


def _lying(path):
    shape = "'shape': (1000000000000,)"
    _with_header(path, f"{{'descr': '<f4', 'fortran_order': False, {shape}}}")


def _endless(path):
    shape = f"'shape': (0, {10**30})"
    _with_header(path, f"{{'descr': '<f4', 'fortran_order': False, {shape}}}")


def _parentheses(path):
    _with_header(path, "(" * 9000)


def _folder(path):
    path.mkdir()


FAULTS = {
    "pickled objects": ("a.npz", _pickled, "its array 'weight' holds pickled objects"),
    "a pickle": ("a.npz", _pickle_alone, "it is a pickle, as torch.save writes"),
    "no array": ("a.npz", _text_zip, "its entry 'notes.txt' is no array"),
    "a renamed PyTorch file": ("a.npz", _torch_zip, "pickle.*torch.save_file"),
    "another": ("a.safetensors", _torch_zip, "pickle.*safetensors.torch.save_file"),
    "an old one": ("a.safetensors", _pickle_alone, "pickle.*torch.save_file"),
    "bfloat16": ("a.safetensors", _brain_floats, "of the type 'BF16'.*model.float()"),
    "a pipe": ("a.safetensors", os.mkfifo, "cannot be read: it is a pipe"),
    "brackets in brackets": ("a.safetensors", _deep_metadata, "metadata is damaged"),
    "a header of 3.64 TiB": (
        "a.npz",
        _lying,
        r"says \(10{12},\) of float32, .* 24 bytes",
    ),
    "a size of no use": ("a.npz", _endless, "its array 'w' is damaged"),
    "parentheses": ("a.npz", _parentheses, "its array 'w' is damaged"),
    "metadata": ("a.safetensors", _foreign_metadata, "its metadata is damaged"),
    "a folder": ("a.npz", _folder, "cannot be read: Is a directory"),
    "nothing": ("a.npz", lambda path: None, "cannot be read: No such file"),
    "another ending": ("a.npy", _pickle_alone, r"allowed: .*\.npz or \.safetensors\.$"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence(fault, tmp_path):
    name, make, pattern = FAULTS[fault]
    make(tmp_path / name)
    with pytest.raises(UsageError) as raised:
        weight_files.read(tmp_path / name)
    message = str(raised.value)
    assert re.search(pattern, message), message
    assert name in message and message.endswith(".") and "\n" not in message


def test_metadata_of_null_is_none(tmp_path):
    _null_metadata(tmp_path / "a.safetensors")
    table, metadata = weight_files.read(tmp_path / "a.safetensors")
    assert metadata == {} and table["w"].tolist() == [0]


@pytest.mark.parametrize("lie", ["size", "type"])
def test_what_an_entry_says_of_itself_is_compared_too(lie, tmp_path):
    """A zip file's own list of sizes can lie as much as a header."""
    path = tmp_path / "a.npz"
    n = 2**40
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n},)}}"
    _with_header(path, header)
    with zipfile.ZipFile(path, "a") as archive:
        [entry] = archive.infolist()
        entry.file_size = 4 * n
        if lie == "type":
            entry.compress_type = zipfile.ZIP_LZMA
        archive._didModify = True
    with pytest.raises(UsageError, match="bytes of data|packed in a way that NumPy"):
        weight_files.read(path)


PYTORCH = ["a.pt", "A.PT", "a.pth", "ck.pth.tar", "a.pkl", "a.bin", "last.ckpt"]


@pytest.mark.parametrize("name", PYTORCH)
def test_files_of_pytorch_are_told_what_to_do(name, tmp_path):
    _torch_zip(tmp_path / name)
    says = "allowed: .*which in PyTorch safetensors.torch.save_file"
    with pytest.raises(UsageError, match=says):
        weight_files.read(tmp_path / name)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_endings_in_capitals(extension, tmp_path):
    path = tmp_path / f"A.{extension.upper()}"
    weight_files.write(path, TABLE, METADATA)
    assert weight_files.read(path).metadata == METADATA


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written: "):
        weight_files.write(tmp_path / "file" / "a.npz", TABLE)
    with pytest.raises(UsageError, match=r"ends in \.npz or \.safetensors\.$"):
        weight_files.write(tmp_path / "a.bin2", TABLE)
