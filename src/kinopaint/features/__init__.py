"""What acts on the network's feature maps: one published idea per file."""
