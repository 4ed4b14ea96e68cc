"""Novels as data: decoding, chapters, chunks, tables of vectors, dialogues. Imports only ``core.errors``."""
