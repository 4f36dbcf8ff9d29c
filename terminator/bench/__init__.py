"""How fast and at what cost: one way to measure a case, one file per subject."""
