"""The map: frames and picks against an empty frame, a picture by a cold process against other programs, building.

Frames are read back, so that nothing is left to a queue; cold processes take turns, and the best of each counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from core.data.scenes import ClusterFacts, Scene, SceneFacts

__all__ = ["building", "cold_pictures", "frames", "made_up_scene"]

ROOT = Path(__file__).resolve().parent.parent
SIZE = (1280, 720)
COLD_RUNS = 5
BUILT_PASSAGES, BUILT_DIM = 2500, 384
# What each program does from its start to a picture: points from a file, one angle, one PNG.
FLOOR = """
import sys, moderngl, numpy as np
from PIL import Image
context = moderngl.create_standalone_context(backend="egl", require=330)
target = context.simple_framebuffer((1280, 720))
target.clear(0.1, 0.1, 0.1)
pixels = np.frombuffer(target.read(components=3, alignment=1), np.uint8).reshape(720, 1280, 3)[::-1]
Image.fromarray(pixels).save(sys.argv[2], compress_level=2)
"""
MATPLOTLIB = """
import sys, numpy as np, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
points = np.load(sys.argv[1])
figure = plt.figure(figsize=(12.8, 7.2), dpi=100)
axes = figure.add_subplot(projection="3d")
axes.scatter(*points.T, s=9, c=points[:, 2], cmap="viridis", linewidths=0)
axes.set_axis_off()
figure.savefig(sys.argv[2])
"""
VISPY = """
import sys, numpy as np
from PIL import Image
import vispy
vispy.use(app="egl")
from vispy import scene
points = np.load(sys.argv[1]).astype(np.float32)
canvas = scene.SceneCanvas(size=(1280, 720), show=False)
view = canvas.central_widget.add_view()
view.camera = scene.TurntableCamera(fov=45, distance=3)
marks = scene.visuals.Markers(parent=view.scene)
marks.set_data(points, size=7, edge_width=0, face_color=(0.3, 0.7, 0.9, 1))
Image.fromarray(canvas.render()[..., :3]).save(sys.argv[2], compress_level=2)
"""


def made_up_scene(count: int) -> Scene:
    """A map of so many passages in twenty clusters, on the page's own form."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(20, 3))
    clusters = random.integers(0, 20, count).astype(np.int32)
    points = 0.35 * centres[clusters] + random.normal(0, 0.09, (count, 3))
    points = (points / np.linalg.norm(points, axis=1).max()).astype(np.float32)
    starts = np.arange(count, dtype=np.int64) * 100
    sizes = np.bincount(clusters, minlength=20).tolist()
    return Scene(
        facts=SceneFacts(
            title="山中记", clusters=tuple(ClusterFacts(n, sizes[n], ((f"词{n}", 1),)) for n in range(20))
        ),
        ids=tuple(f"{row:07d}" for row in range(count)),
        texts=("山中有虎。",) * count,
        chapter_titles=("第一回",) * count,
        chapters=(np.arange(count) // 1000 + 1).astype(np.int32),
        spans=np.stack([starts, starts + 100], axis=1),
        positions=np.linspace(0, 1, count, dtype=np.float32),
        points=points,
        clusters=clusters,
        trust=np.ones(count, np.float32),
        neighbours=np.zeros((count, 0), np.int32),
        similarities=np.zeros((count, 0), np.float32),
    )


def frames(corpus: Path | None = None, counts: tuple[int, ...] = (3_000, 30_000, 300_000)) -> dict[str, Any]:
    """Frames of maps of several sizes, still and moving, and picks, as multiples of an empty frame."""
    from viz.camera import Camera
    from viz.context import open_headless
    from viz.drawing import compose
    from viz.renderer import Renderer
    from viz.state import ViewState

    context = open_headless()
    target = context.simple_framebuffer(SIZE)
    state = ViewState(labels=False)
    result: dict[str, Any] = {"renderer": context.info["GL_RENDERER"], "size": "1280x720"}

    def empty() -> None:
        target.use()
        target.clear(0.1, 0.1, 0.1, 1.0, depth=1.0)
        target.read(components=3, alignment=1)

    for count in counts:
        renderer = Renderer(context)
        renderer.update(compose(made_up_scene(count), state, None, None))
        angle = iter(range(10**9))

        def drawn(is_moving: bool, renderer: Renderer = renderer, angle: Any = angle) -> None:
            renderer.draw(target, Camera(azimuth_deg=float(next(angle) % 360)), SIZE, is_moving=is_moving)
            target.read(components=3, alignment=1)

        def unread(renderer: Renderer = renderer, angle: Any = angle) -> None:
            renderer.draw(target, Camera(azimuth_deg=float(next(angle) % 360)), SIZE)
            context.finish()

        def picked(renderer: Renderer = renderer, angle: Any = angle) -> None:
            renderer.pick(Camera(azimuth_deg=float(next(angle) % 360)), SIZE, 640.0, 360.0)

        turns: dict[str, Callable[[], None]] = {
            "empty": empty, "still": lambda: drawn(False), "moving": lambda: drawn(True), "pick": picked,
            "unread": unread,
        }  # fmt: skip
        times = _interleaved(turns, repeats=max(5, min(60, 600_000 // count)))
        result[str(count)] = {
            "empty_ms": round(1000 * times["empty"], 2),
            **{f"{name}_ratio": round(times[name] / times["empty"], 2) for name in ("still", "moving", "pick")},
            "frames_per_s": round(1 / times["unread"], 1),
        }
        renderer.release()
    return result


def cold_pictures(corpus: Path, count: int = 3_000) -> dict[str, Any]:
    """A PNG of a map by a process that has just started, as a multiple of an empty picture, beside other programs."""
    with tempfile.TemporaryDirectory() as folder:
        scene, points, out = (Path(folder) / name for name in ("m.parquet", "points.npy", "out.png"))
        made = made_up_scene(count)
        made.write(scene)
        np.save(points, made.points)
        render = [sys.executable, "-m", "viz", "render", str(scene), "--output", str(out)]
        commands = {
            "floor": [sys.executable, "-c", FLOOR, str(points), str(out)],
            "novelscope": [*render, "--no-labels"],
            "novelscope_with_names": render,
        }
        for name, code in (("matplotlib", MATPLOTLIB), ("vispy", VISPY)):
            if find_spec(name) is not None:
                commands[name] = [sys.executable, "-c", code, str(points), str(out)]
        # vispy finds a screenless EGL only so.
        env = {**os.environ, "EGL_PLATFORM": "surfaceless"}
        best = dict.fromkeys(commands, float("inf"))
        for turn in range(COLD_RUNS + 1):
            for name, command in commands.items():
                out.unlink(missing_ok=True)
                began = time.perf_counter()
                done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
                took = time.perf_counter() - began
                if done.returncode or not out.exists():
                    raise RuntimeError(f"{name} drew nothing: {done.stderr[-300:]}")
                if turn:  # the first round fills the disk's cache
                    best[name] = min(best[name], took)
    ratios = {f"{name}_ratio": round(took / best["floor"], 2) for name, took in best.items() if name != "floor"}
    return {"points": count, "floor_s": round(best["floor"], 3), **ratios}


def building(corpus: Path) -> dict[str, Any]:
    """The whole process that builds a map of 2,500 passages, against one that only loads UMAP and scikit-learn.

    Texts are a novel's; vectors are made up in forty groups, since the time does not depend on what they mean.
    """
    from core.data.passages import PassageTable

    text = (corpus / "xiyouji.txt").read_text(encoding="utf-8")
    step = len(text) // BUILT_PASSAGES
    starts = np.arange(BUILT_PASSAGES, dtype=np.int64) * step
    random = np.random.default_rng(11)
    centres = random.normal(size=(40, BUILT_DIM))
    groups = np.repeat(np.arange(40), -(-BUILT_PASSAGES // 40))[:BUILT_PASSAGES]
    vectors = 6 + centres[groups] + random.normal(0, 0.6, (BUILT_PASSAGES, BUILT_DIM))
    table = PassageTable(
        ids=tuple(f"{row:05d}" for row in range(BUILT_PASSAGES)),
        texts=tuple(text[start : start + step] for start in starts.tolist()),
        chapters=(groups + 1).astype(np.int32),
        chapter_titles=("",) * BUILT_PASSAGES,
        spans=np.stack([starts, starts + step], axis=1),
        vectors=vectors.astype(np.float32),
        title="西游记",
    )
    with tempfile.TemporaryDirectory() as folder:
        passages, scene = Path(folder) / "p.parquet", Path(folder) / "m.parquet"
        table.write(passages)
        load = _timed([sys.executable, "-c", "import umap, sklearn.cluster, pyarrow.parquet"])
        build = _timed([sys.executable, "-m", "viz", "build", str(passages), str(scene)])
        facts = Scene.read_facts(scene)
    return {
        "passages": BUILT_PASSAGES,
        "build_s": round(build, 1),
        "ratio_to_loading": round(build / load, 2),
        "clusters": len(facts.clusters),
        "trustworthiness": round(facts.trustworthiness, 3),
    }


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def _interleaved(turns: dict[str, Callable[[], None]], *, repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns, so that other work on the machine falls on all alike."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for round_number in range(repeats + 2):
        for name, turn in turns.items():
            began = time.perf_counter()
            turn()
            if round_number > 1:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}
