r"""The files of an embedding store: a manifest, and shards that each come with a JSON sidecar.

::

    manifest.json          what the store was made of; lists every file's digest once the store is complete
    shared.safetensors     proxies and proxy_logits, float32 (as far as the teacher has them)
    shard-00000.safetensors, ...   embedding and logits of samples [k * shard_size, (k + 1) * shard_size), all views
    shared.json, shard-00000.json, ...   bytes and digest of that file, and of a shard its ids, sizes, content hashes

A sidecar names the store it belongs to, so shards can be written one by one, in any order and by anyone. No file names
another one: names follow from numbers, so nothing can point outside the folder. ``shared.json`` repeats what the store
was made of, so that a lost manifest can be made again.

A row is a sample's features in a floating-point format, or in 8 bits with a scale and an offset of its own:

.. math:: q_{ij} = \mathrm{round}\big((x_{ij} - o_i) / s_i\big), \qquad o_i = (\max_j x_{ij} + \min_j x_{ij}) / 2,
          \qquad s_i = (\max_j x_{ij} - \min_j x_{ij}) / 254

so that int8 errs by at most :math:`s_i / 2`, a 508th of the row's range. The offset matters for class scores: those of
CLIP lie between 10 and 35, and a scale alone would spend its steps on values that never occur.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from graphkd.data.fingerprint import canonical, class_terms, differences, digest, some
from graphkd.errors import OptionError, StoreError
from graphkd.files import write_file
from graphkd.registry import unknown
from graphkd.text import read_bytes, regular_size
from graphkd.typing import Float, Tensor

Array = np.ndarray[Any, Any]
JSON_LIMIT = 1 << 26  # bytes; Python's objects of a hostile one take about twenty times as much
_OWN = "digest_of_this"
_LAST = len(f',\n "{_OWN}": "{"0" * 64}"\n}}')
_RANGE = ".range"
VERSION = 2
MANIFEST = "manifest.json"
IMPORTED = "imported"  # kind of teacher and name of transform of a store whose teacher is not known
_MOST_SHARDS = 1_000_000
_HEAD = 1 << 10  # bytes of a sidecar or manifest beside its lists
_LONGEST_HEADER = 1 << 16  # bytes; a shard has a handful of tensors
_ENTRY = 256  # bytes of a shard in the manifest


def write_json(path: Path, body: Mapping[str, Any]) -> str:
    """Write a JSON object whose last entry is the SHA-256 of the text before it; returns that digest.

    Raises: StoreError for a text larger than what :func:`read_json` reads; FileError where it cannot be written.
    """
    text = json.dumps(body, indent=1, allow_nan=False).removesuffix("\n}")
    own = digest(text)
    data = f'{text},\n "{_OWN}": "{own}"\n}}'.encode()
    if len(data) > JSON_LIMIT:
        raise StoreError(f"{path} would take {len(data)} bytes, at most {JSON_LIMIT} are read: use smaller shards")
    write_file(path, data)
    return own


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON object and its digest, which is compared before the text is parsed.

    Raises: StoreError unless it is there and fits its own digest.
    """
    try:
        data = read_bytes(path, JSON_LIMIT)
        text, last = data[:-_LAST], data[-_LAST:]
        own = digest(text)
        if last != f',\n "{_OWN}": "{own}"\n}}'.encode():
            raise ValueError("it does not fit its own digest")
        body = json.loads(data)
        del body[_OWN]
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: expected a store that embed(...) wrote; run the embedding") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged ({error}): delete it and embed again into this folder; shards that fit are kept"
        ) from error
    return body, own


def load_file(path: Path, size: int, expected: str) -> Tensor:
    """A file as memory-mapped bytes, once they fit their digest. Raises: StoreError that names the file."""
    try:
        if regular_size(path) == size:  # before mapping: reading past a file's end kills the process
            raw = torch.from_file(str(path), size=size, dtype=torch.uint8)
            if digest(raw.numpy()) == expected:
                return raw
        problem = "does not fit its digest"
    except (OSError, RuntimeError, TypeError) as error:
        problem = f"cannot be read ({error})"
    raise StoreError(f"{path} {problem}: repair the store, or delete this file and embed again")


