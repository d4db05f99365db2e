"""Files and texts as they are after accidents and by intent: strategies to draw them.

A mutation keeps most of a good file, so that it gets past the first checks: bytes are
flipped, put in, cut out, doubled, or replaced by numbers that stand for sizes.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import safetensors.numpy
from hypothesis import strategies as st
from PIL import Image as pil

# Values that stand for lengths, counts and flags in the headers of all formats.
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)


def _flip(data: bytearray, place: int, value: int) -> None:
    data[place % len(data)] ^= 1 + value % 255


def _put_in(data: bytearray, place: int, value: int) -> None:
    place %= len(data) + 1
    data[place:place] = bytes([value % 256]) * (1 + value // 256 % 40)


def _cut_out(data: bytearray, place: int, value: int) -> None:
    place %= len(data)
    del data[place : place + 1 + value % 64]


def _cut_off(data: bytearray, place: int, value: int) -> None:
    del data[place % len(data) :]


def _double(data: bytearray, place: int, value: int) -> None:
    place %= len(data)
    data[place:place] = data[place : place + 1 + value % 64]


def _number(data: bytearray, place: int, value: int) -> None:
    number, form = _NUMBERS[value % len(_NUMBERS)], "<>"[value // 16 % 2]
    size = (1, 2, 4, 8)[value // 32 % 4]
    packed = struct.pack(f"{form}Q", number)
    packed = packed[:size] if form == "<" else packed[-size:]
    place %= len(data)
    data[place : place + size] = packed


_CHANGES: tuple[Callable[[bytearray, int, int], None], ...] = (
    *(_flip, _flip, _put_in, _cut_out, _cut_off, _double, _number, _number),
)


@st.composite
def mutated(draw: st.DrawFn, wholes: Sequence[bytes]) -> bytes:
    """Draws one of the whole files after one to six mutations, mostly few."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3, 6]))):
        if not data:
            break
        change = draw(st.sampled_from(_CHANGES))
        change(data, draw(st.integers(0, 2**20)), draw(st.integers(0, 2**16)))
    return bytes(data)


# ---------------------------------------------------------------- arrays

_SIDES = st.one_of(
    st.integers(0, 8), st.sampled_from([28, -1, 2**31, 2**40, 2**63, 10**30, True])
)
_TYPES = st.sampled_from(
    [
        *("<f4", "|u1", "<f8", "<f2", "<i8", "|b1", ">f4", "<U4", "<U0", "|S0", "|V0"),
        *("|O", "<M8[s]", "<c16", "f4,i2", "<U999999999", "", "x", "|V4000000000"),
    ]
)
_HEADERS = st.one_of(
    st.builds(
        "{{'descr': {!r}, 'fortran_order': {}, 'shape': {}, }}".format,
        _TYPES,
        st.sampled_from(["False", "True", "0", "None"]),
        st.lists(_SIDES, max_size=5).map(tuple),
    ),
    st.builds(
        lambda sign, n, close: sign * n + close * n,
        st.sampled_from(["(", "[", "{", "-", "not ", "a.", "1+", "{1:", "'", "\\"]),
        st.integers(1, 9999),
        st.sampled_from(["", ")", "]", "1", "}"]),
    ),
    st.text(max_size=60),
)


@st.composite
def npy_entries(draw: st.DrawFn) -> bytes:
    """Draws an .npy file whose header and contents need not agree."""
    header = draw(_HEADERS).encode("utf-8", "surrogatepass") + b"\n"
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\x09\0"]))
    size = len(header) if draw(st.integers(0, 9)) else draw(st.integers(0, 2**16))
    width = 2 if version == b"\1\0" else 4
    length = (size % 2 ** (8 * width)).to_bytes(width, "little")
    content = bytes(draw(st.sampled_from([0, 1, 24, 784, 4000])))
    return b"\x93NUMPY" + version + length + header + content


@st.composite
def archives(draw: st.DrawFn, names: Sequence[str]) -> bytes:
    """Draws an .npz file of arrays of these names, some of whose sizes are lies."""
    stream = io.BytesIO()
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name in names:
            content = draw(
                st.one_of(
                    npy_entries(),
                    mutated(whole_arrays()),
                    st.sampled_from(whole_arrays()),
                )
            )
            archive.writestr(f"{name}.npy", content)
        if not draw(st.integers(0, 2)):
            entry = archive.infolist()[draw(st.integers(0, len(names) - 1))]
            entry.file_size = draw(st.sampled_from(_NUMBERS))
    return stream.getvalue()


@cache
def whole_arrays() -> tuple[bytes, ...]:
    """Returns good .npy files: images of three kinds, labels, a text."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, 4, 4), np.uint8)
    arrays = [pixels, pixels / 255, np.asfortranarray(pixels[..., None])]
    arrays += [np.arange(2), np.array("{}")]
    files = []
    for array in arrays:
        stream = io.BytesIO()
        np.save(stream, array)
        files.append(stream.getvalue())
    return tuple(files)


@cache
def whole_archives() -> tuple[bytes, ...]:
    """Returns good .npz files: of images, of attacked images, of splits."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 4, 4), np.uint8)
    floats, labels = images.astype(np.float32) / 255, np.arange(3)
    files = []
    for save in (np.savez, np.savez_compressed):
        for pixels in (images, floats[..., None]):
            stream = io.BytesIO()
            save(stream, images=pixels, originals=images, labels=labels)
            files.append(stream.getvalue())
    stream = io.BytesIO()
    np.savez(stream, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return (*files, stream.getvalue())


# ---------------------------------------------------------------- safetensors

_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from(_NUMBERS), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=6,
)


