"""A small project as the stages leave it: images through the real protocol, files by the functions of the steps."""

from pathlib import Path

import cv2
import numpy as np
import yaml

from components.backbones.edsr import Edsr
from components.backbones.weights import save_network
from components.images.files import write_png
from components.images.manifest import Entry, write_manifest
from components.run.files import sha256_of, write_json
from components.tasks.evaluation import evaluate_images, test_entries, write_scores
from components.tasks.sr import SuperResolution
from components.training.outcome import write_rows

TASK = SuperResolution(scale=2)
STRENGTHS = {"scratch": 0.2, "logits": 0.35, "dckd": 0.5, "teacher": 0.9}
TERMS = {
    "scratch": ["reconstruction"],
    "logits": ["reconstruction", "logits"],
    "dckd": ["reconstruction", "logits", "contrastive", "codes"],
    "teacher": ["reconstruction"],
}
PARAMETERS = {"scratch": 28403, "logits": 28403, "dckd": 28403, "teacher": 205411}
PARAMS = {
    "run": {"tasks": ["sr"], "seeds": [3], "methods": {"teacher": ["scratch", "logits"], "encoder": ["dckd"]}},
    "tasks": {"sr": {"scale": 2}},
    "collections": {"sr": {"training": ["many"], "validation": ["some"], "test": ["first", "second"]}},
    "datasets": {
        "many": {"source": "camera", "clean": ["many/*.png"]},
        "some": {"source": "camera", "clean": ["some/*.png"]},
        "first": {"source": "camera", "clean": ["first/*.png"]},
        "second": {"source": "benchmark", "clean": ["HR/*.png"], "degraded": "LR/{name}x{scale}.png"},
    },
    "sources": {
        "camera": {
            "files": [
                {"url": "file:$PHOTOS/all.tar", "sha256": "ab" * 32, "licence": "CC0 1.0", "author": "A. Painter"}
            ]
        },
        "benchmark": {
            "files": [
                {
                    "url": "https://user:secret@example.org/set.zip?key=1",
                    "licence": "research only",
                    "author": "B. Maker",
                }
            ]
        },
        "unused": {"files": [{"url": "s3://nowhere/else.zip", "author": "N. Obody"}]},
    },
    "publication": {"source": "A paper, table 2", "sets": {"first": {"dckd": {"psnr": 33.66, "ssim": 0.93}}}},
    "students": {"sr": {"backbone": {"name": "edsr", "channels": 16}, "training": {"steps": 150}}},
    "teachers": {"sr": {"training": {"steps": 150, "seed": 1}}, "other": {"training": {"seed": 77777}}},
    "methods": {"dckd": {"weights": {"contrastive": 0.0125}}, "fakd": {"weights": {"spatial": 0.98765}}},
    "report": {"methods": ["scratch", "logits", "dckd"], "reference": "scratch", "crops": 3, "crop_side": 32},
}


