"""What a number was measured on: device, cores, versions, and how fast this machine multiplies and copies."""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import timed

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "triton", "numpy", "torch_geometric", "pytest-benchmark")
PEERS = ("pytorch-metric-learning", "torchdistill", "liger-kernel", "pykeops")


def device_name(device: str) -> str:
    """The processor or the GPU in words, without the machine's own name."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    return found[1].strip() if found else platform.processor() or platform.machine()


def environment(device: str, threads: int) -> dict[str, Any]:
    """Everything that a table must say beside its numbers."""
    memory = re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))
    return {
        "device": device_name(device),
        "kind": device.partition(":")[0],
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in (*PACKAGES, *PEERS) if (version := _version(name))},
        "library": library_digest(ROOT),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load": round(os.getloadavg()[0], 2),
        "roofline": roofline(device),
    }


def same_versions(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether rows of both may stand in one table: same device, threads, versions and library."""
    return all(a.get(key) == b.get(key) for key in ("device", "threads", "python", "versions", "library"))


def library_digest(root: Path) -> str:
    """Names the library's source, whether or not it is committed."""
    digest = hashlib.sha256()
    for path in sorted([*(root / "graphkd").rglob("*.py"), *(root / "kernels").rglob("*.py")]):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=4)
def roofline(device: str) -> dict[str, float]:
    """TFLOP/s of a large product in float32 (and bfloat16 on a GPU), GB/s of a copy: what floors are made of."""
    gpu = device != "cpu"
    n, size = (8192, 2**28) if gpu else (1536, 2**25)
    found = {}
    for name in ("float32", "bfloat16") if gpu else ("float32",):
        a = torch.randn(n, n, device=device).to(getattr(torch, name))
        found[f"tflop_s_{name}"] = 2 * n**3 / _best(lambda a=a: a @ a, device) / 1e12
    x, y = torch.randn(size, device=device), torch.empty(size, device=device)
    found["gb_s"] = 2 * x.nbytes / _best(lambda: y.copy_(x), device) / 1e9
    return {key: round(value, 4) for key, value in found.items()}


def floor_ms(flops: float, size: float, limits: dict[str, float], dtype: str) -> float:
    """Least time of that work and those bytes on a machine of these limits."""
    rate = limits.get(f"tflop_s_{dtype}", limits["tflop_s_float32"])
    return 1e3 * max(flops / rate / 1e12, size / limits["gb_s"] / 1e9)


def slug(text: str) -> str:
    """A name for a file: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _best(call: Any, device: str) -> float:
    def whole() -> None:
        call()
        if device != "cpu":
            torch.cuda.synchronize()

    return timed(whole, 0.4).low / 1e3


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    asked = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None


def _read(path: str) -> str:
    place = Path(path)
    return place.read_text() if place.is_file() else ""
