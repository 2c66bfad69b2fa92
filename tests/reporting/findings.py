"""Findings made up in memory, for parts that read no file."""

from pathlib import Path

from components.images.manifest import Entry
from components.reporting.findings import Complexity, Contender, Curve, EncoderFindings, Findings, Quality
from components.tasks.sr import SuperResolution


def entry(dataset, name, height=64, width=64):
    return Entry("test", dataset, name, f"{dataset}/{name}.png", "", height, width, "0" * 64, "0" * 16)


def findings(psnr, reference="scratch", sets=("only",), root=Path(), entries=(), scale=2):
    """Contenders with these PSNR on every set: the first is the baseline, the last the teacher."""
    names = list(psnr)
    roles = {names[0]: "baseline", names[-1]: "teacher"}
    contenders = tuple(
        Contender(
            name=name,
            role=roles.get(name, "student"),
            sets={dataset: Quality(psnr[name] + number, 0.9) for number, dataset in enumerate(sets)},
            images={one.key: Quality(psnr[name], 0.9) for one in entries},
            restored=root / name,
            cost=None if name == names[0] else Complexity(400_000 if name == names[-1] else 100_000, 10**9),
            backbone="" if name == names[0] else "edsr (blocks 4)",
            validation=Curve((100, 200), {"psnr": (psnr[name] - 1, psnr[name])}),
        )
        for name in names
    )
    return Findings(
        task_name="sr",
        task=SuperResolution(scale),
        sets=tuple(sets),
        contenders=contenders,
        reference=reference,
        entries=tuple(entries),
        sources={},
        origins=(),
        expectations=(),
        encoder=EncoderFindings(64, 32.0, 20.0, 25.0, Curve()),
    )
