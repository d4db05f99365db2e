"""`road_signs`: views of ten road signs, drawn by code; needs no download."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from robust_manifold.core import outlines
from robust_manifold.core.spec import check, is_whole
from robust_manifold.data import road_signs
from robust_manifold.data.dataset import Split
from robust_manifold.data.images import Progress
from robust_manifold.data.sources.base import Parts, registry
from robust_manifold.data.sources.decoded import Decoded, DecodedSource, Examples

_CLASS = "class"
_PARTS = ("train", "validation", "test")


@registry.register("road_signs")
@dataclasses.dataclass(frozen=True)
class RoadSigns(DecodedSource):
    """Views of road signs in colour, as many of each class; see `data.road_signs`.

    Every image is drawn from random numbers of its own, named by the seed, the part
    and its place in it: no two parts share any, and a larger part begins with a smaller
    one.  The pixels are the same for one version of Pillow.

    >>> RoadSigns(train=20, validation=0, test=10).read().test.images.shape
    (10, 32, 32, 3)
    """

    train: int = 8000
    """Training images."""
    validation: int = 1000
    """Validation images; 0 for none."""
    test: int = 1000
    """Test images; 0 for none."""
    size: int = 32
    """Side of the images, in pixels."""
    seed: int = 0
    """Of all random numbers."""

    def __post_init__(self):
        super().__post_init__()
        least = {"train": len(road_signs.CLASSES), "validation": 0, "test": 0}
        for field, fewest in least.items():
            value = getattr(self, field)
            whole = is_whole(value, fewest)
            check(whole, self, field, f"a whole number, {fewest} or more")
        sides = is_whole(self.size, 16) and self.size <= 96
        check(sides, self, "size", "a whole number, 16 to 96")
        seeds = is_whole(self.seed, 0) and self.seed < 2**32
        check(seeds, self, "seed", "a whole number, 0 to 2**32 - 1")

    @property
    def _sizes(self) -> dict[str, int]:
        """The images of each part that there is."""
        return {part: n for part in _PARTS if (n := getattr(self, part))}

    def chosen(self, n: int) -> Int64[np.ndarray, " m"]:
        """Returns the first of n examples, which are of all classes alike."""
        return np.arange(min(n, self.max_examples or n), dtype=np.int64)

    def canonical(self) -> "RoadSigns":
        """See `DecodedSource.canonical`."""
        return self

    def files(self) -> list[Path]:
        """Returns the code that draws the signs."""
        return [Path(str(module.__file__)) for module in (road_signs, outlines)]

    def decode(self, on_progress: Progress | None = None) -> Decoded:
        """Returns the views; see `DecodedSource.decode`."""
        done, total = 0, sum(len(self.chosen(n)) for n in self._sizes.values())
        splits = {}
        for part, n in self._sizes.items():
            ids = self.chosen(n)
            labels = (ids % len(road_signs.CLASSES)).astype(np.int32)
            images = np.empty((len(ids), self.size, self.size, 3), np.uint8)
            for place, number in enumerate(ids.tolist()):
                # NumPy keeps the stream of `RandomState` as it is for ever.
                own = [self.seed, _PARTS.index(part), number]
                name = road_signs.CLASSES[labels[place]]
                random = np.random.RandomState(own)
                images[place] = road_signs.view(name, self.size, random)
                done += 1
                if on_progress is not None and (done % 250 == 0 or done == total):
                    on_progress(done, total)
            framed = self.part(images, labels).images
            splits[part] = Examples(framed, labels[:, None], ids)
        return Decoded(splits, {_CLASS: road_signs.CLASSES}, _CLASS)

    def views(
        self,
        name: str,
        count: int,
        *,
        sticker: UInt8[np.ndarray, "side side 3"] | None = None,
        mask: Bool[np.ndarray, "side side"] | None = None,
    ) -> UInt8[np.ndarray, "count side side 3"]:
        """Returns views of one sign that are in none of the parts.

        Args:
          name: one of `road_signs.CLASSES`.
          count: how many, 1 or more.
          sticker: what is printed on the face; see `road_signs.view`.
          mask: where.

        Raises:
          UsageError: for another name.
        """
        return np.stack(
            [
                road_signs.view(
                    name,
                    self.size,
                    np.random.RandomState([self.seed, len(_PARTS), number]),
                    sticker=sticker,
                    mask=mask,
                )
                for number in range(count)
            ]
        )

    def parts(self, decoded: Decoded) -> Parts:
        """See `DecodedSource.parts`."""
        found = {
            part: Split(images, labels[:, 0], ids)
            for part, (images, labels, ids) in decoded.splits.items()
        }
        return Parts(
            found["train"],
            found.get("validation"),
            found.get("test"),
            decoded.features[decoded.own],
        )
