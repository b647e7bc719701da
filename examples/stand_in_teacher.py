"""A small CLIP-like model trained on a few labelled images: stands in for a foundation model where none can be loaded.

Two towers of open_clip, a convolutional timm network for images and a small transformer for prompts, are trained so
that an image matches the prompts of its class. Afterwards the model classifies zero-shot like any other of open_clip.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample
from torchvision.transforms.v2.functional import normalize

from graphkd.data.sources import ImageSource
from graphkd.data.transforms import ResizeView
from graphkd.files import write_file

CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
TEMPLATES = (  # prompts for handwritten digits
    "a photo of the digit {}.",
    "a handwritten {}.",
    "a scan of the digit {}.",
    "the number {}.",
    "a blurry photo of a {}.",
    "a small picture of the digit {}.",
    "a digit {} in pencil.",
    "an image of the figure {}.",
)


def train_stand_in(
    source: ImageSource, templates: Sequence[str], folder: Path, *, seed: int, epochs: int = 40, batch_size: int = 64
) -> tuple[Path, Path]:
    """Train on labelled images and prompts; returns the paths of configuration and checkpoint.

    A checkpoint that is there already is kept. Each step names every class by one template drawn at random.
    """
    config, checkpoint = folder / "config.json", folder / "model.safetensors"
    if checkpoint.exists():
        return config, checkpoint
    write_file(config, json.dumps(CONFIG))
    write_file(folder / "templates.txt", "\n".join(templates))  # for graphkd distill --templates
    torch.manual_seed(seed)
    model = open_clip.CLIP(**CONFIG)
    model.token_embedding.requires_grad_(False)  # random words serve as well, and 3 M parameters need no optimiser
    view, classes = ResizeView(CONFIG["vision_cfg"]["image_size"]), source.classes or ()
    images = torch.stack([view(source.image(i)) for i in range(len(source))])
    labels = torch.tensor([source.target(i) for i in range(len(source))])
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    tokens = torch.stack([tokenizer([template.format(name) for name in classes]) for template in templates])
    steps = len(images) // batch_size
    batches = (
        batch for _ in range(epochs) for batch in torch.randperm(len(images))[: steps * batch_size].split(batch_size)
    )

    def loss() -> Tensor:
        """Cross-entropy of image-prompt similarities."""
        batch, drawn = next(batches), torch.randint(len(tokens), (tokens.shape[1],))
        texts = model.encode_text(tokens[drawn, torch.arange(tokens.shape[1])], normalize=True)
        seen = model.encode_image(_look(images[batch]), normalize=True)
        return cross_entropy(model.logit_scale.exp().clamp(max=100) * seen @ texts.T, labels[batch])

    fit(model, loss, epochs * steps)
    write_file(checkpoint, save({name: value.contiguous() for name, value in model.state_dict().items()}))
    return config, checkpoint


def fit(model: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float = 3e-3) -> None:
    """One-cycle AdamW on what has a gradient."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def _look(images: Tensor) -> Tensor:
    """Small turns, stretches and shifts, then the normalisation that open_clip expects."""
    turn, shear = 0.2 * _uniform(len(images)), 0.2 * _uniform(len(images))
    size, shift = 1 + 0.15 * _uniform(len(images)), 0.2 * _uniform(len(images), 2)
    across = torch.stack([size * turn.cos(), shear - size * turn.sin(), shift[:, 0]], 1)
    down = torch.stack([size * turn.sin(), size * turn.cos(), shift[:, 1]], 1)
    grid = affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, align_corners=False)
    return normalize(moved, list(open_clip.OPENAI_DATASET_MEAN), list(open_clip.OPENAI_DATASET_STD))


def _uniform(*shape: int) -> Tensor:
    return 2 * torch.rand(*shape) - 1
