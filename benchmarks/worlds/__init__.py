"""Synthetic data for benchmarks."""
