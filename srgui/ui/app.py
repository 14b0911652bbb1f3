"""The page as a whole, and starting it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Any

from srgui import __version__
from srgui.errors import InputError, SrguiError
from srgui.places import home


def launch(host: str = "127.0.0.1", port: int | None = None, auth: tuple[str, str] | None = None, **options: Any) -> Any:
    """Serve the page until interrupted.

    Args:
        port: by default the first free one from 7860.
        options: passed on to ``gradio.Blocks.launch``.
    """
    folder = temporary_folder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    from srgui.ui.adapters import adapters_tab
    from srgui.ui.lab import lab_tab
    from srgui.ui.models import models_tab
    from srgui.ui.sessions import Sessions
    from srgui.ui.stack import refreshed
    from srgui.ui.train import train_tab
    from srgui.ui.upscale import model_choices, upscale_tab

    sessions = Sessions(folder / "uploads" / "results")
    with gr.Blocks(title="srgui", analytics_enabled=False, delete_cache=(3600, 24 * 3600), fill_width=True) as page:
        with gr.Row(elem_id="head"):
            gr.HTML(f"<h1>srgui <small>{__version__}</small></h1><p>Enlarge pictures, and see what you get</p>", elem_id="title")
            gr.Button("Light / dark", size="sm", elem_id="look", scale=0, min_width=110)
        with gr.Tabs() as tabs:
            with gr.Tab("Upscale", id="upscale") as desk:
                chosen = upscale_tab(sessions)
            with gr.Tab("Train", id="train"):
                train_tab(sessions, page, tabs, chosen)
            with gr.Tab("Adapters", id="adapters") as shelf:
                adapters_tab(sessions.folder / "adapters", page, shelf, chosen)
            with gr.Tab("Lab", id="lab"):
                lab_tab(sessions)
            with gr.Tab("Models", id="models"):
                models_tab(sessions, chosen.model)
        page.load(lambda: gr.update(choices=model_choices()), None, chosen.model, api_visibility="private")
        desk.select(refreshed, list(chosen), chosen.adapters, queue=False, show_progress="hidden", api_visibility="private")
        page.unload(sessions.leave)
    warm = threading.Thread(target=_warm_up, name="warm-up", daemon=True)
    warm.start()
    try:
        return _launch(page, host, port, auth, options)
    except OSError as error:
        raise InputError(f"the page cannot listen on {host}, port {port or 7860}: is it taken? Choose another --port") from error


def _warm_up() -> None:
    """Load the default model while the visitor looks for a picture, so that the first upscale starts at once."""
    from srgui.restorers import open_restorer

    with suppress(SrguiError):  # said again, with its reason, where the model is used
        open_restorer().forecast(64, 64)


def _launch(page: Any, host: str, port: int | None, auth: tuple[str, str] | None, options: dict[str, Any]) -> Any:
    from srgui.ui.theme import script, style, theme

    app, url, _ = page.queue(default_concurrency_limit=4).launch(
        server_name=host,
        server_port=port,
        auth=auth,
        theme=theme(),
        css=style(),
        js=script(),
        share=False,
        enable_monitoring=False,
        strict_cors=True,
        max_file_size="500mb",
        footer_links=["api"],
        quiet=True,
        prevent_thread_lock=True,
        **options,
    )
    print(f"srgui is at {url} (stop it with Ctrl-C)", flush=True)
    if host in ("127.0.0.1", "localhost") and _has_screen():
        webbrowser.open(url)
    page.block_thread()
    return app


def _has_screen() -> bool:
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def temporary_folder() -> Path:
    """This process's own folder for uploads and results; those that dead processes left behind are removed."""
    place = home() / "tmp"
    place.mkdir(parents=True, exist_ok=True)
    for old in place.iterdir():
        if not (old.name.isdigit() and _alive(int(old.name))):
            shutil.rmtree(old, ignore_errors=True)
    folder = place / str(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "uploads" / "results").mkdir(parents=True)
    return folder


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
