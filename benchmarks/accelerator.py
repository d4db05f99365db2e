"""What one accelerator does in ten minutes, as a table; `--small` tries it on a CPU.

  python benchmarks/accelerator.py [--small]

It takes the device that JAX finds, and JAX alone; no run is needed.  "of the product"
is the share of the rate of a large float32 matrix product, at JAX's default precision,
which need not be float32's own on every device; the product in bfloat16 stands beside
it.  Passes and PGD take all their steps, so that weights and pixels do not matter and
are random.

mnist      seconds of `experiments/mnist.py` from nothing, trainings and attacks, in a
           process of its own; it needs `tfds:mnist`
passes     forward pass and input gradient of the networks of known_networks.py
pgd        PGD-40, images a second, whole calls
inversion  images x restarts x steps a second, with the network in float32 and bfloat16
faces      GAN training of `experiments/celeba_gender.py:full`, images a second
"""

import argparse
import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import known_networks
import limit
import operations
import passes
import runs
import steps
import timing

from robust_manifold import attacks, models, training

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, SECONDS = 3, 20
PGD_STEPS = 40
FACES = (64, 64, 3)


class Sizes:
    """How much is computed at a time, and for how long the experiment may run."""

    def __init__(self, small):
        self.passes = 8 if small else 2048
        self.attacked = 4 if small else 4096
        self.inverted = 4 if small else 2048
        self.faces = 4 if small else None
        self.run_seconds = 100 if small else 330
        self.experiment = "tiny" if small else "mnist"
        self.stages = "--stages=fit_classifier,fit_generator" if small else ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a trial in two minutes")
    sizes = Sizes(parser.parse_args().small)
    start = time.perf_counter()
    print("| what | setting | rate | of the product |\n| --- | --- | ---: | ---: |")
    # Before this process takes the device's memory.
    print_row(sizes.experiment, "from nothing", run_experiment(sizes))
    product = print_products()
    for name in known_networks.CLASSIFIERS:
        network, images = seeded(name, sizes.passes)
        print_passes(name, network, images, product)
        network, images = seeded(name, sizes.attacked)
        print_pgd(name, network, images, product)
        jax.clear_caches()
    for name in known_networks.GENERATORS:
        print_inversion(known_networks.generator(name), sizes.inverted, product)
        jax.clear_caches()
    print_faces(sizes.faces)
    print(f"\n{runs.describe_versions('not used')}")
    print(f"{time.perf_counter() - start:.0f} s in all")


def print_row(what, setting, rate, share=""):
    print(f"| {what} | {setting} | {rate} | {share} |", flush=True)


def run_experiment(sizes) -> str:
    """Returns how long an experiment takes in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "robust_manifold.main"),
            f"--config=experiments/{sizes.experiment}.py",
            f"--workdir={folder}/run",
            *sizes.stages.split(),
        ]
        start = time.perf_counter()
        try:
            # Programs that an earlier run has compiled would spare it their time.
            subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"},
                check=True,
                capture_output=True,
                text=True,
                timeout=sizes.run_seconds,
            )
        except subprocess.TimeoutExpired:
            return f"over {sizes.run_seconds} s"
        except subprocess.CalledProcessError as error:
            return f"not measured: {error.stderr.strip().splitlines()[-1]}"
        return f"{time.perf_counter() - start:.0f} s"


def seeded(name, count):
    """Returns a classifier with the weights that it begins with, and noise for it."""
    known = known_networks.CLASSIFIERS[name]
    shape = (32, 32, 3) if known.coloured else (28, 28, 1)
    model = models.build(known.text, image_shape=shape, classes=10)
    network = runs.Network(known.text, model, model.init(jax.random.key(0)))
    return network, jax.random.uniform(jax.random.key(1), (count, *shape))


def timed(function, *arguments):
    """Returns the median seconds of a call until its work is done."""

    def run():
        jax.block_until_ready(function(*arguments))

    times = timing.compare({"run": timing.Contender(run)}, ROUNDS, SECONDS)
    return times.median("run")


def print_products() -> float:
    """Prints the rates of matrix products; returns float32's."""
    size, rates = limit.matrix_size(), {}
    for kind in ("float32", "bfloat16"):
        a = jax.random.normal(jax.random.key(0), (size, size), kind)
        seconds = timed(jax.jit(jnp.matmul), a, a)
        rates[kind] = limit.product_operations() / seconds
        setting = f"{kind}, side {size}"
        print_row("matrix product", setting, f"{rates[kind] / 1e12:.4g} TFLOP/s")
    return rates["float32"]


def print_passes(name, network, images, product):
    labels = jnp.zeros(len(images), jnp.int32)
    each = operations.forward(network) * len(images)
    forms = {
        "forward pass": (passes.logits, 1),
        "gradient": (passes.input_gradients, 2),
    }
    for what, (form, factor) in forms.items():
        program = jax.jit(functools.partial(form, network.model.apply))
        seconds = timed(program, network.params, images, labels)
        print_row(
            f"{what}, {name}",
            f"{len(images)} images",
            f"{len(images) / seconds:,.1f} images/s",
            f"{factor * each / seconds / product:.2g}",
        )


def print_pgd(name, network, images, product):
    labels = jnp.zeros(len(images), jnp.int32)
    attack = attacks.PGD(known_networks.CLASSIFIERS[name].epsilon, steps=PGD_STEPS)

    def craft():
        return attacks.craft(
            attack,
            network.model.apply,
            network.params,
            images,
            labels,
            key=jax.random.key(0),
        )

    seconds = timed(craft)
    work = 2 * operations.forward(network) * len(images) * PGD_STEPS
    print_row(
        f"PGD-{PGD_STEPS}, {name}",
        f"{len(images)} images",
        f"{len(images) / seconds:,.1f} images/s",
        f"{work / seconds / product:.2g}",
    )


def print_inversion(generator, count, product):
    run = known_networks.Generating(generator)
    images = runs.generated(generator, count)
    # In both precisions, whatever the device.
    for name, call in steps.calls(count, bfloat16=True).items():
        setting = call.setting
        seconds = timed(steps.timed(run, images, call))
        done = count * setting.restarts.count * setting.solver.steps
        work = done * limit.step_operations(run, setting.solver)
        print_row(
            f"inversion, {generator.text}",
            f"{name}, {count} images x {setting.passes} steps",
            f"{done / seconds:,.0f} restart-steps/s",
            f"{work / seconds / product:.2g}",
        )


def print_faces(batch):
    """Prints the speed of the full budget's GAN training, on noise."""
    spec = importlib.util.spec_from_file_location(
        "celeba_gender", ROOT / "experiments" / "celeba_gender.py"
    )
    experiment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(experiment)
    block = experiment.get_config("full").generator
    batch = batch or block.batch_size
    form = training.generator_trainings.build(block.training)
    generator = models.build(block.model, image_shape=FACES)
    partner = form.build_partner(generator, FACES, 2)
    setting = training.Setting(generator, partner, 8000)
    key, rows = jax.random.key(0), batch * form.minibatches
    images = jax.random.uniform(key, (rows, *FACES))
    labels = jnp.zeros(rows, jnp.int32)
    state = form.init(setting, key)

    def step():
        nonlocal state
        state, _ = form.step(setting, key, state, images, labels)
        return state

    rate = rows / timed(step)
    print_row("GAN of faces", f"{block.model}, batch {batch}", f"{rate:,.1f} images/s")


if __name__ == "__main__":
    main()
