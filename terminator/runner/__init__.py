"""For run_all.py: notebooks on disk, locks, progress; and the pages of results, notebooks and runs.
Nothing here imports torch.
"""
