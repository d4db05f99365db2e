"""How a config writes the square that is cut from each image."""

from robust_manifold.core.errors import unknown_name

CROPS = {"defense_gan": 108, "robust_manifold": 178}
"""Sides in pixels of the central squares that papers cut from CelebA's 178x218 images.

* `defense_gan`: Samangouei et al. 2018 cut 108x108, as their released code does
  (`center_crop_size` in `datasets/celeba.py`).
* `robust_manifold`: what Ilyas et al. 2017 cut is not published.  Their released
  reader (`adv_celeba/src/data/celebA_input.py`) takes files of images that are 64x64
  already and cuts nothing off, and the script that made those files is not released.
  So the name stands for the least that a square picture must lose: the whole width.
"""


def crop_side(crop: str | int | None) -> int | None:
    """Returns the side of the central square in pixels; None for the whole image.

    Args:
      crop: a name of `CROPS`, a side as a number or as its text ("140"), or "" or
        None for the whole image.

    Raises:
      UsageError: for any other text.

    >>> crop_side("defense_gan"), crop_side("140"), crop_side("")
    (108, 140, None)
    """
    if not isinstance(crop, str):
        return crop
    if not crop:
        return None
    if crop in CROPS:
        return CROPS[crop]
    if crop.isascii() and crop.isdecimal() and int(crop) > 0:
        return int(crop)
    raise unknown_name("crop", crop, [*CROPS, "a side in pixels such as 140"])
