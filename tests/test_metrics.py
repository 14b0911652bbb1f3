from __future__ import annotations

import hashlib
import threading
import urllib.error
import urllib.request
from email.message import Message
from math import inf, log10
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
import pytest
import torch
from torch import Tensor

from srgui import metrics
from srgui.degradations import bicubic_lr, crop_to_multiple
from srgui.errors import InputError, MetricUnavailable
from srgui.metrics import load_lpips, lr_consistency, perceptual, psnr, round_to_8bit, ssim, to_y
from srgui.resample import resize

SHARED = Path(__file__).resolve().parents[2] / "shared"
SET5 = SHARED / "data" / "bench" / "set5"
TORCH_HOME = SHARED / "weights" / "torch_home"

needs_set5 = pytest.mark.skipif(not SET5.is_dir(), reason="Set5 is not on this machine")
needs_backbone = pytest.mark.skipif(not TORCH_HOME.is_dir(), reason="no LPIPS backbone on this machine")


class Metric(Protocol):
    def __call__(self, sr: Tensor, hr: Tensor, *, channel: metrics.Channel = "Y", crop_border: int) -> float: ...


def noisy_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 7, width), indexing="ij")
    hr = torch.stack([x.sin(), y.cos(), (x + y).sin()])[None] * 0.4 + 0.5
    return (hr + 0.08 * torch.randn(hr.shape, generator=generator)).clamp(0, 1), hr


def as_numpy(x: Tensor, channel: str, crop: int) -> np.ndarray:
    x = x.double()[..., crop : x.shape[-2] - crop, crop : x.shape[-1] - crop]
    return (to_y(x) if channel == "Y" else x)[0].permute(1, 2, 0).numpy()


def test_y_of_black_white_and_the_primaries() -> None:
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    luma = to_y(colours.T.reshape(1, 3, 1, 5)) * 255
    assert luma.flatten().tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966])
    assert luma.shape == (1, 1, 1, 5)


def test_rounding_is_half_to_even_and_clips() -> None:
    x = torch.tensor([-0.2, 0.5 / 255, 1.5 / 255, 2.5 / 255, 0.999, 1.7], dtype=torch.float64)
    assert (round_to_8bit(x) * 255).tolist() == pytest.approx([0, 0, 2, 2, 255, 255])
    grid = torch.arange(256, dtype=torch.float32) / 255
    assert torch.equal(round_to_8bit(grid), grid)


@pytest.mark.parametrize("channel", ["Y", "RGB"])
@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize("size", [(40, 57), (20, 17)])
def test_psnr_and_ssim_agree_with_skimage(channel: metrics.Channel, crop: int, size: tuple[int, int]) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    sr, hr = noisy_pair(*size)
    a, b = as_numpy(sr, channel, crop), as_numpy(hr, channel, crop)
    expected = skimage.peak_signal_noise_ratio(b, a, data_range=1.0)
    assert psnr(sr, hr, channel=channel, crop_border=crop) == pytest.approx(expected, abs=1e-9)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    expected = skimage.structural_similarity(a, b, channel_axis=2, **options)
    assert ssim(sr, hr, channel=channel, crop_border=crop) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_known_error() -> None:
    hr = torch.full((1, 3, 5, 8), 0.5)
    assert psnr(hr + 0.1, hr, channel="RGB", crop_border=0) == pytest.approx(20, abs=1e-5)
    assert psnr(hr + 0.1, hr, crop_border=0) == pytest.approx(-20 * log10(0.1 * 219 / 255), abs=1e-5)
    assert psnr(hr * 255 + 25.5, hr * 255, channel="RGB", crop_border=0, data_range=255) == pytest.approx(20, abs=1e-5)


def test_ssim_follows_its_data_range() -> None:
    sr, hr = noisy_pair(30, 30)
    unit = ssim(sr, hr, channel="RGB", crop_border=2)
    assert ssim(sr * 255, hr * 255, channel="RGB", crop_border=2, data_range=255) == pytest.approx(unit, abs=1e-6)


