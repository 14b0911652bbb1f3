from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from srgui.degradations import bicubic_lr, crop_to_multiple
from srgui.errors import ModelError
from srgui.images import list_pictures, read_picture, to_tensor
from srgui.metrics import psnr, round_to_8bit
from srgui.models.compact import compact
from srgui.models.load import file_digest, from_state_dict, load_network
from srgui.models.network import Network
from srgui.models.srcnn import SRCNN

CPU = torch.device("cpu")


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_network(path, CPU)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def reach(module: Callable[[Tensor], Tensor], scale: int) -> int:
    """How far, in LR pixels, an output pixel depends on the input: measured by gradients."""
    side = 41
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    centre = side // 2
    out = module(lr)[..., centre * scale : (centre + 1) * scale, centre * scale : (centre + 1) * scale]
    (gradient,) = torch.autograd.grad(out.square().sum(), lr)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    columns = gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    return max(int((where - centre).abs().max()) for where in (rows, columns))


def save_srcnn(path: Path, module: SRCNN) -> Path:
    save_file(module.state_dict() | {"scale": torch.tensor(module.scale)}, path)
    return path


# What is loaded


@pytest.mark.parametrize("form", ["safetensors", "pth", "params", "params_ema"])
def test_every_form_of_a_weight_file_gives_the_same_network(
    tiny: Network, tiny_files: Any, picture: Callable[..., Tensor], form: str
) -> None:
    path = getattr(tiny_files, form)
    network = load_network(path, CPU)
    assert (network.architecture, network.scale, network.channels, network.radius) == ("RealESRGAN Compact", 4, 3, 3)
    assert network.digest == file_digest(path)
    assert torch.equal(network(picture(9, 11)), tiny(picture(9, 11)))
    assert not network.module.training
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


def test_a_file_is_loaded_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(compact(4, 1, 2).state_dict(), path)
    first = load_network(path, CPU)
    assert load_network(path, CPU) is first
    assert load_network(tmp_path / ".." / tmp_path.name / "a.safetensors", CPU) is first
    save_file(compact(5, 1, 2).state_dict(), path)
    assert load_network(path, CPU).parameters != first.parameters


@pytest.mark.parametrize("convs", [0, 1, 5])
@pytest.mark.parametrize("scale", [2, 4])
def test_compact_reaches_as_far_as_it_declares(convs: int, scale: int) -> None:
    network = from_state_dict(compact(4, convs, scale).state_dict())
    assert network.radius == reach(network.module.double(), scale) == convs + 2


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_srcnn_reaches_no_farther_than_it_declares(scale: int) -> None:
    network = from_state_dict(SRCNN(scale).state_dict() | {"scale": torch.tensor(scale)})
    assert network.radius is not None
    found = reach(network.module.double(), scale)
    assert found <= network.radius
    if scale == 2:
        assert found == network.radius


def test_srcnn_has_the_published_number_of_parameters_and_survives_a_round_trip(
    tmp_path: Path, picture: Callable[..., Tensor]
) -> None:
    module = SRCNN(3)
    assert sum(parameter.numel() for parameter in module.parameters()) == 8129
    network = load_network(save_srcnn(tmp_path / "srcnn.safetensors", module), CPU)
    assert (network.architecture, network.scale, network.parameters) == ("SRCNN", 3, 8129)
    torch.testing.assert_close(network(picture(11, 12)), module(picture(11, 12)), rtol=0, atol=1e-6)


def test_srcnn_leaves_the_chroma_bicubic(picture: Callable[..., Tensor]) -> None:
    from srgui.resample import resize

    lr = picture(10, 10)
    change = SRCNN(2)(lr) - resize(lr, 20, 20)
    torch.testing.assert_close(change[:, 0], change[:, 1], rtol=0, atol=1e-6)
    torch.testing.assert_close(change[:, 0], change[:, 2], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("realesr-general-x4v3", 26.64), ("realesr-animevideov3", 28.23)])
def test_community_weights_reach_their_psnr_on_set5(shared: Path, name: str, expected: float) -> None:
    network = load_network(shared / "weights" / f"{name}.pth", CPU)
    values = []
    for path in list_pictures(shared / "data" / "bench" / "set5"):
        hr = crop_to_multiple(read_picture(path).as_uint8(), 4)
        with torch.inference_mode():
            sr = round_to_8bit(network(to_tensor(bicubic_lr(hr, 4))))
        values.append(psnr(sr, to_tensor(hr), channel="Y", crop_border=4))
    assert sum(values) / len(values) == pytest.approx(expected, abs=0.05)


# What is refused


class Payload:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path, trace = tmp_path / f"evil{suffix}", tmp_path / "trace"
    if zipped:
        torch.save({"params": {"body.0.weight": torch.zeros(3)}, "x": Payload(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"x": Payload(trace)}, protocol=2))
    message = refusal(path)
    assert "holds code (" in message
    assert "mkdir" in message
    assert "was not opened; get a .safetensors file" in message
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"no weights\n", b"\x80", b"PK\x03\x04", bytes(4000), b"\xff" * 4000, b"<html>404</html>"]
)
def test_what_is_not_a_weight_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert "is not a weight file" in refusal(path)


@pytest.mark.parametrize("form", ["safetensors", "pth"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, tiny_files: Any, form: str, part: float) -> None:
    whole = getattr(tiny_files, form).read_bytes()
    path = tmp_path / f"a.{form}"
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "is not a weight file" in refusal(path)


def test_the_kind_of_file_is_told_by_its_suffix(tmp_path: Path, tiny_files: Any) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(tiny_files.pth.read_bytes())
    assert "expected a name ending in .safetensors, .pth, .pt, .ckpt" in refusal(path)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "a.pth")
    (tmp_path / "folder.pth").mkdir()
    refusal(tmp_path / "folder.pth")


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        torch.zeros(3),
        {},
        {"a": torch.zeros(3)},
        {1: torch.zeros(3), 2: torch.zeros(3)},
        {"params": {}},
        {"params": 7},
        {"body.0.weight": "text"},
        {"body.0.weight": torch.zeros(1), "body.1.weight": torch.zeros(1)},
    ],
)
def test_what_is_no_network_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "a.pth"
    torch.save(content, path)
    refusal(path)


def test_a_network_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    weights = compact(4, 2, 4).state_dict()
    del weights["body.2.bias"]
    save_file(weights, tmp_path / "a.safetensors")
    refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"scale": torch.tensor(0)},
        {"scale": torch.tensor(1)},
        {"scale": torch.tensor(10**6)},
        {"scale": torch.tensor([2, 3])},
        {"conv1.weight": torch.zeros(64, 3, 9, 9)},
    ],
)
def test_a_wrong_srcnn_is_refused(tmp_path: Path, change: dict[str, Tensor]) -> None:
    save_file(SRCNN(4).state_dict() | {"scale": torch.tensor(4)} | change, tmp_path / "a.safetensors")
    assert "SRCNN" in refusal(tmp_path / "a.safetensors")


def test_a_denoiser_is_refused_by_name(tmp_path: Path) -> None:
    from spandrel.architectures.DnCNN import DnCNN

    path = tmp_path / "dncnn.pth"
    torch.save(DnCNN(in_nc=3, out_nc=3, nc=8, nb=9, act_mode="R").state_dict(), path)
    message = refusal(path)
    assert "DnCNN" in message
    assert "not for super-resolution; choose an SR model" in message


def test_a_network_that_does_not_enlarge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    save_file(compact(4, 1, 1).state_dict(), path)
    assert "is a RealESRGAN Compact model for restoration at x1, not for super-resolution" in refusal(path)
