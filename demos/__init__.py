"""The edges of novelscope: the command line, the web demo, and the one place that builds objects."""
