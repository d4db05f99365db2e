"""Scratch memory of the gradient through an inversion, by the number of its steps.

  python benchmarks/unrolled_memory.py [--generator=MODEL] [--solver=SOLVER]
    [--images=16] [--steps=16,64,256,1024]

Compiles the gradient of a batch's defended logits and runs nothing: the figures are
XLA's own for the compiled program (`memory_analysis`).  Parameters have the values that
the network begins with; no figure depends on them.

unrolled           as the adversary of that name, its steps computed again backwards
stored             the same with all intermediate values kept
implicit           by the implicit function theorem, which does not know of the steps
straight_through   the inversion alone, as a base
"""

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import runs

from robust_manifold import inversion, models
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.defenses import (
    DefenseParams,
    InvertAndClassify,
    Networks,
    adversaries,
)

SHAPE, CLASSES = (28, 28, 1), 10
VIEWS = {
    "unrolled": "unrolled",
    "stored": "unrolled(rematerialise=False)",
    "implicit": "implicit",
    "straight_through": "straight_through",
}


def main():
    options = parse()
    print(runs.describe_machine())
    print(f"{options.images} images, {options.generator}, {options.solver}, 1 restart")
    steps = [int(number) for number in options.steps.split(",")]
    print("MB at steps " + "".join(f"{number:>10,}" for number in steps))
    for name, text in VIEWS.items():
        megabytes = [temporary_bytes(options, text, count) / 1e6 for count in steps]
        print(f"{name:<17}" + "".join(f"{size:10.2f}" for size in megabytes))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="dcgan_generator(latent_size=64)")
    parser.add_argument("--solver", default="lbfgs", help="without its steps")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", default="16,64,256,1024")
    return parser.parse_args()


def temporary_bytes(options, adversary, steps):
    """Returns the scratch memory of one compiled gradient."""
    generator = models.build(options.generator, image_shape=SHAPE)
    classifier = models.build("small_cnn", image_shape=SHAPE, classes=CLASSES)
    solver = inversion.registry.build(f"{options.solver}(steps={steps})")
    spanner = Spanner(generator.apply, generator.input_shape, generator.prior)
    view = adversaries.build(adversary).view(
        InvertAndClassify(solver, 1), Networks(generator=spanner), classifier.apply
    )

    def gradients(params, images, keys):
        def loss(image, key):
            return view(params, image, key)[0]

        return jax.vmap(jax.grad(loss))(images, keys)

    key = jax.eval_shape(lambda: jax.random.key(0))
    params = DefenseParams(
        {"generator": SpannerParams(jax.eval_shape(generator.init, key))},
        jax.eval_shape(classifier.init, key),
    )
    images = jax.ShapeDtypeStruct((options.images, *SHAPE), "float32")
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), options.images))
    compiled = jax.jit(gradients).lower(params, images, keys).compile()
    return compiled.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main()
