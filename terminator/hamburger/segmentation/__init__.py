"""Segmentation: HamNet, with a Hamburger or another global context, on labelled pictures.

config      SegmentationConfig, every setting
presets     named settings, studies
tasks       loss, confusion matrix, mIoU
trainer     by the loop of all tasks
evaluation  padding, MSFlip, seeded bases
runs        run or read an experiment, records, models
predict     label maps of image files
mixers      every global mixer in one frame
report      what the notebook shows
figures     its figures
"""
