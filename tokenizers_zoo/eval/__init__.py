"""Evaluation: systems and baselines over a manifest, every metric of a suite, numbers that say how they came about."""
