"""Trees of images, and a small finished store."""

import pytest
from PIL import Image

from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from tests.data.store.fakes import TinyTeacher, ToTensor, direct, squares


@pytest.fixture
def fill(tmp_path):
    """Makes images of different colours, and of a name that ends in ``/`` an empty folder; gives their root."""

    def make(*names):
        for shade, name in enumerate(names):
            folder = tmp_path / (name if name.endswith("/") else name.rpartition("/")[0])
            folder.mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                Image.new("RGB", (4, 4), (shade % 256, 0, 0)).save(tmp_path / name)
        return tmp_path

    return make


@pytest.fixture
def made(tmp_path):
    """A store of ten samples in shards of 4, 4 and 2, and what its teacher says of them."""
    teacher, source = TinyTeacher(), squares(10)
    embed(teacher, source, tmp_path, transform=ToTensor(), batch_size=3, shard_size=4, progress=False)
    return EmbeddingStore(tmp_path), direct(teacher, source)
