"""The HTTP interface for programs, beside the page."""
