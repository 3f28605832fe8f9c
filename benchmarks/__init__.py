"""Benchmarks against the formats and libraries that users would otherwise choose."""
