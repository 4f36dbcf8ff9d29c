"""Words of a command line that trains a tiny network on 64 digits for one epoch; what it leaves."""

NETWORK = ["model.factors=[4,1]", "model.global_hidden=4", "model.local_hidden=4"]
DIGITS = [
    "dataset.channels=3",
    "dataset.train_size=64",
    "dataset.test_size=40",
    *NETWORK,
    "train.batch_size=16",
]
SMALL = [
    "dataset.name=digits",
    *DIGITS,
    "train.epochs=1",
    "train.device=cpu",
    "scheduler.warmup_epochs=0",
]

OF_A_COMMAND = ["curves.png", "index.html", "metrics.csv", "model.safetensors", "record.json"]
