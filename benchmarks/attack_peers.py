"""The other libraries, each if it is installed, as functions from a case to images."""

import contextlib
import functools
import importlib
import importlib.util
import io
import logging
import sys
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from attack_networks import pixels
from torch import nn

INSTALL = {
    "foolbox": "pip install '.[bench]'",
    "art": "pip install '.[bench]'",
    "pyautoattack": "pip install '.[bench]'",
    # It pins a `requests` of 2020 and asks for torchvision, which it does not import.
    "torchattacks": "pip install --no-deps torchattacks==3.5.1",
    # It asks for torchvision and for visdom; what is used here needs neither.
    "adv_lib": "pip install --no-deps adv-lib==0.2.8",
}
"""How to get the packages that a peer is imported from."""


def present() -> list[str]:
    """Returns the peers that are installed, and says how to get the others."""
    found = []
    for name, command in INSTALL.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed and is left out: {command}")
        else:
            found.append(name)
    return found


@contextlib.contextmanager
def quiet():
    """Drops what peers print and warn of."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def foolbox_jax(name, epsilon=None, **fields):
    """Returns foolbox' attack on the package's own network, jitted as its users do."""

    def run(case):
        import eagerpy
        import foolbox

        apply = jax_apply(case.classifier)
        model = foolbox.models.JAXModel(apply, bounds=(0, 1))
        attack = getattr(foolbox.attacks, name)(**fields)
        images, labels = jnp.asarray(case.images), jnp.asarray(case.labels)
        made = attack.run(
            model,
            eagerpy.astensor(images),
            foolbox.criteria.Misclassification(eagerpy.astensor(labels)),
            **_budget(epsilon),
        )
        return _found(case, np.asarray(made.raw))

    return run


def foolbox_torch(name, epsilon=None, **fields):
    """Returns foolbox' attack on the PyTorch network."""

    def run(case):
        import eagerpy
        import foolbox

        model = foolbox.PyTorchModel(case.torch, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, name)(**fields)
        images, labels = map(eagerpy.astensor, case.torch_batch())
        criterion = foolbox.criteria.Misclassification(labels)
        made = attack.run(model, images, criterion, **_budget(epsilon)).raw
        return _found(case, pixels(made))

    return run


def _found(case, made):
    """Returns the clean image for a black one: foolbox' CW has it for what it lacks."""
    found = made.any(axis=(1, 2, 3), keepdims=True)
    return np.where(found, made, case.images)


def torchattacks(name, **fields):
    """Returns torchattacks' attack."""

    def run(case):
        library = importlib.import_module("torchattacks")
        return pixels(getattr(library, name)(case.torch, **fields)(*case.torch_batch()))

    return run


def art(name, **fields):
    """Returns the Adversarial Robustness Toolbox's attack."""

    def run(case):
        evasion = importlib.import_module("art.attacks.evasion")
        estimators = importlib.import_module("art.estimators.classification")
        images, labels = case.torch_batch()
        classes = case.classifier.model.output_shape[0]
        estimator = estimators.PyTorchClassifier(
            model=case.torch,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(images.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        given = dict(batch_size=len(images), verbose=False) | fields
        attack = getattr(evasion, name)(estimator, **given)
        targets = np.eye(classes, dtype=np.float32)[case.labels]
        return attack.generate(images.numpy(), targets).transpose(0, 2, 3, 1)

    return run


def apgd(norm, epsilon, steps):
    """Returns Auto-PGD of pyautoattack, the authors' code as a package."""
    fields = {"n_restarts": 1, "n_iter": steps, "loss": "ce"}
    return _pyautoattack("autopgd_base", "APGDAttack", norm, epsilon, fields)


def square(norm, epsilon, queries):
    """Returns the Square attack of pyautoattack."""
    fields = {"n_queries": queries, "resc_schedule": True}
    return _pyautoattack("square", "SquareAttack", norm, epsilon, fields)


def _pyautoattack(module, name, norm, epsilon, fields):
    def run(case):
        library = importlib.import_module(f"pyautoattack.{module}")
        given = dict(norm=norm, eps=epsilon, seed=0, device="cpu") | fields
        attack = getattr(library, name)(case.torch, **given)
        return pixels(attack.perturb(*case.torch_batch()))

    return run


def adv_lib(module, name, **fields):
    """Returns an attack of adv-lib, by its module in `adv_lib.attacks`."""

    def run(case):
        attack = getattr(_adv_lib_module(module), name)
        images, labels = case.torch_batch()
        return pixels(attack(case.torch, images, labels, **fields))

    return run


def jax_apply(classifier):
    """Returns the compiled network as a function of a batch, as foolbox calls it."""
    return functools.partial(jax.jit(classifier.model.apply), classifier.params)


def _budget(epsilon):
    return {} if epsilon is None else {"epsilon": epsilon}


def _adv_lib_module(module):
    """Imports the one file, not the package's other attacks and their drawing."""
    root = importlib.util.find_spec("adv_lib").submodule_search_locations[0]
    for name in ("attacks", "attacks.carlini_wagner"):
        shell = types.ModuleType(f"adv_lib.{name}")
        shell.__path__ = [f"{root}/{name.replace('.', '/')}"]
        sys.modules[f"adv_lib.{name}"] = shell
    drawing = types.ModuleType("adv_lib.utils.visdom_logger")
    drawing.VisdomLogger = object
    sys.modules["adv_lib.utils.visdom_logger"] = drawing
    return importlib.import_module(f"adv_lib.attacks.{module}")
