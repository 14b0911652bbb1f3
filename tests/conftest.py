"""What all tests share: a home of their own, small pictures, a tiny network and a tiny Stable Diffusion with random weights.

The tests are imported without packages, so they cannot import from here; everything is a fixture.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file
from torch import Tensor, nn

from srgui.images import Layout, write_picture
from srgui.models.compact import compact
from srgui.models.load import load_network
from srgui.models.network import Network
from srgui.places import ROOT
from srgui.protocol import Progress, Run

# Several threads on tensors this small only wait for each other.
torch.set_num_threads(1)

# A busy machine is no failure, and every run tries other cases.
settings.register_profile("srgui", deadline=None, max_examples=40)
settings.load_profile("srgui")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SRGUI_HOME of this test: a folder that does not exist yet."""
    folder = tmp_path_factory.mktemp("home") / "srgui"
    monkeypatch.setenv("SRGUI_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and weights that lies beside a developer's checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the data and weights of {folder}, which are not on this machine")
    return folder


@dataclass(frozen=True)
class Files:
    """One set of random Compact weights (x4, 6 features, 3 convolutions, radius 3) in every form a weight file has."""

    safetensors: Path
    pth: Path
    params: Path
    params_ema: Path


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(1)
    weights = compact(6, 1, 4).state_dict()
    files = Files(folder / "tiny.safetensors", folder / "tiny.pth", folder / "params.pth", folder / "params_ema.pth")
    save_file(weights, files.safetensors)
    torch.save(weights, files.pth)
    torch.save({"params": weights}, files.params)
    torch.save({"params_ema": weights, "params": {key: value * 0 for key, value in weights.items()}}, files.params_ema)
    return files


@pytest.fixture
def tiny(tiny_files: Files) -> Network:
    return load_network(tiny_files.safetensors, torch.device("cpu"))


@pytest.fixture
def picture() -> Callable[..., Tensor]:
    """Makes (1, 3, height, width) noise in [0, 1], the same for the same size."""

    def make(height: int, width: int) -> Tensor:
        return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * 10_000 + width))

    return make


@pytest.fixture
def save_png() -> Callable[..., Path]:
    """Writes (H, W, C) samples, or the noise of a size, as PNG and returns the path."""

    def make(path: Path, samples: np.ndarray | tuple[int, int]) -> Path:
        if isinstance(samples, tuple):
            samples = np.random.default_rng(samples).integers(0, 256, (*samples, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width, channels = samples.shape
        write_picture(path, Layout(height, width, channels, samples.dtype.itemsize * 8), [samples])
        return path

    return make


class Watch(Run):
    """A run that keeps what is reported, and cancels itself after ``limit`` reports of ``what``."""

    def __init__(self, limit: int | None = None, what: str = "tiles") -> None:
        super().__init__(self._note)
        self.seen: list[Progress] = []
        self._limit, self._what = limit, what

    def of(self, what: str) -> list[tuple[int, int]]:
        return [(progress.done, progress.total) for progress in self.seen if progress.what == what]

    def _note(self, progress: Progress) -> None:
        self.seen.append(progress)
        if self._limit is not None and len(self.of(self._what)) >= self._limit:
            self.cancel()


@pytest.fixture
def watch() -> Callable[..., Watch]:
    return Watch


class Nearest(nn.Module):
    """Repeats every pixel ``scale`` times: a network of receptive radius 0. Its one parameter only says where it is."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.nothing = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.sizes: list[tuple[int, int]] = []
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append((x.shape[-2], x.shape[-1]))
        return x.repeat_interleave(self.scale, dim=-2).repeat_interleave(self.scale, dim=-1)


@pytest.fixture
def nearest() -> Callable[[int], Nearest]:
    return Nearest


UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "norm_num_groups": 8,
}
VAE = {
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder for latents of four channels, as TAESD is, in diffusers' layout, with random weights."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderTiny

    torch.manual_seed(1)
    folder, widths = tmp_path_factory.mktemp("taesd"), (8, 8, 8, 8)
    tiny = AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)
    tiny.register_to_config(block_out_channels=None)
    tiny.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion in diffusers' layout: true structure, random weights, an honest tokenizer of single characters."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(3)
    UNet2DConditionModel(**UNET).save_pretrained(folder / "unet")
    AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    text = CLIPTextConfig(
        vocab_size=514,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": "epsilon"}))
    return folder


def _write_tokenizer(folder: Path) -> None:
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in shown] + [chr(256 + i) for i in range(256 - len(shown))]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    ends = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(ends))


OFFICIAL = ["to_k", "to_q", "to_v", "to_out.0", "conv", "proj_out", "proj_in", "ff.net.2", "ff.net.0.proj"]


def official_layout(unet: torch.nn.Module, ranks: tuple[int, int], seed: int = 5, cheap: bool = False) -> dict[str, Any]:
    """What PiSA-SR's training saves for ``unet``, with random factors (zeros if ``cheap``), from the description of the file."""
    generator = torch.Generator().manual_seed(seed)
    content: dict[str, Any] = {"lora_rank_unet_pix": ranks[0], "lora_rank_unet_sem": ranks[1], "state_dict_unet": {}}
    for tag, rank in zip(("pix", "sem"), ranks, strict=True):
        lists: dict[str, list[str]] = {"encoder": [], "decoder": [], "others": []}
        for name, parameter in unet.named_parameters():
            if "bias" in name or "norm" in name or not any(each in name for each in OFFICIAL):
                continue
            encoder = "down_blocks" in name or "conv_in" in name
            decoder = "up_blocks" in name or "conv_out" in name
            group = "encoder" if encoder else "decoder" if decoder else "others"
            module = name.removesuffix(".weight")
            lists[group].append(module)
            out, *rest = parameter.shape
            down, up = (rank, *rest), (out, rank, *[1] * (len(rest) - 1))
            for letter, shape, std in (("A", down, 1 / rank), ("B", up, 0.05)):
                key = f"{module}.lora_{letter}.default_{group}_{tag}.weight"
                values = torch.zeros(shape) if cheap else torch.randn(shape, generator=generator) * std
                content["state_dict_unet"][key] = values
        content |= {f"unet_lora_{group}_modules_{tag}": names for group, names in lists.items()}
    return content


@pytest.fixture(scope="session")
def layout() -> Callable[..., dict[str, Any]]:
    return official_layout
