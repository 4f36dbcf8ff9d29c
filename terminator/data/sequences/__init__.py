"""Sequences of tokens: texts, generated tasks, grey pixels."""
