"""Long range tasks: Hrrformer's networks, with any token mixer, on what its paper trains them on.

config   LongRangeConfig, every setting
presets  named settings, studies
data     tokens of every task: generated, read, or made from images
tasks    the loss of a task
trainer  by the loop of all tasks
runs     run or read an experiment, records, models
report   what the notebook shows: runs, baselines, tables, verdicts
"""
