"""A small finished store."""

import pytest

from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from tests.data.store.fakes import TinyTeacher, ToTensor, direct, squares


@pytest.fixture
def made(tmp_path):
    """A store of ten samples in shards of 4, 4 and 2, and what its teacher says of them."""
    teacher, source = TinyTeacher(), squares(10)
    embed(teacher, source, tmp_path, transform=ToTensor(), batch_size=3, shard_size=4, progress=False)
    return EmbeddingStore(tmp_path), direct(teacher, source)