@dataclass(frozen=True)
class Entry:
    """One finished file: its size in bytes, its digest, and the digest of its sidecar."""

    bytes: int
    digest: str
    sidecar: str


def write_pair(path: Path, data: bytes, **about: Any) -> Entry:
    """Write a file, then the JSON sidecar that makes it count: its size, its digest and what is known of it.

    Args:
        path: of both, without an ending.
    """
    write_file(path.with_name(f"{path.name}.safetensors"), data)
    body = {**about, "bytes": len(data), "digest": digest(data)}
    return Entry(len(data), body["digest"], write_json(path.with_name(f"{path.name}.json"), body))


def read_pair(path: Path, **expected: Any) -> tuple[dict[str, Any], Tensor, Entry]:
    """What :func:`write_pair` wrote: what is known of the file, and its bytes, which fit their digest.

    Args:
        expected: what the sidecar must say.

    Raises: StoreError.
    """
    sidecar = path.with_name(f"{path.name}.json")
    about, own = read_json(sidecar)
    if not {*expected, "bytes", "digest"} <= about.keys() or any(about[key] != expected[key] for key in expected):
        raise StoreError(f"{sidecar} belongs to something else, or does not describe a file")
    entry = Entry(about.pop("bytes"), about.pop("digest"), own)
    return about, load_file(path.with_name(f"{path.name}.safetensors"), entry.bytes, entry.digest), entry


KINDS = {  # in torch and in safetensors
    "float32": (torch.float32, "F32"),
    "float16": (torch.float16, "F16"),
    "bfloat16": (torch.bfloat16, "BF16"),
    "int8": (torch.int8, "I8"),
}


class Column(NamedTuple):
    """One tensor of a shard: its number format, a key of ``KINDS``, and its width."""

    dtype: str
    width: int

    @property
    def bytes(self) -> int:
        """Of one row."""
        return self.width * KINDS[self.dtype][0].itemsize


def encode(part: str, values: Float[Tensor, "n d"], dtype: str) -> dict[str, Tensor]:
    """Rows as they are written, on the CPU: one tensor, or for int8 the numbers and (scale, offset) of each row."""
    if dtype != "int8":
        return {part: values.to("cpu", KINDS[dtype][0])}
    x = values.float().cpu()
    low, high = x.aminmax(dim=1, keepdim=True)
    scale, offset = high / 254 - low / 254, high / 2 + low / 2
    steps = ((x - offset) / scale.where(scale > 0, 1)).round().clamp(-127, 127)
    return {part: steps.to(torch.int8), part + _RANGE: torch.cat([scale, offset], dim=1)}


def decode(part: str, rows: Mapping[str, Tensor], dtype: str) -> Float[Tensor, "n d"]:
    """The reverse of :func:`encode`, in float32."""
    values = rows[part].float()
    if dtype != "int8":
        return values
    spread = rows[part + _RANGE]
    return values.mul_(spread[:, :1]).add_(spread[:, 1:])


def check_dtype(dtype: str) -> None:
    """Raises: UnknownNameError for a dtype that no store has."""
    if dtype not in KINDS:
        raise unknown("store dtype", dtype, list(KINDS))


