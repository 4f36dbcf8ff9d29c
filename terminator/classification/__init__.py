"""Terminator's own experiments: images and sequences of pixels, classified."""
