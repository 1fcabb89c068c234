"""Interventions in attention: one published idea per file."""
