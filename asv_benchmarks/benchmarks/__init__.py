"""Benchmarks whose subject is the decision (regret, overhead, crossovers) and the kernels."""
