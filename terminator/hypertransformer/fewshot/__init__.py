"""Few-shot learning: HyperTransformer and what it is compared with, trained and tested on episodes.

config    FewShotConfig, every setting
flags     the released command line
presets   named settings, studies
data      classes of every split
tasks     losses and accuracies
trainer   by the loop of all tasks
runs      run or read an experiment, records, models
watch     evaluation beside a training
learner   a trained model and pictures: shown some, it names others
report    what the notebook shows
contrasts  the papers' claims, as comparisons of runs
speed     episodes per second
panel     choose characters, get a classifier
"""
