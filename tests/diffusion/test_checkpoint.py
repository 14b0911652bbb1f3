"""PiSA-SR's file: its layout, its modules on the real UNet, and everything that can be wrong with it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srgui.diffusion.base import StableDiffusion
from srgui.errors import AdapterError
from srgui.lora.card import Base
from srgui.lora.catalogue import import_adapters, load_adapter
from srgui.lora.files import read_adapter, write_file
from srgui.lora.pisa import group_of, is_pisa, pisa_adapters, pisa_layers, read_pisa
from srgui.lora.targets import Rank, adaptable, report

BASE = Base("tiny", "c" * 64)
Layout = Callable[..., dict[str, Any]]


def test_the_real_unet_has_258_modules_in_three_groups(real_unet: torch.nn.Module) -> None:
    names = pisa_layers(real_unet)
    groups = [group_of(name) for name in names]
    assert [groups.count(group) for group in ("encoder", "decoder", "others")] == [94, 148, 16]
    found = report(real_unet, names, Rank("4"), "conv", False)
    assert found.trainable == 4_055_712
    assert found.total == 865_910_724
    assert found.kinds == {"Conv2d": 66, "Linear": 192}
    layers = adaptable(real_unet)
    kernels = [tuple(layers[name].weight.shape[2:]) for name in names if layers[name].weight.dim() == 4]
    assert (kernels.count((3, 3)), kernels.count((1, 1))) == (52, 14)


def test_a_pair_for_the_real_unet_is_read(real_unet: torch.nn.Module, layout: Layout) -> None:
    """Shapes, names and counts of the published file."""
    content = layout(real_unet, (4, 4), cheap=True)
    pixel, semantic = pisa_adapters(content, real_unet, BASE, 4, "test")
    for adapter, role in ((pixel, "pixel"), (semantic, "semantic")):
        assert adapter.parameters == 4_055_712
        assert len(adapter.factors) == 258
        assert adapter.card.role == role
        assert {part.scaling for part in adapter.factors.values()} == {2.0}


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def file(tmp_path: Path, pair: dict[str, Any]) -> Path:
    return save(tmp_path / "pisa_sr.pkl", pair)


def test_ranks_may_differ_and_each_has_the_scaling_8_over_its_rank(base: StableDiffusion, file: Path) -> None:
    pixel, semantic = read_pisa(file, base.unet, BASE, 4)
    assert {part.scaling for part in pixel.factors.values()} == {2.0}
    assert {part.scaling for part in semantic.factors.values()} == {4.0}
    assert (pixel.rank, semantic.rank) == ("4", "2")
    assert len(pixel.factors) == 73


def test_imported_it_becomes_two_adapters_with_the_same_digests(base: StableDiffusion, file: Path, tmp_path: Path) -> None:
    pair = read_pisa(file, base.unet, BASE, 4)
    cards = import_adapters(file, base.unet, "tiny", BASE.sha256, 4, "mine")
    assert [card.name for card in cards] == ["mine-pixel", "mine-semantic"]
    for adapter in pair:
        name = f"mine-{adapter.card.role}"
        assert load_adapter(name).digest == adapter.digest
        write_file(load_adapter(name), tmp_path / f"{name}.safetensors")
        back = read_adapter(tmp_path / f"{name}.safetensors")
        assert back.digest == adapter.digest
        assert back.card.alpha == 8
        assert back.card.role == adapter.card.role
    with pytest.raises(AdapterError, match="mine-pixel.*exists already"):
        import_adapters(file, base.unet, "tiny", BASE.sha256, 4, "mine")


def spoilt(content: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    copy = {key: list(value) if isinstance(value, list) else value for key, value in content.items()}
    copy["state_dict_unet"] = dict(content["state_dict_unet"])
    change(copy)
    return copy


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a missing tensor": (lambda c: c["state_dict_unet"].pop("conv_in.lora_B.default_encoder_pix.weight"), "lora_B of conv_in"),
    "a missing module": (
        lambda c: [c["state_dict_unet"].pop(f"conv_in.lora_{ab}.default_encoder_sem.weight") for ab in "AB"],
        "the semantic state has no tensors for 1 .*conv_in",
    ),
    "a module less on both lists": (
        lambda c: (
            [c["unet_lora_encoder_modules_pix"].remove("conv_in")]
            + [c["state_dict_unet"].pop(f"conv_in.lora_{ab}.default_encoder_pix.weight") for ab in "AB"]
        ),
        "the pixel adapter has no tensors for 1 .*conv_in",
    ),
    "an extra module": (
        lambda c: c["state_dict_unet"].update(
            {
                "down_blocks.9.conv.lora_A.default_encoder_pix.weight": torch.zeros(4, 4, 3, 3),
                "down_blocks.9.conv.lora_B.default_encoder_pix.weight": torch.zeros(4, 4, 1, 1),
            }
        ),
        "1 layers that its list of modules does not have .*down_blocks.9.conv",
    ),
    "another group": (
        lambda c: c["state_dict_unet"].update({"conv_in.lora_A.default_decoder_pix.weight": torch.zeros(4, 4, 3, 3)}),
        "1 keys are not those of PiSA-SR: conv_in.lora_A.default_decoder_pix.weight",
    ),
    "a strange key": (lambda c: c["state_dict_unet"].update({"conv_in.weight": torch.zeros(1)}), "keys are not those of PiSA-SR"),
    "another rank than it says": (lambda c: c.update(lora_rank_unet_sem=3), "has rank 2, and the settings say 3"),
    "no rank": (lambda c: c.pop("lora_rank_unet_pix"), "lora_rank_unet_pix missing"),
    "rank 0": (lambda c: c.update(lora_rank_unet_pix=0), "lora_rank_unet_pix is 0"),
    "NaN": (
        lambda c: c["state_dict_unet"].update({"conv_in.lora_A.default_encoder_pix.weight": torch.full((4, 4, 3, 3), torch.nan)}),
        "NaN",
    ),
    "no tensor": (lambda c: c["state_dict_unet"].update({"conv_in.lora_A.default_encoder_pix.weight": "x"}), "is a str"),
    "another shape": (
        lambda c: c["state_dict_unet"].update({"conv_in.lora_A.default_encoder_pix.weight": torch.zeros(4, 5, 3, 3)}),
        "lora_A of conv_in is \\(4, 5, 3, 3\\), not \\(4, 4, 3, 3\\)",
    ),
    "lists of another kind": (lambda c: c.update(unet_lora_others_modules_sem="x"), "another kind"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_spoilt_file_is_refused_in_one_line(base: StableDiffusion, pair: dict[str, Any], tmp_path: Path, what: str) -> None:
    change, message = BAD[what]
    path = save(tmp_path / "spoilt.pkl", spoilt(pair, change))
    with pytest.raises(AdapterError, match=message) as refusal:
        read_pisa(path, base.unet, BASE, 4)
    assert "\n" not in str(refusal.value)
    assert "spoilt.pkl" in str(refusal.value)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


def test_a_pickle_with_code_is_not_opened(
    base: StableDiffusion, pair: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pkl"
    torch.save({**pair, "extra": Evil()}, path)
    with pytest.raises(AdapterError, match="holds code"):
        read_pisa(path, base.unet, BASE, 4)
    plain = tmp_path / "plain.pkl"
    for protocol in (2, 4):
        plain.write_bytes(pickle.dumps({"state_dict_unet": Evil()}, protocol=protocol))
        with pytest.raises(AdapterError, match="was not opened") as refusal:
            read_pisa(plain, base.unet, BASE, 4)
        assert "\n" not in str(refusal.value)
    assert "must not run" not in capsys.readouterr().out


def test_a_pair_for_another_unet_is_refused(pair: dict[str, Any], real_unet: torch.nn.Module) -> None:
    assert is_pisa(pair)
    with pytest.raises(AdapterError, match="does not have|has no tensors"):
        pisa_adapters(pair, real_unet, BASE, 4, "test")


def test_a_pair_of_another_text_width_is_refused(base: StableDiffusion, pair: dict[str, Any]) -> None:
    from diffusers import UNet2DConditionModel

    wide = UNet2DConditionModel.from_config({**base.unet.config, "cross_attention_dim": 48})
    with pytest.raises(AdapterError, match="attn2.to_[kv] is \\(4, 32\\), not \\(4, 48\\)"):
        pisa_adapters(pair, wide, BASE, 4, "test")
