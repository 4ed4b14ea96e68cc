"""The one tree of errors that novelscope raises on purpose.

An edge (command line, page, API) prints any of them as one line, without a traceback. A message says
what was found, what was wanted and what to do; attributes carry the facts.

    NovelscopeError
    +-- SettingsError              a knob has a value that cannot work
    +-- BadBook                    a file cannot be read as a novel
    |   +-- UndecodableText        no candidate encoding decodes it
    |   +-- UnsupportedFormat      not a text, Markdown or EPUB file, or a protected one
    |   +-- EmptyBook              nothing to read is left after decoding
    |   `-- BookTooLarge           more bytes than the limit
    +-- LibraryError               the folder of books
    |   +-- BookNotFound           no book of that title or id
    |   +-- LibraryBusy            another process writes; names the holder
    |   `-- DamagedBook            files on disk contradict each other
    +-- ModelError                 the language model or the embedder
    |   +-- UnknownModel           the specification names no model
    |   +-- ModelLoadError         files are missing or are not what they claim
    |   `-- PromptTooLong          the prompt does not fit the model's context
    +-- SceneError                 a book's map cannot be read or written
    |   |-- BadPassages            what it is to be made of does not fit together
    |   `-- BadScene               its parts do not fit together
    +-- GraphicsError              nothing can be drawn on this machine; names what to install
    `-- MissingExtra               an optional package is not installed
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BadBook",
    "BadPassages",
    "BadScene",
    "BookNotFound",
    "BookTooLarge",
    "DamagedBook",
    "EmptyBook",
    "GraphicsError",
    "LibraryBusy",
    "LibraryError",
    "MissingExtra",
    "ModelError",
    "ModelLoadError",
    "NovelscopeError",
    "PromptTooLong",
    "SceneError",
    "SettingsError",
    "UndecodableText",
    "UnknownModel",
    "UnsupportedFormat",
]


class NovelscopeError(Exception):
    """Anything novelscope reports on purpose. Edges print it as one line, without a traceback."""


class SettingsError(NovelscopeError, ValueError):
    """A setting has a value that cannot work."""


class BadBook(NovelscopeError):
    """A file cannot be read as a novel."""


class UndecodableText(BadBook):
    """No candidate encoding decodes the bytes.

    Attributes:
        tried: the encodings that were tried, best first.
        offset: the byte at which the best candidate failed.
    """

    def __init__(self, source: str, tried: Sequence[str], offset: int) -> None:
        super().__init__(f"{source}: byte {offset} fits none of {', '.join(tried)}; name the right one with --encoding")
        self.source, self.tried, self.offset = source, tuple(tried), offset


class UnsupportedFormat(BadBook):
    """The file is not a text, Markdown or EPUB file, or its text is locked by DRM."""


class EmptyBook(BadBook):
    """Nothing to read is left after decoding."""


class BookTooLarge(BadBook):
    """The file holds more bytes than the limit."""


class LibraryError(NovelscopeError):
    """The folder of books cannot do what was asked."""


class BookNotFound(LibraryError):
    """No book of that title or id is in the library."""


class LibraryBusy(LibraryError):
    """Another process is writing to the library.

    Attributes:
        holder: who holds the lock, as that process described itself.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"the library is being written by {holder}; wait until it ends, or stop it, and try again")
        self.holder = holder


class DamagedBook(LibraryError):
    """Files of a book on disk contradict each other."""


class ModelError(NovelscopeError):
    """A language model or an embedder cannot do what was asked."""


class UnknownModel(ModelError):
    """A model specification names nothing that can be found."""


class ModelLoadError(ModelError):
    """A model's files are missing or are not what they claim to be."""


class PromptTooLong(ModelError):
    """The prompt does not fit the model's context.

    Attributes:
        prompt_tokens: tokens of the prompt.
        context_tokens: tokens that the model can hold, prompt and answer together.
    """

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the model holds {context_tokens}; "
            "shorten it, or start a new conversation"
        )
        self.prompt_tokens, self.context_tokens = prompt_tokens, context_tokens


class SceneError(NovelscopeError):
    """A book's map cannot be read or written."""


class BadScene(SceneError, ValueError):
    """The parts of a map do not fit together."""


class BadPassages(SceneError, ValueError):
    """Passages and vectors that a map is to be made of do not fit together."""


class GraphicsError(NovelscopeError):
    """Nothing can be drawn on this machine; the message names the packages or the command that mend it."""


class MissingExtra(NovelscopeError):
    """An optional package is not installed; the message names the command that installs it."""
