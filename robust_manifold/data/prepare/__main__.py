"""`python -m robust_manifold.data.prepare NAME --data_dir=DIR [--manual_dir=DIR]`."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from robust_manifold.core.errors import UsageError
from robust_manifold.data.prepare.build import describe, prepare
from robust_manifold.data.sources.tfds import PREPARED_HERE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[0].upper()}{message[1:]}; see --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares one data set and returns the exit code; 2 for a mistake of the user."""
    parser = _Parser(
        prog="python -m robust_manifold.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "--manual_dir holds, for mnist, fashion_mnist and kmnist, the four files\n"
            "  train-images-idx3-ubyte[.gz]  train-labels-idx1-ubyte[.gz]\n"
            "  t10k-images-idx3-ubyte[.gz]   t10k-labels-idx1-ubyte[.gz]\n"
            "(without it they are downloaded); for celeb_a the files\n"
            "  img_align_celeba.zip, or the folder img_align_celeba\n"
            "  list_attr_celeba.txt  list_eval_partition.txt\n"
            "  list_landmarks_align_celeba.txt  identity_CelebA.txt  (both optional)"
        ),
    )
    parser.add_argument("name", choices=PREPARED_HERE, help="the data set")
    parser.add_argument("--data_dir", required=True, help="where to prepare it")
    parser.add_argument("--manual_dir", help="the folder of its original files")
    arguments = parser.parse_args(argv)
    try:
        made = prepare(arguments.name, arguments.data_dir, arguments.manual_dir)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    when = "Prepared before" if made.before else "Prepared"
    print(f"{when}: {made.folder} ({describe(made.sizes)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
