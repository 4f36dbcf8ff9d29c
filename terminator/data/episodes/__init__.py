"""Few-shot episodes: classes, their sources, drawing and augmentation."""
