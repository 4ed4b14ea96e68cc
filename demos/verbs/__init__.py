"""One module a verb of the command line: ``add_arguments`` and ``run``, heavy imports inside ``run``."""