@st.composite
def safetensors_files(draw: st.DrawFn) -> bytes:
    """Draws a .safetensors file whose header need not fit its contents."""
    tensor = {
        "dtype": draw(st.sampled_from(["F32", "F64", "BF16", "F8_E4M3", "I64", "X"])),
        "shape": draw(st.lists(_SIDES, max_size=4)),
        "data_offsets": draw(st.sampled_from([[0, 4], [0, 0], [4, 0], [0, 2**60]])),
    }
    header = {"w": tensor}
    if draw(st.booleans()):
        metadata = {"robust_manifold": json.dumps(draw(_JSON)), "format": "pt"}
        header["__metadata__"] = draw(st.one_of(st.just(metadata), _JSON))
    text = json.dumps(header).encode()
    if not draw(st.integers(0, 5)):
        text = draw(st.sampled_from([b"[", b'{"a":'])) * draw(st.integers(1, 5000))
    size = len(text) if draw(st.integers(0, 5)) else draw(st.sampled_from(_NUMBERS))
    return size.to_bytes(8, "little") + text + bytes(draw(st.sampled_from([0, 4, 9])))


@cache
def whole_safetensors() -> tuple[bytes, ...]:
    """Returns good .safetensors files, of PyTorch's names and of ours."""
    weight = np.arange(48, dtype=np.float32).reshape(3, 16)
    table = {"1.weight": weight, "1.bias": np.zeros(3, np.float16)}
    return tuple(
        safetensors.numpy.save(table, metadata)
        for metadata in (None, {"format": "pt"}, {"robust_manifold": "{}"})
    )


# ---------------------------------------------------------------- pictures


@cache
def whole_pictures() -> tuple[bytes, ...]:
    """Returns good PNG and JPEG files of all kinds that Pillow writes."""
    colour = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    image, notes = pil.fromarray(colour), pil.Exif()
    notes[0x0112], notes[0x010E] = 6, "what is to be seen"
    files = [_encoded(image.convert(mode)) for mode in ("L", "RGB", "RGBA", "P", "1")]
    files += [_encoded(image.convert("P"), transparency=bytes(range(256)))]
    files += [_encoded(pil.fromarray(colour[..., 0].astype(np.uint16) * 257))]
    files += [_encoded(image, save_all=True, append_images=[image.convert("RGB")])]
    files += [_encoded(image, exif=notes, dpi=(72, 72))]
    for options in ({}, {"progressive": True}, {"exif": notes}, {"subsampling": 0}):
        files.append(_encoded(image, "jpeg", **options))
    files += [_encoded(image.convert(mode), "jpeg") for mode in ("L", "CMYK")]
    files += [_encoded(image, "MPO", save_all=True, append_images=[image], exif=notes)]
    return tuple(files)


def _encoded(image: pil.Image, form: str = "png", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """Draws a mutated picture; of a PNG the checksums may be right all the same."""
    data = draw(mutated(whole_pictures()))
    return _checked(data) if draw(st.booleans()) else data


def _checked(data: bytes) -> bytes:
    """Returns a PNG file with the checksums that its chunks should have."""
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        body = data[place + 4 : place + 8 + size]
        checksum = struct.pack(">I", zlib.crc32(body))
        parts += [data[place : place + 4], body, checksum]
        place += 12 + size
    return b"".join([*parts, data[place:]])


# ---------------------------------------------------------------- specs

_VALUES = (
    *("0", "-1", "1e308", "1e999", "None", "True", "'l2'", "()", "(1,)", "[0]", "{}"),
    *("b'x'", "1j", "10**9", "9" * 30, "nan", "inf", "-0.0", "'\\0'", "f'{x}'", "..."),
    *("lambda: 0", "[x for x in y]", "adam", "adam()", "__import__('os')", "*a", "**b"),
)


@st.composite
def specs(draw: st.DrawFn, wholes: Sequence[str]) -> str:
    """Draws a spec's text: a good one with other values, names, signs, or brackets."""
    text = draw(st.sampled_from(wholes))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 8))
        piece = draw(
            st.one_of(
                st.sampled_from(_VALUES),
                st.sampled_from(["(", ")", ",", "=", "'", "\\", "#", "\n", "**", ":="]),
                st.text(max_size=3),
            )
        )
        text = text[:start] + piece + text[end:]
    if not draw(st.integers(0, 9)):
        sign = draw(st.sampled_from(["(", "[", "-", "not ", "a(b=", "{1:", "~", "1+"]))
        text += sign * draw(st.integers(1, 9000))
    return text
