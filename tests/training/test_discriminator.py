from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.training.discriminator import Discriminator
from srgui.training.losses import relativistic_discriminator_loss


@pytest.fixture
def discriminator() -> Discriminator:
    torch.manual_seed(3)
    return Discriminator(features=4)


def patches(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height + width))


def test_it_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Discriminator().parameters()) == 14_499_401


def test_the_published_size_is_not_pooled(discriminator: Discriminator) -> None:
    maps = discriminator.body(patches(2, 128, 128))
    assert maps.shape == (2, 32, 4, 4)
    assert torch.equal(discriminator.pool(maps), maps)


@pytest.mark.parametrize("size", [(2, 32, 32), (1, 64, 32), (2, 33, 70), (1, 100, 150), (1, 128, 128)])
def test_any_size_gives_one_logit_and_a_gradient(discriminator: Discriminator, size: tuple[int, int, int]) -> None:
    x = patches(*size).requires_grad_()
    logits = discriminator(x)
    assert logits.shape == (size[0], 1)
    logits.sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("size", [(1, 32, 32), (1, 63, 63), (8, 31, 200)])
def test_too_small_a_batch_is_refused(discriminator: Discriminator, size: tuple[int, int, int]) -> None:
    count, height, width = size
    with pytest.raises(InputError, match=f"{count} patches of {width} x {height} is too small for the discriminator"):
        discriminator(patches(*size))


def test_state_dict_round_trip(discriminator: Discriminator) -> None:
    other = Discriminator(features=4)
    x = patches(2, 48, 64)
    assert not torch.equal(discriminator(x), other(x))
    other.load_state_dict(discriminator.state_dict())
    assert torch.equal(discriminator(x), other(x))


def test_a_forward_pass_changes_nothing(discriminator: Discriminator) -> None:
    assert not list(discriminator.buffers())
    x = patches(2, 48, 64)
    training = discriminator(x)
    assert torch.equal(discriminator.eval()(x), training)


@pytest.mark.parametrize("side", [32, 64])
def test_it_learns_to_tell_smooth_from_noisy_in_one_batch(discriminator: Discriminator, side: int) -> None:
    torch.manual_seed(4)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    found = []
    for _ in range(10):
        real = torch.rand(4, 3, side, side)
        fake = torch.nn.functional.avg_pool2d(real, 5, 1, 2)
        loss = relativistic_discriminator_loss(*discriminator(torch.cat([real, fake])).chunk(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.1 * found[0]
