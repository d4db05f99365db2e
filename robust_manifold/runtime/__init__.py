"""What touches the outside: the run folder, checkpoints, metrics, progress, devices."""

from robust_manifold.runtime import console, devices
from robust_manifold.runtime.artefacts import Artefacts, DamagedArtefact
from robust_manifold.runtime.checkpoints import (
    Checkpoints,
    Restored,
    Saved,
    StoredParams,
    load_params,
    read_params_metadata,
    save_params,
)
from robust_manifold.runtime.journal import Journal
from robust_manifold.runtime.metrics import MetricsWriter, read_metrics
from robust_manifold.runtime.progress import Heartbeat, Progress, Work
from robust_manifold.runtime.run_folder import RunFolder
from robust_manifold.runtime.stopping import (
    Diverged,
    GracefulStop,
    Interrupted,
    Pause,
)

__all__ = [
    "Artefacts",
    "Checkpoints",
    "DamagedArtefact",
    "Diverged",
    "GracefulStop",
    "Heartbeat",
    "Interrupted",
    "Journal",
    "MetricsWriter",
    "Pause",
    "Progress",
    "Restored",
    "RunFolder",
    "Saved",
    "StoredParams",
    "Work",
    "console",
    "devices",
    "load_params",
    "read_metrics",
    "read_params_metadata",
    "save_params",
]
