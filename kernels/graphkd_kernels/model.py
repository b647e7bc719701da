"""python -m graphkd_kernels.model: what the compiled kernels should take on an H200, computed without one.

Every target's operation is recorded on meta tensors: our launches, compiled for sm_90 (registers, shared memory,
instructions by depth of loops), and PyTorch's operations between them. A launch takes as long as its busiest resource:
tensor cores, instruction issue, special functions, load and store, L2 cache, memory. The first four belong to a
multiprocessor, so programs that do not fill all of them, or fill them unevenly, cost more. One efficiency holds for
all. Nothing here is measured; what other people measured of their Triton kernels is computed the same way beside it.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from graphkd_kernels.targets import TARGETS, Target, run

EFFICIENCY = 0.75
"""Of every peak rate. FlashAttention-3 (arXiv 2407.08608) reaches 740 TFLOP/s, 75 % of an H100's peak; streaming
kernels sustain about 75 % of an H200's memory (FlashML-org/flashlib@81e5dea, flashlib/info/roofline.py)."""
HOST = 4.5e-6
"""Seconds of host time of a launch whose compiled kernel is cached (vllm-project/vllm#34838: 8.7 before, 4.5 after)."""
CACHE = 50e6  # bytes of the L2 cache
WITHIN = 1.5  # times a target, or a published time


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU with 132 multiprocessors of the Hopper kind. memory: bytes/s. clock: Hz, of its data sheet's
    989 TFLOP/s: 4,096 operations a cycle and multiprocessor."""

    name: str
    memory: float
    multiprocessors: int = 132
    clock: float = 1.83e9

    def flops(self, kind: str) -> float:
        """FLOP/s: of tensor cores for bf16, tf32 and fp64, of ordinary instructions for fp32."""
        return {"bf16": 4096, "tf32": 2048, "fp64": 512, "fp32": 256}[kind] * self.multiprocessors * self.clock

    @property
    def cache(self) -> float:
        """Bytes/s out of the L2 cache, 5,120 a cycle as NVIDIA's A100 paper has it; it gives none for later ones."""
        return 5120 * self.clock


H200, H100 = Gpu("H200", 4.8e12), Gpu("H100 SXM", 3.35e12)


@dataclass(frozen=True)
class Work:
    """One launch: seconds of each resource at its peak rate, shared evenly, and the same as the GPU's shape allows."""

    name: str
    ideal: dict[str, float]
    actual: dict[str, float]

    @property
    def limit(self) -> str:
        """The busiest resource."""
        return max(self.actual, key=self.actual.__getitem__)

    @property
    def bound(self) -> float:
        """Seconds at peak rates."""
        return max(self.ideal.values())

    @property
    def expected(self) -> float:
        """Seconds at the one efficiency."""
        return max(self.actual.values()) / EFFICIENCY


def product(name: str, gpu: Gpu, flops: float, kind: str, moved: float, programs: int, cached: float = 0.0) -> Work:
    """Of a matrix product, or with no FLOPs of a streaming kernel.

    Args:
        kind: of its arithmetic. moved: bytes from and to memory. programs: as many tiles. cached: bytes from the cache.
    """
    resource = f"{kind} instructions" if kind == "fp32" else f"{kind} tensor cores"
    ideal = {resource: flops / gpu.flops(kind), "memory": moved / gpu.memory, "L2 cache": cached / gpu.cache}
    uneven = ceil(programs / gpu.multiprocessors) * gpu.multiprocessors / max(programs, 1)
    return Work(name, ideal, ideal | {resource: uneven * ideal[resource]})


# recording: our launches and PyTorch's operations, in their order