def photograph(seed, height, width):
    """Blobs and edges, so that sharpening tells networks apart."""
    noise = np.random.default_rng(seed).integers(256, size=(height, width, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 3)
    blobs = (blobs - blobs.mean()) * 6 + 128
    blobs[height // 3 :, width // 2 :] += 60
    return np.clip(blobs, 0, 255).astype(np.uint8)


def sharpened(strength):
    """Stands for a network: bicubic, and then as much sharper as it is able."""

    def restore(degraded):
        image = TASK.baseline(degraded)
        return cv2.addWeighted(image, 1 + strength, cv2.GaussianBlur(image, (0, 0), 1.2), -strength, 0)

    return restore


def curve(terms, start, steps=(50, 100, 150)):
    """Rows of a history."""
    values = {name: start / (number + 1) for number, name in enumerate(["total", *terms])}
    return [
        {"step": float(step), "learning_rate": 1e-3, **{name: value * 50 / step for name, value in values.items()}}
        for step in steps
    ]


def make_project(root, params=PARAMS, images=None, names=None):
    """Write params.yaml, data/raw, data/manifest, and all that training and measuring leave; return the entries.

    `images` are taken instead of those drawn here, `names` instead of those written here.
    """
    root.joinpath("params.yaml").write_text(yaml.safe_dump(params))
    raw = root / "data/raw/sr"
    entries = []
    for split, dataset, folder, written in (
        ("training", "many", "camera/many", ["one", "two", "three"]),
        ("validation", "some", "camera/some", ["four"]),
        ("test", "first", "camera/first", ["cat", "coffee"]),
        ("test", "second", "benchmark/HR", ["house"]),
    ):
        for plain in written:
            image = photograph(len(entries), 61 + 4 * len(entries), 83) if images is None else images[plain]
            name = (names or {}).get(plain, plain)
            clean = f"{folder}/{name}.png"
            write_png(raw / clean, image)
            degraded = ""
            if dataset == "second":
                degraded = f"benchmark/LR/{name}x2.png"
                write_png(raw / degraded, TASK.degrade(TASK.crop(image), np.random.default_rng(0)))
            entries.append(
                Entry(split, dataset, name, clean, degraded, *image.shape[:2], sha256_of(raw / clean), "0" * 16)
            )
    write_manifest(root / "data/manifest/sr/manifest.csv", entries)
    write_json(root / "data/manifest/sr/validation.json", validation())
    measure(root, list(test_entries(sorted(entries))), params["report"]["methods"])
    return entries


def validation():
    failure = {"split": "training", "dataset": "many", "file": "camera/many/one.png", "found": "camera/many/two.png"}
    rows = [
        ("every image can be read as 8-bit RGB", 7, True, []),
        ("no file is twice in one split", 7, False, [failure]),
    ]
    rows.append(("every degraded image is there", 0, True, []))
    return {
        "datasets": [],
        "expectations": [
            {"expected": text, "checked": checked, "required": required, "failed": len(failures), "failures": failures}
            for text, checked, required, failures in rows
        ],
    }


def measure(root, entries, methods):
    scores, raw = root / "data/scores/sr", root / "data/raw/sr"
    details = scores / "teacher"
    found = {
        name: evaluate_images(name, restorer, entries, raw, TASK, details / name)
        for name, restorer in (("teacher", sharpened(STRENGTHS["teacher"])), ("baseline", TASK.baseline))
    }
    for name, evaluation in found.items():
        write_scores(details / f"{name}.csv", evaluation.scores)
    sets = {name: evaluation.sets() for name, evaluation in found.items()}
    cost = {"parameters": PARAMETERS["teacher"], "flops": 47_000_000_000}
    write_json(scores / "teacher.json", sets | cost | {"sha256": "0" * 64})
    write_json(scores / "encoder.json", {"codes": 64, "codes_in_use": 51.0, "perplexity": 33.25, "psnr": 24.5})
    store(root / "data/teachers/sr", "teacher", 32, 8, curve(TERMS["teacher"], 0.08), 33.0)
    encoder = root / "data/encoders/sr"
    write_rows(encoder / "history.csv", curve(["reconstruction", "codebook", "commitment"], 0.3))
    for number, method in enumerate(methods):
        strength = STRENGTHS.get(method, 0.1)
        evaluation = evaluate_images(method, sharpened(strength), entries, raw, TASK, scores / method / "3")
        write_scores(scores / method / "3" / "images.csv", evaluation.scores)
        cost = {"parameters": PARAMETERS.get(method, 30000), "flops": 6_543_210_000}
        write_json(scores / method / "3.json", evaluation.sets() | sets | cost)
        terms = TERMS.get(method, ["reconstruction"])
        store(
            root / "data/students/sr" / method / "3",
            "student",
            16,
            4,
            curve(terms, 0.1 + number / 50),
            31.5 + number / 10,
        )


def store(folder: Path, name, channels, blocks, history, psnr):
    network = Edsr(2, channels=channels, blocks=blocks)
    save_network(
        folder / f"{name}.safetensors",
        network,
        {"backbone": {"name": "edsr", "channels": channels, "blocks": blocks}, "scale": 2},
    )
    write_rows(folder / "history.csv", history)
    rows = [{"step": float(step), "psnr": psnr + step / 500, "ssim": 0.9 + step / 10000} for step in (50, 100, 150)]
    write_rows(folder / "validation.csv", rows)


FLAGS = [
    *("--task", "sr", "--collection", "sr", "--student", "sr"),
    *("--scores", "data/scores/sr", "--students", "data/students/sr"),
    *("--teacher", "data/teachers/sr", "--encoder", "data/encoders/sr"),
    *("--manifest", "data/manifest/sr", "--raw", "data/raw/sr", "--output", "data/report/sr"),
]
"""The command line of the stage."""
