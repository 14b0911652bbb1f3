"""PiSA-SR by its card: from a folder, from the hub, with the pair in every form it comes in, and from the command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from srgui.cli import app
from srgui.diffusion.memory import Tiling
from srgui.errors import AdapterError, DownloadError, InputError, ModelError
from srgui.images import read_picture
from srgui.inference.made import Made
from srgui.lora.catalogue import load_adapter
from srgui.lora.files import write_file
from srgui.models.cards import Part, find_card, models_folder, read_card
from srgui.models.download import HUB_FILES, download_folder, download_model
from srgui.protocol import Run, Setting, Source
from srgui.restorers import open_restorer, reopen

Write = Callable[..., Path]


@pytest.fixture
def card(base_folder: Path, tmp_path: Path) -> Write:
    """Writes a card on the tiny base, among the user's models, and returns its folder."""

    def write(name: str = "tiny-sd", **fields: Any) -> Path:
        folder = models_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
        content = {"schema": 1, "id": name, "family": "pisa-sr", "scale": 4, "title": "Tiny", "licence": "none"}
        parts = {"base": {"folder": str(base_folder)}, **fields.pop("parts", {})}
        (folder / "card.json").write_text(json.dumps({**content, "parts": parts, **fields}))
        return folder

    return write


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny base is fast, but not on pictures of 512 pixels."""
    monkeypatch.setattr("srgui.diffusion.pisa.Tiling", partial(Tiling, process=64))


def run(*args: str) -> Any:
    return CliRunner().invoke(app, list(args), catch_exceptions=False)


def rendered(restorer: Any, lr: Tensor) -> Tensor:
    return restorer.prepare(Source(lr), Run()).render(Setting({"pixel": 0.8, "semantic": 0.5}), Run())


def test_the_pair_gives_the_same_in_every_form(card: Write, pair: dict[str, Any], picture: Callable[..., Tensor]) -> None:
    lr = picture(20, 24)
    folder = card("official", parts={"lora": "pisa_sr.pkl"})
    torch.save(pair, folder / "pisa_sr.pkl")
    official = open_restorer("official")
    expected = rendered(official, lr)
    assert official.info.adapters == ()
    card("plain", pair=["mine-pixel", "mine-semantic"])
    done = run("adapters", "import", str(folder / "pisa_sr.pkl"), "--model", "plain", "--name", "mine")
    assert done.exit_code == 0, done.output
    assert "mine-pixel is ready, for plain" in done.output
    assert "mine-semantic is ready" in done.output
    paired = open_restorer("plain")
    assert torch.equal(rendered(paired, lr), expected)
    assert [adapter.name for adapter in paired.info.adapters] == ["mine-pixel", "mine-semantic"]
    split = card("split", parts={"pixel": "p.safetensors", "semantic": "s.safetensors"})
    for role, file in (("pixel", "p"), ("semantic", "s")):
        write_file(load_adapter(f"mine-{role}"), split / f"{file}.safetensors")
    assert torch.equal(rendered(open_restorer("split"), lr), expected)
    assert open_restorer("split").info.digest == official.info.digest
    (split / "s.safetensors").write_bytes((split / "p.safetensors").read_bytes())
    with pytest.raises(AdapterError, match="the part semantic of split is a pixel adapter"):
        open_restorer("split")


def test_another_strength_is_an_adapters_own_dial(card: Write, pair: dict[str, Any], picture: Callable[..., Tensor]) -> None:
    folder = card("official", parts={"lora": "pisa_sr.pkl"})
    torch.save(pair, folder / "pisa_sr.pkl")
    run("adapters", "import", str(folder / "pisa_sr.pkl"), "--model", "official", "--name", "mine")
    other = open_restorer("official", adapters=[("mine-semantic", 0.0)])
    prepared = other.prepare(Source(picture(16, 16)), Run())
    planes = [prepared.latent(name, Run()) for name in ("eps_pix", "eps_full")]  # type: ignore[attr-defined]
    assert torch.equal(*planes), "the model's own semantic adapter is replaced by one of strength 0"
    again = reopen(Made.by(other.info, Setting({}), 4))
    assert again.info == other.info


def test_a_result_is_written_by_the_command_line(card: Write, pair: dict[str, Any], save_png: Any, tmp_path: Path) -> None:
    folder = card("official", parts={"lora": "pisa_sr.pkl"})
    torch.save(pair, folder / "pisa_sr.pkl")
    rgba = np.random.default_rng(1).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    source, out = save_png(tmp_path / "in.png", rgba), tmp_path / "out.png"
    done = run("upscale", str(source), "-o", str(out), "--model", "official", "--semantic", "0.5", "--outscale", "3")
    assert done.exit_code == 0, done.output

    assert read_picture(out).rgb.shape == (27, 36, 3)
    assert read_picture(out).alpha is not None


def test_the_shipped_card_says_where_its_pair_comes_from(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card("pisa-sr")
    assert card.downloadable
    assert not card.present
    with pytest.raises(ModelError, match="models download pisa-sr"):
        open_restorer("pisa-sr")
    card.parts["base"].path.parent.mkdir(parents=True)
    card.parts["base"].path.symlink_to(base_folder)
    with pytest.raises(AdapterError, match=r"pisa-sr-pixel.*github.com/csslc/PiSA-SR.*adapters import FILE --model pisa-sr"):
        open_restorer("pisa-sr")


def test_without_the_packages_the_list_says_how_to_add_them(monkeypatch: pytest.MonkeyPatch, card: Write) -> None:
    monkeypatch.setattr("srgui.models.requirements.find_spec", lambda name: None)
    card()
    listed = run("models", "list")
    states = {line.split()[0]: line.split()[2] for line in listed.output.splitlines() if " x4 " in line}
    assert states["pisa-sr"] == states["tiny-sd"] == "packages"
    assert states["srgui-compact-x4"] == "ready"
    assert "pip install -r requirements-diffusion.txt" in listed.output
    with pytest.raises(ModelError, match="diffusers and transformers, not installed here"):
        open_restorer("tiny-sd")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"base": {"folder": "relative"}}, "must be an absolute path"),
        ({"base": {"folder": "/a", "sha256": "0" * 64}}, "its only field"),
        ({"base": {"file": "b", "hub": "no-owner"}}, "must be owner/name"),
        ({"base": {"file": "b", "hub": "a/b", "url": "https://c"}}, "in place of a url"),
    ],
)
def test_parts_that_cannot_be_are_refused(card: Write, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_card(card("bad", parts=parts))


def test_a_card_without_a_base_and_a_base_that_is_gone(card: Write, tmp_path: Path) -> None:
    folder = card("none")
    content = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**content, "parts": {}}))
    with pytest.raises(ModelError, match="names no part 'base'"):
        open_restorer("none")
    card("gone", parts={"base": {"folder": str(tmp_path / "gone")}})
    with pytest.raises(ModelError, match="weights of gone are not on this machine"):
        open_restorer("gone")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that has the tiny base as the hub has models."""
    where = tmp_path / "hub" / "me" / "tiny" / "resolve"
    where.mkdir(parents=True)
    (where / "main").symlink_to(base_folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "hub")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    yield where
    server.shutdown()
    server.server_close()


