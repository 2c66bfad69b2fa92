"""What a run uses of its machine, under the names by which MLflow shows it."""

import contextlib
import importlib
import importlib.util
import threading
from collections.abc import Callable, Mapping
from typing import Any

import psutil

SECONDS = 10.0
Report = Callable[[Mapping[str, float], int], None]
_MEGABYTE = 1e6


class Sampler(threading.Thread):
    """Measures at intervals, in a thread that sleeps otherwise; a measurement takes a millisecond of processor time."""

    def __init__(
        self, report: Callable[[Mapping[str, float], int], None], first: int, seconds: float = SECONDS
    ) -> None:
        """Report from the measurement numbered `first` on, every `seconds`."""
        super().__init__(name="tracking", daemon=True)
        self._report, self._next, self._seconds = report, first, seconds
        self._over = threading.Event()
        self._process = psutil.Process()
        self._gpus: list[Any] | None = None

    def run(self) -> None:
        """Measure until `stop`."""
        psutil.cpu_percent()  # the first answer is meaningless
        self._gpus = _gpus()
        while not self._over.wait(self._seconds):
            self.sample()

    def sample(self) -> None:
        """Measure once."""
        values = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_percentage": psutil.virtual_memory().percent,
            "system/process_memory_megabytes": self._process.memory_info().rss / _MEGABYTE,
        }
        for index, (nvml, handle) in enumerate(self._gpus or ()):
            with contextlib.suppress(nvml.NVMLError):
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                used = nvml.nvmlDeviceGetUtilizationRates(handle)
                values[f"system/gpu_{index}_memory_usage_megabytes"] = memory.used / _MEGABYTE
                values[f"system/gpu_{index}_utilization_percentage"] = float(used.gpu)
        self._report(values, self._next)
        self._next += 1

    def stop(self) -> None:
        """Stop, with a last measurement of what the run uses at its end."""
        self._over.set()
        self.sample()


def _gpus() -> list[Any]:
    """NVIDIA's GPUs, where nvidia-ml-py is installed and a driver answers."""
    if importlib.util.find_spec("pynvml") is None:
        return []
    nvml: Any = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        return [(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []
