"""The page: its theme, its tabs, and the entry of a Hugging Face Space."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import gradio as gr

from demos.tabs.api import build_api_tab
from demos.tabs.characters import build_characters_tab, keep_reader
from demos.tabs.chat import build_chat_tab, keep_chat
from demos.tabs.document import build_document_tab
from demos.tabs.map import build_map_tab
from demos.tabs.streaming import build_streaming_tab
from demos.translations import interface, strings_for, strings_in
from demos.wiring import Services

__all__ = ["build_blocks", "main", "theme"]

# An uploaded file is of no use once its book stands in the library.
KEEP_UPLOADS_S = 24 * 3600
PAPER = ("#fdfbf6", "#f7f4ec", "#e9e3d4", "#d8d0bf", "#b3a998", "#8a8072", "#6b6257", "#4d463d", "#332e28", "#211f1c",
         "#191715")  # fmt: skip
CINNABAR = ("#fbf4f0", "#f6e5de", "#ecc9be", "#dd9f91", "#cb7263", "#a8322a", "#98302a", "#822822", "#68211c",
            "#4d1a16", "#331210")  # fmt: skip


def build_blocks(services: Services) -> tuple[gr.Blocks, gr.I18n]:
    """The page and the strings of its labels, both for ``mount_gradio_app``."""
    text = interface()
    with gr.Blocks(
        title="novelscope", fill_width=True, analytics_enabled=False, delete_cache=(KEEP_UPLOADS_S, KEEP_UPLOADS_S)
    ) as page:
        header = gr.HTML(_header(strings_in("zh")), elem_id="ns-header")
        kept, reader = keep_chat(services), keep_reader(services)
        with gr.Tabs():
            with gr.Tab(text("tab_document"), id="document"):
                book, bookmark, model, turns = build_document_tab(services, text, page)
            with gr.Tab(text("tab_map"), id="map") as map_tab:
                build_map_tab(services, text, map_tab, book, bookmark, turns)
            with gr.Tab(text("tab_characters"), id="characters") as people_tab:
                build_characters_tab(services, text, page, people_tab, reader, book, bookmark, model)
            with gr.Tab(text("tab_chat"), id="chat"):
                build_chat_tab(services, text, page, kept)
            with gr.Tab(text("tab_streaming"), id="streaming"):
                build_streaming_tab(services, text, book, bookmark, model)
            with gr.Tab(text("tab_api"), id="api") as api_tab:
                build_api_tab(services, text, api_tab)
        page.load(greet, None, header, show_progress="hidden", api_visibility="private")
    return page, text


def greet(request: gr.Request) -> str:
    """The head of the page in the visitor's language."""
    return _header(strings_for(request))


def theme() -> gr.themes.Base:
    """Paper and cinnabar; every font is one that the reader's machine has."""
    sans = (
        "ui-sans-serif",
        "-apple-system",
        "Segoe UI",
        "PingFang SC",
        "Noto Sans CJK SC",
        "Microsoft YaHei",
        "sans-serif",
    )
    mono = ("ui-monospace", "SFMono-Regular", "Consolas", "Noto Sans Mono CJK SC", "monospace")
    return gr.themes.Base(
        primary_hue=gr.themes.Color(*CINNABAR), secondary_hue=gr.themes.Color(*CINNABAR),
        neutral_hue=gr.themes.Color(*PAPER), font=sans, font_mono=mono,
        radius_size=gr.themes.sizes.radius_md, spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    ).set(
        body_background_fill="#f7f4ec", body_background_fill_dark="#191715",
        body_text_color="#2b2620", body_text_color_dark="#e8e1d4",
        body_text_color_subdued="#716858", body_text_color_subdued_dark="#a0968a",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_border_color="#e2dccd", block_border_color_dark="#37332d",
        block_label_text_size="13px", block_title_text_size="13px", block_title_text_weight="400",
        block_title_text_color="#716858", block_title_text_color_dark="#a0968a", block_shadow="none",
        input_background_fill="#fffefa", input_background_fill_dark="#211f1c",
        input_border_color="#ddd5c3", input_border_color_dark="#403b34", input_border_width="1px",
        input_border_color_focus="#a8322a", input_border_color_focus_dark="#e0766a", input_shadow_focus="none",
        button_large_text_size="15px", button_large_text_weight="500", button_large_padding="8px 18px",
        button_small_text_weight="400",
        button_primary_background_fill="#a8322a", button_primary_background_fill_hover="#8f2921",
        button_primary_background_fill_dark="#b5443a", button_primary_text_color="#fffaf2",
        button_primary_background_fill_hover_dark="#c25349",
        button_secondary_background_fill="#efe9da", button_secondary_background_fill_hover="#e6deca",
        button_secondary_background_fill_dark="#2e2a25", button_secondary_background_fill_hover_dark="#3a352e",
        button_secondary_text_color="#3b352d", button_secondary_text_color_dark="#e8e1d4",
        button_cancel_background_fill="#fffefa", button_cancel_background_fill_dark="#211f1c",
        button_cancel_text_color="#a8322a", button_cancel_text_color_dark="#e0766a",
        color_accent="#a8322a", color_accent_soft="#f1ebdc", color_accent_soft_dark="#292621",
        slider_color="#a8322a", slider_color_dark="#c7564b",
    )  # fmt: skip


def main() -> int:
    """Serve the page with settings from the environment: what a Space runs."""
    from demos.bundled import add_bundled_books
    from demos.server import serve
    from demos.settings import Settings, is_space

    services = Services(Settings.from_environment())
    add_bundled_books(services.library)
    services.indexer.start()
    try:
        serve(services, host="0.0.0.0" if is_space() else "127.0.0.1", port=7860 if is_space() else None)
    finally:
        services.close()
    return 0


def _header(strings: Mapping[str, str]) -> str:
    return (
        '<header class="ns-header"><svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">'
        '<rect x="3" y="3" width="26" height="26" rx="3" fill="#a8322a"/>'
        '<path d="M10 8v16M16 8v16M22 8v10" stroke="#fffaf2" stroke-width="2" stroke-linecap="round"/></svg>'
        f"<h1>novelscope</h1><p>{escape(strings['tagline'])}</p></header>"
    )
