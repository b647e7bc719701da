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
from tests.faults.hostile import hostile

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def teacher(checkpoint, config=CONFIG):
    return CLIPTeacher(config, pretrained=checkpoint, classes=["cat", "dog"])


def weights(name, write):
    """A case whose checkpoint is not one."""

    def case(place, payload):
        path = place / name.partition("__")[2].replace("_dot_", ".")
        write(path, payload)
        teacher(path)

    case.__name__ = f"weights_{name}"
    hostile(case)


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


weights("pickle__weights_dot_pt", lambda path, payload: torch.save(payload, path))
weights("pickle_inside__weights_dot_bin", lambda path, payload: torch.save({"state_dict": {"a": payload}}, path))
weights(
    "legacy_pickle__weights_dot_pth",
    lambda path, payload: torch.save(payload, path, _use_new_zipfile_serialization=False),
)
weights("bare_pickle__weights_dot_pt", lambda path, payload: path.write_bytes(pickle.dumps(payload)))
weights("pickle_named_safe__weights_dot_safetensors", lambda path, payload: path.write_bytes(pickle.dumps(payload)))
weights("torch_named_safe__weights_dot_safetensors", lambda path, payload: torch.save(payload, path))
weights("object_array__weights_dot_npy", object_array)
weights("object_arrays__weights_dot_npz", object_array)
weights(
    "torchscript__weights_dot_pt", lambda path, payload: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
)
weights("zip_bomb_in_pickle__weights_dot_pt", lambda path, payload: bomb(path, "data.pkl", 1 << 28))
weights("zip_bomb_in_tensor__weights_dot_pt", lambda path, payload: bomb(path, "data/0", 1 << 28))
weights("path_traversal__weights_dot_pt", traversal)
weights(
    "huge_header__weights_dot_safetensors", lambda path, payload: path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
)
weights("empty__weights_dot_safetensors", lambda path, payload: path.write_bytes(b""))


@hostile
def weights_zip_bomb_in_npz(place, payload):
    with zipfile.ZipFile(place / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    teacher(place / "w.npz")


def configuration(name, text):
    """A case whose model configuration is not one."""

    def case(place, payload):
        (place / "config.json").write_text(text)
        (place / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}')
        (place / "evil.py").write_text(f"open({payload.trace!r}, 'w').close()\nclass Evil: pass\n")
        import open_clip
        from safetensors.torch import save_file

        save_file(open_clip.CLIP(**json.loads(json.dumps(CONFIG))).state_dict(), place / "w.safetensors")
        teacher(place / "w.safetensors", place / "config.json")

    case.__name__ = f"configuration_{name}"
    hostile(case)


def with_text(**changes):
    return json.dumps({**CONFIG, "text_cfg": {**CONFIG["text_cfg"], **changes}})


configuration("deep", "[" * 100_000)
configuration("list", "[1, 2]")
configuration("large_model", json.dumps({**CONFIG, "embed_dim": 10**9}))
configuration("huge_model", json.dumps({**CONFIG, "embed_dim": 10**15}))
configuration(
    "unknown_option", json.dumps({**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "__class__": "os.system"}})
)
configuration(
    "that_runs_a_tokenizer",
    with_text(hf_tokenizer_name="tokenizer", tokenizer_kwargs={"trust_remote_code": True}),
)


TRANSFORMERS = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}  # fmt: skip


def folder_of_transformers(name, weights=None, **changes):
    """A case whose folder describes or holds something else than a model of transformers."""

    def case(place, payload):
        (place / "config.json").write_text(json.dumps({**TRANSFORMERS, **changes}))
        if weights is not None:
            torch.save({"weight": payload}, place / weights)
        hf_model(str(place))

    case.__name__ = f"transformers_{name}"
    hostile(case)


if find_spec("transformers"):
    folder_of_transformers("many_labels", num_labels=3 * 10**6)
    folder_of_transformers("many_stages", num_hidden_layers=10**9)
    folder_of_transformers("wide", hidden_size=2**15, intermediate_size=2**15)
    folder_of_transformers("large_images", image_size=10**6)
    folder_of_transformers("pickle", weights="pytorch_model.bin")
    folder_of_transformers("pickle_named_safe", weights="model.safetensors")
