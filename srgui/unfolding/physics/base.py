"""What every linear forward operator offers to a solver."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from torch import Tensor

from srgui.errors import InputError

Weight: TypeAlias = float | Tensor


class Operator(Protocol):
    """A linear map from pictures x (N, C, H, W) to measurements y. Nothing in it changes: it may be shared."""

    @property
    def channels(self) -> int | None:
        """C of x; None for any."""

    @property
    def size(self) -> tuple[int, int]:
        """H and W of x."""

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """The measurement of x, without noise."""

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        """The transposed map: <A x, y> = <x, A_adjoint y>."""

    def prox_l2(self, z: Tensor, y: Tensor, alpha: Weight) -> Tensor:
        """The x that makes |A x - y|^2 + alpha |x - z|^2 least, exactly.

        Args:
            alpha: above 0; a number, or a tensor (N, 1, 1, 1).
        """

    def check(self, y: Tensor) -> None:
        """See that y can be a measurement of this operator.

        Raises:
            InputError: its shape is another.
        """


class Pair(Protocol):
    """A map and what stands for its transpose: all that a gradient step needs."""

    def A(self, x: Tensor) -> Tensor: ...  # noqa: N802

    def A_adjoint(self, y: Tensor) -> Tensor: ...  # noqa: N802


def gradient_step(operator: Pair, z: Tensor, y: Tensor, rho: Weight) -> Tensor:
    """``z - rho A'(A z - y)``: one step down |A x - y|^2 / 2, the data step of PGD (DGUNet, Mou et al. 2022, Eq. 4)."""
    return z - rho * operator.A_adjoint(operator.A(z) - y)


def power(operator: Operator, x: Tensor, steps: int = 30) -> float:
    """The largest eigenvalue of A'A by power iteration from ``x``: a gradient step of less than 2 over it converges."""
    value = 0.0
    for _ in range(steps):
        x = x / x.norm()
        image = operator.A_adjoint(operator.A(x))
        value = float((x * image).sum())
        x = image
    return value


def check_picture(x: Tensor, channels: int | None, size: tuple[int, int]) -> None:
    """See that x is a picture of this size.

    Raises:
        InputError: it is none.
    """
    if x.ndim != 4 or tuple(x.shape[-2:]) != size or (channels is not None and x.shape[1] != channels):
        count = "C" if channels is None else channels
        raise InputError(
            f"a picture of shape {tuple(x.shape)} does not fit this operator, which takes (N, {count}, {size[0]}, {size[1]}); "
            "crop the picture, or make the operator for its size"
        )


def check_measurement(y: Tensor, shape: tuple[int | None, int, int], what: str) -> None:
    """See that y is (N, C, h, w) with ``shape`` (C, h, w); C may be None for any.

    Raises:
        InputError: it is not.
    """
    fits = y.ndim == 4 and tuple(y.shape[-2:]) == shape[1:] and shape[0] in (None, y.shape[1])
    if not fits:
        count = "C" if shape[0] is None else shape[0]
        raise InputError(
            f"a measurement of shape {tuple(y.shape)} does not match {what}, which gives (N, {count}, {shape[1]}, {shape[2]}); "
            "use the operator that it was made with"
        )
