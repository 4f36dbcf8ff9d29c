"""HamGAN: class-conditional image generation with a Hamburger in generator and discriminator.

config    GanConfig, every setting
presets   named settings, studies
layers    class-conditional batch norm, the GAN's Hamburger and attention
networks  generator, discriminator
frechet   distance of two sets of images in the features of a local classifier
trainer   by the loop of all tasks
runs      run or read an experiment, records, models
report    what notebooks show

Source: section on generation of arXiv 2109.04553 and its released code.
"""
