"""Benchmarks: `make bench`. They print ratios of whole processes, side by side in one run."""
