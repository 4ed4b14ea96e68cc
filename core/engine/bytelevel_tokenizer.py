"""The tokenizer of byte-level vocabularies: merges by rank, inside the words that a regular expression finds.

The cutting is done by the tokenizers library; here a vocabulary and its merges become one of its tokenizers. A text
that merely looks like a control token stays text: the library is given no control tokens, which are found here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from core.engine.piece_models import PieceFinder
from core.engine.sealed import seal, unseal
from core.engine.tokenizer import without_surrogates
from core.errors import MissingExtra, ModelLoadError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RustTokenizer

__all__ = ["LLAMA3", "SPLITS", "ByteLevelRules", "ByteLevelTokenizer", "bytes_of_printable"]

MAGIC, VERSION = b"nsblevel", 1

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = MODERN % "{1,3}"

# Name of GGUF's tokenizer.ggml.pre -> expressions applied one after another, each to what the last one left.
# Source: the tokenizer.json of each family, which llama.cpp, src/llama-vocab.cpp, restates.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (GPT2,),
    "smollm": (r"\p{N}", GPT2),
    "llama-bpe": (LLAMA3,),
    "llama3": (LLAMA3,),
    "llama-v3": (LLAMA3,),
    "qwen2": (MODERN % "",),
    "glm4": (LLAMA3,),
    "chatglm-bpe": (LLAMA3,),
}
# These take a word that is a piece as it stands, without asking for merges that lead there.
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "glm4", "chatglm-bpe")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteLevelRules:
    """How texts are split into words, and the tokens for the ends of texts.

    Attributes:
        split: a key of ``SPLITS``.
        normal_form: "NFC" where the family composes characters first, otherwise empty.
    """

    split: str = "gpt-2"
    normal_form: str = ""
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    unk_id: int | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ModelLoadError(
                f"the tokenizer splits words as {self.split!r} does; known are {', '.join(SPLITS)}; "
                "give the folder of the original checkpoint"
            )
        if self.normal_form not in ("", "NFC"):
            raise ModelLoadError(f"the tokenizer asks for the normal form {self.normal_form!r}; NFC can be had")


class ByteLevelTokenizer:
    """Cuts texts into byte-level pieces, and joins them again.

    Attributes:
        bos_id, eos_id, pad_id, unk_id: ids of the tokens for these ends; None where the vocabulary has none.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        merges: Sequence[str],
        *,
        rules: ByteLevelRules,
        control: Iterable[int] = (),
        user: Iterable[int] = (),
    ) -> None:
        """
        Args:
            pieces: in the printable spelling of bytes, by id; control and user pieces as plain text.
            merges: pairs of pieces with a space between, most wanted first.
            control: ids found only where control tokens are asked for.
            user: ids whose text is always taken whole.

        Raises:
            ModelLoadError: pieces are missing, merges lead to none, or an id is beyond the last.
        """
        self._pieces, self._merges, self._rules = list(pieces), list(merges), rules
        self._control, self._user = sorted(set(control)), sorted(set(user))
        named = [rules.bos_id, rules.eos_id, rules.pad_id, rules.unk_id]
        strays = [n for n in (*named, *self._control, *self._user) if n is not None and not 0 <= n < len(self._pieces)]
        if strays:
            raise ModelLoadError(f"the tokenizer names the id {strays[0]}, but has {len(self._pieces)} pieces")
        self._plain = frozenset(self._control) | frozenset(self._user)
        self._hidden = frozenset(self._control)
        self.bos_id, self.eos_id, self.pad_id, self.unk_id = named
        self._model = self._build()

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""
        return len(self._pieces)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of the control pieces by their text."""
        return MappingProxyType({self._pieces[number]: number for number in self._control})

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a control token is plain text unless ``parse_special``."""
        finder = self._special_finder if parse_special else self._user_finder
        ids: list[int] = []
        for stretch in finder.split(without_surrogates(text)):
            if isinstance(stretch, int):
                ids.append(stretch)
            else:
                ids += self._model.encode(stretch, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids, with U+FFFD for bytes that are no UTF-8."""
        return self.decode_bytes(ids, keep_special=keep_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], *, keep_special: bool = False) -> bytes:
        """The bytes that the ids stand for, control pieces left out unless kept.

        An id beyond the vocabulary, which a padded embedding table allows, stands for nothing.
        """
        return b"".join([self._spell(number) for number in ids if keep_special or number not in self._hidden])

    def to_bytes(self) -> bytes:
        """The vocabulary, its merges and its rules, for ``from_bytes``."""
        content = {
            "rules": asdict(self._rules),
            "pieces": self._pieces,
            "merges": self._merges,
            "control": self._control,
            "user": self._user,
        }
        body = json.dumps(content, ensure_ascii=False).encode()
        return seal(MAGIC, VERSION, body)

    @classmethod
    def from_bytes(cls, data: bytes) -> ByteLevelTokenizer:
        """The tokenizer that ``to_bytes`` wrote.

        Raises:
            ModelLoadError: the data is something else, of another version, or damaged.
        """
        body = unseal(data, MAGIC, VERSION, what="byte-level vocabulary")
        try:
            content: dict[str, Any] = json.loads(body)
            rules = ByteLevelRules(**content.pop("rules"))
            return cls(content.pop("pieces"), content.pop("merges"), rules=rules, **content)
        except (AttributeError, KeyError, TypeError, ValueError) as wrong:
            raise ModelLoadError(f"the vocabulary is damaged ({wrong}); fetch or convert it again") from wrong

    def _build(self) -> RustTokenizer:
        try:
            from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
            from tokenizers.models import BPE
        except ModuleNotFoundError as missing:
            raise MissingExtra(
                "a byte-level vocabulary needs the tokenizers package: pip install tokenizers"
            ) from missing
        vocabulary = {piece: number for number, piece in enumerate(self._pieces) if number not in self._plain}
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in self._merges)]
        try:
            model = BPE(vocab=vocabulary, merges=pairs, ignore_merges=self._rules.split in WHOLE_WORDS)
        except Exception as wrong:  # the library has no class of its own for this
            raise ModelLoadError(
                f"the tokenizer's merges do not fit its pieces ({wrong}); give another file"
            ) from wrong
        tokenizer = Tokenizer(model)
        if self._rules.normal_form == "NFC":
            tokenizer.normalizer = normalizers.NFC()
        splits = [pre_tokenizers.Split(Regex(found), "isolated") for found in SPLITS[self._rules.split]]
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
        return tokenizer

    def _spell(self, number: int) -> bytes:
        if not 0 <= number < len(self._pieces):
            return b""
        piece = self._pieces[number]
        if number in self._plain:
            return piece.encode()
        return bytes_of_printable(piece)

    @cached_property
    def _user_finder(self) -> PieceFinder:
        return PieceFinder({self._pieces[number]: number for number in self._user if self._pieces[number]})

    @cached_property
    def _special_finder(self) -> PieceFinder:
        return PieceFinder({self._pieces[number]: number for number in self._plain if self._pieces[number]})


def _printable_bytes() -> dict[str, bytes]:
    """The spelling of bytes by printable characters, which GPT-2 introduced."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    characters = [*map(chr, shown), *(chr(256 + position) for position in range(len(hidden)))]
    return {character: bytes([byte]) for character, byte in zip(characters, [*shown, *hidden], strict=True)}


_BYTES_OF_CHARACTERS = _printable_bytes()


def bytes_of_printable(piece: str) -> bytes:
    """The bytes that a piece spells; a character that spells none stands for itself."""
    table = _BYTES_OF_CHARACTERS
    return b"".join(table[character] if character in table else character.encode() for character in piece)
