"""Measurements of novelscope on real books, printed as JSON lines: ``python -m benchmarks [NAME ...]``."""
