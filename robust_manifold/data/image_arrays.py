"""Arrays of images as users hand them in: those that mean something else are refused.

What is wrong is an `ImageError`, which ends a sentence that names the array.
"""

import numpy as np

from robust_manifold.data.images import ImageError

_CHANNELS = (1, 3)
_FAINT = 1 / 255


def with_channels(images: np.ndarray) -> np.ndarray:
    """Returns images [n, height, width(, channels)] with an axis of channels.

    Raises:
      ImageError: for other shapes, other channels than 1 or 3, and numbers that are
        neither uint8 nor floats.
    """
    shape = images.shape
    if images.ndim not in (3, 4) or 0 in shape[1:]:
        raise ImageError(
            f"has the shape {shape}; allowed: [n, height, width] or [n, height, width, "
            "channels], none of them 0"
        )
    if images.ndim == 4 and shape[3] not in _CHANNELS:
        hint = ""
        if shape[1] in _CHANNELS:
            hint = ", so images.transpose(0, 2, 3, 1), if its channels come first"
        raise ImageError(
            f"has the shape {shape}; allowed: [n, height, width] or [n, height, width, "
            f"1 or 3 channels]{hint}"
        )
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise ImageError(
            f"has the type {images.dtype}; allowed: uint8, or floats in [0, 1]"
        )
    return images[..., None] if images.ndim == 3 else images


def check_brightness(images: np.ndarray) -> None:
    """Refuses images that are black throughout, but for numbers that are not 0.

    Such are zeros and ones as uint8, and floats that were divided by 255 twice.

    Args:
      images: uint8, or floats in [0, 1].

    Raises:
      ImageError: if the brightest pixel is above 0 and at most 1/255.
    """
    whole = images.dtype == np.uint8
    brightest = float(images.max(initial=0)) / (255 if whole else 1)
    if not 0 < brightest <= _FAINT:
        return
    if whole:
        raise ImageError(
            "has no pixel above 1, where white is 255; allowed: uint8 from 0 to 255, "
            "so 255 * images, if 1 is to be white"
        )
    raise ImageError(
        f"has no pixel above {brightest:.2g}, where white is 1; allowed: floats in "
        "[0, 1], so 255 * images, if they were divided by 255 twice"
    )
