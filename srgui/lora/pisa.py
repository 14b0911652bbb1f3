"""PiSA-SR's pair: which layers of a UNet it adapts, and the one file in which both of its adapters are published.

Source: Pixel-level and Semantic-level Adjustable Super-resolution, arXiv 2412.03017, and its released checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, check_fits
from srgui.lora.card import AdapterCard, Base, Role
from srgui.lora.files import read_tensors
from srgui.lora.formats import Settings, from_tensors
from srgui.lora.targets import adaptable

ALPHA = 8.0  # peft's default, which the file does not hold: the scaling is 8 / rank
GROUPS = ("encoder", "decoder", "others")
ROLES: Mapping[str, Role] = {"pix": "pixel", "sem": "semantic"}
_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
_KEY = re.compile(r"(.+)\.lora_([AB])\.default_(encoder|decoder|others)_(pix|sem)\.weight")


def group_of(name: str) -> str | None:
    """To which group PiSA-SR counts a layer of a UNet: ``encoder``, ``decoder``, ``others``; None where it leaves it alone."""
    if "norm" in name or not any(target in name for target in _TARGETS):
        return None
    if name.startswith(("down_blocks.", "conv_in")):
        return "encoder"
    return "decoder" if name.startswith(("up_blocks.", "conv_out")) else "others"


def pisa_layers(unet: nn.Module) -> tuple[str, ...]:
    """Names of the layers that PiSA-SR adapts, in the network's order: 258 of Stable Diffusion 2.1's UNet."""
    return tuple(name for name in adaptable(unet) if group_of(name) is not None)


def is_pisa(content: Mapping[str, Any]) -> bool:
    """Whether what a pickle holds is a pair in PiSA-SR's layout."""
    return "state_dict_unet" in content


def read_pisa(path: Path, unet: nn.Module, base: Base, scale: int) -> tuple[Adapter, Adapter]:
    """The pixel and the semantic adapter in PiSA-SR's file, checked against the UNet they are for.

    Args:
        unet: may be on the meta device.
        base: the model that it belongs to, for the cards.

    Raises:
        AdapterError: it is no such file, is damaged or hostile, holds another rank than it says, more or fewer layers than it
            lists or than the UNet has, or factors of other shapes.
    """
    content, _ = read_tensors(path)
    try:
        return pisa_adapters(content, unet, base, scale, path.name)
    except AdapterError as error:
        raise AdapterError(f"{path} cannot be used: {error}") from error


def pisa_adapters(content: Mapping[str, Any], unet: nn.Module, base: Base, scale: int, origin: str) -> tuple[Adapter, Adapter]:
    """As :func:`read_pisa`, from what the file held."""
    lists = {f"unet_lora_{group}_modules_{tag}": list for group in GROUPS for tag in ROLES}
    kinds: dict[str, type] = {**lists, **{f"lora_rank_unet_{tag}": int for tag in ROLES}, "state_dict_unet": dict}
    wrong = [key for key, kind in kinds.items() if type(content.get(key)) is not kind]
    if wrong:
        raise AdapterError(f"{', '.join(wrong[:3])} missing or of another kind: not a pair of PiSA-SR; get pisa_sr.pkl again")
    tensors = _by_tag(content["state_dict_unet"])
    pixel, semantic = (_adapter(tag, content, tensors[tag], unet, base, scale, origin) for tag in ROLES)
    return pixel, semantic


def _by_tag(state: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """Tensors under peft's keys, for each tag; the group in a key must be that of its layer."""
    found: dict[str, dict[str, Any]] = {tag: {} for tag in ROLES}
    strange = []
    for key, tensor in state.items():
        parts = _KEY.fullmatch(str(key))
        if parts is None or group_of(parts[1]) != parts[3]:
            strange.append(str(key))
        else:
            found[parts[4]][f"{parts[1]}.lora_{parts[2]}.weight"] = tensor
    if strange:
        raise AdapterError(f"{len(strange)} keys are not those of PiSA-SR: {', '.join(strange[:3])}; get pisa_sr.pkl again")
    return found


def _adapter(
    tag: str, content: Mapping[str, Any], tensors: Mapping[str, Any], unet: nn.Module, base: Base, scale: int, origin: str
) -> Adapter:
    role, rank = ROLES[tag], content[f"lora_rank_unet_{tag}"]
    if rank < 1:
        raise AdapterError(f"lora_rank_unet_{tag} is {rank}, not 1 or more; get pisa_sr.pkl again")
    listed = [str(name) for group in GROUPS for name in content[f"unet_lora_{group}_modules_{tag}"]]
    factors = from_tensors(tensors, Settings(rank=rank, alpha=ALPHA), adaptable(unet))
    _same(f"the {role} state", factors, "its list of modules", listed)
    _same(f"the {role} adapter", factors, "this UNet", pisa_layers(unet))
    card = AdapterCard(
        title=f"PiSA-SR, {role}",
        role=role,
        base=base,
        scale=scale,
        rank=str(rank),
        form="conv",
        alpha=ALPHA,
        targets=tuple(factors),
        licence="Apache-2.0",
        description=f"the {role} half of {origin}",
    )
    adapter = Adapter(factors, card)
    check_fits(unet, adapter, base.sha256)
    return adapter


def _same(what: str, names: Iterable[str], other: str, expected: Iterable[str]) -> None:
    names, expected = set(names), set(expected)
    extra, missing = sorted(names - expected), sorted(expected - names)
    problems = [f"{len(extra)} layers that {other} does not have ({', '.join(extra[:3])})"] if extra else []
    problems += [f"no tensors for {len(missing)} that it has ({', '.join(missing[:3])})"] if missing else []
    if problems:
        raise AdapterError(f"{what} has {' and '.join(problems)}; use the base it was made for")
