"""Teacher features on disk, by sample id."""

from graphkd.data.store.read import EmbeddingStore as EmbeddingStore
