"""Layers that add weights to a network, and can be taken off again."""
