"""Which GPUs and cores of the site a work gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from catchment.errors import SiteError
from catchment.wire.messages import Resource


@dataclass(frozen=True)
class Place:
    """What was given to one work."""

    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()


class Places:
    """The site's GPUs, each for one work at a time, and its cores, shared evenly. Not thread-safe."""

    def __init__(self, gpus: Sequence[str], cores: Sequence[int]) -> None:
        self._gpus = tuple(gpus)
        self._free = list(gpus)
        self._load = Counter(dict.fromkeys(cores, 0))

    def check(self, resource: Resource) -> None:
        """Pass when the site could ever give that much.

        Raises:
            SiteError: it has too few GPUs.
        """
        wanted = resource.gpu * resource.worker_num
        if wanted > len(self._gpus):
            raise SiteError(f"the job asks for {wanted} GPUs at a site, this site has {len(self._gpus)}")

    def take(self, resource: Resource) -> Place | None:
        """A place, None when the GPUs are in use now. What the site could never give is left out of it."""
        wanted = min(resource.gpu * resource.worker_num, len(self._gpus))
        if wanted > len(self._free):
            return None
        gpus = tuple(self._free[:wanted])
        del self._free[:wanted]
        num_cores = -(-int(resource.cpu * 1000) * resource.worker_num // 1000)
        cores = sorted(self._load, key=lambda core: (self._load[core], core))[:num_cores]
        self._load.update(cores)
        return Place(gpus, tuple(sorted(cores)))

    def give_back(self, place: Place) -> None:
        """End a work's use of its place."""
        self._free.extend(place.gpus)
        self._load.subtract(place.cores)
