"""Teachers: frozen callables from images to Features."""