@pytest.mark.parametrize("channel", ["Y", "RGB"])
def test_identical_pictures_and_symmetry(channel: metrics.Channel) -> None:
    sr, hr = noisy_pair(30, 40)
    assert psnr(hr, hr, channel=channel, crop_border=2) == inf
    assert ssim(hr, hr, channel=channel, crop_border=2) == pytest.approx(1, abs=1e-12)
    for metric in (psnr, ssim):
        forth, back = (metric(*pair, channel=channel, crop_border=2) for pair in [(sr, hr), (hr, sr)])
        assert forth == pytest.approx(back, abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_the_cropped_border_does_not_count(metric: Metric) -> None:
    sr, hr = noisy_pair(30, 40)
    spoiled = 1 - sr
    spoiled[..., 4:-4, 4:-4] = sr[..., 4:-4, 4:-4]
    assert metric(spoiled, hr, crop_border=4) == metric(sr, hr, crop_border=4)
    assert metric(spoiled, hr, crop_border=3) < metric(sr, hr, crop_border=3)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_more_noise_measures_worse(metric: Metric) -> None:
    sr, hr = noisy_pair(40, 40)
    values = [metric(hr + strength * (sr - hr), hr, crop_border=0) for strength in (0.25, 0.5, 1.0)]
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_compared_is_refused(metric: Metric) -> None:
    x = torch.zeros(1, 3, 20, 30)
    with pytest.raises(InputError, match=r"30 x 20.*31 x 20"):
        metric(x, torch.zeros(1, 3, 20, 31), crop_border=0)
    with pytest.raises(InputError, match=r"\(1, 1, 20, 30\)"):
        metric(x[:, :1], x[:, :1], crop_border=0)
    with pytest.raises(InputError, match=r"\(3, 20, 30\)"):
        metric(x[0], x[0], crop_border=0)
    with pytest.raises(InputError, match="-1"):
        metric(x, x, crop_border=-1)
    with pytest.raises(InputError, match="'y'"):
        metric(x, x, channel="y", crop_border=0)  # type: ignore[arg-type]
    with pytest.raises(MetricUnavailable, match="leaves nothing of 30 x 20"):
        metric(x, x, crop_border=10)


def test_ssim_needs_a_window() -> None:
    x = torch.rand(1, 3, 19, 40)
    assert ssim(x, x, crop_border=4) == pytest.approx(1)
    with pytest.raises(MetricUnavailable, match=r"30 x 9 pixels.* 11 x 11"):
        ssim(x, x, crop_border=5)


@needs_set5
def test_bicubic_on_set5_is_as_published() -> None:
    """28.42 dB in the literature, 28.43 with luma left unrounded; SSIM 0.8104."""
    from PIL import Image

    from srgui.images import list_pictures, read_picture, to_tensor

    values = []
    for path in list_pictures(SET5):
        hr = crop_to_multiple(read_picture(path).as_uint8(), 4)
        sr = Image.fromarray(bicubic_lr(hr, 4)).resize((hr.shape[1], hr.shape[0]), Image.Resampling.BICUBIC)
        pair = to_tensor(np.asarray(sr).copy()), to_tensor(hr)
        values.append((psnr(*pair, crop_border=4), ssim(*pair, crop_border=4)))
    assert len(values) == 5
    mean = np.mean(values, axis=0)
    assert mean[0] == pytest.approx(28.43, abs=0.05)
    assert mean[1] == pytest.approx(0.8104, abs=0.003)


def test_lr_consistency_measures_the_downscaled_sr() -> None:
    sr, _ = noisy_pair(48, 64)
    lr = resize(sr, 12, 16)
    assert lr_consistency(sr, lr) > 120
    assert lr_consistency(sr, lr + 0.1) == pytest.approx(20, abs=1e-3)
    spoiled = lr.clone()
    spoiled[..., 0, :] = 1 - spoiled[..., 0, :]
    assert lr_consistency(sr, spoiled) < 40 < 120 < lr_consistency(sr, spoiled, crop_border=1)


def test_lr_consistency_refuses_an_sr_smaller_than_its_lr() -> None:
    with pytest.raises(InputError, match="8 x 8 is smaller than LR of 9 x 8"):
        lr_consistency(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))


@needs_backbone
def test_lpips_is_the_documented_value(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """0.1008 for the ten random pairs of torchmetrics' documentation."""
    monkeypatch.setenv("TORCH_HOME", str(TORCH_HOME))
    state = torch.get_rng_state()
    lpips = load_lpips()
    assert lpips.net == "squeeze"
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(123)
    a, b = (torch.rand(10, 3, 100, 100, generator=generator) for _ in range(2))
    values = [lpips(a[i : i + 1], b[i : i + 1]) for i in range(10)]
    assert np.mean(values) == pytest.approx(0.1008, abs=1e-4)
    assert load_lpips("squeeze") is lpips
    assert capfd.readouterr() == ("", "")


@needs_backbone
def test_lpips_is_zero_for_identical_pictures_and_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(TORCH_HOME))
    lpips = load_lpips("squeeze")
    sr, hr = noisy_pair(64, 80)
    assert lpips(hr, hr) == 0
    assert 0 < lpips(hr + 0.3 * (sr - hr), hr) < lpips(sr, hr)
    assert lpips(sr, hr) == pytest.approx(lpips(hr, sr), rel=1e-5)
    assert lpips(sr.double(), hr) == pytest.approx(lpips(sr, hr), rel=1e-5)
    with pytest.raises(InputError, match=r"80 x 64.*80 x 63"):
        lpips(sr, hr[..., :63, :])


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
@pytest.mark.filterwarnings("ignore:.*pretrained.*:UserWarning", "ignore:Arguments other than:UserWarning")
def test_smallest_picture_of_each_backbone(net: metrics.LpipsNet) -> None:
    package = pytest.importorskip("lpips")
    lpips = metrics.Lpips(net, package.LPIPS(net=net, pnet_rand=True, verbose=False))
    smallest = metrics.LPIPS_BACKBONES[net].smallest
    lpips(torch.rand(1, 3, smallest, 40), torch.rand(1, 3, smallest, 40))
    below = torch.rand(1, 3, smallest - 1, 40)
    with pytest.raises(MetricUnavailable, match=f"{net} needs {smallest} x {smallest} pixels, not 40 x {smallest - 1}"):
        lpips(below, below)
    with pytest.raises(RuntimeError):
        lpips._models[torch.device("cpu")](below, below)


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty torch.hub folder, and nothing that reaches the network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(perceptual, "_probe", lambda url: None)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("net", ["auto", "alex", "vgg", "squeeze"])
def test_lpips_offline_tells_the_reason_in_silence(
    net: metrics.LpipsNet, no_backbone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def offline(url: str, *args: object, **kwargs: object) -> NoReturn:
        asked.append(url)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(MetricUnavailable, match=r"^LPIPS not available: .*Name or service not known") as caught:
        load_lpips(net)
    assert "\n" not in str(caught.value)
    assert len(asked) == 1
    assert capfd.readouterr() == ("", "")


def test_lpips_does_not_wait_for_a_silent_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(perceptual, "_CONNECT_SECONDS", 0.05)
    released = threading.Event()

    def silent(*args: object, **kwargs: object) -> NoReturn:
        released.wait(30)
        raise urllib.error.URLError("too late")

    monkeypatch.setattr(urllib.request, "urlopen", silent)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("downloaded without an answer"))
    with pytest.raises(MetricUnavailable, match="no answer within"):
        load_lpips()
    released.set()


