"""From single images to one uint8 array, all of one shape."""

import concurrent.futures
import dataclasses
import math
import os
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image as pil

from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import check

Progress = Callable[[int, int], None]
"""Called with (examples done, examples in all)."""

_CHANNELS = (1, 3)
_SPAN = 256
# Below this size a thread costs more than the decoding that it takes over.
_THREADED_PIXELS = 64 * 64


class ImageError(ValueError):
    """One image cannot be used; the message is the end of a sentence that names it."""


class _ColourAmongGrey(Exception):
    """An image of three channels came after those of one."""


@dataclasses.dataclass(frozen=True)
class Framing:
    """How an image is cut and resized after decoding.

    Attributes:
      crop: side in pixels of the central square that is kept; by default the whole
        image or, where `image_size` is given, its largest central square.
      image_size: side in pixels of the result, resized with an antialiased
        bilinear filter; by default the size stays.
    """

    crop: int | None = None
    image_size: int | None = None

    def __post_init__(self):
        for field in ("crop", "image_size"):
            value = getattr(self, field)
            check(value is None or value >= 1, self, field, "None, or 1 or more")

    def __call__(self, image: pil.Image) -> pil.Image:
        """Returns the cut and resized image.

        Raises:
          ImageError: if the image is smaller than the crop.
        """
        crop = self.crop
        if crop is None and self.image_size is not None:
            crop = min(image.size)
        if crop is not None:
            if crop > min(image.size):
                width, height = image.size
                raise ImageError(
                    f"has {height}x{width} pixels; "
                    f"allowed: at least the crop, {crop}x{crop}"
                )
            left = (image.width - crop) // 2
            top = (image.height - crop) // 2
            # What `image.crop` gives, which warns of squares that are large.
            image = image.resize(
                (crop, crop),
                pil.Resampling.NEAREST,
                box=(left, top, left + crop, top + crop),
            )
        side = self.image_size
        if side is not None and image.size != (side, side):
            image = image.resize((side, side), pil.Resampling.BILINEAR)
        return image


def reframe(
    images: UInt8[np.ndarray, "n h w c"], framing: Framing
) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Returns decoded images cut and resized; the array itself where nothing is asked.

    Raises:
      ImageError: if the images are smaller than the crop, or neither grey nor RGB.
    """
    if framing == Framing():
        return images
    if images.shape[-1] not in _CHANNELS:
        raise ImageError(
            f"have {images.shape[-1]} channels; allowed with a crop or size: 1 or 3"
        )
    shape = images.shape[-1:]
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    framed = [np.asarray(framing(pil.fromarray(image))) for image in squeezed]
    return np.stack(framed).reshape((len(images), *framed[0].shape[:2], *shape))


def stack(
    read: Callable[[range], Iterable[np.ndarray]],
    n: int,
    name: Callable[[int], str],
    on_progress: Progress | None = None,
) -> UInt8[np.ndarray, "n h w c"]:
    """Returns n images as one array, decoded by threads where that is faster.

    All are grey, or else all have three channels: grey images repeat theirs.

    Args:
      read: yields the images of a range of positions; called from several threads.
      n: the number of images, 1 or more.
      name: how to call the image at a position in an error.
      on_progress: called after each span of images.

    Raises:
      UsageError: naming the first image that cannot be used, or whose shape differs
        from that of the first image.
    """

    def decoded(positions: range) -> Iterable[tuple[int, np.ndarray]]:
        position = positions.start
        try:
            for position, image in zip(positions, read(positions), strict=True):
                yield position, image
                # Should the next one fail, it is the one to name.
                position += 1
        except ImageError as error:
            raise UsageError(f"{name(position)} {error}.") from error

    ((_, first),) = decoded(range(1))
    try:
        return _filled(decoded, n, name, first.shape, on_progress)
    except _ColourAmongGrey:
        shape = (*first.shape[:2], 3)
        return _filled(decoded, n, name, shape, on_progress)


def _filled(
    decoded: Callable[[range], Iterable[tuple[int, np.ndarray]]],
    n: int,
    name: Callable[[int], str],
    shape: tuple[int, ...],
    on_progress: Progress | None,
) -> UInt8[np.ndarray, "n h w c"]:
    """Returns n images of one shape; a grey one can stand for one of colour."""
    try:
        images = np.empty((n, *shape), np.uint8)
    except MemoryError:
        raise UsageError(
            f"{n} images of the shape {shape}, that of {name(0)}, take "
            f"{n * math.prod(shape) / 1e9:.1f} GB, more than there are; allowed: "
            "smaller images, by image_size or crop, or fewer, by max_examples."
        ) from None

    def fill(positions: range) -> int:
        for position, image in decoded(positions):
            if image.shape[:2] != shape[:2]:
                raise UsageError(
                    f"{name(position)} has {image.shape[0]}x{image.shape[1]} pixels; "
                    f"allowed: {shape[0]}x{shape[1]}, those of {name(0)}."
                )
            if image.shape[2] > shape[2]:
                raise _ColourAmongGrey
            images[position] = image
        return positions.stop

    spans = [range(s, min(s + _SPAN, n)) for s in range(0, n, _SPAN)]
    threads = 1
    if shape[0] * shape[1] >= _THREADED_PIXELS:
        threads = min(16, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for done in pool.map(fill, spans):
                if on_progress is not None:
                    on_progress(done, n)
        except BaseException:
            # The error is not to wait for the spans that have not begun.
            pool.shutdown(cancel_futures=True)
            raise
    return images