@dataclass(frozen=True)
class Manifest:
    """What a store was made of.

    Args:
        dtype: of embedding and logits on disk; read back as float32.
        samples: number of samples.
        shard_size: samples per shard; the last shard may hold fewer.
        embedding_dim, num_classes, classes: as of the teacher.
        data, order: fingerprints of the samples and of their order.
        teacher: the teacher's fingerprint.
        transform: canonical JSON of the transform.
        views: views of each sample, one row each.
        drawn: names of the numbers that describe a view's augmentation, stored beside its features.
        space: what these numbers refer to.
        shared, shards: the finished files; ``None`` while the store is incomplete.
    """

    dtype: str
    samples: int
    shard_size: int
    embedding_dim: int
    num_classes: int | None
    classes: list[str] | None
    data: str
    order: str
    teacher: dict[str, str]
    transform: str
    views: int = 1
    drawn: list[str] = field(default_factory=list)
    space: str = ""
    shared: Entry | None = None
    shards: list[Entry] | None = None
    version: int = VERSION

    @property
    def identity(self) -> str:
        """Digest of everything but the list of files."""
        return digest(canonical(self.terms()))

    def terms(self) -> dict[str, Any]:
        """Everything but the list of files, JSON-ready."""
        return asdict(replace(self, shared=None, shards=None))

    @property
    def columns(self) -> dict[str, Column]:
        """The tensors of a shard; a row is one view of one sample, those of a sample in sequence."""
        widths = {"embedding": self.embedding_dim, "logits": self.num_classes or 0}
        found = {part: Column(self.dtype, widths[part]) for part in self.parts}
        if self.dtype == "int8":
            found |= {part + _RANGE: Column("float32", 2) for part in self.parts}
        return found | ({"drawn": Column("float32", len(self.drawn))} if self.drawn else {})

    @property
    def imported(self) -> bool:
        """Whether another program computed the features: nothing but names is known of the images."""
        return self.teacher.get("kind") == IMPORTED

    @property
    def parts(self) -> list[str]:
        """The features of a sample."""
        return ["embedding", *(["logits"] if self.num_classes else [])]

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-self.samples // self.shard_size)

    @property
    def names(self) -> list[str]:
        """Every shard's file name without its ending."""
        return [shard_name(number) for number in range(self.count)]

    def span(self, number: int) -> range:
        """Positions of a shard's samples."""
        return range(number * self.shard_size, min(self.samples, (number + 1) * self.shard_size))

    def listed(self) -> dict[str, Entry]:
        """The finished files of a complete store, by name."""
        assert self.shared is not None
        assert self.shards is not None
        return {"shared": self.shared, **dict(zip(self.names, self.shards, strict=True))}

    def differences(self, asked: "Manifest") -> list[str]:
        """One sentence for each thing in which another run's plan differs, the order of samples left aside."""
        return [
            *differences(self.teacher, asked.teacher),
            *differences(class_terms(self.classes), class_terms(asked.classes)),
            *differences(self._terms(), asked._terms()),
        ]

    def _terms(self) -> dict[str, str]:
        data = f"{self.samples} samples, fingerprint {self.data}"
        return {"transform": self.transform, "data": data, "dtype": self.dtype, "views": str(self.views)}

    def write(self, folder: Path) -> None:
        """Put it into its folder, at once or not at all."""
        write_json(folder / MANIFEST, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a folder. Raises: StoreError for a missing, damaged or foreign one."""
        path = folder / MANIFEST
        return cls.parse(read_json(path)[0], path)

    @classmethod
    def parse(cls, body: Mapping[str, Any], path: Path) -> "Manifest":
        """A manifest out of JSON. Raises: StoreError that names the file and what is wrong in it."""
        if type(body.get("version")) is not int or body["version"] != VERSION:  # 2.0 would give another identity
            raise StoreError(f"{path}: expected version {VERSION}, found {body.get('version')!r}: embed again")
        try:
            if set(body) != {each.name for each in fields(cls)}:
                raise StoreError(f"has the keys {sorted(body)}")
            shared, shards = body["shared"], body["shards"]
            known = {
                "shared": None if shared is None else Entry(**shared),
                "shards": None if shards is None else [Entry(**each) for each in shards],
            }
            manifest = cls(**{**body, **known})
            _check(manifest)
        except (TypeError, ValueError, RecursionError, StoreError) as error:
            raise StoreError(f"{path} is no manifest of a store: it {error}; delete it and embed again") from error
        return manifest


def _check(made: Manifest) -> None:
    """Types, counts, and that the files are as large as the counts say, before anything is allocated by them."""
    counts = [made.samples, made.shard_size, made.embedding_dim, made.views]
    counts += [] if made.num_classes is None else [made.num_classes]
    if made.dtype not in KINDS or any(type(count) is not int or count < 1 for count in counts):
        raise StoreError(f"has dtype {made.dtype!r} and counts {counts}")
    if type(made.teacher) is not dict or any(type(each) is not list for each in (made.drawn, made.classes or [])):
        raise StoreError("holds something else where a list or an object belongs")
    texts = [made.data, made.order, made.transform, made.space, *made.teacher, *made.teacher.values(), *made.drawn]
    if (
        any(type(text) is not str for text in [*texts, *(made.classes or [])])
        or type(json.loads(made.transform)) is not dict
    ):
        raise StoreError("holds something else where a text belongs, or a transform that is no JSON object")
    if made.shards is None:
        if made.count > _MOST_SHARDS:
            raise StoreError(f"is of {made.count} shards, at most {_MOST_SHARDS} are made")
        return
    if made.shared is None or len(made.shards) != made.count:
        raise StoreError(f"lists {len(made.shards)} of {made.count} shards")
    width = sum(column.bytes for column in made.columns.values())
    for name, entry in made.listed().items():
        rows = 0 if name == "shared" else len(made.span(int(name.removeprefix("shard-")))) * made.views
        if type(entry.bytes) is not int or entry.bytes < rows * width:
            raise StoreError(f"says {entry.bytes!r} bytes of {name}, {rows} rows of {width} bytes are more")


def row_bytes(name: str, size: int) -> int:
    """What a sample adds to its shard's sidecar: its id, its size and the hash of its content, each on a line."""
    return len(json.dumps(name)) + len(str(int(size))) + len(f'"{"0" * 64}"') + 3 * len("\n  ,")


def largest_shard(longest: int) -> int:
    """Most samples of a shard whose sidecar can still be read, where none adds more than ``longest`` bytes to it."""
    return (JSON_LIMIT - _HEAD) // longest


def check_shards(plan: Manifest, longest: int) -> None:
    """Refuse a plan whose sidecars or manifest would be longer than what is read, before anything is computed.

    Args:
        plan: what is to be written.
        longest: of the :func:`row_bytes` of its samples.

    Raises: OptionError that says which ``shard_size`` fits.
    """
    most = largest_shard(longest)
    if plan.shard_size > most:
        raise OptionError(
            f"shard_size = {plan.shard_size} is too large: what is listed of a shard's samples may take {JSON_LIMIT} "
            f"bytes, and one of these takes up to {longest}: give at most {most}, in a new folder"
        )
    room = (JSON_LIMIT - _HEAD - len(json.dumps(plan.terms(), indent=1))) // _ENTRY
    if plan.count > room:
        raise OptionError(
            f"shard_size = {plan.shard_size} is too small: it makes {plan.count} shards, and a manifest lists at most "
            f"{room}: give at least {-(-plan.samples // room)}"
        )


def shard_name(number: int) -> str:
    """A shard's file name without its ending."""
    return f"shard-{number:05d}"


def missing_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files that a complete store lacks, or that have another size: no file is read."""
    missing = []
    for name, entry in manifest.listed().items():
        file = folder / f"{name}.safetensors"
        whole = file.is_file() and file.stat().st_size == entry.bytes
        if not whole or not (folder / f"{name}.json").is_file():
            missing.append(file.name)
    return missing


def require_complete(folder: Path, manifest: Manifest) -> None:
    """Raises: StoreError that says how many shards are absent and how to go on."""
    go_on = "run the embedding again with the same folder: only what is absent is computed"
    if manifest.shards is None:
        absent = manifest.count - len(list(folder.glob("shard-*.json")))
        raise StoreError(f"{folder} is incomplete: {absent} of {manifest.count} shards are missing; {go_on}")
    missing = missing_files(folder, manifest)
    if missing:
        raise StoreError(f"{folder} lacks {some(missing)}, absent or not of the size written; {go_on}")


def rows_of(raw: Tensor, manifest: Manifest, number: int, path: Path) -> dict[str, Array]:
    """The tensors of a mapped shard as bytes, a row each, after its header was found to say what the manifest says."""
    try:
        length = int.from_bytes(raw[:8].numpy().tobytes(), "little")
        if length > min(len(raw) - 8, _LONGEST_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {len(raw)}")
        header, body, found = json.loads(raw[8 : 8 + length].numpy().tobytes()), raw[8 + length :], {}
        for name, column in manifest.columns.items():
            shape = [len(manifest.span(number)) * manifest.views, column.width]
            dtype, stated = KINDS[column.dtype]
            begin, end = header[name]["data_offsets"]
            if (header[name]["dtype"], header[name]["shape"]) != (stated, shape) or not 0 <= begin <= end <= len(body):
                raise ValueError(f"{name} is {header[name]}, expected {shape} of {stated}")
            found[name] = body[begin:end].view(dtype).view(shape).view(torch.uint8).numpy()
    except (ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise StoreError(f"{path} is no shard of this store: {error}; delete it and embed again") from error
    return found
