"""Damage to one file, and kinds of damage to a store: those return the names of the files that they touched."""

import shutil

WHOLE = 4  # shards of full size, so that two of them may change places


def files(folder, pattern="*"):
    return sorted(file for file in folder.glob(pattern) if file.is_file())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bits(folder, other, draw):
    file = draw.choice(files(folder))
    data = bytearray(file.read_bytes())
    for bit in draw.sample(range(8 * len(data)), draw.choice([1, 1, 1, 2, 9])):
        data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
    return [file.name]


def overwrite(folder, other, draw):
    file = draw.choice(files(folder))
    data = bytearray(file.read_bytes())
    start = draw.randrange(len(data))
    stop = min(len(data), start + draw.choice([1, 16, 512]))
    before = bytes(data)
    while bytes(data) == before:
        data[start:stop] = bytes(stop - start) if any(before[start:stop]) else draw.randbytes(stop - start)
    file.write_bytes(data)
    return [file.name]


def truncate(folder, other, draw):
    file = draw.choice(files(folder))
    data = file.read_bytes()
    file.write_bytes(data[: draw.choice([0, 7, len(data) // 2, len(data) - 1, draw.randrange(len(data))])])
    return [file.name]


def extend(folder, other, draw):
    file = draw.choice(files(folder))
    file.write_bytes(file.read_bytes() + draw.randbytes(draw.choice([1, 8, 4096])))
    return [file.name]


def remove(folder, other, draw):
    gone = draw.sample([f for f in files(folder) if f.name != "manifest.json"], draw.choice([1, 1, 2, 3]))
    for file in gone:
        file.unlink()
    return [file.name for file in gone]


def lose_manifest(folder, other, draw):
    (folder / "manifest.json").unlink()
    return ["manifest.json"]


def swap(folder, other, draw):
    """Two whole shards of one size change places, with or without their sidecars."""
    one, two = draw.sample([f"shard-{k:05d}" for k in range(WHOLE)], 2)
    touched = []
    for suffix in draw.choice([["safetensors"], ["json"], ["safetensors", "json"]]):
        a, b = folder / f"{one}.{suffix}", folder / f"{two}.{suffix}"
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)
        touched += [a.name, b.name]
    return touched


def replace(folder, other, draw):
    """Files of another store of the same shape, the manifest left aside."""
    chosen = draw.choice([f for f in files(other) if f.name != "manifest.json"])
    names = [chosen.name]
    if draw.random() < 0.5:
        names = [f"{chosen.stem}.{suffix}" for suffix in ("safetensors", "json")]
    changed = [name for name in names if (other / name).read_bytes() != (folder / name).read_bytes()]
    for name in changed:
        shutil.copy(other / name, folder / name)
    return changed or flip_bits(folder, other, draw)


def edit_manifest(folder, other, draw):
    """What a slip of the keyboard does: a digit, a dtype, a line lost, a line twice, two lines exchanged."""
    file = folder / draw.choice(["manifest.json", "manifest.json", "shared.json", "shard-00001.json"])
    lines = before = file.read_text().splitlines(keepends=True)
    while lines == before:
        lines, at = list(before), draw.randrange(1, len(before) - 1)
        kind = draw.randrange(5)
        if kind == 0:
            digits = [i for i, char in enumerate(lines[at]) if char.isdigit()]
            for i in digits[:1]:
                lines[at] = lines[at][:i] + draw.choice("0123456789") + lines[at][i + 1 :]
        elif kind == 1:
            swap_of = {"float32": "float16", "float16": "bfloat16", "int8": "float32", "tiny": "huge", "cat": "dog"}
            for old, new in swap_of.items():
                lines[at] = lines[at].replace(old, new)
        elif kind == 2:
            del lines[at]
        elif kind == 3:
            lines.insert(at, lines[at])
        else:
            to = draw.randrange(1, len(lines) - 1)
            lines[at], lines[to] = lines[to], lines[at]
    file.write_text("".join(lines))
    return [file.name]


KINDS = [flip_bits, flip_bits, overwrite, truncate, extend, remove, lose_manifest, swap, replace, edit_manifest]