class _Recorder(TorchDispatchMode):
    """Notes PyTorch's operations that are kernels, and between them our launches, with the bytes that each moves."""

    def __init__(self, launches: list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches, self.work, self._read, self._made = launches, list[Work](), 0, set[int]()
        self._alive: list[Tensor] = []  # a storage's number is its address, and must not be given twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.catch_up()
        found = func(*args, **(kwargs or {}))
        outputs = [
            each for each in (found if isinstance(found, tuple | list) else (found,)) if isinstance(each, Tensor)
        ]
        inputs = list(_tensors(args))
        name = func._schema.name.partition("::")[2]
        if outputs and not _is_view(func, inputs, outputs) and not name.startswith(("empty", "new_empty")):
            moved = self.moved([*inputs, *outputs], sum(map(_bytes, [*inputs, *outputs])))
            self.work.append(_vendor(name, inputs, outputs[0], moved))
        self._made |= {each.untyped_storage()._cdata for each in outputs}
        self._alive += outputs
        return found

    def moved(self, tensors: Sequence[Tensor], traffic: float) -> float:
        """Bytes from memory: inputs the first time, and all traffic of what does not fit the cache."""
        sizes = {each.untyped_storage()._cdata: 0.0 for each in tensors}
        for each in tensors:
            place = each.untyped_storage()._cdata
            sizes[place] = max(sizes[place], _bytes(each))
        if sum(sizes.values()) > CACHE:
            return traffic
        cold = sum(size for place, size in sizes.items() if place not in self._made)
        self._made |= sizes.keys()
        self._alive += tensors
        return cold

    def catch_up(self) -> None:
        """Launches of ours since the last operation."""
        for launch in self.launches[self._read :]:
            self.work.append(_ours(launch, self))
        self._read = len(self.launches)


def _tensors(values: Any) -> Iterator[Tensor]:
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, tuple | list):
            yield from _tensors(each)


