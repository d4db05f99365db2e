"""Projects a user's images with the generator of a run, in rounds that can resume."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_manifold import inversion
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.data.crops import crop_side
from robust_manifold.data.images import Framing
from robust_manifold.data.user_images import (
    UserImage,
    UserImages,
    Wanted,
    as_float,
    content_id,
)
from robust_manifold.evaluation import ProjectionSummary
from robust_manifold.runtime import (
    GracefulStop,
    Interrupted,
    Journal,
    Progress,
    console,
)
from robust_manifold.runtime.artefacts import LONGEST_NAME
from robust_manifold.runtime.output_folder import OutputFolder
from robust_manifold.runtime.run_folder import read_config
from robust_manifold.stages.networks import stored_networks
from robust_manifold.stages.networks.stored_networks import StoredNetwork
from robust_manifold.stages.projecting import projection_files

_ROUND = 256
"""Images that are stored at a time, or one chunk where that is larger."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What to project, and how.

    Attributes:
      run: the workdir of the run.
      images: a folder of images, or an .npz file.
      output: the folder to fill.
      solver: of the inversion.
      restarts: where it starts from.
      seed: root of every random number.
      batch_size: images projected at a time; None: as many as memory allows.
      reject_above: the largest error of an image that counts as near the generator's
        images; None: no image is rejected.
      resize: whether images are cut and resized as those of the run.
      strict: whether the first image that cannot be used ends it all.
      pictures: the largest number of sheets of pictures.
    """

    run: Path
    images: Path
    output: Path
    solver: inversion.Solver = inversion.DEFAULT_SOLVER
    restarts: inversion.Restarts = inversion.DEFAULT_RESTARTS
    seed: int = 0
    batch_size: int | None = None
    reject_above: float | None = None
    resize: bool = False
    strict: bool = False
    pictures: int = 5

    def __post_init__(self):
        """Refuses folders that lie within each other: results are no images."""
        given, made = self.images.resolve(), self.output.resolve()
        if given == made or given in made.parents or made in given.parents:
            raise UsageError(
                f"--output is {str(self.output)!r} with --input {str(self.images)!r}; "
                "allowed: folders that do not lie within each other."
            )

    def describe(self) -> dict[str, Any]:
        """Returns the settings on which the results depend, as plain values."""
        return {
            "run": str(self.run.resolve()),
            "input": str(self.images.resolve()),
            "solver": inversion.registry.to_string(self.solver),
            "restarts": inversion.restarts_registry.to_string(self.restarts),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "reject_above": self.reject_above,
            "resize": self.resize,
            "pictures": self.pictures,
        }


def run(request: Request, stop: GracefulStop) -> ProjectionSummary:
    """Projects what is not projected yet, writes all files and returns the summary.

    Raises:
      UsageError: for whatever the user has to change.
      Interrupted: if it was asked to stop; what is stored is kept.
    """
    generator = stored_networks.load(request.run, "generator")
    encoder = _encoder(request, generator)
    source = UserImages(request.images)
    images = _read(request, source, _wanted(request, generator), stop)
    content = request.describe() | {
        "generator_sha256": generator.sha256,
        "encoder_sha256": encoder.sha256 if encoder else "",
        "images_sha256": _digest(images),
    }
    usable = [image for image in images if image.pixels is not None]
    try:
        with OutputFolder(request.output, content) as folder:
            if projection_files.finished(folder):
                console.info(f"project  {request.output} was finished before")
            else:
                rounds = _Rounds(request, folder, usable)
                if usable:
                    rounds.compute(generator, encoder, len(images), stop)
                projection_files.write(
                    folder,
                    images,
                    rounds.files,
                    reject_above=request.reject_above,
                    sheets=request.pictures,
                    from_archive=source.from_archive,
                )
            return projection_files.read_summary(folder)
    except OSError as error:
        raise UsageError(
            f"{error.filename or request.output} cannot be written ({error.strerror}); "
            "the same command goes on once it can be."
        ) from None


class _Rounds(NamedTuple):
    """The images in pieces that are stored as they are done."""

    request: Request
    folder: OutputFolder
    images: Sequence[UserImage]

    @property
    def size(self) -> int:
        """The number of images of a round; the same whenever the command is given."""
        return max(_ROUND, self.request.batch_size or 0)

    @property
    def files(self) -> list[str]:
        """The files of all rounds, in order."""
        count = -(-len(self.images) // self.size)
        return [f"rounds/round-{number:05d}.npz" for number in range(count)]

    def compute(
        self,
        generator: StoredNetwork,
        encoder: StoredNetwork | None,
        given: int,
        stop: GracefulStop,
    ) -> None:
        """Stores the rounds that are not stored yet."""
        model = generator.model
        spanner = Spanner(
            model.apply,
            model.input_shape,
            model.starts,
            encoder.model.apply if encoder else None,
        )
        params = SpannerParams(generator.params, encoder.params if encoder else None)
        chunk = self._chunk(spanner, params)
        self._tell(given, chunk, generator, encoder)
        missing = [file for file in self.files if not self.folder.has(file)]
        done = len(self.images) - sum(len(self._of(file)) for file in missing)
        with Progress(len(self.images), "project", "images", start=done) as progress:
            for file in missing:
                part = self._of(file)
                with Journal(self.folder, "project", stop):
                    found = self._project(spanner, params, part, chunk, progress, done)
                    self.folder.write_npz(file, found)
                done += len(part)
                if stop.requested:
                    raise Interrupted(f"stopped after {file}")

    def _of(self, file: str) -> Sequence[UserImage]:
        start = self.files.index(file) * self.size
        return self.images[start : start + self.size]

    def _chunk(self, spanner: Spanner, params: SpannerParams) -> int:
        """Returns the images computed at a time: one shape for all rounds."""
        largest = min(self.size, len(self.images))
        if self.request.batch_size is not None:
            return min(largest, self.request.batch_size)
        return inversion.images_at_once(
            spanner,
            params,
            _pixels(self.images[:1]),
            solver=self.request.solver,
            restarts=self.request.restarts,
        )

    def _project(
        self,
        spanner: Spanner,
        params: SpannerParams,
        part: Sequence[UserImage],
        chunk: int,
        progress: Progress,
        before: int,
    ) -> dict[str, np.ndarray]:
        """Returns what is stored of a round."""
        pixels = _pixels(part)
        ids = np.array([content_id(image) for image in pixels])
        found = inversion.invert(
            spanner.generate,
            params.generator,
            pixels,
            key=keys.stream(jax.random.key(self.request.seed), "project"),
            latent_shape=spanner.latent_shape,
            solver=self.request.solver,
            restarts=self.request.restarts,
            prior=spanner.prior,
            encode=spanner.encode,
            encoder_params=params.encoder,
            batch_size=chunk,
            ids=ids,
            on_chunk=lambda done, _: progress.update(before + done),
        )
        arrays = {name: np.asarray(value) for name, value in found._asdict().items()}
        return arrays | {"id": ids}

    def _tell(
        self,
        given: int,
        chunk: int,
        generator: StoredNetwork,
        encoder: StoredNetwork | None,
    ) -> None:
        settings, n = self.request.describe(), len(self.images)
        console.info(
            f"project  {n} of {given} images, {chunk} at a time; "
            f"generator {generator.text}; solver {settings['solver']}; restarts "
            f"{settings['restarts']}; encoder {encoder.text if encoder else 'none'}"
        )


def _pixels(images: Sequence[UserImage]) -> np.ndarray:
    """Returns the images as one array of floats in [0, 1]."""
    return np.stack([as_float(i.pixels) for i in images if i.pixels is not None])


def _encoder(request: Request, generator: StoredNetwork) -> StoredNetwork | None:
    """Returns the run's encoder, if it has one that fits its generator."""
    if "encoder" not in stored_networks.roles_in(request.run):
        return None
    encoder, model = stored_networks.load(request.run, "encoder"), generator.model
    size = model.input_shape[0] - model.latent_classes
    shapes = (encoder.model.input_shape, encoder.model.output_shape)
    fits = shapes == (model.output_shape, (2 * size,))
    if fits and encoder.made_for in (None, generator.sha256):
        return encoder
    console.warning(
        f"the encoder of {request.run} was made for another generator, and is not used."
    )
    return None


