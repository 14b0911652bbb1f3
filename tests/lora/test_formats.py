from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, check_fits
from srgui.lora.delta import Factors, delta
from srgui.lora.files import read_foreign
from srgui.lora.formats import from_tensors, read_settings, to_peft
from srgui.lora.targets import adaptable

Make = Callable[..., Adapter]
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["head", "body.0", "body.2", "up"]}


def same(found: Mapping[str, Factors], expected: Mapping[str, Factors], module: nn.Module) -> bool:
    layers = adaptable(module)
    return found.keys() == expected.keys() and all(
        torch.equal(delta(layers[name].weight, part), delta(layers[name].weight, expected[name])) for name, part in found.items()
    )


def read(
    path: Path, tensors: dict[str, Tensor], module: nn.Module, metadata: dict[str, str] | None = None
) -> Mapping[str, Factors]:
    save_file(tensors, path, metadata)
    return read_foreign(path, adaptable(module)).factors


# peft


@pytest.mark.parametrize("form", ["conv", "reshape"])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(("rank", "alpha"), [("3", None), ("3", 16.0), ("30%", 1.7), ("70%", None)])
def test_what_is_written_is_read(
    network: nn.Module, adapter: Make, form: str, dora: bool, rslora: bool, rank: str, alpha: float | None
) -> None:
    made = adapter(network, form=form, dora=dora, rslora=rslora, rank=rank, alpha=alpha)
    tensors, config = to_peft(made.factors, made.rslora)
    settings = read_settings(json.loads(json.dumps(config)))
    assert (settings.form, settings.rslora, settings.dora) == (form, rslora, dora)
    found = from_tensors(tensors, settings)
    for name, part in made.factors.items():
        other = found[name]
        assert (part.rank, part.form, part.transposed) == (other.rank, other.form, other.transposed)
        assert part.scaling == other.scaling
        assert all(torch.equal(tensor, other.tensors[role]) for role, tensor in part.tensors.items())


def test_a_pattern_means_one_layer_only() -> None:
    module = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3), "body": nn.ModuleDict({"conv": nn.Conv2d(8, 8, 3)})})
    parts = {
        name: Factors(torch.ones(r, 4 * r, 3, 3), torch.ones(4 * r, r, 1, 1), r, 1.0) for name, r in (("conv", 1), ("body.conv", 2))
    }
    tensors, config = to_peft(parts, False)
    assert same(from_tensors(tensors, read_settings(config)), parts, module)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "type 'LOHA' is not supported"),
        ({"peft_type": ["LORA"]}, "is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "needs a changed base; convert it"),
        ({"r": 0}, "unusable values for r;"),
        ({"r": True, "lora_alpha": float("inf")}, "unusable values for r, lora_alpha;"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"target_modules": 7}, "target_modules"),
        ({"srgui": {"transposed": "up"}}, "srgui"),
        ({"rank_pattern": {"(": 2}}, "rank_pattern"),
        ({"rank_pattern": {"head": "2"}}, "rank_pattern"),
        ({"alpha_pattern": {"(h+)+": 2}}, "alpha_pattern"),
        ({"alpha_pattern": {".*.*.*.*.*x": 2}}, "alpha_pattern"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError) as caught:
        read_settings(CONFIG | change)
    assert message in str(caught.value)


def test_patterns_of_peft_are_understood() -> None:
    settings = read_settings(CONFIG | {"rank_pattern": {r"body\.\d": 4}, "alpha_pattern": {"^head": 6, r".*body\.2$": 8}})
    assert [settings.rank_of(name) for name in ("head", "body.0", "a.body.2")] == [2, 4, 4]
    assert [settings.scaling_of(name, 2, None) for name in ("head", "a.head", "body.2")] == [3, 1, 4]