def _is_view(func: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    places = {each.untyped_storage()._cdata for each in inputs}
    return not func._schema.is_mutable and all(each.untyped_storage()._cdata in places for each in outputs)


def _bytes(tensor: Tensor) -> float:
    """Of the elements that are there; an expanded dimension is there once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * prod(size if stride else 1 for size, stride in sizes)


_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


def _vendor(name: str, inputs: Sequence[Tensor], output: Tensor, moved: float) -> Work:
    """Of one operation of PyTorch."""
    plain = name.rstrip("_")
    if plain not in _PRODUCTS:
        return product(name, H200, 0.0, "fp32", moved, 1)
    left = inputs[-2]
    kind = {torch.float32: "fp32", torch.float64: "fp64"}.get(left.dtype, "bf16")
    (n, m), depth = output.shape[-2:], left.shape[-1]
    tiles = output.shape[:-2].numel() * ceil(n / 64) * ceil(m / 64) * max(1, depth // 512)  # long sums are split
    return product(f"{name} {kind}", H200, 2.0 * output.numel() * depth, kind, moved, tiles)


# the work of our launches


def insertions(columns: float, rows: int, k: int, of: int) -> float:
    """Passes of a search over a tile: what the row that takes most takes, of random distances, on average over tiles.

    A row takes k numbers from its first tile, and from the i-th as many as are among its k nearest so far: binomially
    distributed, with the chance 1 / i.
    """
    tiles = max(1, ceil(of / columns))
    total = float(min(k, columns))
    for index in range(2, tiles + 1):
        below, term, step = 0.0, (1 - 1 / index) ** k, 0
        while below < 1 - 1e-9 and step < columns:
            below += term
            total += 1 - min(below, 1.0) ** rows
            step += 1
            term *= (k - step + 1) / step / (index - 1)
    return total / tiles


def _neighbours(a: dict[str, Any]) -> tuple[Any, ...]:
    searches = insertions(a["COLUMNS"], a["ROWS"], a["k"], min(a["part"], a["n"]))
    return ceil(min(a["part"], a["n"]) / a["COLUMNS"]), (a["d"] / a["BK"], searches)


_LOOPS: dict[str, Callable[[dict[str, Any]], tuple[Any, ...]]] = {
    "angle_arms_kernel": lambda a: (a["n"],),
    "angle_pairs_kernel": lambda a: (a["last"] - a["first"],),
    "combine_kernel": lambda a: (a["splits_x"],),
    "dist_bwd_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]),),
    "dist_merge_kernel": lambda a: (a["blocks"],),
    "dist_rows_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]),),
    "edges_bwd_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]), a["width"] / a["BK"]),
    "edges_fwd_kernel": lambda a: (a["width"] / a["BK"],),
    "gram_kernel": lambda a: (a["n"] / a["splits"] / a["BK"],),
    "knn_kernel": _neighbours,
    "pearson_merge_kernel": lambda a: (a["blocks"],),
    "pearson_rows_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]),),
    "rkd_means_kernel": lambda a: (ceil(a["n"] / 1024),),
    "rkd_value_kernel": lambda a: (ceil(a["n"] / 1024),),
    "rkd_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]),),
    "rkd_sum_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]),),
    "row_kl_kernel": lambda a: (ceil(a["m"] / a["COLUMNS"]),),
    "rows_bwd_kernel": lambda a: (ceil(a["d"] / a["COLUMNS"]),),
    "rows_fwd_kernel": lambda a: (ceil(a["dx"] / a["COLUMNS"]),),
    "similarity_kernel": lambda a: (a["d"] / a["BK"],),
    "sizes_kernel": lambda a: (a["width"] / a["BK"],),
    "squares_kernel": lambda a: (0,),  # of close rows, which random ones are not
    "split_kernel": lambda a: (ceil(a["width"] / a["COLUMNS"]),),
    "terms_product_kernel": lambda a: (ceil(min(a["part"], a["a_depth"]) / a["BK"]),),
}
"""How often a kernel's loops run, outermost first, from its arguments and constants; of a pair, those with products and
those without."""
_COMPILED: dict[str, Any] = {}


def _ours(launch: Any, recorder: _Recorder) -> Work:
    """Of one launch of ours: what its machine code asks for, times how often its loops run."""
    from graphkd_kernels._triton import aot_check, resources  # load triton

    key = aot_check.compilation(launch)
    if key not in _COMPILED:
        _COMPILED[key] = resources.of(launch)
    compiled, name, programs = _COMPILED[key], launch.kernel.__name__, prod(launch.grid)
    if compiled.loops and name not in _LOOPS:
        raise KeyError(f"{name} has loops: say in graphkd_kernels.model how often they run")
    times = _LOOPS[name](launch.args | launch.constants) if compiled.loops else ()
    warp = compiled.once
    for depth, count in compiled.loops:
        warp += count.times(prod(_of_pair(each, count.products > 0) for each in times[:depth]))
    every = warp.times(programs * compiled.warps)
    tensors = list(_tensors(launch.args.values()))
    places = {each.untyped_storage()._cdata: _bytes(each) for each in tensors}
    reads = min(every.loaded + every.copied, sum(places.values()))
    return _shaped(name, compiled, warp, programs, recorder.moved(tensors, reads + every.stored))


def _of_pair(times: Any, products: bool) -> float:
    return float(times[0 if products else 1] if isinstance(times, tuple) else times)


def _shaped(name: str, compiled: Any, warp: Any, programs: int, moved: float) -> Work:
    """From the counts of a warp: seconds of each resource if all multiprocessors shared it, and on the busiest one."""
    gpu, warps = H200, compiled.warps
    busiest = ceil(programs / gpu.multiprocessors)
    resident = min(compiled.together, busiest) * warps
    rates = {  # of one multiprocessor and cycle
        "tensor cores": (warp.tensor, 1.0, 1.0),
        "instructions": (warp.instructions, 4.0, min(4.0, resident / 2)),  # a warp issues every other cycle
        "special functions": (warp.special, 0.5, 0.5),
        "load and store": (warp.loaded + warp.stored + warp.copied + warp.local, 128.0, 128.0),
        "L2 cache": (warp.copied, gpu.cache / gpu.clock / gpu.multiprocessors, 64.0),
    }
    ideal = {key: warps * programs * count / peak / gpu.multiprocessors for key, (count, peak, _) in rates.items()}
    actual = {key: warps * busiest * count / rate for key, (count, _, rate) in rates.items()}
    actual["L2 cache"] = max(actual["L2 cache"], ideal["L2 cache"])
    if compiled.serial and compiled.together == 1:
        actual["tensor cores, each product waited for"] = actual.pop("tensor cores") + actual["instructions"]
    seconds = {"memory": moved / gpu.memory}
    return Work(
        name,
        {key: cycles / gpu.clock for key, cycles in ideal.items()} | seconds,
        {key: cycles / gpu.clock for key, cycles in actual.items()} | seconds,
    )


# targets


@dataclass(frozen=True)
class Expectation:
    """A target and what the model says: the launches in their order."""

    target: Target
    work: tuple[Work, ...]

    @property
    def bound(self) -> float:
        """µs of these launches at peak rates."""
        return 1e6 * sum(each.bound for each in self.work)

    @property
    def device(self) -> float:
        """µs on the GPU at the one efficiency."""
        return 1e6 * sum(each.expected for each in self.work)

    @property
    def host(self) -> float:
        """µs that the host takes to launch them."""
        return 1e6 * HOST * len(self.work)

    @property
    def expected(self) -> float:
        """µs: the host launches while the GPU works."""
        return max(self.device, self.host)

    @property
    def holds(self) -> bool:
        """Whether the target is near."""
        return self.expected <= WITHIN * self.target.target

    @property
    def limit(self) -> str:
        """The resource that takes most of the time."""
        if self.host > self.device:
            return f"{len(self.work)} launches"
        return self._shares(lambda each: each.limit)[0][0]

    @property
    def reason(self) -> str:
        """The launches that take most of the time, with their share and limit."""
        if self.host > self.device:
            names = Counter(each.name for each in self.work).most_common(3)
            return ", ".join(f"{count} x {name}" for name, count in names) + f"; {self.device:.3g} µs on the GPU"
        shares = self._shares(lambda each: f"{each.name} ({each.limit})")
        return ", ".join(f"{name} {share:.0%}" for name, share in shares[:3])

    def _shares(self, name: Callable[[Work], str]) -> list[tuple[str, float]]:
        """Parts of the time on the GPU by some name of a launch, the largest first."""
        times: dict[str, float] = defaultdict(float)
        whole = self.device  # once: the blocks of 65,536 nodes are thousands of launches
        for each in self.work:
            times[name(each)] += 1e6 * each.expected / whole
        return sorted(times.items(), key=lambda each: -each[1])


def expect(target: Target) -> Expectation:
    """Record a target's operation on meta tensors and compute what its launches take."""
    from graphkd_kernels._triton.launch import recording  # loads triton
    from graphkd_kernels._triton.table import OPERATIONS

    with recording(90) as record, _Recorder(record.launches) as recorder:
        run(target, OPERATIONS, torch.device("meta"))
        recorder.catch_up()
    return Expectation(target, tuple(recorder.work))


# other people's kernels


@dataclass(frozen=True)
class Published:
    """A time that others measured of a kernel of theirs, and its work as we read it. seconds: theirs."""

    name: str
    source: str
    seconds: float
    work: tuple[Work, ...]

    @property
    def ratio(self) -> float:
        """Computed over measured."""
        return sum(each.expected for each in self.work) / self.seconds


_ROWS, _WORDS = 8 * 2048, 131072
_PAIRS, _CHOSEN, _EXPERTS, _WIDE, _INNER = 65536**2, 8 * 32768, 128, 2048, 768
PUBLISHED = (
    # Two matrices are read, the gradient is written.
    Published(
        f"Liger-Kernel, total variation distance, forward: {_ROWS} x {_WORDS}, float32, H100",
        "linkedin/Liger-Kernel@ead96b6, benchmark/data/all_benchmark_data.csv, 2026-03-03",
        8.501e-3,
        (product("tvd", H100, 0, "fp32", 3 * 4 * _ROWS * _WORDS, _ROWS),),
    ),
    # Each expert's product to 2 x 768 columns, its activation, the product back, the sum over 8 experts. Tiles of
    # 64 tokens by 128 columns (twice 128 in the first product); their operands come from the cache.
    Published(
        "Liger-Kernel, mixture of experts, forward: 32768 tokens, 128 experts, 8 each, 2048 x 768, bfloat16, H100",
        "linkedin/Liger-Kernel@ead96b6, benchmark/data/all_benchmark_data.csv, 2026-04-02",
        7.342e-3,
        (
            product(
                "up", H100, 4 * _CHOSEN * _INNER * _WIDE, "bf16",
                2 * (32768 * _WIDE + 2 * _EXPERTS * _INNER * _WIDE + 3 * _CHOSEN * _INNER),
                _CHOSEN // 64 * _INNER // 128, 2 * _CHOSEN // 64 * _INNER // 128 * (64 + 256) * _WIDE,
            ),
            product(
                "down", H100, 2 * _CHOSEN * _INNER * _WIDE, "bf16",
                2 * (_CHOSEN * (_INNER + _WIDE) + _EXPERTS * _INNER * _WIDE),
                _CHOSEN // 64 * _WIDE // 128, 2 * _CHOSEN // 64 * _WIDE // 128 * (64 + 128) * _INNER,
            ),
            product("sum", H100, 0, "fp32", 2 * (_CHOSEN + 32768) * _WIDE, 32768),
        ),
    ),
    # Logits of a chunk by the vendor's product, a Triton kernel that turns them into their gradient, two products.
    Published(
        "siglip-kernel, forward and gradient: 65536 x 65536 pairs, bfloat16, H100; width 768 as in its example",
        "pypi.org/project/siglip-kernel/0.1.1 (the page does not give the width of this figure)",
        48.8e-3,
        (
            product("logits", H100, 2 * _PAIRS * 768, "bf16", 2 * _PAIRS, 65536),
            product("loss", H100, 0, "fp32", 2 * 2 * _PAIRS, 65536),
            *(product(side, H100, 2 * _PAIRS * 768, "bf16", 2 * _PAIRS, 65536) for side in ("images", "texts")),
        ),
    ),
)  # fmt: skip


def table(found: Sequence[Expectation]) -> Iterator[str]:
    """Markdown: µs."""
    yield "| operation | target | bound | expected | over target | limited by | most of the time |"
    yield "|---|--:|--:|--:|--:|---|---|"
    for each in found:
        goal, reason = each.target.target, "" if each.holds else each.reason
        numbers = f"{goal:g} | {each.bound:.3g} | {each.expected:.3g} | {each.expected / goal:.2f}"
        yield f"| {each.target.name} | {numbers} | {each.limit} | {reason} |"


def checks() -> Iterator[str]:
    """Markdown: what others measured beside what the model computes for it."""
    yield "| published | source | measured, ms | computed, ms | ratio |"
    yield "|---|---|--:|--:|--:|"
    for each in PUBLISHED:
        milliseconds = 1e3 * each.seconds
        yield f"| {each.name} | {each.source} | {milliseconds:g} | {milliseconds * each.ratio:.3g} | {each.ratio:.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 1 where a published time is not within the factor that the model claims."""
    parser = argparse.ArgumentParser(prog="python -m graphkd_kernels.model", description=__doc__)
    parser.add_argument("--only", default="", help="targets whose name holds this")
    given = parser.parse_args(arguments)
    print("Predicted, not measured: one H200, µs of forward and gradient.\n")
    print("\n".join(checks()), "\n", sep="\n")
    found = [expect(each) for each in TARGETS if given.only in each.name]
    print("\n".join(table(found)))
    print(f"\n{sum(each.holds for each in found)} of {len(found)} within {WITHIN} times their target")
    return int(any(not 1 / WITHIN <= each.ratio <= WITHIN for each in PUBLISHED))


if __name__ == "__main__":
    sys.exit(main())
