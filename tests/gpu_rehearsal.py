"""Training steps as on a GPU, where there is none: on torch's meta device, whose tensors have no
values.

Reading a value raises there, as it would be a wait on a GPU. What a GPU also waits for is looked
for: copies from memory that is not pinned, and operations that mix tensors of both devices.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
MAKERS = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)


class _Operations(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        devices = {
            t.device.type
            for t in tree_leaves((args, kwargs, out))
            if isinstance(t, torch.Tensor) and t.ndim
        }
        without_wait = func in COPIES and (kwargs.get("non_blocking") or args[2:] == (True,))
        if devices == {"cpu", "meta"} and not without_wait:
            self.found.append(str(func))
        return out


class _Constants(TorchFunctionMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in MAKERS and out.device == META:
            self.found.append(f"{func.__name__} on the device")
        return out


def _for_meta(monkeypatch, name, instead):
    """torch.<name>(device type, ...) knows no meta device; there, it gives this."""
    original = getattr(torch, name)
    monkeypatch.setattr(
        torch,
        name,
        lambda kind, *args, **kwargs: (
            instead if kind == "meta" else original(kind, *args, **kwargs)
        ),
    )


def waits_of_a_step(monkeypatch, make_trainer):
    """What would make one training step wait for a GPU, by name of the operation; [] is how it
    should be.
    """
    monkeypatch.setattr("terminator.trainer.choose_device", lambda name: META)
    for name, instead in (("autocast", contextlib.nullcontext()), ("is_autocast_enabled", False)):
        _for_meta(monkeypatch, name, instead)
    trainer = make_trainer()
    assert next(trainer.model.parameters()).device == META
    trainer.optimizer, trainer.network = trainer._make_optimizer(), trainer._network()
    trainer.model.train()
    batch, generator = next(trainer._batches(0))
    found = []
    with _Operations(found), _Constants(found):
        terms = trainer._step(batch, generator)
    assert all(value.device == META for value in terms.values())
    return found
