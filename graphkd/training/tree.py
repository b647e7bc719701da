"""A nested state as JSON and tensors, and back."""

from collections.abc import Mapping
from typing import Any

from graphkd.typing import Tensor


def pack(tree: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """A nested state as JSON-ready data, and its tensors by their path in it: ``"optimizer/state/0/exp_avg"``."""
    if isinstance(tree, Tensor):
        return {"tensor": path}, {path: tree.detach().cpu().clone().contiguous()}  # a clone: tied weights share memory
    items: Any
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [(str(position), value) for position, value in enumerate(tree)]
    else:
        return tree, {}
    packed: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for key, value in items:
        packed[key], found = pack(value, f"{path}/{key}" if path else key)
        assert not tensors.keys() & found.keys(), f"two tensors at {path}/{key}"
        tensors |= found
    return (packed if isinstance(tree, Mapping) else list(packed.values())), tensors


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of :func:`pack`; keys come back as text, tuples as lists."""
    if isinstance(packed, list):
        return [unpack(value, tensors) for value in packed]
    if not isinstance(packed, dict):
        return packed
    if packed.keys() == {"tensor"}:
        return tensors[packed["tensor"]]
    return {key: unpack(value, tensors) for key, value in packed.items()}
