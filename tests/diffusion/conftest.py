"""A Stable Diffusion of a million random parameters on disk, and a pair for it in PiSA-SR's own layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from srgui.diffusion.base import StableDiffusion, load_base
from srgui.diffusion.memory import Tiling
from srgui.diffusion.pisa import PisaRestorer
from srgui.lora.card import Base
from srgui.lora.pisa import pisa_adapters
from srgui.protocol import RestorerInfo

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

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
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion in diffusers' layout: true structure, random weights, an honest tokenizer of single characters."""
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


@pytest.fixture
def base(base_folder: Path) -> StableDiffusion:
    return load_base(base_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def real_unet() -> torch.nn.Module:
    """Stable Diffusion 2.1's UNet, on the meta device."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
        )


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


@pytest.fixture
def layout() -> Callable[..., dict[str, Any]]:
    return official_layout


@pytest.fixture
def pair(base: StableDiffusion) -> dict[str, Any]:
    """A pair of ranks 4 and 2, in the official layout."""
    return official_layout(base.unet, (4, 2))


@dataclass(frozen=True)
class Opener:
    base: StableDiffusion
    content: dict[str, Any]

    def __call__(
        self, *, scale: int = 4, tile: int | None = None, content: dict[str, Any] | None = None, **sizes: int
    ) -> PisaRestorer:
        """A restorer on the tiny base; ``sizes`` are those of :class:`Tiling`."""
        own = pisa_adapters(content or self.content, self.base.unet, Base("tiny"), scale, "test")
        info = RestorerInfo("tiny", "Tiny", "pisa-sr", scale, "none")
        return PisaRestorer(self.base, info, own=own, tiling=Tiling(**{"process": 64, **sizes}), tile=tile)


@pytest.fixture
def opened(base: StableDiffusion, pair: dict[str, Any]) -> Opener:
    return Opener(base, pair)


class Counted:
    """Counts the calls of modules."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def watch(self, name: str, module: torch.nn.Module) -> None:
        self.calls[name] = 0

        def note(*_: Any) -> None:
            self.calls[name] += 1

        module.register_forward_pre_hook(note)


@pytest.fixture
def counted() -> Callable[[PisaRestorer], Counted]:
    """Watches both networks and the decoder of a restorer."""

    def watch(restorer: PisaRestorer) -> Counted:
        found = Counted()
        for name, network in restorer.guided.networks.items():
            found.watch(name, network)
        return found

    return watch
