from __future__ import annotations

import urllib.error
from email.message import Message
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from srgui.errors import InputError, MetricUnavailable
from srgui.metrics import LPIPS_BACKBONES, load_lpips, perceptual
from srgui.training import losses
from srgui.training.losses import (
    Perceptual,
    grid_loss,
    jittered,
    load_perceptual,
    pixel_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)

torchvision = pytest.importorskip("torchvision")
pytest.importorskip("lpips")


@pytest.fixture(scope="module")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of torchvision's file, without the classifier, which nobody reads."""
    generator = torch.Generator().manual_seed(19)
    with torch.device("meta"):
        layers = torchvision.models.vgg19(weights=None, init_weights=False).features
    weights = {}
    for key, value in layers.state_dict().items():
        spread = (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.1
        weights["features." + key] = torch.randn(value.shape, generator=generator) * spread
    path = tmp_path_factory.mktemp("vgg19") / losses.VGG19.file
    torch.save(weights, path)
    return path


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub folder, and nothing that reaches the network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(perceptual, "_probe", lambda url: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def squeeze(shared: Path, checkpoints: Path) -> None:
    file = LPIPS_BACKBONES["squeeze"].file
    (checkpoints / file).symlink_to(shared / "weights" / "torch_home" / "hub" / "checkpoints" / file)


def offline(*args: object, **kwargs: object) -> NoReturn:
    raise urllib.error.URLError("Name or service not known")


def pair(side: int = 32, count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    hr = torch.rand(count, 3, side, side, generator=generator)
    return (hr + 0.1 * torch.randn(hr.shape, generator=generator)).requires_grad_(), hr


def test_pixel_losses_are_the_means_of_the_difference() -> None:
    sr, hr = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 0.0, 0.0])
    assert pixel_loss("l1")(sr, hr).item() == pytest.approx(0.5)
    assert pixel_loss("mse")(sr, hr).item() == pytest.approx(1.25 / 3)
    with pytest.raises(InputError, match="'l2'"):
        pixel_loss("l2")  # type: ignore[arg-type]


def test_vgg_is_the_l1_distance_before_the_last_activation(checkpoints: Path, vgg19_file: Path) -> None:
    """ESRGAN compares conv5_4 before its ReLU; 34 is its index in torchvision's layout."""
    (checkpoints / vgg19_file.name).symlink_to(vgg19_file)
    perceptual = load_perceptual("vgg")
    assert perceptual.name == "VGG19 conv5_4 before activation"
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])
    weights = torch.load(vgg19_file, weights_only=True)
    layers.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
    assert [type(layer) for layer in layers[34:]] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d]

    def seen(x: Tensor) -> Tensor:
        x = torchvision.transforms.functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        for layer in layers[:35]:
            x = layer(x)
        return x

    sr, hr = pair()
    features = seen(sr)
    assert features.shape == (2, 512, 2, 2)
    assert float(features.detach().amin()) < 0
    distance = perceptual(sr, hr)
    assert distance.shape == ()
    torch.testing.assert_close(distance, (features - seen(hr)).abs().mean())
    (found,) = torch.autograd.grad(distance, sr)
    (expected,) = torch.autograd.grad((features - seen(hr)).abs().mean(), sr)
    torch.testing.assert_close(found, expected)


def test_vgg19_is_torchvisions_file() -> None:
    weights = torchvision.models.VGG19_Weights.IMAGENET1K_V1
    assert weights.url == perceptual._HOST + losses.VGG19.file
    assert losses.VGG19.smallest == 2**4


def test_vgg_draws_no_random_number(checkpoints: Path, vgg19_file: Path) -> None:
    (checkpoints / vgg19_file.name).symlink_to(vgg19_file)
    state = torch.get_rng_state()
    load_perceptual("vgg")
    assert torch.equal(torch.get_rng_state(), state)


def test_vgg_comes_first(squeeze: None, checkpoints: Path, vgg19_file: Path) -> None:
    (checkpoints / vgg19_file.name).symlink_to(vgg19_file)
    assert load_perceptual("auto").name.startswith("VGG19")


def test_lpips_is_the_mean_of_the_metric(squeeze: None) -> None:
    perceptual = load_perceptual("lpips-squeeze")
    assert perceptual.name == "LPIPS squeeze"
    sr, hr = pair(48, 3)
    metric = load_lpips("squeeze")
    expected = sum(metric(sr[i : i + 1], hr[i : i + 1]) for i in range(3)) / 3
    distance = perceptual(sr, hr)
    assert distance.shape == ()
    assert distance.item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(distance, sr)
    assert all(float(g.abs().amax()) > 0 for g in gradient)
    assert perceptual(sr - 0.01 * gradient / gradient.norm(), hr).item() < distance.item()
    assert perceptual(hr, hr).item() == 0


def test_a_perceptual_loss_learns_nothing_and_stays_in_evaluation(squeeze: None) -> None:
    perceptual = load_perceptual("lpips-squeeze")
    holder = nn.ModuleDict({"loss": perceptual}).train()
    assert not any(module.training for module in perceptual.modules())
    assert not any(parameter.requires_grad for parameter in holder.parameters())
    sr, hr = pair()
    assert perceptual(sr, hr).item() == perceptual(sr, hr).item()
    assert load_perceptual("lpips-squeeze")._distance is not perceptual._distance


