"""What acts on latents: one published idea per file."""
