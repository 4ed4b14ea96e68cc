"""What the window says of a passage: a small card beside the pointer, and the pinned passage in its chapter."""

from __future__ import annotations

from imgui_bundle import imgui

from core.data.scenes import NOISE
from viz.session import MapSession
from viz.widgets import BARE, MARGIN, faint, swatch, wrapped

__all__ = ["draw_card", "draw_hover"]

CARD_WIDTH, HOVER_WIDTH = 380.0, 320.0
HOVER_CHARS, NEIGHBOUR_CHARS = 110, 22
HOVER_GAP = 18.0


def draw_hover(session: MapSession, row: int, size: tuple[float, float]) -> None:
    """A card beside the pointer: where the passage stands and how it begins."""
    pointer = imgui.get_io().mouse_pos
    right = pointer.x + HOVER_GAP + HOVER_WIDTH < size[0]
    low = pointer.y > size[1] * 0.6
    imgui.set_next_window_pos(
        (pointer.x + (HOVER_GAP if right else -HOVER_GAP), pointer.y),
        imgui.Cond_.always,
        (0.0 if right else 1.0, float(low)),
    )
    imgui.set_next_window_size((HOVER_WIDTH, 0))
    quiet = (
        imgui.WindowFlags_.no_inputs | imgui.WindowFlags_.no_focus_on_appearing | imgui.WindowFlags_.always_auto_resize
    )
    imgui.push_style_var(imgui.StyleVar_.window_border_size, 1.0)
    imgui.begin("hover", None, BARE | quiet)
    imgui.pop_style_var()
    _draw_heading(session, row)
    text = " ".join(session.scene.texts[row].split())
    wrapped(text if len(text) <= HOVER_CHARS else text[:HOVER_CHARS] + "…")
    imgui.end()


def draw_card(session: MapSession, size: tuple[float, float]) -> None:
    """The pinned passage with what stands before and after it, and what is near to it."""
    row = session.pinned
    if row is None:
        return
    words, scene = session.words, session.scene
    imgui.set_next_window_pos((size[0] - MARGIN, MARGIN), imgui.Cond_.always, (1.0, 0.0))
    imgui.set_next_window_size((min(CARD_WIDTH, size[0] * 0.4), size[1] - 2 * MARGIN))
    imgui.begin("card", None, BARE)
    _draw_heading(session, row)
    rows = session.readable_rows
    place = int(rows.searchsorted(row))
    imgui.begin_disabled(place <= 0)
    if imgui.button(words["previous"]):
        session.step(-1)
    imgui.end_disabled()
    imgui.same_line()
    imgui.begin_disabled(place >= len(rows) - 1)
    if imgui.button(words["next"]):
        session.step(1)
    imgui.end_disabled()
    imgui.same_line()
    if imgui.button(words["close"]):
        session.pin(None)
    imgui.separator()
    imgui.begin_child("text", (0, -190.0))
    if imgui.is_window_appearing() or imgui.get_state_storage().get_int(1, -1) != row:
        imgui.get_state_storage().set_int(1, row)
        imgui.set_scroll_y(0.0)
    if place > 0 and scene.chapters[rows[place - 1]] == scene.chapters[row]:
        faint(session, scene.texts[int(rows[place - 1])].strip(), is_wrapped=True)
        imgui.dummy((0, 4))
    wrapped(scene.texts[row].strip())
    if place < len(rows) - 1 and scene.chapters[rows[place + 1]] == scene.chapters[row]:
        imgui.dummy((0, 4))
        faint(session, scene.texts[int(rows[place + 1])].strip(), is_wrapped=True)
    imgui.end_child()
    imgui.separator()
    _draw_neighbours(session, row)
    imgui.end()


def _draw_heading(session: MapSession, row: int) -> None:
    words, scene = session.words, session.scene
    wrapped(scene.chapter_titles[row] or str(int(scene.chapters[row])))
    number = int(scene.clusters[row])
    clusters = {cluster.number: cluster for cluster in scene.facts.clusters}
    name = words["noise"]
    if number != NOISE:
        name = clusters[number].name(session.state.until_chapter) or f"{words['cluster']} {number + 1}"
    colour = session.drawing.coloured.colours[row]
    swatch((int(colour[0]), int(colour[1]), int(colour[2])), 1.0)
    imgui.same_line()
    faint(session, f"{name}   {scene.positions[row]:.1%}")
    if session.answer is not None:
        for hit in session.answer.hits:
            if row in hit.rows:
                label = words["near_misses"] if hit.is_near else f"#{hit.rank}"
                faint(session, f"{label}   {words['score']} {hit.score:.4f}")
                break


def _draw_neighbours(session: MapSession, row: int) -> None:
    words, scene = session.words, session.scene
    imgui.text_unformatted(f"{words['map_trust']}  {scene.trust[row]:.2f}")
    if imgui.is_item_hovered():
        imgui.set_tooltip(words["trust_hint"].format(k=scene.facts.trust_k))
    neighbours = session.true_neighbours(row)
    if not neighbours:
        return
    faint(session, words["true_list"])
    imgui.begin_child("neighbours", (0, 0), imgui.ChildFlags_.borders)
    for other, cosine, is_near in neighbours:
        text = " ".join(scene.texts[other].split())[:NEIGHBOUR_CHARS]
        mark = "" if is_near else f"  ({words['only_true']})"
        is_clicked, _ = imgui.selectable(f"{cosine:.3f}  {text}{mark}###near{other}", False)
        if is_clicked:
            session.pin(other)
            session.fly_to(other)
    imgui.end_child()