def test_lpips_auto_goes_on_where_the_host_refuses_one_file(no_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(url: str, *args: object, **kwargs: object) -> NoReturn:
        asked.append(url.rsplit("/", 1)[1].split("-")[0])
        raise urllib.error.HTTPError(url, 404, "Not Found", Message(), None)

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(MetricUnavailable, match=r"refused.*404"):
        load_lpips()
    assert asked == ["alexnet", "vgg16", "squeezenet1_1"]


@needs_backbone
def test_lpips_can_be_trained_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(TORCH_HOME))
    perceptual._load.cache_clear()
    with torch.inference_mode():
        lpips = load_lpips("squeeze")
    network = lpips.network()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    sr, hr = (x.expand(2, -1, -1, -1).clone() for x in noisy_pair(40, 40))
    distances = network(sr.requires_grad_(), hr, normalize=True)
    assert distances.shape == (2, 1, 1, 1)
    assert distances[0].item() == pytest.approx(lpips(sr[:1], hr[:1]), rel=1e-5)
    distances.sum().backward()
    assert sr.grad is not None and float(sr.grad.abs().amax()) > 0


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (urllib.error.URLError("Name or service not known"), "Name or service not known"),
        (PermissionError(13, "Permission denied", "a/folder/of/somebody"), "Permission denied"),
        (urllib.error.HTTPError("url", 404, "Not Found", Message(), None), "HTTP Error 404: Not Found"),
    ],
)
def test_a_backbone_that_cannot_be_had_gives_the_cause_alone(
    failure: OSError, reason: str, no_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise failure

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(metrics.BackboneUnavailable) as caught:
        metrics.LPIPS_BACKBONES["alex"].fetch()
    assert caught.value.reason == reason
    assert caught.value.answered == isinstance(failure, urllib.error.HTTPError)


@needs_backbone
def test_lpips_downloads_what_is_missing_and_checks_its_digest(no_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = next((TORCH_HOME / "hub" / "checkpoints").glob("squeezenet*")).read_bytes()
    digests = []

    def deliver(url: str, dst: str, hash_prefix: str, progress: bool) -> None:
        digests.append(hash_prefix)
        Path(dst).write_bytes(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", deliver)
    hr = noisy_pair(32, 32)[1]
    assert load_lpips("squeeze")(hr, hr) == 0
    load_lpips("squeeze")
    assert digests == ["b8a52dc0"]


def test_lpips_refuses_a_download_with_another_digest(no_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch(url: str, *args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError(f'invalid hash value (expected "7be5be79", got "{hashlib.sha256().hexdigest()}")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", mismatch)
    with pytest.raises(MetricUnavailable, match="invalid hash value"):
        load_lpips("alex")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cposix\nsystem\n."])
def test_lpips_refuses_a_broken_backbone(no_backbone: Path, content: bytes) -> None:
    no_backbone.mkdir(parents=True)
    (no_backbone / "squeezenet1_1-b8a52dc0.pth").write_bytes(content)
    with pytest.raises(MetricUnavailable, match=r"squeezenet1_1.*is not the squeeze backbone.*delete it"):
        load_lpips()


def test_unknown_lpips_net_tells_the_near_one() -> None:
    with pytest.raises(InputError, match="Did you mean squeeze"):
        load_lpips("squeez")  # type: ignore[arg-type]


def test_sharpness_is_that_of_a_ramp_and_falls_with_blur() -> None:
    ramp = torch.arange(40.0).expand(1, 3, 30, 40) / 255
    weight = (65.481 + 128.553 + 24.966) / 255
    assert metrics.sharpness(ramp) == pytest.approx(weight, rel=1e-5)
    noise = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    assert metrics.sharpness(blurred) < 0.5 * metrics.sharpness(noise)
    with pytest.raises(MetricUnavailable, match="3 x 3"):
        metrics.sharpness(noise[..., :2])
