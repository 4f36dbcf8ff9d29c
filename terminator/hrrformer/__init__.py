"""Hrrformer: attention with holographic reduced representations (HRR), and its paper's networks.

algebra     bind, unbind, project, superpose, cosine
attention   HolographicAttention: one superposition per head, one scalar weight per token and head
settings    NetworkSettings, TASKS: the network of every task of the long range arena, and EMBER
network     Hrrformer: the encoder, which takes every mixer of terminator.mixers

Source: arXiv 2305.19534 and its released code.
"""
