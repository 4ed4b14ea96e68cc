"""Which tokenizer a checkpoint's small files hold, and the control tokens that its family adds to it.

Works on the files' contents by name, so a folder and our own low-bit file are read alike. Code beside them is never
looked at. Nothing here knows a prompt format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from core.engine.json_tokenizer import JsonTokenizer, build_byte_level
from core.engine.sentencepiece_tokenizer import ChatGLMTokenizer, SentencePieceTokenizer
from core.engine.tiktoken_tokenizer import TiktokenTokenizer, is_rank_file
from core.engine.tokenizer import Tokenizer
from core.errors import ModelLoadError

__all__ = ["CHATGLM2_TOKENS", "CHATGLM3_TOKENS", "GLM4_TOKENS", "added_tokens", "read_json", "read_tokenizer"]

CHATGLM_TOKENS = {"[MASK]": 0, "[gMASK]": 1, "[sMASK]": 2, "<sop>": 4, "<eop>": 5}
"""Of the first generation, counted from the first of them: 130000, and 150000 in the first release."""
FIRST_RELEASE_VOCAB, FIRST_RELEASE_SHIFT = 150_528, 20_000
CHATGLM2_TOKENS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
CHATGLM3_TOKENS = (*CHATGLM2_TOKENS, "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM4_TOKENS = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "ice_text.model", "vocab.json with merges.txt")


def read_tokenizer(files: Mapping[str, bytes], config: Mapping[str, Any], vocab_size: int) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Args:
        files: contents of the small files beside the weights, by name.
        config: the published config.json.
        vocab_size: rows of the embedding, which tell the first release of ChatGLM from the others.

    Raises:
        ModelLoadError: there is none, or it is damaged; the message names the file.
    """
    settings = read_json(files, "tokenizer_config.json")
    added = added_tokens(files)
    pieces = next((files[name] for name in ("tokenizer.model", "spiece.model") if name in files), None)
    bos, eos = _text_of(settings.get("bos_token")), _text_of(settings.get("eos_token"))
    if "ice_text.model" in files:
        return _first_generation(files["ice_text.model"], config, vocab_size)
    if pieces is not None and is_rank_file(pieces):
        return TiktokenTokenizer(pieces, added=added, usual=GLM4_TOKENS, eos="<|endoftext|>")
    if pieces is not None and config.get("model_type") == "chatglm":
        return _second_generation(pieces, added)
    if "tokenizer.json" in files:
        return JsonTokenizer(files["tokenizer.json"], bos=bos, eos=eos, added=added)
    if pieces is not None:
        legacy = settings.get("legacy", True) is not False
        return SentencePieceTokenizer(pieces, added=added, spaces_every_stretch=legacy)
    if "vocab.json" in files and "merges.txt" in files:
        made = build_byte_level(files["vocab.json"], files["merges.txt"])
        return JsonTokenizer(made, bos=bos, eos=eos, added=added)
    raise ModelLoadError(f"there is no tokenizer; wanted one of {', '.join(TOKENIZER_FILES)}")


def added_tokens(files: Mapping[str, bytes]) -> dict[str, int]:
    """Ids of the control tokens that the files beside a vocabulary name, by their text.

    Raises:
        ModelLoadError: a file is damaged.
    """
    found = dict(_numbered(read_json(files, "added_tokens.json").items()))
    decoder = read_json(files, "tokenizer_config.json").get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        found |= dict(_numbered((_text_of(token), number) for number, token in decoder.items() if _is_special(token)))
    return found


def read_json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """The object in one of the files; empty where there is none.

    Raises:
        ModelLoadError: the file is no JSON object.
    """
    if name not in files:
        return {}
    try:
        content = json.loads(files[name])
    except (ValueError, RecursionError) as wrong:
        raise ModelLoadError(f"{name} cannot be read as JSON ({wrong}); fetch it again") from wrong
    if not isinstance(content, dict):
        raise ModelLoadError(f"{name} holds a {type(content).__name__}, wanted a JSON object; fetch it again")
    return content


def _numbered(pairs: Any) -> Iterator[tuple[str, int]]:
    for text, number in pairs:
        try:
            yield str(text), int(number)
        except (TypeError, ValueError) as wrong:
            raise ModelLoadError(f"the token {text!r} has the id {number!r}, wanted a whole number") from wrong


def _first_generation(data: bytes, config: Mapping[str, Any], vocab_size: int) -> Tokenizer:
    shift = FIRST_RELEASE_SHIFT if vocab_size == FIRST_RELEASE_VOCAB else 0
    shift = _whole(config, "num_image_tokens", shift)
    base = 150_000 if shift else 130_000
    named = {"[MASK]": "mask_token_id", "[gMASK]": "gmask_token_id", "<sop>": "bos_token_id", "<eop>": "eos_token_id"}
    specials = {text: _whole(config, named.get(text, ""), base + at) for text, at in CHATGLM_TOKENS.items()}
    specials = {text: number for text, number in specials.items() if number < vocab_size}
    return ChatGLMTokenizer(
        data, specials=specials, shift=shift, bos_id=specials.get("<sop>"), eos_id=specials.get("<eop>")
    )


def _second_generation(data: bytes, added: Mapping[str, int]) -> Tokenizer:
    """ChatGLM2's and ChatGLM3's: control tokens follow the pieces, whatever their number."""
    base = SentencePieceTokenizer(data).vocab_size
    ids = {text: base + at for at, text in enumerate(CHATGLM3_TOKENS)}
    # Newer revisions list them with their ids and call sop and eop by other names.
    named = {text: number for text, number in added.items() if number >= base}
    if named:
        last = max(named.values())
        ids = {text: number for text, number in ids.items() if number <= last} | named
    return SentencePieceTokenizer(data, added=ids)


def _whole(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    return value if type(value) is int and value >= 0 else default


def _is_special(token: Any) -> bool:
    return not isinstance(token, Mapping) or token.get("special", True) is not False


def _text_of(token: Any) -> str | None:
    """A token's text, which is published as it is or as an object."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None
