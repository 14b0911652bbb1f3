"""Bases: what loads, and what is told about those that do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from srgui.diffusion.base import StableDiffusion, folder_digest, load_base, meta_unet
from srgui.errors import ModelError

CPU = torch.device("cpu")


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_folder, tmp_path / "base"))


def edited(folder: Path, part: str, **values: object) -> Path:
    path = folder / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def test_a_base_is_loaded_once_and_anew_when_it_changed(base: StableDiffusion, base_folder: Path, copy: Path) -> None:
    assert load_base(base_folder, CPU) is base
    other = load_base(copy, CPU)
    assert other is not base
    assert other.digest == base.digest == folder_digest(copy)
    edited(copy, "scheduler/scheduler_config.json", x=1)
    edited(copy, "vae/config.json", scaling_factor=0.5)
    changed = load_base(copy, CPU)
    assert changed.digest != base.digest
    assert changed.scaling == 0.5
    assert (base.factor, base.channels, base.scaling) == (8, 4, 0.18215)
    assert not any(p.requires_grad for p in base.unet.parameters())


def test_the_empty_prompt_is_the_text_encoders_last_state(base: StableDiffusion, base_folder: Path) -> None:
    from transformers import CLIPTextModel

    encoder = CLIPTextModel.from_pretrained(base_folder / "text_encoder").eval()
    ids = torch.tensor([[512, *[513] * 76]])
    with torch.no_grad():
        expected = encoder(ids)[0]
    assert torch.allclose(base.prompt(""), expected, atol=1e-5)
    assert base.prompt("") is base.prompt("")
    assert base.prompt("word " * 200).shape == (1, 77, 32)


def test_names_of_old_files_are_read(copy: Path, base: StableDiffusion) -> None:
    """Stable Diffusion 2.1's files name the VAE's attention as diffusers did in 2022, and hold a constant of the text encoder."""
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, tensor in load_file(path).items():
        for new, was in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{was}.")
        state[key] = tensor
    save_file(state, path, {"format": "pt"})
    text = copy / "text_encoder" / "model.safetensors"
    save_file({**load_file(text), "text_model.embeddings.position_ids": torch.arange(77)[None]}, text, {"format": "pt"})
    loaded = load_base(copy, CPU)
    for name, tensor in base.vae.state_dict().items():
        assert torch.equal(tensor, loaded.vae.state_dict()[name])
    assert torch.equal(loaded.prompt("x"), base.prompt("x"))


def test_its_unet_can_be_had_without_weights(copy: Path, base: StableDiffusion) -> None:
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet = meta_unet(copy)
    assert {n: p.shape for n, p in unet.named_parameters()} == {n: p.shape for n, p in base.unet.named_parameters()}
    assert next(unet.parameters()).is_meta


def cut(folder: Path, part: str) -> Path:
    path = folder / part
    path.write_bytes(path.read_bytes()[:1000])
    return folder


def less(folder: Path, part: str, name: str) -> Path:
    path = folder / part / "diffusion_pytorch_model.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if key != name}, path, {"format": "pt"})
    return folder


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no vae": (lambda f: shutil.rmtree(f / "vae"), "no Stable Diffusion in diffusers' layout: vae missing"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer missing"),
    "another text width": (lambda f: edited(f, "text_encoder/config.json", hidden_size=48), "takes text of width 32, .* 48"),
    "other channels": (lambda f: edited(f, "unet/config.json", in_channels=9), "in_channels 9, and its VAE 4"),
    "SDXL": (lambda f: edited(f, "unet/config.json", addition_embed_type="text_time"), "addition_embed_type text_time"),
    "v prediction": (
        lambda f: edited(f, "scheduler/scheduler_config.json", prediction_type="v_prediction"),
        "predicts v_prediction, and one step needs epsilon",
    ),
    "a broken config": (lambda f: (f / "unet" / "config.json").write_text("{"), "cannot be read"),
    "a list for a config": (lambda f: (f / "vae" / "config.json").write_text("[]"), "not an object"),
    "cut weights": (lambda f: cut(f, "unet/diffusion_pytorch_model.safetensors"), "unet cannot be read"),
    "no weights": (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "vae cannot be read"),
    "a weight less": (lambda f: less(f, "unet", "conv_in.bias"), r"1 missing.*conv_in.bias"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.filterwarnings("ignore")
def test_a_base_that_cannot_be_used_is_refused_in_one_line(copy: Path, what: str) -> None:
    spoil, message = BAD[what]
    spoil(copy)
    with pytest.raises(ModelError, match=message) as refusal:
        load_base(copy, CPU)
    assert "\n" not in str(refusal.value)


def test_a_broken_text_encoder_is_told_when_a_prompt_is_first_encoded(copy: Path) -> None:
    (copy / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="text_encoder cannot be read"):
        load_base(copy, CPU).prompt("")


def test_without_the_packages_the_message_says_how_to_add_them(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srgui.models.requirements.find_spec", lambda name: None if name == "transformers" else object())
    with pytest.raises(ModelError, match="need transformers, not installed here; add them with: pip install -r requirements-diff"):
        load_base(base_folder, CPU)
