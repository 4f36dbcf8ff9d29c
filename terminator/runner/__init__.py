"""For run_all.py alone: notebooks on disk, locks, progress, the results page. Nothing here imports
torch.
"""
