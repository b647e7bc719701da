"""An ImageNet-size store of random features: how fast it is written, opened, verified and read in random order.

    python benchmarks/store_scale.py                          # 1,280,000 x 768, float16: 2 GB twice, removed afterwards
    python benchmarks/store_scale.py --samples 20000          # a short form

Beside each rate stands that of the plain way: ``torch.save`` per sample and one ``.npy`` memory map for writing, that
map for reading. The two readers take turns, so that a busy machine slows both; fifty batches are compared first. The
median batch tells what this process does while it runs: a batch is shorter than the turn of another process.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graphkd.data.fingerprint import data_fingerprint, order_fingerprint
from graphkd.data.store.format import Manifest
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import verify
from graphkd.data.store.write import StoreWriter
from graphkd.features import Features

_SINGLE = 5000  # samples that torch.save is timed on
_BLOCK = 4096  # rows that are drawn at once


class Names:
    """Ids and sizes of a data set that does not exist."""

    def __init__(self, samples: int) -> None:
        self.ids = [f"n{i // 1300:08d}/{i:08d}.JPEG" for i in range(samples)]
        self.sizes = [110_000] * samples


def plan(names: Names, width: int, dtype: str) -> Manifest:
    """A store as ``embed`` would plan it."""
    samples = len(names.ids)
    return Manifest(
        dtype=dtype,
        samples=samples,
        shard_size=max(4096, -(-samples // 32)),
        embedding_dim=width,
        num_classes=None,
        classes=None,
        data=data_fingerprint(names),
        order=order_fingerprint(names.ids),
        teacher={"weights": "random"},
        transform="{}",
    )


def blocks(samples: int, width: int) -> Iterator[torch.Tensor]:
    """The features: rows of one block, each turned by its own number of places, so that all differ cheaply."""
    draw = torch.randn(_BLOCK, width, generator=torch.Generator().manual_seed(0))
    for start in range(0, samples, _BLOCK):
        block = draw.roll(start // _BLOCK, 1)[: samples - start]
        block[:, 0] = torch.arange(start, start + len(block)) % 2048  # exact in float16
        yield block


def write_store(folder: Path, names: Names, width: int, dtype: str) -> float:
    """Seconds to write the store; making up the features does not count."""
    writer = StoreWriter(folder, plan(names, width, dtype))
    writer.share(Features(torch.zeros(1, width)))
    source, seconds, rest = blocks(len(names.ids), width), 0.0, torch.empty(0, width)
    for number in writer.todo():
        span = writer.plan.span(number)
        while len(rest) < len(span):
            rest = torch.cat([rest, next(source)])
        start = time.perf_counter()
        rows = writer.rows(Features(rest[: len(span)]), [names.ids[i] for i in span])
        writer.shard(number, [rows], names, ["0" * 64] * len(span))
        seconds += time.perf_counter() - start
        rest = rest[len(span) :].clone()
    start = time.perf_counter()
    writer.finish()
    return seconds + time.perf_counter() - start


def write_npy(path: Path, samples: int, width: int, dtype: torch.dtype) -> float:
    """Seconds to write one ``.npy`` by memory map, flushed to the disk; no digest, no ids, no resuming."""
    array = np.lib.format.open_memmap(path, "w+", np.uint16, (samples, width))
    start, seconds = 0, 0.0
    for block in blocks(samples, width):
        begun = time.perf_counter()
        array[start : start + len(block)] = block.to(dtype).view(torch.uint16).numpy()
        start, seconds = start + len(block), seconds + time.perf_counter() - begun
    begun = time.perf_counter()
    array.flush()
    return seconds + time.perf_counter() - begun


def write_single(folder: Path, samples: int, width: int, dtype: torch.dtype) -> float:
    """Seconds for one ``torch.save`` per sample, of which few are enough; not even flushed."""
    folder.mkdir()
    rows = next(blocks(_BLOCK, width)).to(dtype)
    start = time.perf_counter()
    for number in range(samples):
        torch.save(rows[number % _BLOCK].clone(), folder / f"{number:08d}.pt")
    return time.perf_counter() - start


def forget(*files: Path) -> None:
    """Drop files from the page cache; what is mapped somewhere stays."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def anonymous() -> float:
    """Resident memory of this process that belongs to no file, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no RssAnon: run this on Linux")


@contextmanager
def clock(seconds: list[float]) -> Iterator[None]:
    """Append how long the block took."""
    start = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - start)


def read(
    folder: Path, npy: Path, draw: np.random.Generator, batch: int, batches: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each batch from the store (float32 features) and from the plain map (float16 rows), taking turns."""
    store, plain = EmbeddingStore(folder), np.load(npy, mmap_mode="r")
    ways: dict[str, Callable[[Tensor], object]] = {"store": store.read, "npy map": lambda i: plain[i.numpy()]}
    orders = [torch.from_numpy(draw.integers(0, len(store), batch)) for _ in range(batches)]
    for index in orders[:50]:  # right before fast
        expected = torch.from_numpy(plain[index.numpy()]).view(torch.float16).float()
        assert torch.equal(store.read(index).tensor("embedding", "benchmark"), expected)
    plain.sum(dtype=np.int64)  # maps its pages, as the digests did for the store's
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            for index in orders:
                with clock(seconds[name]):
                    way(index)
    return seconds


def main() -> None:
    """Write, open, verify, read; print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_280_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--batches", type=int, default=1000, help="of a timed round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch; with more, a busy machine waits")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        measure(args, Path(place))


def measure(args: argparse.Namespace, place: Path) -> None:
    """One line per figure."""
    folder, npy, n, width = place / "store", place / "plain.npy", args.samples, args.width
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, torch {torch.__version__}")
    print(f"{n:,} x {width} float16, batches of {args.batch} in random order, checksums on")
    names = Names(n)
    seconds = write_store(folder, names, width, "float16")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"write, store            {n / seconds:12,.0f} vectors/s  {seconds:.1f} s, {size / 2**30:.2f} GiB, flushed")
    seconds = write_npy(npy, n, width, torch.float16)
    print(f"write, npy map          {n / seconds:12,.0f} vectors/s  {seconds:.1f} s, flushed, no digests")
    few = min(n, _SINGLE)
    seconds = write_single(place / "single", few, width, torch.float16)
    print(f"write, torch.save       {few / seconds:12,.0f} vectors/s  of {few:,} files, not flushed")
    del names
    forget(*folder.iterdir(), npy)
    before = anonymous()
    took: list[float] = []
    with clock(took):
        store = EmbeddingStore(folder)
    print(f"open, cold              {took[0]:12.3f} s")
    draw = np.random.default_rng(1)
    with clock(took):
        seen = 0
        while seen < n:
            seen += len(store.read(torch.from_numpy(draw.integers(0, n, args.batch))))
    print(f"read, cold              {seen / took[1]:12,.0f} vectors/s  of {seen:,}, each shard's digest compared")
    growth = anonymous() - before
    with clock(took):
        whole = not verify(folder)
    assert whole
    print(f"verify                  {size / took[2] / 1e9:12.2f} GB/s  {took[2]:.2f} s")
    del store
    batches = read(folder, npy, draw, args.batch, args.batches, args.rounds)
    growth = max(growth, anonymous() - before)
    for name, each in batches.items():
        all_of_them, middle = args.batch * len(each) / sum(each), args.batch / np.median(each)
        print(f"read, warm, {name:12s}{all_of_them:12,.0f} vectors/s  {middle:,.0f} by the median batch")
    print(f"memory, anonymous       {growth:12.1f} MiB more than before opening")


if __name__ == "__main__":
    main()
