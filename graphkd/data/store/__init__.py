"""Teacher features on disk, by sample id."""

from graphkd.data.store.store import EmbeddingStore as EmbeddingStore
