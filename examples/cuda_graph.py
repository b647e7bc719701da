"""A training step as one CUDA graph, for small batches, where launches cost more than arithmetic.

python examples/cuda_graph.py [--method prg] [--batch 64] [--steps 20]

The same steps run three ways: as written, captured by ``torch.cuda.graph``, and by
``torch.compile(mode="reduce-overhead")``, which captures graphs of its own. Their losses are compared and, on a GPU,
their times printed. Without one it says so, checks on the CPU that the three ways' arithmetic agrees, and ends with 0.

What a captured step asks for: inputs that stay where they are (a new batch is copied into them), batches of one size,
an optimizer that keeps its counts on the device (``capturable=True``), and some steps before, in which the range of the
first images is looked at, kernels are compiled and memory is found. Nothing of a distiller's step waits for a number
(``tests/test_host_reads.py``), so any method may stand for PRG.
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from time import perf_counter

import torch
from torch import Tensor, nn

from graphkd import ClassifierTeacher, Features, Losses, Step, Tap, create_distiller

WARM = 3
TOLERANCE = 1e-4  # of a loss, relative: kernels of one way may be fused differently in another
Way = Callable[[Tensor, Features], Tensor]


def network(width: int) -> nn.Module:
    """A small classifier of 16 x 16 images."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.ReLU()),
        nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


class Training:
    """A student, its step and its optimizer: one update for each call, as written."""

    def __init__(self, step: Step) -> None:
        self.step = step
        on_gpu = next(step.parameters()).is_cuda
        self.optimizer = torch.optim.Adam(step.parameters(), lr=1e-3, capturable=on_gpu)
        self.forward: Callable[[Tensor, Features], Losses] = step

    def __call__(self, images: Tensor, teacher: Features) -> Tensor:
        """Loss of a batch, before the update."""
        self.optimizer.zero_grad(set_to_none=True)
        total = self.forward(images, teacher).total
        total.backward()
        self.optimizer.step()
        return total.detach()


class CapturedTraining:
    """The same update as a graph of its launches, on the batch that it holds; as written where there is no GPU."""

    def __init__(self, training: Training, images: Tensor, teacher: Features) -> None:
        self.training, self.images, self.teacher = training, images.clone(), teacher.map_tensors(torch.clone)
        self.graph: torch.cuda.CUDAGraph | None = None
        if images.is_cuda:
            self.warm()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self.training(self.images, self.teacher)

    def warm(self) -> None:
        """Some updates on a stream of their own, then the state from before them."""
        training, stream = self.training, torch.cuda.Stream()
        before = deepcopy(training.step.state_dict())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                training(self.images, self.teacher)
        torch.cuda.current_stream().wait_stream(stream)
        training.step.load_state_dict(before)
        for state in training.optimizer.state.values():  # in place: the graph will hold these tensors
            for each in state.values():
                each.zero_()

    def __call__(self, images: Tensor, teacher: Features) -> Tensor:
        """Loss of a batch of the same size, before the update; the next call overwrites it."""
        self.images.copy_(images)
        for mine, theirs in zip(self.teacher.tensors(), teacher.tensors(), strict=True):
            mine.copy_(theirs)
        if self.graph is None:
            return self.training(self.images, self.teacher)
        self.graph.replay()
        return self.loss


def compiled(training: Training, on_gpu: bool) -> Training:
    """The same update with its forward and backward pass compiled; without a GPU only traced."""
    step = training.step
    training.forward = (
        torch.compile(step, mode="reduce-overhead") if on_gpu else torch.compile(step, backend="aot_eager")
    )
    return training


def losses(way: Way, batches: list[tuple[Tensor, Features]], steps: int) -> tuple[Tensor, float]:
    """Losses of so many steps, and milliseconds of a step after the first ones."""
    found, start = [], 0.0
    for number in range(WARM + steps):
        if number == WARM:
            wait()
            start = perf_counter()
        torch.compiler.cudagraph_mark_step_begin()
        found.append(way(*batches[number % len(batches)]).clone())
    wait()
    return torch.stack(found).cpu(), 1e3 * (perf_counter() - start) / max(steps, 1)


def wait() -> None:
    """For the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(arguments: list[str] | None = None) -> int:
    """The three ways, side by side; 1 where their losses differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="prg")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.manual_seed(0)
    like = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "maps": ["1"]}
    teacher, student = ClassifierTeacher(network(width=32), **like).to(device), Tap(network(width=8), **like)
    methods = [
        create_distiller(name, student, teacher) for name in dict.fromkeys((asked.method, "kd"))
    ]  # KD trains the head
    step = Step(student, *methods).to(device)
    images = [torch.rand(asked.batch, 3, 16, 16, device=device) for _ in range(4)]
    batches = [(each, teacher(each)) for each in images]

    ways: dict[str, Way] = {
        "as written": Training(deepcopy(step)),
        "captured": CapturedTraining(Training(deepcopy(step)), *batches[0]),
        "compiled": compiled(Training(deepcopy(step)), on_gpu),
    }
    found = {name: losses(way, batches, asked.steps) for name, way in ways.items()}
    expected, worst = found["as written"][0], 0.0
    for name, (values, milliseconds) in found.items():
        apart = float(((values - expected) / expected.abs().clamp_min(1e-12)).abs().max())
        worst = max(worst, apart)
        print(f"{name:<11} loss {values[0]:.5f} -> {values[-1]:.5f}, apart {apart:.1e}, {milliseconds:.2f} ms a step")
    if not on_gpu:
        print("no CUDA device here: nothing was captured, and the times are a CPU's; the arithmetic was checked")
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
