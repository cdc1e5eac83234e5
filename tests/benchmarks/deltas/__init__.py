"""Deltas beside other tools, on pairs of real arm64 images: `make bench-deltas`."""
