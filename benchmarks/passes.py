"""Forward pass and input gradient of classifiers: ours, Flax's layers and PyTorch's."""

import functools

import jax
import jax.numpy as jnp
import limit
import numpy as np
import operations
import optax
import stock
import timing
import torch
from attack_networks import torch_network
from layers import MEMORY_FORMATS

SECONDS = 6
"""Of the rounds of one row; three are always run."""


def compare(cases, batches, rounds):
    """Prints a table of seconds and of shares of the matrix product's rate.

    Args:
      cases: networks with images.
      batches: how many images a pass takes.
      rounds: each runs every contender once.
    """
    print(
        f"{'network':14}{'pass':10}{'images':>7}{'MFLOP':>8}{'ours ms':>10}"
        f"{'GFLOP/s':>9}{'of the product':>24}{'flax / ours':>24}{'torch / ours':>24}"
    )
    for case in cases:
        each = operations.forward(case.classifier)
        for name, times_forward in {"forward": 1, "gradient": 2}.items():
            for batch in batches:
                runs = contenders(case.first(batch), gradient=name == "gradient")
                # A part of the images may be all that there is.
                batch = min(batch, len(case.images))
                work = times_forward * each
                _print_row(case.name, name, batch, work, _timed(runs, rounds))


def contenders(case, gradient) -> dict[str, timing.Contender]:
    """Returns the passes by name, after a check that their results agree.

    The pixels are noise: where neighbours are equal, maxima tie in pooling, and each
    library has its own rule for which of them gets the gradient.
    """
    noise = np.random.default_rng(0).random(case.images.shape, np.float32)
    case = case._replace(images=noise)
    images, labels = jnp.asarray(case.images), jnp.asarray(case.labels)
    runs = {}
    own, flax = case.classifier.model.apply, stock.classify(case.classifier)
    for name, apply in {"ours": own, "flax": flax}.items():
        form = input_gradients if gradient else logits
        program = jax.jit(functools.partial(form, apply))
        arguments = (case.classifier.params, images, labels)
        runs[name] = functools.partial(_finished, program, arguments)
    for name, memory_format in MEMORY_FORMATS.items():
        network = torch_network(case.classifier, case.images.shape[1:])
        network = network.to(memory_format=memory_format)
        inputs, classes = case.torch_batch()
        inputs = inputs.contiguous(memory_format=memory_format)
        form = _torch_gradients if gradient else _torch_logits
        runs[f"torch {name}"] = functools.partial(form, network, inputs, classes)
    _check(runs)
    return {name: timing.Contender(run) for name, run in runs.items()}


def logits(apply, params, images, labels):
    """Returns the outputs; labels are for the gradient."""
    del labels
    return apply(params, images)


def input_gradients(apply, params, images, labels):
    """Returns the gradients of the cross-entropy at the images."""

    def loss(images):
        outputs = apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).sum()

    return jax.grad(loss)(images)


def _finished(program, arguments):
    return jax.block_until_ready(program(*arguments))


def _torch_logits(network, images, labels):
    del labels
    with torch.inference_mode():
        return network(images)


def _torch_gradients(network, images, labels):
    images = images.detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(images), labels, reduction="sum")
    (gradients,) = torch.autograd.grad(loss, images)
    return gradients.permute(0, 2, 3, 1)


def _check(runs):
    """Ends the benchmark unless all passes have the same results but for rounding.

    Rounding switches a few activations of a deep network on or off, and with each a
    part of one image's gradient.
    """
    results = {name: np.asarray(run()) for name, run in runs.items()}
    expected = results["ours"]
    for name, found in results.items():
        differ = np.abs(found - expected) > 1e-4 * np.abs(expected).max()
        assert differ.mean() < 0.02, (name, differ.mean())
        off = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert off < 0.02, (name, off)


def _timed(runs, rounds):
    products = limit.matrix_products(None)
    return timing.compare(products | runs, rounds, SECONDS)


def _print_row(network, name, batch, work, times):
    (product,) = (label for label in times.rounds if label.startswith("matrix"))
    seconds = times.median("ours")
    share = limit.share_of(times, product, "ours", work * batch)
    peer = times.fastest(*(f"torch {form}" for form in MEMORY_FORMATS))
    print(
        f"{network:14}{name:10}{batch:7}{work / 1e6:8.1f}{1e3 * seconds:10.2f}"
        f"{work * batch / seconds / 1e9:9.0f}{share!s:>24}"
        f"{times.ratio('flax', 'ours')!s:>24}{times.ratio(peer, 'ours')!s:>24}"
        f"  {peer.split()[1]}",
        flush=True,
    )