def test_a_base_is_downloaded_from_the_hub(hub: Path, card: Write, base: Any) -> None:
    card("far", parts={"base": {"file": "base", "hub": "me/tiny"}})
    assert not find_card("far").present
    download_model("far", Run())
    assert find_card("far").present
    restorer = open_restorer("far")
    assert restorer.base.digest == base.digest  # type: ignore[attr-defined]


def test_a_hub_that_is_not_there_or_lacks_a_file_is_told_and_leaves_nothing_in_use(hub: Path, tmp_path: Path) -> None:
    part = Part(tmp_path / "x" / "base", hub="me/other")
    with pytest.raises(DownloadError, match=r"me/other/resolve/main/.*404"):
        download_folder(part, Run())
    assert not part.path.exists()
    assert len(HUB_FILES) == len(set(HUB_FILES))


def test_without_a_network_and_a_local_base_the_message_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="check the network") as refusal:
        download_folder(Part(tmp_path / "base", hub="me/tiny"), Run())
    assert "\n" not in str(refusal.value)


def test_options_reach_the_model_and_are_kept_for_making_it_again(
    card: Write, pair: dict[str, Any], save_png: Any, tmp_path: Path
) -> None:
    folder = card("official", parts={"lora": "pisa_sr.pkl"})
    torch.save(pair, folder / "pisa_sr.pkl")
    source = save_png(tmp_path / "in.png", (12, 16))
    given = ["--option", "prompt=a cat", "--option", "colour=wavelet", "--option", "sampled=true", "--option", "seed=3"]

    def upscaled(name: str, *options: str) -> np.ndarray:
        out = tmp_path / name
        done = run("upscale", str(source), "-o", str(out), *options)
        assert done.exit_code == 0, done.output
        return read_picture(out).rgb

    plain = upscaled("plain.png", "--model", "official")
    chosen = upscaled("chosen.png", "--model", "official", *given)
    assert not np.array_equal(plain, chosen)
    assert np.array_equal(upscaled("again.png", "--like", str(tmp_path / "chosen.png")), chosen)
    other = upscaled("other.png", "--like", str(tmp_path / "chosen.png"), "--option", "seed=4")
    assert not np.array_equal(other, chosen)


@pytest.mark.parametrize(
    ("model", "option", "message"),
    [
        ("official", "seed=x", "must be int"),
        ("official", "sampled=1", "must be true or false"),
        ("official", "promt=x", "no option 'promt'; it has prompt, negative_prompt"),
        ("official", "prompt", "--option prompt=a cat"),
        ("bicubic", "prompt=x", "it has none, leave it out"),
    ],
)
def test_options_that_a_model_does_not_have_are_refused(
    card: Write, pair: dict[str, Any], save_png: Any, tmp_path: Path, model: str, option: str, message: str
) -> None:
    torch.save(pair, card("official", parts={"lora": "pisa_sr.pkl"}) / "pisa_sr.pkl")
    source, out = save_png(tmp_path / "in.png", (8, 8)), tmp_path / "out.png"
    with pytest.raises(InputError) as refusal:
        run("upscale", str(source), "-o", str(out), "--model", model, "--option", option)
    assert message in str(refusal.value)
