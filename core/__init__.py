"""novelscope's engine room: reading novels, searching them, and answering with citations.

Nothing below this package knows about browsers, servers, command lines or environment variables;
those live in ``demos``. Import the rooms directly, for example ``core.retrieval.library``.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
