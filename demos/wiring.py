"""The only place that builds objects: the library, chat models, readers and the indexer, each made when first needed.

Tabs, verbs and routes are handed a ``Services`` and never construct anything themselves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from core.llm.models import available_models, parse_spec
from core.retrieval.library import Library, LibrarySettings
from demos.characters import Characters
from demos.indexer import Indexer
from demos.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.chains.qa import Reader
    from core.chains.summary import Summariser
    from core.llm.chat_model import NovelChatModel

__all__ = ["Services"]

SERVER_CALLS = 4


class Services:
    """Everything an edge works with.

    Args:
        model: answers whatever specification is asked for; None to load what is named.

    Attributes:
        library: the books.
        characters: of the books, and those on the shelf.
        indexer: makes vectors in the background while the web demo runs; it does nothing until started.
        offers_api: whether the character service stands beside the page.
        is_closing: set when the program ends; answers that are being written stop at their next token.
    """

    def __init__(self, settings: Settings, *, model: NovelChatModel | None = None) -> None:
        self.settings = settings
        self.library = Library(
            LibrarySettings(home=settings.home, embedder=settings.embedder, chroma_url=settings.chroma_url)
        )
        self.indexer = Indexer(self.library)
        self.characters = Characters(self.library, settings.home)
        self.offers_api = False
        self.is_closing = threading.Event()
        self._only_model = model
        self._models: dict[tuple[str, int | None], NovelChatModel] = {}
        self._loading = threading.Lock()

    def model_choices(self) -> list[tuple[str, str]]:
        """(label, specification) of the models that can be picked: the default first, then what is installed."""
        bundled = [(model.label, f"builtin:{model.name}") for model in available_models()]
        default = self.settings.model
        if default not in [spec for _, spec in bundled]:
            return [(default, default), *bundled]
        return sorted(bundled, key=lambda choice: choice[1] != default)

    def chat_model(
        self,
        spec: str | None = None,
        *,
        bits: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NovelChatModel:
        """The model that ``spec`` names, loaded once; the setting's model when it is None.

        Args:
            bits: width of a weight in memory; None leaves it to the backend.
            on_progress: called with bytes read and bytes in all while weights are loaded.

        Raises:
            UnknownModel: the specification names nothing.
            ModelLoadError: the files are missing or damaged.
            SettingsError: the model's backend cannot compute with so many bits.
        """
        if self._only_model is not None:
            return self._only_model
        from core.llm.models import load_chat_model

        spec = spec or self.settings.model
        with self._loading:
            if (spec, bits) not in self._models:
                self._models[spec, bits] = load_chat_model(
                    spec,
                    cache_dir=self.settings.home / "models",
                    bits=bits,
                    device=self.settings.device,
                    low_memory=self.settings.low_memory,
                    threads=self.settings.threads,
                    api_key=self.settings.api_key,
                    on_progress=on_progress,
                )
            return self._models[spec, bits]

    def reader(self, spec: str | None = None) -> Reader:
        """Answers questions about books with the model that ``spec`` names, loaded when the first answer needs it.

        Raises:
            UnknownModel: the specification has none of the known forms.
        """
        from core.chains.qa import Reader

        spec = spec or self.settings.model
        parse_spec(spec)
        return Reader(self.library, lambda: self.chat_model(spec))

    def summariser(self, spec: str | None = None) -> Summariser:
        """Summarises books with the model that ``spec`` names, loaded when the first word has to be written.

        Raises:
            UnknownModel: the specification has none of the known forms.
        """
        from core.chains.summary import Summariser

        spec = spec or self.settings.model
        # A server answers several requests at once; a model in this process has all cores busy with one.
        parallel = SERVER_CALLS if parse_spec(spec).kind == "openai" else 1
        return Summariser(self.library, lambda: self.chat_model(spec), parallel=parallel)

    def close(self) -> None:
        """Stop answers and background work, and release the vector index."""
        self.is_closing.set()
        self.indexer.stop()
        self.library.close()
