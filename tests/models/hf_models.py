"""Small vision models of transformers with random weights, in folders as save_pretrained writes them."""

from pathlib import Path
from typing import Any

SIZE, CLASSES = 32, 5
SQUASHED = {"size": {"height": SIZE, "width": SIZE}}
KINDS = {
    "vit": ("ViT", {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": SIZE, "patch_size": 8}, "ViTImageProcessor", SQUASHED),
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}, "ConvNextImageProcessor", {"size": {"shortest_edge": SIZE}}),
    "convnext": ("ConvNext", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, "ConvNextImageProcessor", {"size": {"shortest_edge": SIZE}}),
    "swin": ("Swin", {"image_size": SIZE, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}, "ViTImageProcessor", {**SQUASHED, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    "dinov2": ("Dinov2", {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": SIZE, "patch_size": 8}, "BitImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": {"height": SIZE, "width": SIZE}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
}  # fmt: skip
WORDS = ["a", "photo", "of", "the", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "cat", "dog", "horse", "."]  # fmt: skip


def small(kind: str, folder: Path, classes: int = CLASSES, form: str = "ForImageClassification") -> Path:
    """A classifier, or with ``form="Model"`` its backbone: weights, configuration and image processor."""
    import transformers

    name, options, processor, sizes = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**options, num_labels=classes)
    getattr(transformers, f"{name}{form}")(config).save_pretrained(folder)
    getattr(transformers, processor)(**sizes).save_pretrained(folder)
    return folder


def towers(kind: str, folder: Path) -> Path:
    """A CLIP or SigLIP with a tokenizer of a few words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vision: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": SIZE, "patch_size": 8}  # fmt: skip
    words = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    text = {key: vision[key] for key in vision if key not in ("image_size", "patch_size")}
    text |= {"vocab_size": len(words), "max_position_embeddings": 16}
    text |= {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    if kind == "clip":
        config: Any = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model: Any = transformers.CLIPModel(config)
        processor: Any = transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SIZE)
    else:
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model, processor = transformers.SiglipModel(config), transformers.SiglipImageProcessor(**SQUASHED)
    split = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.Whitespace()
    split.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    for each in (model, processor, transformers.PreTrainedTokenizerFast(tokenizer_object=split, **names)):
        each.save_pretrained(folder)
    return folder
