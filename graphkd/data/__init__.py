"""Images, views, stored embeddings and the selection of samples."""