def _wanted(request: Request, generator: StoredNetwork) -> Wanted:
    """Returns what the images have to be."""
    height, width, channels = generator.model.output_shape
    shape = (height, width, channels)
    if request.resize:
        return Wanted(shape, _framing(request, height, width))
    try:
        _framing(request, height, width)
    except UsageError:
        # To give --resize would be no help.
        return Wanted(shape)
    return Wanted(shape, resizable=True)


def _framing(request: Request, height: int, width: int) -> Framing:
    """Returns how the run's images were cut and resized.

    Raises:
      UsageError: if that is not known, or gives other images than the generator's.
    """
    file = request.run / "config.json"
    try:
        block = read_config(request.run)["data"]
        crop, side = crop_side(block["crop"]), int(block["image_size"])
    except (OSError, ValueError, LookupError, TypeError):
        raise UsageError(
            f"{file} is missing or damaged; allowed with --resize: a run that says "
            "how its images were cut and resized."
        ) from None
    if height != width or side not in (0, height):
        raise UsageError(
            f"--resize is given, but the generator's images of {height}x{width} pixels "
            "are no squares of config.data.image_size; allowed: images of that size, "
            "without --resize."
        )
    return Framing(crop, side or height)


def _read(
    request: Request, source: UserImages, wanted: Wanted, stop: GracefulStop
) -> list[UserImage]:
    """Returns all images, naming those that cannot be used.

    Raises:
      UsageError: for the first of them, if the request is strict.
    """
    images: list[UserImage] = []
    files: dict[Path, str] = {}
    with Progress(len(source.names), "read", "images") as progress:
        for image in source.read(wanted):
            name = projection_files.shown(image.name)
            if image.pixels is not None:
                reason = _clash(projection_files.file_of(image.name), name, files)
                if reason:
                    image = UserImage(image.name, None, reason)
            images.append(image)
            if image.reason and request.strict:
                raise UsageError(f"{name} {image.reason}.")
            if image.reason:
                console.warning(f"skipped: {name} {image.reason}.")
            progress.update(len(images))
            if stop.requested:
                raise Interrupted("stopped while the images were read")
    return images


def _clash(file: Path, name: str, files: dict[Path, str]) -> str:
    """Returns why a projection cannot have its file beside the others, or nothing.

    Args:
      file: of the projection.
      name: of the image.
      files: of the projections before it, with their folders, by images' names; where
        nothing is in the way, this one is added.
    """
    if len(os.fsencode(file.name)) > LONGEST_NAME:
        return "has too long a name for its projection's file; rename it"
    others = [files[file]] if file in files else []
    others += [
        other
        for before, other in files.items()
        if before in file.parents or file in before.parents
    ]
    if others:
        return f"and {others[0]} would have one projection file; rename one"
    files[file] = name
    return ""


def _digest(images: Sequence[UserImage]) -> str:
    """Returns a checksum of the names, the pixels and the reasons of all images."""
    digest = hashlib.sha256()
    for image in images:
        name = image.name.encode("utf-8", "surrogateescape")
        digest.update(f"{len(name)} ".encode() + name)
        if image.pixels is None:
            digest.update(b"-" + image.reason.encode())
        else:
            pixels = np.ascontiguousarray(image.pixels)
            digest.update(f"{pixels.dtype.str} {pixels.shape} ".encode())
            digest.update(pixels.data)
    return digest.hexdigest()
