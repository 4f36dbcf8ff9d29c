"""The fast paths of the CPU; no equations."""
