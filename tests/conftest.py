"""What all tests share: a home of their own, small pictures, and a tiny network with random weights.

The tests are imported without packages, so they cannot import from here; everything is a fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
