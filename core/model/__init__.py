"""Plain torch forward passes. Nothing here opens a checkpoint."""
