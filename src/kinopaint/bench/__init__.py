"""Benchmarks: a suite of clips, prompts, methods and presets, run cell by cell, as one page and a CSV."""
