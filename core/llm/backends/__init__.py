"""The families of models that make tokens, one module each, imported only when chosen."""
