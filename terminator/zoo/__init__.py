"""Trained models: those that come with the package, and how one is made.

models      a model by its name or from a file, whatever its system
making      a model file that describes itself, from a run
cards       what such a file says of itself, for people
kinds       what differs between systems: classifiers, learners, segmenters
"""
