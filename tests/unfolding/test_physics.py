"""Properties of every forward operator: its adjoint, its closed form, its gradients, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import Tensor

from srgui.errors import InputError
from srgui.unfolding.kernels import the_twelve
from srgui.unfolding.physics import BlockSensing, BlurDownsample, Cassi, Operator, gradient_step, power
from srgui.unfolding.physics.sensing import measurements, random_rows

Make = Callable[[torch.dtype], Operator]
BATCH = 2


def scene(operator: Operator, seed: int, kind: torch.dtype, batch: int = BATCH) -> Tensor:
    shape = batch, operator.channels or 3, *operator.size
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=kind)


def dense(operator: Operator) -> Tensor:
    """(N or 1, measurements, pixels): the matrix of an operator, column by column, per picture of a batch of its own."""
    x = scene(operator, 0, torch.float64)
    pixels = x[0].numel()
    basis = torch.eye(pixels, dtype=x.dtype).view(pixels, 1, *x.shape[1:]).expand(-1, BATCH, -1, -1, -1)
    return torch.stack([operator.A(one).flatten(1) for one in basis], dim=-1)


def test_the_adjoint_is_one(make_operator: Make) -> None:
    operator = make_operator(torch.float32)
    x = scene(operator, 1, torch.float32)
    image = operator.A(x)
    y = torch.rand(image.shape, generator=torch.Generator().manual_seed(2))
    ahead, back = (image.double() * y).sum(), (x.double() * operator.A_adjoint(y)).sum()
    assert abs(ahead - back) <= 1e-6 * (image.double().norm() * y.double().norm())


@pytest.mark.parametrize("alpha", [1e-2, 0.7, torch.tensor([0.05, 3.0], dtype=torch.float64).view(2, 1, 1, 1)], ids=str)
def test_the_closed_form_is_the_direct_solution(make_operator: Make, alpha: float | Tensor) -> None:
    operator = make_operator(torch.float64)
    z, y = scene(operator, 3, torch.float64), operator.A(scene(operator, 4, torch.float64)) + 0.1
    matrix = dense(operator)
    weights = torch.as_tensor(alpha, dtype=torch.float64).view(-1, 1, 1)
    left = matrix.mT @ matrix + weights * torch.eye(matrix.shape[-1], dtype=torch.float64)
    right = matrix.mT @ y.flatten(1)[..., None] + weights * z.flatten(1)[..., None]
    exact = torch.linalg.solve(left, right).view_as(z)
    assert (operator.prox_l2(z, y, alpha) - exact).abs().max() < 1e-10


def test_a_measurement_that_fits_leaves_the_picture_as_it_is(make_operator: Make) -> None:
    operator = make_operator(torch.float64)
    x = scene(operator, 5, torch.float64)
    y = operator.A(x)
    assert torch.allclose(operator.prox_l2(x, y, 0.3), x, atol=1e-12)
    assert torch.allclose(gradient_step(operator, x, y, 0.3), x, atol=1e-12)


def test_small_gradient_steps_come_nearer(make_operator: Make) -> None:
    operator = make_operator(torch.float64)
    y = operator.A(scene(operator, 6, torch.float64))
    z = scene(operator, 7, torch.float64)
    rho = 1 / power(operator, scene(operator, 8, torch.float64, 2))
    far, near = ((operator.A(x) - y).norm() for x in (z, gradient_step(operator, z, y, rho)))
    assert near < far


def test_gradients_reach_the_picture_the_measurement_and_the_weight(make_operator: Make) -> None:
    operator = make_operator(torch.float64)
    z = scene(operator, 9, torch.float64).requires_grad_()
    y = operator.A(scene(operator, 10, torch.float64)).requires_grad_()
    alpha = torch.full((BATCH, 1, 1, 1), 0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.prox_l2, (z, y, alpha), fast_mode=True)
    assert torch.autograd.gradcheck(lambda a, b: gradient_step(operator, a, b, 0.4), (z, y), fast_mode=True)


def test_a_matrix_that_learns_gets_its_gradient() -> None:
    x, z = (torch.rand(1, 1, 8, 8, dtype=torch.float64) for _ in range(2))

    def solved(phi: Tensor) -> Tensor:
        operator = BlockSensing(phi, (8, 8))
        return operator.prox_l2(z, operator.A(x), 0.2)

    assert torch.autograd.gradcheck(solved, random_rows(5, 4).double().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("number", [3, 8, 11])
def test_blur_is_scipys_wrapped_convolution(number: int) -> None:
    kernel, x = the_twelve()[number].double(), torch.rand(1, 1, 30, 36, dtype=torch.float64)
    expected = convolve(x[0, 0].numpy(), kernel.numpy(), mode="wrap")[::3, ::3]
    y = BlurDownsample(kernel[None, None], 3, (30, 36)).A(x)[0, 0].numpy()
    assert np.abs(y - expected).max() < 1e-12


def test_block_sensing_is_inner_products_of_blocks() -> None:
    phi, x = random_rows(3, 4), torch.rand(1, 1, 8, 12)
    y = BlockSensing(phi, (8, 12)).A(x)
    assert torch.allclose(y[0, :, 1, 2], phi @ x[0, 0, 4:8, 8:12].flatten(), atol=1e-6)


def test_cassi_shifts_masked_bands() -> None:
    mask, x = torch.rand(4, 5), torch.rand(1, 3, 4, 5)
    y = Cassi(mask, bands=3, step=2).A(x)
    expected = torch.zeros(4, 9)
    for band in range(3):
        expected[:, 2 * band : 2 * band + 5] += x[0, band] * mask
    assert y.shape == (1, 1, 4, 9)
    assert torch.allclose(y[0, 0], expected)


def test_measurements_of_a_block_at_the_published_ratios() -> None:
    assert [measurements(ratio) for ratio in (1, 4, 10, 25, 30, 40, 50)] == [11, 41, 103, 256, 308, 410, 512]
    assert [measurements(ratio) for ratio in (100, 0.05)] == [1024, 1]


def test_random_rows_are_orthonormal_and_stay_the_same() -> None:
    rows = random_rows(103)
    assert torch.allclose(rows @ rows.T, torch.eye(103), atol=1e-5)
    assert torch.equal(rows, random_rows(103))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BlurDownsample(torch.ones(1, 1, 9, 9) / 81, 2, (8, 12)), "larger than the picture"),
        (lambda: BlurDownsample(torch.ones(1, 1, 3, 3) / 9, 3, (8, 9)), "crop to a multiple of 3"),
        (lambda: BlurDownsample(torch.ones(3, 3) / 9, 2, (8, 8)), "a kernel of shape"),
        (lambda: BlockSensing(random_rows(3, 4), (8, 10)), "no whole blocks of 4"),
        (lambda: BlockSensing(torch.ones(3, 15), (8, 8)), "no square block"),
        (lambda: Cassi(torch.ones(1, 3, 8, 8)), "a mask of shape"),
        (lambda: measurements(0), "a ratio of 0%"),
        (lambda: measurements(101), "a ratio of 101%"),
    ],
)
def test_operators_that_cannot_be(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_a_measurement_of_another_operator_is_refused(make_operator: Make) -> None:
    operator = make_operator(torch.float32)
    y = operator.A(scene(operator, 0, torch.float32))
    for wrong in (y[..., :-1], y[0], torch.cat([y, y], dim=1) if operator.channels else y[..., :-1, :]):
        with pytest.raises(InputError, match="does not match"):
            operator.check(wrong)
    with pytest.raises(InputError, match="does not fit"):
        operator.A(scene(operator, 0, torch.float32)[..., :-1])


def test_blur_agrees_with_deepinv() -> None:
    deepinv = pytest.importorskip("deepinv")
    kernel, x, z = the_twelve()[9][None, None], torch.rand(1, 3, 32, 40), torch.rand(1, 3, 32, 40)
    theirs = deepinv.physics.Downsampling(img_size=(3, 32, 40), filter=kernel, factor=2, padding="circular", device="cpu")
    ours = BlurDownsample(kernel, 2, (32, 40))
    y = ours.A(x)
    assert torch.allclose(theirs.A(x), y, atol=1e-5)
    assert torch.allclose(theirs.A_adjoint(y), ours.A_adjoint(y), atol=1e-5)
    # deepinv minimises |x - z|^2 / 2 + gamma |A x - y|^2 / 2
    assert torch.allclose(theirs.prox_l2(z, y, gamma=2.0), ours.prox_l2(z, y, 0.5), atol=1e-5)


def test_block_sensing_agrees_with_a_dense_operator_of_deepinv() -> None:
    deepinv = pytest.importorskip("deepinv")
    phi, x, z = random_rows(20, 8), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    operator = BlockSensing(phi, (8, 8))
    theirs = deepinv.physics.LinearPhysics(
        A=lambda v, **_: v.flatten(1) @ phi.T, A_adjoint=lambda v, **_: (v @ phi).view(-1, 1, 8, 8), max_iter=200, tol=1e-7
    )
    y = operator.A(x)
    assert torch.allclose(theirs.A(x), y.flatten(1), atol=1e-5)
    assert torch.allclose(theirs.prox_l2(z, y.flatten(1), gamma=2.0), operator.prox_l2(z, y, 0.5), atol=1e-4)
