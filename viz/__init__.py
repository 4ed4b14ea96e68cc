"""The map of a book: a scene file in, a window or pictures out."""
