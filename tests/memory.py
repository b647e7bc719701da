"""Bytes of the tensors that operators make and that are alive at once."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Memory(TorchDispatchMode):
    """Bytes of the tensors made inside and alive; at each event what there is, and the most there was since the last."""

    def __init__(self, *given):
        super().__init__()
        self.now, self.peak, self.known = 0, 0, {each.untyped_storage()._cdata for each in given}
        self.events = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                self._see(each.untyped_storage())
        return out

    def _see(self, storage):
        key = storage._cdata
        if key not in self.known:
            self.known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key, size):
        self.known.discard(key)
        self.now -= size

    def event(self, name):
        self.events.append((name, self.now, self.peak))
        self.peak = self.now
