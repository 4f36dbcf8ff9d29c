"""This machine and its files: paths, progress, checkpoints, weights, processes, memory,
settings.
"""
