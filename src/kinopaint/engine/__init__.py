"""Diffusion arithmetic: torch only; knows no video file, no model library, no paper."""
