"""peft as an oracle, on the layers on which it is right: Linear, and plain and strided convolutions."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srgui.errors import AdapterError
from srgui.lora.adapter import attach, check_fits
from srgui.lora.catalogue import import_adapter, load_adapter
from srgui.lora.files import CARD, read_foreign, write_adapter
from srgui.lora.targets import adaptable

peft = pytest.importorskip("peft")

SETTINGS: list[dict[str, Any]] = [
    {},
    {"rank": "5", "alpha": 3.0},
    {"rank": "40%"},
    {"rank": "40%", "alpha": 2.5},
    {"rslora": True, "alpha": 4.0},
    {"dora": True, "alpha": 4.0},
    {"dora": True, "rslora": True, "rank": "60%", "alpha": 4.0},
    {"targets": ("1.*",)},
]
IDS = [",".join(f"{key}={value}" for key, value in spec.items()) or "default" for spec in SETTINGS]


@pytest.fixture
def plain() -> nn.Sequential:
    torch.manual_seed(6)
    tail = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.Flatten(), nn.Linear(45, 7))
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), tail).requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 8, 8)


@pytest.mark.parametrize("spec", SETTINGS, ids=IDS)
def test_what_is_written_here_loads_in_peft(
    tmp_path: Path, plain: nn.Module, x: Tensor, adapter: Any, spec: dict[str, Any]
) -> None:
    made = adapter(plain, **spec)
    write_adapter(made, tmp_path / "a")
    ours = attach(plain, [(made, 1.0)])(x)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "a").eval()(x)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 3},
        {"r": 4, "lora_alpha": 6, "target_modules": ["1.0", "4"]},
        {"r": 4, "use_rslora": True},
        {"r": 2, "use_dora": True, "lora_alpha": 3},
        {"r": 4, "rank_pattern": {"^0": 1, r"1\.\d": 3}, "alpha_pattern": {"4": 9}},
        {"r": 3, "target_modules": "all-linear"},
        {"r": 3, "target_modules": r"1\.[02]"},
    ],
    ids=str,
)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pickle"])
def test_what_peft_writes_loads_here(tmp_path: Path, plain: nn.Module, x: Tensor, settings: dict[str, Any], safe: bool) -> None:
    torch.manual_seed(7)
    config = peft.LoraConfig(**{"target_modules": ["0", "1.0", "1.2", "1.4"], **settings}, init_lora_weights=False)
    model = peft.get_peft_model(deepcopy(plain), config).eval()
    model.save_pretrained(tmp_path / "theirs", safe_serialization=safe)
    if not safe and not (tmp_path / "theirs" / "adapter_model.bin").exists():
        pytest.skip("this peft writes no pickles")
    card = import_adapter(tmp_path / "theirs", plain, "tiny", "a" * 64, 2)
    ours = attach(plain, [(load_adapter(card.name), 1.0)])(x)
    torch.testing.assert_close(ours, model(x), rtol=0, atol=1e-5)
    assert not torch.allclose(ours, plain(x), atol=1e-3)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
def test_grouped_convolutions_of_peft_are_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    peft.get_peft_model(module, peft.LoraConfig(r=2, target_modules=["0"])).save_pretrained(tmp_path / "theirs")
    base = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(AdapterError, match="as peft makes it for 2 groups, where no weight has its effect"):
        import_adapter(tmp_path / "theirs", base, "tiny", None, 2)


@pytest.mark.parametrize("case", ["reshape", "transposed", "grouped"])
@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments:UserWarning")
def test_what_peft_cannot_represent_it_refuses_instead_of_passing_it_over(tmp_path: Path, adapter: Any, case: str) -> None:
    layer = {
        "reshape": nn.Conv2d(4, 4, 3),
        "transposed": nn.ConvTranspose2d(4, 4, 3),
        "grouped": nn.Conv2d(4, 4, 3, groups=2),
    }[case]
    module = nn.Sequential(layer)
    made = adapter(module, form="reshape" if case == "reshape" else "conv")
    write_adapter(made, tmp_path / "a")
    check_fits(module, made, None)
    with pytest.raises((KeyError, ValueError, RuntimeError)):
        peft.PeftModel.from_pretrained(module, tmp_path / "a")


def test_a_folder_without_our_card_can_be_read_for_a_network(tmp_path: Path, plain: nn.Module, adapter: Any) -> None:
    made = adapter(plain)
    write_adapter(made, tmp_path / "a")
    (tmp_path / "a" / CARD).unlink()
    found = read_foreign(tmp_path / "a", adaptable(plain))
    assert found.card is None
    assert found.factors.keys() == made.factors.keys()
