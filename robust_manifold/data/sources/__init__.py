"""Where images come from: one kind of source a file, registered by its prefix."""

from robust_manifold.data.sources.base import Parts, Source, parse, registry
from robust_manifold.data.sources.decoded import Decoded, DecodedSource, Examples
from robust_manifold.data.sources.folder import Folder
from robust_manifold.data.sources.mnist_5k import Mnist5k
from robust_manifold.data.sources.npz import Npz
from robust_manifold.data.sources.road_signs import RoadSigns
from robust_manifold.data.sources.tfds import Tfds

__all__ = [
    "Decoded",
    "DecodedSource",
    "Examples",
    "Folder",
    "Mnist5k",
    "Npz",
    "Parts",
    "RoadSigns",
    "Source",
    "Tfds",
    "parse",
    "registry",
]
