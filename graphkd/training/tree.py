"""A nested state as JSON and tensors, and back."""

from collections.abc import Iterable, Iterator, Mapping
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


def unpack(packed: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """The reverse of :func:`pack`; keys come back as text, tuples as lists.

    Args:
        tensors: each is taken out; what is left has no place in the state.

    Raises: ValueError where a place asks for the tensor of another.
    """
    if isinstance(packed, dict) and packed.keys() == {"tensor"}:
        if packed["tensor"] != path or path not in tensors:
            raise ValueError(f"{path!r} asks for the tensor {packed['tensor']!r}")
        return tensors.pop(path)
    if isinstance(packed, dict):
        return {key: unpack(value, tensors, f"{path}/{key}" if path else key) for key, value in packed.items()}
    if isinstance(packed, list):
        return [unpack(value, tensors, f"{path}/{place}") for place, value in enumerate(packed)]
    return packed


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a nested state that holds nothing else, with its path: ``("optimizer/state/0/exp_avg", ...)``."""
    if isinstance(tree, Mapping | list | tuple) and tree:
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, tree


def differing(trees: Iterable[Any]) -> dict[str, list[str]]:
    """Where nested states differ: the path, and what each of them says there."""
    flat = [dict(leaves(tree)) for tree in trees]
    names = dict.fromkeys(name for each in flat for name in each)
    said = {name: [str(each.get(name, "absent")) for each in flat] for name in names}
    return {name: values for name, values in said.items() if len(set(values)) > 1}
