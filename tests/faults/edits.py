"""Edits of a checkpoint whose digests are computed anew: what is in it fits its digests, and not the run."""

import hashlib
import json

import torch
from safetensors.torch import load_file, save_file

_FILES = ("tensors.safetensors", "state.json")


def edited(folder, change):
    """Apply ``change(state, tensors, manifest)`` to a checkpoint; what it returns says what was done."""
    state, manifest = (json.loads((folder / name).read_text()) for name in ("state.json", "manifest.json"))
    tensors = load_file(folder / "tensors.safetensors")
    said = change(state, tensors, manifest)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, folder / "tensors.safetensors")
    (folder / "state.json").write_text(json.dumps(state))
    manifest |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return said


def places(state, path=()):
    """Paths of everything in a state, containers too."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    for key, value in items:
        yield (*path, key)
        if not (isinstance(value, dict) and value.keys() == {"tensor"}):
            yield from places(value, (*path, key))


def parent(state, path):
    for key in path[:-1]:
        state = state[key]
    return state


def forget(tensors, name):
    """Take the tensors of a value out."""
    for each in [each for each in tensors if each == name or each.startswith(f"{name}/")]:
        del tensors[each]


def drop_a_value(draw, state, tensors, manifest):
    """Take one value out, tensors with it."""
    path = draw.choice([*places(state)])
    gone = parent(state, path).pop(path[-1])
    name = "/".join(map(str, path))
    forget(tensors, name)
    return f"{name} = {str(gone)[:40]} is gone"


def another_type(draw, state, tensors, manifest):
    """Put something else where a value was."""
    path = draw.choice([path for path in places(state) if path[0] not in ("options", "written")])
    before = parent(state, path)[path[-1]]
    others = ("text", [], {}, {"a": 1}, -1, True, None, float("inf"), 10**400, [[[]]])
    new = draw.choice([each for each in others if type(each) is not type(before)])
    parent(state, path)[path[-1]] = new
    name = "/".join(map(str, path))
    forget(tensors, name)
    return f"{name} = {str(before)[:40]} is {new!r}"


def of_tensor(alter):
    """The same for every tensor: which one is drawn."""

    def kind(draw, state, tensors, manifest):
        name = draw.choice(sorted(tensors))
        tensors[name] = alter(tensors[name])
        return f"{name} {alter.__name__}"

    kind.__name__ = alter.__name__
    return kind


def one_more_dimension(value):
    return value.unsqueeze(0)


def emptied(value):
    return value.flatten()[:0]


def one_row_more(value):
    return torch.cat([value.reshape(-1), value.reshape(-1)[:1]])


def as_float16(value):
    return value.to(torch.float16 if value.dtype != torch.float16 else torch.float32)


def as_float64(value):
    return value.double() if value.dtype != torch.float64 else value.float()


def tensor_without_a_place(draw, state, tensors, manifest):
    tensors["optimizer/state/0/more"] = torch.zeros(2)
    return "a tensor that nobody asks for"


def two_tensors_changed_places(draw, state, tensors, manifest):
    a, b = (parent(state, path)[path[-1]] for path in draw.sample([*references(state)], 2))
    a["tensor"], b["tensor"] = b["tensor"], a["tensor"]
    return f"{a} and {b} changed places"


def references(state):
    for path in places(state):
        value = parent(state, path)[path[-1]]
        if isinstance(value, dict) and value.keys() == {"tensor"}:
            yield path


def known_numbers(draw, state, tensors, manifest):
    """Numbers that the run itself knows better."""
    progress, groups = state["progress"], state["optimizer"]["param_groups"]
    place, key, value = draw.choice([
        (progress, "update", progress["update"] + 1), (progress, "epoch", progress["epoch"] + 1),
        (progress, "batch", progress["batch"] + 2), (progress, "batch", 1),
        (progress, "skipped", -1), (progress, "skipped", 99), (progress, "seconds", -1.0),
        (groups[0], "weight_decay", 0.5), (groups[1], "betas", [0.5, 0.5]), (groups[0], "eps", 1.0),
        (groups[0], "params", groups[0]["params"][::-1]), (state["optimizer"], "untouched", [0]),
        (state["optimizer"], "state", {}), (state["options"], "lr", 7.0), (state["options"], "epochs", 9),
        (state["options"]["data"], "content", "0" * 64), (state["random"], "processes", 2),
        (state["random"], "device", "cuda"), (state["meter"], "names", []), (state, "ema", None),
        (progress, "epoch", {}), (progress, "update", False), (state["random"], "processes", True),
        (state["meter"], "counts", {}), (state["optimizer"], "untouched", {}),
        (state["options"]["data"], "classes", "0" * 64), (state["options"], "teacher_fingerprint", {"weights": "0"}),
    ])  # fmt: skip
    place[key] = value
    return f"{key} = {value}"


def no_gradient_yet(draw, state, tensors, manifest):
    """Take moments out, and say that no gradient had reached their parameter."""
    optimizer = state["optimizer"]
    numbers = draw.sample(sorted(optimizer["state"]), draw.choice([1, len(optimizer["state"])]))
    for number in numbers:
        del optimizer["state"][number]
        forget(tensors, f"optimizer/state/{number}")
    optimizer["untouched"] = [*map(int, numbers)]
    return f"no gradient had reached {numbers}"


def too_deep(draw, state, tensors, manifest):
    place, key = draw.choice([(state, "written"), (state["options"], "lr"), (manifest, "more")])
    place[key] = json.loads("[" * 400 + "]" * 400)
    return f"{key} of 400 levels"


def another_format(draw, state, tensors, manifest):
    manifest["format"] = draw.choice([0, 1, 2, 4, "3", None, 3.0, True, [], float("inf")])
    return f"format {manifest['format']!r}"


def another_update(draw, state, tensors, manifest):
    manifest["update"] = draw.choice([0, 1, 99, float("inf"), 4.0, True, None, [], "4", 10**400])
    return f"its manifest says update {manifest['update']}"


KINDS = (
    drop_a_value, another_type, of_tensor(one_more_dimension), of_tensor(emptied), of_tensor(one_row_more),
    of_tensor(as_float16), of_tensor(as_float64), tensor_without_a_place, two_tensors_changed_places, known_numbers,
    known_numbers, another_format, another_update, no_gradient_yet, too_deep,
)  # fmt: skip
