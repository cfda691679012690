"""The benchmark: exact ranks, metrics, intervals, protocol, baselines and results."""
