"""docs/results.md, made from finished runs; see `robust_manifold.results.command`."""
