"""Benchmarks: retrieval metrics, baselines and experiments."""
