"""How the package's own functions are compiled: soon, on every platform."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

_OPTIONS = {"cpu": {"xla_cpu_use_fusion_emitters": False}}
"""What each platform's compiler is told.

XLA's newer emitters of fused loops take a CPU twice as long to compile, for programs
that are no faster.
"""


class Program:
    """A function as `jax.jit` compiles it, with the options of the platform."""

    def __init__(self, function: Callable[..., Any], **options: Any):
        """Takes the options of `jax.jit`; nothing is compiled yet."""
        self._function, self._options = function, options
        self._jitted: dict[str, Any] = {}

    @property
    def jitted(self) -> Any:
        """The function as `jax.jit` returns it."""
        platform = jax.default_backend()
        if platform not in self._jitted:
            self._jitted[platform] = jax.jit(
                self._function, compiler_options=_known(platform), **self._options
            )
        return self._jitted[platform]

    def __call__(self, *arguments: Any) -> Any:
        """Returns what the function does, compiled."""
        return self.jitted(*arguments)


def compile_together(lowered: Sequence[Any]) -> None:
    """Compiles lowered programs at once, so that their first calls need not.

    XLA spends most of its time on one core.

    Args:
      lowered: what `Program.jitted.lower(...)` gives.
    """
    with ThreadPoolExecutor(len(lowered)) as pool:
        # `list` waits, and raises what a thread raised.
        list(pool.map(lambda one: one.compile(), lowered))


@functools.cache
def _known(platform: str) -> dict[str, Any]:
    """Returns the options of a platform, or none where its XLA has lost one."""
    options = _OPTIONS.get(platform, {})
    try:
        jax.jit(lambda: None, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options