def test_a_pattern_cannot_hang() -> None:
    settings = read_settings(CONFIG | {"rank_pattern": {"a*a*a*b": 3}})
    assert settings.rank_of("a" * 300) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("base_model.model.up.lora_B.weight"), "1 are missing: lora_B of up"),
        (lambda t: t.update({"classifier.weight": torch.zeros(2, 2)}), "1 keys are not those of LoRA: classifier.weight"),
        (lambda t: t.update({"base_model.model.tail.lora_A.weight": torch.zeros(2, 2)}), "lora_B of tail"),
        (lambda t: t.update({"up.lora_down.weight": torch.zeros(2, 2)}), "up.lora_down.weight"),
        (lambda t: t.update({"head.lora_magnitude_vector": torch.zeros(8)}), "not in its settings: lora_magnitude of head"),
        (lambda t: [t.pop(key) for key in list(t) if ".up." in key], "tensors of up"),
        (lambda t: t.clear(), "it is empty"),
        (lambda t: t.update({"base_model.model.up.lora_B.weight": torch.zeros(3, 2, 1, 1).int()}), "is int32 of shape"),
        (lambda t: t.update({"base_model.model.up.lora_B.weight": torch.zeros(())}), "not a matrix of floats"),
        (lambda t: t["base_model.model.up.lora_B.weight"].fill_(float("nan")), "NaN or infinite"),
        (lambda t: t["base_model.model.up.lora_B.weight"].view(-1)[:1].fill_(-float("inf")), "NaN or infinite"),
        (lambda t: t.update({"base_model.model.up.lora_B.weight": "text"}), "is a str, not a tensor"),
        (
            lambda t: t.update({"base_model.model.up.lora_A.weight": torch.zeros(3, 8, 4, 4)}),
            "up has rank 3, and the settings say 2",
        ),
        (lambda t: t.update({"base_model.model.up.alpha": torch.tensor(0.0)}), "not one number above 0"),
        (lambda t: t.update({"base_model.model.up.alpha": torch.zeros(2)}), "not one number above 0"),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(
    network: nn.Module, adapter: Make, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    tensors, config = to_peft(adapter(network).factors, False)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    change(tensors)
    with pytest.raises(AdapterError) as caught:
        from_tensors(tensors, read_settings(config))
    assert message in str(caught.value)


def test_float64_beyond_float32_is_refused() -> None:
    tensors = {"a.lora_A.weight": torch.full((1, 2), 1e300, dtype=torch.float64), "a.lora_B.weight": torch.zeros(2, 1)}
    with pytest.raises(AdapterError, match="NaN or infinite"):
        from_tensors(tensors, read_settings(CONFIG | {"target_modules": ["a"], "r": 1}))


# kohya


def kohya(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    tensors = {}
    for name, part in factors.items():
        stem = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{stem}.lora_down.weight": part.A, f"{stem}.lora_up.weight": part.B}
        tensors[f"{stem}.alpha"] = torch.tensor(part.scaling * part.rank)
    return tensors


def test_kohyas_keys_are_resolved_against_the_network(tmp_path: Path, network: nn.Module, adapter: Make) -> None:
    made = adapter(network, alpha=4.0)
    assert same(read(tmp_path / "a.safetensors", kohya(made.factors), network), made.factors, network)
    whole = {key: tensor.round().long() if key.endswith("alpha") else tensor for key, tensor in kohya(made.factors).items()}
    assert same(read(tmp_path / "b.safetensors", whole, network), made.factors, network)
    plain = adapter(network)
    without = {key: tensor for key, tensor in kohya(plain.factors).items() if not key.endswith("alpha")}
    assert same(read(tmp_path / "c.safetensors", without, network), plain.factors, network)


def test_a_name_of_kohya_that_may_mean_two_layers_is_refused(tmp_path: Path) -> None:
    module = nn.ModuleDict({"a_b": nn.Linear(2, 2), "a": nn.ModuleDict({"b": nn.Linear(2, 2)})})
    tensors = {"lora_unet_a_b.lora_down.weight": torch.ones(1, 2), "lora_unet_a_b.lora_up.weight": torch.ones(2, 1)}
    with pytest.raises(AdapterError, match=r"may belong to a_b or a\.b"):
        read(tmp_path / "a.safetensors", tensors, module)


def test_kohyas_text_encoder_does_not_fit_a_network(tmp_path: Path, network: nn.Module, adapter: Make) -> None:
    made = adapter(network)
    tensors = {key.replace("lora_unet", "lora_te"): tensor for key, tensor in kohya(made.factors).items()}
    found = read(tmp_path / "a.safetensors", tensors, network)
    with pytest.raises(AdapterError, match="there is no layer lora_te_head"):
        check_fits(network, Adapter(found, made.card), None)


# diffusers


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_out = nn.Linear(4, 6), nn.ModuleList([nn.Linear(6, 4), nn.Dropout()])


@pytest.mark.parametrize("prefix", ["unet.", "transformer.", ""])
@pytest.mark.parametrize(
    ("query", "out", "down", "up"),
    [
        ("block.attn.to_q", "block.attn.to_out.0", ".lora_A.weight", ".lora_B.weight"),
        ("block.attn.to_q", "block.attn.to_out.0", ".lora.down.weight", ".lora.up.weight"),
        ("block.attn.processor.to_q", "block.attn.processor.to_out", "_lora.down.weight", "_lora.up.weight"),
    ],
)
def test_diffusers_keys_are_understood(
    tmp_path: Path, adapter: Make, prefix: str, query: str, out: str, down: str, up: str
) -> None:
    module = nn.ModuleDict({"block": nn.ModuleDict({"attn": Attention()})})
    made = adapter(module)
    tensors = {}
    for written, name in ((query, "block.attn.to_q"), (out, "block.attn.to_out.0")):
        tensors |= {f"{prefix}{written}{down}": made.factors[name].A, f"{prefix}{written}{up}": made.factors[name].B}
    assert same(read(tmp_path / "a.safetensors", tensors, module), made.factors, module)


def test_diffusers_alphas_and_settings_are_used(tmp_path: Path, network: nn.Module, adapter: Make) -> None:
    made = adapter(network, alpha=5.0)
    tensors = {f"unet.{name}.lora_{role}.weight": getattr(part, role) for name, part in made.factors.items() for role in "AB"}
    alphas = {f"unet.{name}.alpha": torch.tensor(5.0) for name in made.factors}
    assert same(read(tmp_path / "a.safetensors", tensors | alphas, network), made.factors, network)
    settings = {"unet.r": 2, "unet.lora_alpha": 5, "unet.target_modules": list(made.factors), "unet.peft_type": "LORA"}
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    assert same(read(tmp_path / "b.safetensors", tensors, network, metadata), made.factors, network)


def test_a_whole_network_is_no_adapter(tmp_path: Path, network: nn.Module) -> None:
    with pytest.raises(
        AdapterError, match=r"8 keys are not those of LoRA: body.0.bias, body.0.weight|9 keys are not those of LoRA"
    ):
        read(tmp_path / "a.safetensors", dict(network.state_dict()), network)
