"""Weights and configurations of models that somebody made to harm."""

import io
import json
import pickle
import struct
import zipfile
from importlib.util import find_spec

import numpy as np
import torch

from graphkd.models.huggingface import hf_model
from graphkd.teachers.clip import CLIPTeacher
from tests.faults.hostile import hostile, hostile_table

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def teacher(checkpoint, config=CONFIG):
    return CLIPTeacher(config, pretrained=checkpoint, classes=["cat", "dog"])


def other_weights(file, write, place, payload):
    """A checkpoint that is not one."""
    write(place / file, payload)
    teacher(place / file)


def bomb(path, member, size):
    """A torch file whose one member unpacks to much."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            data = source.read(entry)
            with target.open(entry.filename, "w", force_zip64=True) as file:
                file.write(data)
                for _ in range(size >> 20 if entry.filename.endswith(member) else 0):
                    file.write(bytes(1 << 20))


def object_array(path, payload):
    array = np.empty(1, dtype=object)
    array[0] = payload
    np.savez(path, array) if path.suffix == ".npz" else np.save(path, array)


def traversal(path, payload):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside/written", "x")
        archive.writestr("archive/data.pkl", pickle.dumps(payload))


WEIGHTS = {
    "pickle__weights_dot_pt": ("weights.pt", lambda path, payload: torch.save(payload, path)),
    "pickle_inside__weights_dot_bin": (
        "weights.bin",
        lambda path, payload: torch.save({"state_dict": {"a": payload}}, path),
    ),
    "legacy_pickle__weights_dot_pth": (
        "weights.pth",
        lambda path, payload: torch.save(payload, path, _use_new_zipfile_serialization=False),
    ),
    "bare_pickle__weights_dot_pt": ("weights.pt", lambda path, payload: path.write_bytes(pickle.dumps(payload))),
    "pickle_named_safe__weights_dot_safetensors": (
        "weights.safetensors",
        lambda path, payload: path.write_bytes(pickle.dumps(payload)),
    ),
    "torch_named_safe__weights_dot_safetensors": (
        "weights.safetensors",
        lambda path, payload: torch.save(payload, path),
    ),
    "object_array__weights_dot_npy": ("weights.npy", object_array),
    "object_arrays__weights_dot_npz": ("weights.npz", object_array),
    "torchscript__weights_dot_pt": (
        "weights.pt",
        lambda path, payload: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path),
    ),
    "zip_bomb_in_pickle__weights_dot_pt": ("weights.pt", lambda path, payload: bomb(path, "data.pkl", 1 << 28)),
    "zip_bomb_in_tensor__weights_dot_pt": ("weights.pt", lambda path, payload: bomb(path, "data/0", 1 << 28)),
    "path_traversal__weights_dot_pt": ("weights.pt", traversal),
    "huge_header__weights_dot_safetensors": (
        "weights.safetensors",
        lambda path, payload: path.write_bytes(struct.pack("<Q", 2**62) + b"{}"),
    ),
    "empty__weights_dot_safetensors": ("weights.safetensors", lambda path, payload: path.write_bytes(b"")),
}
hostile_table("weights_", other_weights, WEIGHTS)


@hostile
def weights_zip_bomb_in_npz(place, payload):
    with zipfile.ZipFile(place / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    teacher(place / "w.npz")


def another_configuration(text, place, payload):
    """A model's configuration that is not one."""
    (place / "config.json").write_text(text)
    (place / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}')
    (place / "evil.py").write_text(f"open({payload.trace!r}, 'w').close()\nclass Evil: pass\n")
    import open_clip
    from safetensors.torch import save_file

    save_file(open_clip.CLIP(**json.loads(json.dumps(CONFIG))).state_dict(), place / "w.safetensors")
    teacher(place / "w.safetensors", place / "config.json")


def with_text(**changes):
    return json.dumps({**CONFIG, "text_cfg": {**CONFIG["text_cfg"], **changes}})


CONFIGURATIONS = {
    "deep": "[" * 100_000,
    "list": "[1, 2]",
    "large_model": json.dumps({**CONFIG, "embed_dim": 10**9}),
    "huge_model": json.dumps({**CONFIG, "embed_dim": 10**15}),
    "unknown_option": json.dumps({**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "__class__": "os.system"}}),
    "that_runs_a_tokenizer": with_text(hf_tokenizer_name="tokenizer", tokenizer_kwargs={"trust_remote_code": True}),
}
hostile_table("configuration_", another_configuration, CONFIGURATIONS)

TRANSFORMERS = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}  # fmt: skip


def folder_of_transformers(changes, weights, place, payload):
    """A folder that describes or holds something else than a model of transformers."""
    (place / "config.json").write_text(json.dumps({**TRANSFORMERS, **changes}))
    if weights is not None:
        torch.save({"weight": payload}, place / weights)
    hf_model(str(place))


FOLDERS = {
    "many_labels": ({"num_labels": 3 * 10**6}, None),
    "many_stages": ({"num_hidden_layers": 10**9}, None),
    "wide": ({"hidden_size": 2**15, "intermediate_size": 2**15}, None),
    "large_images": ({"image_size": 10**6}, None),
    "pickle": ({}, "pytorch_model.bin"),
    "pickle_named_safe": ({}, "model.safetensors"),
}
if find_spec("transformers"):
    hostile_table("transformers_", folder_of_transformers, FOLDERS)
