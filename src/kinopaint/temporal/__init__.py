"""What acts on painted frames in the order of time, against flicker: one backend per file."""
