r"""Weights in and out: shows, exports and imports the parameters of networks.

  robust-manifold weights export --run=runs/mnist_quick \
      --model=classifier --output=classifier.safetensors
  robust-manifold weights show classifier.safetensors
  robust-manifold weights import --from_torch=state_dict.npz \
      --model=wong_cnn --output=wong.npz

A file is read back by the config's classifier.weights, generator.weights,
encoder.weights or networks.ROLE.weights. With --to_torch, export writes names and
layouts of a PyTorch state dict;

  robust-manifold weights torch --model=wong_cnn

shows the nn.Sequential that such a state dict belongs to, and that import expects.

  robust-manifold weights publish --run=runs/mnist --model=generator \
      --name=mnist_dcgan

writes a network into the folder pretrained, with a model card from the run's records.
--config.pretrained=True reads it where generator.published, or that of another network,
names it.

Exit codes: 0 done; 2 a mistake in the command or the files.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import (
    console,
    load_params,
    published,
    read_params_metadata,
    storage,
    weight_files,
)
from robust_manifold.runtime.arguments import Parser
from robust_manifold.stages.networks import publishing, stored_networks, trained


def show(arguments: argparse.Namespace) -> None:
    """Prints the metadata of a file, and the names, shapes and types of its arrays."""
    _print(*weight_files.read(arguments.file))


def export(arguments: argparse.Namespace) -> None:
    """Writes the trained parameters of a run to a file, and prints what is in it."""
    folder = stored_networks.params_folder(arguments.run, arguments.model)
    stored = read_params_metadata(folder).metadata
    build = stored_networks.build_arguments(stored)
    metadata: dict[str, Any] = {
        "model": stored["model"],
        "image_shape": build["image_shape"],
        "classes": build["classes"],
        "data": stored["data"],
    }
    if trained.GENERATOR in stored:
        metadata[trained.GENERATOR] = stored[trained.GENERATOR]
    params = load_params(folder)
    table = models.to_table(params)
    # What could not be read back must not be written.
    models.from_table(models.build(**build), table)
    if arguments.to_torch:
        table = models.to_torch(**build, params=params)
        metadata["layout"] = "torch"
    weight_files.write(arguments.output, table, metadata)
    _print(table, metadata)


def publish(arguments: argparse.Namespace) -> None:
    """Writes a network of a run and its model card among the published weights."""
    file = publishing.publish(
        arguments.run, arguments.model, arguments.name, arguments.folder
    )
    _print(*weight_files.read(file))


def import_(arguments: argparse.Namespace) -> None:
    """Writes a PyTorch state dict as a file of ours, and prints what is in it."""
    file = weight_files.read(arguments.from_torch)
    build = _build(arguments)
    # A mistake in the model first, for the file has no part in it.
    models.torch_table(**build)
    try:
        table = models.to_table(models.from_torch(state_dict=file.table, **build))
    except UsageError as error:
        raise UsageError(f"{arguments.from_torch}: {error}") from None
    metadata = {
        "model": models.registry.to_string(models.registry.build(arguments.model)),
        "image_shape": list(build["image_shape"]),
        "classes": build["classes"],
        "origin": str(arguments.from_torch),
    }
    weight_files.write(arguments.output, table, metadata)
    _print(table, metadata)


def torch(arguments: argparse.Namespace) -> None:
    """Prints the PyTorch network of a model, and the names of its state dict."""
    build = _build(arguments)
    layers = models.torch_layers(**build)
    table = models.torch_table(**build)
    print("torch.nn.Sequential(")
    for place, layer in enumerate(layers):
        print(f"    {f'{layer},':<50} # {place}")
    print(")")
    for name, shape in table.items():
        print(f"{name:<24} {shape}")


def _build(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments that build the model of the command line."""
    text = arguments.image_shape
    try:
        height, width, channels = (int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(
            f"--image_shape is {text!r}; allowed: height,width,channels such as "
            "28,28,1."
        ) from None
    return {
        "spec": arguments.model,
        "image_shape": (height, width, channels),
        "classes": arguments.classes,
    }


def _print(table: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        print(f"{key:<12} {value}")
    width = max(map(len, table), default=0)
    for name in sorted(table, key=_natural):
        array = table[name]
        print(f"{name:<{width}}  {array.dtype}  {array.shape}")
    print(f"{len(table)} arrays, {sum(a.size for a in table.values()):,} numbers")


def _natural(name: str) -> list[Any]:
    """Returns what puts "Conv_2" before "Conv_10"."""
    # Texts and numbers alternate, so that like is compared with like.
    return [
        int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="robust-manifold weights", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    file = "a file .npz or .safetensors"

    command = commands.add_parser("show", help="what a file holds")
    command.set_defaults(run_command=show)
    command.add_argument("file", help=file)

    command = commands.add_parser("export", help="from a run to a file")
    command.set_defaults(run_command=export)
    command.add_argument("--run", required=True, help="the workdir of the run")
    known = ", ".join(stored_networks.ROLES)
    command.add_argument(
        "--model", required=True, help=f"{known}, or classifier-NAME for a named one"
    )
    command.add_argument("--output", required=True, help=file)
    command.add_argument(
        "--to_torch", action="store_true", help="names and layouts of PyTorch"
    )

    command = commands.add_parser("publish", help="from a run, with a model card")
    command.set_defaults(run_command=publish)
    command.add_argument("--run", required=True, help="the workdir of the run")
    command.add_argument(
        "--model",
        required=True,
        help="classifier, generator, encoder, or classifier-NAME for a named one",
    )
    command.add_argument("--name", required=True, help="of the published weights")
    command.add_argument(
        "--folder", default=published.FOLDER, help=f"({published.FOLDER})"
    )

    command = commands.add_parser("import", help="from a PyTorch state dict to a file")
    command.set_defaults(run_command=import_)
    command.add_argument("--from_torch", required=True, help=file)
    command.add_argument("--output", required=True, help=file)
    _add_model(command)

    command = commands.add_parser("torch", help="the PyTorch network of a model")
    command.set_defaults(run_command=torch)
    _add_model(command)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", required=True, help="as in a config: 'small_cnn(width=32)'"
    )
    command.add_argument(
        "--image_shape", default="28,28,1", help="height,width,channels (28,28,1)"
    )
    command.add_argument(
        "--classes", type=int, default=10, help="the number of classes (10)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; 2 for a mistake of the user."""
    arguments = _parser().parse_args(argv)
    console.setup()
    try:
        arguments.run_command(arguments)
    except (UsageError, OSError) as error:
        if isinstance(error, OSError):
            error = storage.refused(error, "a file of weights")
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # Numbers are only moved about: no accelerator is needed, or held.
    jax.config.update("jax_platforms", "cpu")
    sys.exit(main())
