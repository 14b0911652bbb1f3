"""Which device computes, in which precision, and how much memory is free there."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from srgui.errors import InputError

if TYPE_CHECKING:
    import torch

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_GROUP_FILES = (  # of versions 2 and 1
    (".", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def pick(name: str) -> torch.device:
    """The torch device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: unknown name, or CUDA asked for where there is none.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    index = name.removeprefix("cuda").removeprefix(":")
    if not name.startswith("cuda") or (index and not index.isdecimal()):
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise InputError(f"device {name!r} is not there ({count} CUDA devices found); use cpu or auto")
    return torch.device(name)


def available() -> list[str]:
    """Device names a person can choose here, the best first."""
    import torch

    return [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]


def free_memory(device: torch.device) -> int:
    """Bytes that could be allocated on ``device`` now; on the CPU bounded by the control group's limit."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**31
    if _MEMINFO.exists():
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    return int(min([free, *(_left_in(_CGROUPS / folder, *names) for folder, *names in _GROUP_FILES)]))


def _left_in(group: Path, limit: str, used: str, cache: str) -> float:
    """Bytes a control group may still take; its use counts files that were read, which are given up when memory is asked for."""
    files = group / limit, group / used, group / "memory.stat"
    if not all(file.exists() for file in files) or files[0].read_text().strip() == "max":
        return math.inf
    stat = dict(line.split(" ", 1) for line in files[2].read_text().splitlines())
    return max(0, int(files[0].read_text()) - int(files[1].read_text()) + int(stat.get(cache, 0)))


def autocast(device: torch.device, half: bool) -> AbstractContextManager[object]:
    """Half precision on CUDA for networks that bear it; nothing elsewhere, where it would be slower."""
    if device.type != "cuda" or not half:
        return nullcontext()
    import torch

    return torch.autocast("cuda", torch.float16)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on CUDA or on the CPU."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
