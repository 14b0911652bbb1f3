"""Forward operators: how a picture becomes a measurement, the way back, and the data step of a solver in closed form."""

from srgui.unfolding.physics.base import Operator, gradient_step, power
from srgui.unfolding.physics.blur import BlurDownsample
from srgui.unfolding.physics.cassi import Cassi
from srgui.unfolding.physics.sensing import BlockSensing

__all__ = ["BlockSensing", "BlurDownsample", "Cassi", "Operator", "gradient_step", "power"]
