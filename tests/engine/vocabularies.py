"""Small vocabularies made on the spot by the libraries that make real ones."""

import base64
import io
import json
from itertools import pairwise

TEXT = [
    "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。",
    "及秦灭之后，楚、汉分争，又并入于汉。问：答：用户：你好！",
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ASSISTANT:",
    "A chat between a curious user and an artificial intelligence assistant. [Round 1] 1234567890",
] * 8
SAMPLES = [
    "话说天下大势",
    "two  spaces, a\ttab\nand\n\n\nlines",
    " leading and trailing ",
    "emoji 🐉 and rare 𠮷 and ﷽",
    "USER: 你好 ASSISTANT: fine</s>",
    "",
    "\n",
    "a" * 50 + " " * 90 + "b",
]


def sentencepiece_model(kind="bpe", *, symbols=(), size=420, **more):
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=out,
        vocab_size=size + len(symbols),
        model_type=kind,
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=list(symbols),
        minloglevel=2,
        **more,
    )
    return out.getvalue()


def byte_level_json(*, special=("<|im_start|>", "<|im_end|>"), size=330):
    """tokenizer.json of GPT-2's kind; its special tokens come last."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(TEXT, trainer)
    library.add_special_tokens(list(special))
    return library.to_str().encode()


def llama_json(model, *, special=("<s>", "</s>")):
    """tokenizer.json as transformers makes it from a SentencePiece file of Llama's kind."""
    import sentencepiece
    from tokenizers import Tokenizer, decoders, models, normalizers

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}
    merges = sorted(
        (
            (pieces.get_score(ids[left + right]), left, right)
            for piece in ids
            for cut in range(1, len(piece))
            if (left := piece[:cut]) in ids and (right := piece[cut:]) in ids and not piece.startswith("<")
        ),
        key=lambda merge: -merge[0],
    )
    library = Tokenizer(
        models.BPE(
            vocab=ids, merges=[(left, right) for _, left, right in merges], unk_token="<unk>", fuse_unk=True,
            byte_fallback=True,
        )
    )  # fmt: skip
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.add_special_tokens(list(special))
    return library.to_str().encode()


def rank_file(num_merges=60):
    """Byte strings with ranks, as GLM-4 ships them: single bytes, then the commonest pairs in turn."""
    ranks = [bytes([byte]) for byte in range(256)]
    words = ["".join(TEXT).encode()]
    parts = [bytes([byte]) for byte in words[0]]
    for _ in range(num_merges):
        counts = {}
        for pair in pairwise(parts):
            counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: (counts[pair], pair))
        ranks.append(best[0] + best[1])
        merged, at = [], 0
        while at < len(parts):
            if tuple(parts[at : at + 2]) == best:
                merged.append(best[0] + best[1])
                at += 2
            else:
                merged.append(parts[at])
                at += 1
        parts = merged
    lines = [base64.b64encode(piece) + b" " + str(rank).encode() for rank, piece in enumerate(dict.fromkeys(ranks))]
    return b"\n".join(lines) + b"\n"


def as_json(**content):
    return json.dumps(content, ensure_ascii=False).encode()
