"""A book's map in one Parquet file: every passage, where it lies in space, and what it is near to.

The file is the hand-over between whoever computes a map (``viz``) and whoever shows it: the window, pictures, the
page. Its columns can be read by any table program; what concerns the whole map stands as JSON in the file's metadata,
under the key ``novelscope``, with a schema version. Nothing here computes or draws.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.columns import fixed_lists, matrix, numbers, strings
from core.data.files import replacing
from core.errors import BadScene, SceneError

__all__ = ["NOISE", "SCHEMA", "ClusterFacts", "Scene", "SceneFacts"]

SCHEMA = 1
METADATA_KEY = b"novelscope"
NOISE = -1
"""Cluster of the passages that belong to none; also fills places in ``Scene.neighbours`` that hold no row."""
REACH = 1.001  # of a point; rounding to 32 bits may put one a little beyond 1
TEXT_COLUMNS = ("id", "chapter_title", "text")
NUMBER_COLUMNS = ("chapter", "position", "start", "end", "x", "y", "z", "cluster", "trust")


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """One cluster of a map.

    Attributes:
        number: as in ``Scene.clusters``, from 0, the largest cluster first.
        size: passages in it.
        words: its telling words, best first, each with the chapter in which a reader first meets it in this cluster;
            a name for a reader who has not got so far must leave the word out.
    """

    number: int
    size: int
    words: tuple[tuple[str, int], ...]

    def name(self, until_chapter: int | None = None, *, most: int = 3) -> str:
        """The cluster's name for someone who has read that far; empty where no word may be told."""
        told = [word for word, chapter in self.words if until_chapter is None or chapter <= until_chapter]
        return " · ".join(told[:most])


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFacts:
    """What the file's metadata say of the whole map.

    Attributes:
        title, book: the book's title and id; a table from elsewhere may leave the id empty.
        key: names the vectors that the map was made of; a map whose key is not the book's is out of date.
        language: ``"zh"`` or ``"en"``.
        method: ``"umap"`` or ``"pca"``.
        parameters: of the method, its seed among them.
        trust_k: neighbours that ``Scene.trust`` looks at.
        trustworthiness: of the whole projection, 0 to 1 (Venna and Kaski, 2001).
        clusters: largest first.
    """

    title: str
    book: str = ""
    key: str = ""
    language: str = "zh"
    method: str = "umap"
    parameters: dict[str, str | int | float] = field(default_factory=dict)
    trust_k: int = 15
    trustworthiness: float = 1.0
    clusters: tuple[ClusterFacts, ...] = ()

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: bytes | str) -> SceneFacts:
        """The facts in ``text``.

        Raises:
            BadScene: another schema version, or a field of the wrong kind.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("schema", None) != SCHEMA:
            found = json.loads(text)
            version = found.get("schema") if isinstance(found, dict) else None
            raise BadScene(
                f"the map is of schema {version}, this program reads schema {SCHEMA}; build it again with: "
                "novelscope map build BOOK"
            )
        clusters = tuple(
            ClusterFacts(
                int(c["number"]), int(c["size"]), tuple((str(word), int(chapter)) for word, chapter in c["words"])
            )
            for c in fields.pop("clusters")
        )
        return cls(clusters=clusters, **fields)


@dataclass(frozen=True, eq=False)
class Scene:
    """Every passage of a book and its place on the map; rows stand in reading order.

    Attributes:
        ids: of the passages, all different.
        texts: the passages as the book has them.
        chapter_titles: of each passage's chapter.
        chapters: (n,) int32, number of each passage's chapter.
        spans: (n, 2) int64, first and past-the-last character in the book's text.
        positions: (n,) float32, 0 at the book's first passage to 1 at its last.
        points: (n, 3) float32, coordinates; the whole lies within a sphere of radius 1 about the origin.
        clusters: (n,) int32, number of each passage's cluster, or ``NOISE``.
        trust: (n,) float32, 0 to 1: how far the neighbours seen on the map are true neighbours.
        neighbours: (n, k) int32, rows that are nearest in the true vector space, best first, padded by ``NOISE``.
        similarities: (n, k) float32, cosines of the vectors of those rows.
        vectors: (n, dim) float32, or None where they were not asked for or the file holds none.

    Raises:
        BadScene: the parts do not fit together.
    """

    facts: SceneFacts
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    chapter_titles: tuple[str, ...]
    chapters: NDArray[np.int32]
    spans: NDArray[np.int64]
    positions: NDArray[np.float32]
    points: NDArray[np.float32]
    clusters: NDArray[np.int32]
    trust: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    similarities: NDArray[np.float32]
    vectors: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        if count == 0:
            raise BadScene("the map holds no passage, wanted at least one")
        k = self.neighbours.shape[1] if self.neighbours.ndim == 2 else -1
        shapes: dict[str, tuple[int, ...]] = {
            "chapters": (count,), "spans": (count, 2), "positions": (count,), "points": (count, 3),
            "clusters": (count,), "trust": (count,), "neighbours": (count, k), "similarities": (count, k),
        }  # fmt: skip
        for name, shape in shapes.items():
            found = getattr(self, name).shape
            if found != shape:
                raise BadScene(f"{name} have shape {found}, wanted {shape}")
        for name in ("texts", "chapter_titles"):
            if len(getattr(self, name)) != count:
                raise BadScene(f"{len(getattr(self, name))} {name} for {count} ids, wanted one each")
        if len(set(self.ids)) != count:
            raise BadScene("an id occurs twice, wanted each passage once")
        for name in ("points", "positions", "trust", "similarities"):
            if not np.isfinite(getattr(self, name)).all():
                raise BadScene(f"{name} hold something that is not a finite number")
        reach = float(np.linalg.norm(self.points.astype(np.float64), axis=1).max())
        if reach > REACH:
            raise BadScene(f"a point lies {reach:.3g} from the origin, wanted 1 at most")
        known = {NOISE, *(cluster.number for cluster in self.facts.clusters)}
        if strange := set(self.clusters.tolist()) - known:
            raise BadScene(f"cluster {min(strange)} is not among the map's clusters")
        if k and not (int(self.neighbours.min()) >= NOISE and int(self.neighbours.max()) < count):
            raise BadScene(f"a neighbour is no row of the map, wanted -1 to {count - 1}")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each id."""
        return {passage: row for row, passage in enumerate(self.ids)}

    @cached_property
    def chapter_names(self) -> dict[int, str]:
        """Title of each chapter, in reading order."""
        numbers, first = np.unique(self.chapters, return_index=True)
        return {int(numbers[place]): self.chapter_titles[first[place]] for place in np.argsort(first)}

    def rows_within(self, start: int, end: int) -> list[int]:
        """Rows whose passages share characters with [start, end) of the book's text."""
        return np.flatnonzero((self.spans[:, 0] < end) & (self.spans[:, 1] > start)).tolist()

    def readable(self, until_chapter: int | None) -> NDArray[np.bool_]:
        """(n,) bool: which passages someone may see who has read up to that chapter; None for the whole book."""
        if until_chapter is None:
            return np.ones(len(self), bool)
        return self.chapters <= until_chapter

    def write(self, path: Path) -> None:
        """Put the map at ``path``: a reader finds the whole old file or the whole new one, never a part.

        Raises:
            SceneError: the file cannot be written; the old one, if any, is untouched.
        """
        import pyarrow as pa
        from pyarrow import parquet

        names = {cluster.number: cluster.name() for cluster in self.facts.clusters}
        columns: dict[str, Any] = {
            "id": pa.array(self.ids, pa.string()),
            "chapter": pa.array(self.chapters.astype(np.int32)),
            "chapter_title": pa.array(self.chapter_titles, pa.string()),
            "position": pa.array(self.positions.astype(np.float32)),
            "start": pa.array(self.spans[:, 0].astype(np.int64)),
            "end": pa.array(self.spans[:, 1].astype(np.int64)),
            "text": pa.array(self.texts, pa.string()),
            **{axis: pa.array(self.points[:, i].astype(np.float32)) for i, axis in enumerate("xyz")},
            "cluster": pa.array(self.clusters.astype(np.int32)),
            "cluster_name": pa.array([names.get(number, "") for number in self.clusters.tolist()], pa.string()),
            "trust": pa.array(self.trust.astype(np.float32)),
        }
        if self.neighbours.shape[1]:
            columns["neighbours"] = fixed_lists(self.neighbours.astype(np.int32))
            columns["similarities"] = fixed_lists(self.similarities.astype(np.float32))
        if self.vectors is not None:
            columns["embedding"] = fixed_lists(self.vectors.astype(np.float32))
        table = pa.table(columns).replace_schema_metadata({METADATA_KEY: self.facts.to_json().encode()})
        with replacing(path, SceneError) as partial:
            parquet.write_table(table, partial, compression="zstd")

    @classmethod
    def read_facts(cls, path: Path) -> SceneFacts:
        """What the file at ``path`` says of the whole map, without reading a passage.

        Raises:
            SceneError: as ``read``.
        """
        with _reading(path) as source:
            return SceneFacts.from_json((source.schema_arrow.metadata or {})[METADATA_KEY])

    @classmethod
    def read(cls, path: Path, *, with_vectors: bool = False) -> Scene:
        """The map that ``write`` put at ``path``.

        Args:
            with_vectors: also read the embeddings, most of the file's bytes.

        Raises:
            SceneError: the file is missing, cut short, of another schema version, or no map.
        """
        with _reading(path) as source:
            names = source.schema_arrow.names
            facts = (source.schema_arrow.metadata or {}).get(METADATA_KEY)
            missing = [name for name in (*TEXT_COLUMNS, *NUMBER_COLUMNS) if name not in names]
            if facts is None or missing:
                lack = f"columns {', '.join(missing)}" if missing else "novelscope's metadata"
                raise BadScene(f"it is a table without {lack}")
            has_lists = {"neighbours", "similarities"} <= set(names)
            wanted = [*TEXT_COLUMNS, *NUMBER_COLUMNS, *(["neighbours", "similarities"] if has_lists else [])]
            if with_vectors and "embedding" in names:
                wanted.append("embedding")
            table = source.read(columns=wanted)
            told = SceneFacts.from_json(facts)
            empty = np.zeros((len(table), 0))
            lists = {name: matrix(table, name) if name in wanted else empty for name in ("neighbours", "similarities")}
            number = {name: numbers(table, name) for name in NUMBER_COLUMNS}
            return cls(
                facts=told,
                ids=tuple(strings(table, "id")),
                texts=tuple(strings(table, "text")),
                chapter_titles=tuple(strings(table, "chapter_title")),
                chapters=number["chapter"].astype(np.int32),
                spans=np.stack([number["start"], number["end"]], axis=1).astype(np.int64),
                positions=number["position"].astype(np.float32),
                points=np.stack([number[axis] for axis in "xyz"], axis=1).astype(np.float32),
                clusters=number["cluster"].astype(np.int32),
                trust=number["trust"].astype(np.float32),
                neighbours=lists["neighbours"].astype(np.int32),
                similarities=lists["similarities"].astype(np.float32),
                vectors=matrix(table, "embedding").astype(np.float32) if "embedding" in wanted else None,
            )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The Parquet file; whatever is wrong with it becomes a ``SceneError``."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            yield parquet.ParquetFile(file)
    except FileNotFoundError as missing_file:
        raise SceneError(f"there is no map at {path}; build it with: novelscope map build BOOK") from missing_file
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as wrong:
        reason = " ".join(str(wrong).split())
        raise SceneError(
            f"{path} is not a readable map ({reason}); build it again with: novelscope map build BOOK"
        ) from wrong