def test_auto_tells_why_it_is_not_vgg(squeeze: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def count(url: str, *args: object, **kwargs: object) -> NoReturn:
        asked.append(url)
        offline()

    monkeypatch.setattr(torch.hub, "download_url_to_file", count)
    perceptual = load_perceptual("auto")
    assert perceptual.name == "LPIPS squeeze (VGG19's weights were not available: Name or service not known)"
    assert len(asked) == 1


def test_auto_asks_for_the_next_where_the_host_refuses_one(
    squeeze: None, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(url: str, *args: object, **kwargs: object) -> NoReturn:
        asked.append(url.rsplit("/", 1)[1])
        raise urllib.error.HTTPError(url, 404, "Not Found", Message(), None)

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    assert load_perceptual("auto").name == "LPIPS squeeze (VGG19's weights were not available: HTTP Error 404: Not Found)"
    assert asked == [losses.VGG19.file, LPIPS_BACKBONES["vgg"].file, LPIPS_BACKBONES["alex"].file]


def test_vgg_is_downloaded_where_it_is_missing(checkpoints: Path, vgg19_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []

    def deliver(url: str, dst: str, hash_prefix: str, progress: bool) -> None:
        digests.append(hash_prefix)
        Path(dst).symlink_to(vgg19_file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", deliver)
    assert load_perceptual("auto").name == "VGG19 conv5_4 before activation"
    load_perceptual("vgg")
    assert digests == ["dcbb9e9d"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("auto", "no perceptual loss is available.*Name or service not known.*vgg19-dcbb9e9d.pth.*pixel loss"),
        ("vgg", "VGG19 not available.*Name or service not known.*put the file into"),
        ("lpips-alex", "LPIPS not available.*Name or service not known.*put the file into"),
    ],
)
def test_nothing_to_be_had_is_told_in_one_line(kind: losses.PerceptualKind, message: str, checkpoints: Path) -> None:
    with pytest.raises(MetricUnavailable, match=message) as caught:
        load_perceptual(kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["auto", "vgg"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cposix\nsystem\n."])
def test_a_damaged_file_is_named(kind: losses.PerceptualKind, content: bytes, checkpoints: Path) -> None:
    (checkpoints / losses.VGG19.file).write_bytes(content)
    with pytest.raises(MetricUnavailable, match="VGG19 not available.*is not the vgg19 backbone.*delete it"):
        load_perceptual(kind)


def test_unknown_kind_tells_the_near_one() -> None:
    with pytest.raises(InputError, match="Did you mean lpips-vgg"):
        load_perceptual("lpips_vgg")  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_refused() -> None:
    perceptual = Perceptual("a loss", 16, nn.Identity())
    with pytest.raises(InputError, match="a loss cannot see HR patches of 40 x 15; make them 16 or more"):
        perceptual(torch.zeros(1, 3, 15, 40), torch.zeros(1, 3, 15, 40))
    with pytest.raises(InputError, match=r"\(1, 3, 16, 16\).*\(1, 3, 16, 17\)"):
        perceptual(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 17))


def relativistic(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """ESRGAN, Eq. 1 and 2, word by word."""
    d_real, d_fake = torch.sigmoid(real - fake.mean()), torch.sigmoid(fake - real.mean())
    discriminator = -d_real.log().mean() - (1 - d_fake).log().mean()
    generator = -(1 - d_real).log().mean() - d_fake.log().mean()
    return discriminator, generator


@pytest.mark.parametrize("count", [1, 2, 7])
def test_relativistic_losses_are_the_papers(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    real, fake = (3 * torch.randn(count, 1, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    for found, expected in zip(
        (relativistic_discriminator_loss(real, fake), relativistic_generator_loss(real, fake)),
        relativistic(real, fake),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, fake), torch.autograd.grad(expected, fake, retain_graph=True))


def test_relativistic_losses_know_who_is_ahead_and_do_not_overflow() -> None:
    real, fake = torch.full((4, 1), 500.0), torch.full((4, 1), -500.0)
    assert relativistic_discriminator_loss(real, fake).item() == 0
    assert relativistic_generator_loss(real, fake).item() == pytest.approx(2000)
    for loss in (relativistic_discriminator_loss, relativistic_generator_loss):
        assert loss(real, real).item() == pytest.approx(2 * torch.tensor(2.0).log().item())


def test_views_are_the_same_of_both_and_repeatable() -> None:
    sr, hr = pair(40)
    sizes = set()
    for seed in range(8):
        one, other = jittered(sr, sr, 0.3, torch.Generator().manual_seed(seed))
        assert torch.equal(one, other)
        again, _ = jittered(sr, hr, 0.3, torch.Generator().manual_seed(seed))
        assert torch.equal(one, again)
        sizes.add(one.shape[-1])
        assert 28 <= min(one.shape[-2:]) <= max(one.shape[-2:]) <= 52
    assert len(sizes) > 3
    jittered(sr, hr, 0.3, torch.Generator())[0].sum().backward()
    assert sr.grad is not None


@pytest.mark.parametrize("period", [2, 4])
def test_the_grid_loss_sees_a_grid_and_little_else(period: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, 64, 64, generator=generator)
    assert float(grid_loss(hr, hr, period)) == 0
    assert float(grid_loss(hr + 0.1, hr, period)) == pytest.approx(0, abs=1e-12)
    stripes = 0.02 * (torch.arange(64) % period == 0)
    upright, lying = grid_loss(hr + stripes, hr, period), grid_loss(hr + stripes[:, None], hr, period)
    expected = float((0.02 * (torch.arange(period) == 0)).var(correction=0))
    assert float(upright) == pytest.approx(expected, rel=1e-3)
    assert float(lying) == pytest.approx(expected, rel=1e-3)
    noise = 0.02 * torch.randn(hr.shape, generator=generator)
    assert float(grid_loss(hr + noise, hr, period)) < 0.1 * float(noise.square().mean())
    with pytest.raises(InputError, match="whole periods"):
        grid_loss(hr[..., :-1], hr[..., :-1], period)
