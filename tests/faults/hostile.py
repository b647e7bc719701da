"""What the hostile cases share: their registry, a payload that leaves a trace, a good store, and forged digests."""

import json
import struct
from functools import partial

from graphkd.data.fingerprint import digest
from graphkd.data.store.embed import embed
from graphkd.data.store.format import write_json
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import verify
from graphkd.errors import StoreError
from tests.data.store.fakes import TinyTeacher, ToTensor, squares

CASES = {}


def hostile(case):
    """A case: it gets an empty folder and a payload, whose unpickling leaves a trace."""
    CASES[case.__name__] = case
    return case


def hostile_table(prefix, case, table):
    """A case for each entry of a table: its values come before the folder and the payload."""
    for name, values in table.items():
        CASES[prefix + name] = partial(case, *values) if isinstance(values, tuple) else partial(case, values)


class Payload:
    """Runs when it is unpickled: creates a file."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return (exec, (f"open({self.trace!r}, 'w').close()",))


def made(place):
    """A good store to start from."""
    folder = place / "store"
    embed(TinyTeacher(), squares(10), folder, transform=ToTensor(), shard_size=4, progress=False)
    return folder


def use(folder):
    """What a run does with a store: open, compare, read everything."""
    store = EmbeddingStore(folder)
    store.check(source=squares(10), teacher=TinyTeacher(), transform=ToTensor())
    if damaged := verify(folder, squares(10)):
        raise StoreError("; ".join(damaged.values()))
    return store[range(10)]


def forge(folder, **changes):
    """A manifest with other values and a digest that fits: the attacker computes it, too."""
    body = json.loads((folder / "manifest.json").read_text())
    del body["digest_of_this"]
    write_json(folder / "manifest.json", {**body, **changes})


def forge_shard(folder, data, name="shard-00001"):
    """Other bytes of a shard, with a manifest that lists them."""
    (folder / f"{name}.safetensors").write_bytes(data)
    body = json.loads((folder / "manifest.json").read_text())
    entry = body["shared"] if name == "shared" else body["shards"][int(name[6:])]
    entry |= {"bytes": len(data), "digest": digest(data)}
    forge(folder, **{key: body[key] for key in ("shared", "shards")})


def header(folder, text, length=None):
    """A shard with another header before the true numbers."""
    data = (folder / "shard-00001.safetensors").read_bytes()
    own = struct.unpack("<Q", data[:8])[0]
    text = text if isinstance(text, bytes) else text.encode()
    forge_shard(folder, struct.pack("<Q", len(text) if length is None else length) + text + data[8 + own :])
