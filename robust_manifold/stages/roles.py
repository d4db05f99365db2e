"""The roles of a run's networks: the names under which they are stored and found."""

from robust_manifold.config import CLASSIFIER

_PREFIX = f"{CLASSIFIER}-"
_OF_DEFENCES = "network-"


def of_classifier(name: str) -> str:
    """Returns the role of a classifier.

    >>> of_classifier("classifier"), of_classifier("robust")
    ('classifier', 'classifier-robust')
    """
    return name if name == CLASSIFIER else _PREFIX + name


def classifier_of(role: str) -> str | None:
    """Returns the name of the classifier of a role; None where it is none's.

    >>> classifier_of("classifier-robust"), classifier_of("generator")
    ('robust', None)
    """
    if role == CLASSIFIER:
        return role
    return role.removeprefix(_PREFIX) if role.startswith(_PREFIX) else None


def of_network(name: str) -> str:
    """Returns the role of a network of `config.networks` that the run trains.

    >>> of_network("denoiser")
    'network-denoiser'
    """
    return _OF_DEFENCES + name


def network_of(role: str) -> str | None:
    """Returns the name of the trained network of `config.networks`; None if it is none.

    >>> network_of("network-denoiser"), network_of("generator")
    ('denoiser', None)
    """
    found = role.startswith(_OF_DEFENCES)
    return role.removeprefix(_OF_DEFENCES) if found else None


def place(role: str) -> str:
    """Returns the block of the config that says how a network is made.

    >>> place("classifier-robust"), place("network-denoiser"), place("generator")
    ('classifiers.robust', 'networks.denoiser', 'generator')
    """
    if (network := network_of(role)) is not None:
        return f"networks.{network}"
    name = classifier_of(role)
    return f"classifiers.{name}" if name not in (None, CLASSIFIER) else role


def stage(role: str) -> str:
    """Returns the stage that makes a network.

    >>> stage("classifier-robust"), stage("network-denoiser"), stage("generator")
    ('fit_classifiers', 'fit_networks', 'fit_generator')
    """
    return f"fit_{place(role).partition('.')[0]}"
