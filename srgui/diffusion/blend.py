"""A picture prepared in latent space: planes that are blended, and a decoder that makes the blend a picture."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgui.device import is_out_of_memory
from srgui.diffusion.base import StableDiffusion
from srgui.diffusion.colour import colour_fix
from srgui.diffusion.latents import tiled
from srgui.diffusion.memory import FLOOR, Tiling, decoder_tiles, encoder_tiles
from srgui.diffusion.options import Options
from srgui.diffusion.sizes import Sizes, to_process
from srgui.diffusion.vae import decode, encode
from srgui.errors import Cancelled, InputError, MemoryLimitError
from srgui.inference.guidance import Weights, complete
from srgui.inference.planes import Store, store_for
from srgui.protocol import Box, Control, Run, Setting
from srgui.resample import needed, resize, resize_region

STEP = 1  # the time step at which the UNet is asked for the noise (arXiv 2412.03017, Eq. 5 and its release)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Guided:
    """A base with adapters on it: its networks by the planes they predict, and how the planes are weighted.

    ``tiny``: a small decoder for pictures that are shown while a slider moves, None where there is none.
    """

    base: StableDiffusion
    networks: Mapping[str, nn.Module]
    weights: Weights
    controls: tuple[Control, ...]
    scale: int
    tiny: nn.Module | None = None


@dataclass
class _Drawn:
    """The picture of the last setting."""

    key: object
    store: Store


@dataclass
class _Planes:
    """What is computed: the noise of each network, all on one grid of tiles of the side ``tile``."""

    z_L: Tensor  # noqa: N815 - the paper's name
    tile: int
    noise: dict[str, Tensor] = field(default_factory=dict)

    def latents(self) -> dict[str, Tensor]:
        """All that are there now, by the names that weights are given to."""
        return {"z_L": self.z_L, **self.noise}


class LatentBlend:
    """A picture whose every setting is a weighted sum of latents, decoded: ``decode(sum of w * plane)``.

    The planes are ``z_L``, the encoded picture, and the noise that each network predicts for it, computed for the whole picture
    when its weight first differs from zero. Another setting costs a pass of the decoder and none of the UNet.

    Args:
        lr: (1, 3, H, W) in [0, 1].
        run: for the encoding, which is done here.

    Raises:
        MemoryLimitError: not even the smallest tile fits. Cancelled: between two tiles.
    """

    def __init__(self, guided: Guided, lr: Tensor, sizes: Sizes, options: Options, tiling: Tiling, run: Run) -> None:
        self._guided, self._lr, self._sizes, self.options, self.tiling = guided, lr, sizes, options, tiling
        self.size = sizes.result
        self._lock = threading.RLock()
        self._drawn: _Drawn | None = None
        self._planes: _Planes | None = _Planes(self._encoded(run), tiling.latent)

    def latent(self, name: str, run: Run) -> Tensor:
        """A plane, computed if it is not there yet: (1, C, h, w) float32 on the CPU.

        Args:
            name: ``z_L``, scaled as the UNet takes it, or the noise ``eps_full`` (with both adapters) or ``eps_pix``.

        Raises:
            InputError: there is no such plane. MemoryLimitError, ModelError, Cancelled: as :meth:`render`.
        """
        with self._lock:
            planes = self._kept()
            if name == "z_L":
                return planes.z_L
            if name not in self._guided.networks:
                raise InputError(f"there is no plane {name!r}; there are z_L, {', '.join(self._guided.networks)}")
            self._compute([name], run)
            return planes.noise[name]

    def computed(self) -> tuple[str, ...]:
        """Names of the planes that are there already."""
        return ("z_L", *self._kept().noise)

    def render(self, setting: Setting, run: Run, region: Box | None = None) -> Tensor:
        """(1, 3, h, w) float32 in [0, 1]. The picture of the last setting is kept, so a region of it costs nothing.

        Raises:
            InputError: a value for a control this model does not have, or outside its range.
            ModelError: the UNet or the VAE gave NaN. MemoryLimitError: not even the smallest tile fits.
            Cancelled: between two tiles, or it is closed.
        """
        setting = complete(setting, self._guided.controls)
        box = region or Box(0, 0, *self.size)
        with self._lock:
            key = _key(setting)
            if self._drawn is None or self._drawn.key != key:
                self._draw(key, self._blended(setting, run), run)
            assert self._drawn is not None
            process = self._sizes.process
            if process == self.size:
                return self._drawn.store.read(box)
            at = needed(process, self.size, box)
            return resize_region(self._drawn.store.read(at), at, process, self.size, box)

    def preview(self, setting: Setting, run: Run, side: int = 512, *, patient: bool = False) -> Tensor | None:
        """A small picture of a setting by the tiny decoder: (1, 3, h, w) in [0, 1], no longer than ``side``.

        It does not wait for a rendering that is under way.

        Args:
            patient: compute planes that are not there yet.

        Returns:
            None where there is no tiny decoder, or the setting needs a plane that is not there yet.

        Raises:
            InputError: as :meth:`render`. Cancelled: it is closed. MemoryLimitError, ModelError: where planes are computed.
        """
        tiny, base, lr = self._guided.tiny, self._guided.base, self._lr
        setting = complete(setting, self._guided.controls)
        if tiny is None:
            return None
        if patient and not self._needed(setting) <= self._kept().latents().keys():
            with self._lock:
                self._compute(self._predicted(setting), run)
        latents = self._kept().latents()
        if not self._needed(setting) <= latents.keys():
            return None
        latent = self._sum(setting, latents)
        ratio = min(1.0, side / base.factor / max(latent.shape[-2:]))
        size = [max(1, round(length * ratio)) for length in latent.shape[-2:]]
        first = next(tiny.parameters())
        with torch.inference_mode():
            small = F.interpolate(latent, size, mode="area").to(first.device, first.dtype)
            picture = (tiny.decode(small).sample.float().cpu() / 2 + 0.5).clamp(0, 1)  # type: ignore[operator]
            source = resize(lr, picture.shape[-2], picture.shape[-1]).clamp(0, 1)
            return colour_fix(self.options.colour, picture, source).clamp(0, 1).clone()

    def close(self) -> None:
        with self._lock:
            if self._drawn is not None:
                self._drawn.store.close()
            self._drawn, self._planes = None, None
            self._lr = torch.empty(0)

    def _kept(self) -> _Planes:
        if self._planes is None:
            raise Cancelled  # it would be computed anew for nobody
        return self._planes

    def _encoded(self, run: Run) -> Tensor:
        base = self._guided.base
        picture = to_process(self._lr, self._sizes, self._guided.scale) * 2 - 1

        def work(side: int) -> tuple[Tensor, Tensor]:
            tile = side * base.factor
            return encode(base.vae, picture, tile, run, encoder_tiles(base.costs, base.vae, base.factor, self._grid, tile).hold)

        (mean, deviation), side = self._halving(work, self.tiling.encoder // base.factor)
        self.tiling = replace(self.tiling, encoder=side * base.factor)
        if self.options.sampled:
            generator = torch.Generator().manual_seed(self.options.seed)
            mean = mean + deviation * torch.randn(mean.shape, generator=generator)
        return mean * base.scaling

    @property
    def _grid(self) -> tuple[int, int]:
        """Height and width in latents."""
        height, width = self._sizes.process
        return height // self._guided.base.factor, width // self._guided.base.factor

    def _compute(self, names: list[str], run: Run) -> None:
        """Predict the planes that are missing, each for all tiles before the next; all on the same tiles."""
        planes = self._kept()
        if all(name in planes.noise for name in names):
            return
        wanted = list(dict.fromkeys([*planes.noise, *names]))  # with smaller tiles, those that are there are made again

        def predict(side: int) -> None:
            if side != planes.tile:
                planes.tile, planes.noise = side, {}
            tiling = self.tiling if side == self.tiling.latent else self.tiling.with_latent(side)
            for name in wanted:
                if name not in planes.noise:
                    predictor = self._predictor(self._guided.networks[name])
                    planes.noise[name] = tiled(predictor, planes.z_L, tiling.latent, tiling.overlap, run)

        _, side = self._halving(predict, planes.tile)
        self.tiling = self.tiling if side == self.tiling.latent else self.tiling.with_latent(side)

    def _predictor(self, network: Any) -> Callable[[Tensor], Tensor]:
        base, options = self._guided.base, self.options
        conditions = [(1.0, base.prompt(options.prompt))]
        if options.negative_prompt and options.prompt_scale != 1:
            scale = options.prompt_scale
            conditions = [(scale, conditions[0][1]), (1 - scale, base.prompt(options.negative_prompt))]
        step = torch.tensor([STEP], device=base.device)

        def predict(part: Tensor) -> Tensor:
            z = part.to(base.device, base.precision.unet)
            with torch.inference_mode():
                parts = [weight * network(z, step, encoder_hidden_states=text).sample.float() for weight, text in conditions]
            return torch.stack(parts).sum(dim=0)

        return predict

    def _blended(self, setting: Setting, run: Run) -> Tensor:
        """The latent of a setting. A mask blends latents, so that it costs no second pass of the decoder."""
        self._compute(self._predicted(setting), run)
        return self._sum(setting, self._kept().latents())

    def _sum(self, setting: Setting, latents: Mapping[str, Tensor]) -> Tensor:
        zero, weights = torch.zeros_like(latents["z_L"]), self._weights(setting)
        sums = [sum((w * latents[name] for name, w in each.items() if w), start=zero) for each in weights]
        if setting.mask is None or len(sums) == 1:
            return sums[0]
        mask = F.interpolate(setting.mask, zero.shape[-2:], mode="bilinear", antialias=True)
        return torch.lerp(sums[0], sums[1], mask)

    def _weights(self, setting: Setting) -> list[Mapping[str, float]]:
        """Of the planes, by name: outside the mask, and in it where there is one."""
        settings = [setting.values] + ([setting.masked] if setting.masked is not None else [])
        return [self._guided.weights(values) for values in settings]

    def _predicted(self, setting: Setting) -> list[str]:
        """The planes of networks that a setting needs, in the networks' order."""
        return [name for name in self._guided.networks if name in self._needed(setting)]

    def _needed(self, setting: Setting) -> set[str]:
        return {name for each in self._weights(setting) for name, weight in each.items() if weight != 0}

    def _draw(self, key: object, latent: Tensor, run: Run) -> None:
        base = self._guided.base
        unscaled = latent / base.scaling

        def work(side: int) -> Tensor:
            return decode(base.vae, unscaled, side, run, decoder_tiles(base.costs, base.vae, self._grid, side).hold)

        picture, side = self._halving(work, self.tiling.decoder)
        self.tiling = replace(self.tiling, decoder=side)
        picture = picture / 2 + 0.5
        if self.options.colour != "none":
            picture = colour_fix(self.options.colour, picture, to_process(self._lr, self._sizes, self._guided.scale)).clamp(0, 1)
        store = store_for(*self._sizes.process)
        store.write(Box(0, 0, *self._sizes.process), picture)
        if self._drawn is not None:
            self._drawn.store.close()
        self._drawn = _Drawn(key, store)

    def _halving(self, work: Callable[[int], T], side: int) -> tuple[T, int]:
        """``work`` with tiles of ``side`` latents, or of half of that until they fit; and the side with which they did."""
        device = self._guided.base.device
        while True:
            try:
                return work(side), side
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if side <= FLOOR:
                    remedy = "close other programs" if device.type == "cpu" else "close other programs, or choose the CPU"
                    pixels = side * self._guided.base.factor
                    raise MemoryLimitError(
                        f"not even a tile of {pixels} pixels fits into the memory of {device}; {remedy}"
                    ) from error
            # Outside the handler, where the exception no longer holds the tensors of the failed pass.
            if device.type == "cuda":
                torch.cuda.empty_cache()
            side = max(FLOOR, min(side, max(self._grid)) // 2)


def _key(setting: Setting) -> object:
    values = tuple(sorted(setting.values.items()))
    if setting.masked is None or setting.mask is None:
        return values
    digest = hashlib.sha256(setting.mask.contiguous().numpy().tobytes()).hexdigest()
    return values, tuple(sorted(setting.masked.items())), tuple(setting.mask.shape), digest
