"""A project of one folder in a small size: its params, its images, and what a step finds there."""

import copy
import csv
import inspect
import io
import typing
from pathlib import Path

import yaml
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from components.auxiliary.ensemble import AggregatedEnsemble
from components.auxiliary.ensemble_weights import load_teacher_ensemble, save_ensemble
from components.auxiliary.privileged_teacher import describe_privileged_teacher
from components.backbones import BackboneChoice
from components.backbones.weights import describe_backbone, save_network
from components.images.files import write_png
from components.images.manifest import Entry, write_manifest
from components.run.files import sha256_of, write_json
from components.run.params import Run
from components.run.step import parse
from tests.training import tiny

TRAINING = tiny.recipe().model_dump(mode="json")
STUDENT = {"name": "edsr", "channels": 8, "blocks": 1}
TEACHER = {"name": "edsr", "channels": 8, "blocks": 2}
PRIVILEGED = {"channels": 8, "shrunk_channels": 4}
ENCODER = {"channels": 8, "blocks": 1, "latent": 8, "codes": 16, "code_size": 8, "groups": 4}


class SmallProject:
    """Files of a project in `folder`; `params` is written anew before each step."""

    def __init__(self, folder):
        self.folder = folder
        self.params = copy.deepcopy(tiny.PARAMS)
        for section in ("teachers", "encoders", "ensembles", "privileged_teachers", "students"):
            self.params[section]["sr"]["training"] = dict(TRAINING)
        self.params["run"]["seeds"] = [self.params["students"]["sr"]["training"].pop("seed")]
        self.params["teachers"]["sr"]["backbone"] = dict(TEACHER)
        self.params["students"]["sr"]["backbone"] = dict(STUDENT)
        self.params["ensembles"]["sr"]["aggregator"] = dict(tiny.AGGREGATOR)
        self.params["privileged_teachers"]["sr"]["encoder"] = dict(PRIVILEGED)
        self.params["encoders"]["sr"]["network"] = ENCODER | {"multipliers": [1, 1, 2, 2, 4]}
        self.params["methods"]["dckd"]["history"] |= tiny.HISTORY

    def arguments(self, step, method=None, **paths):
        """Typed arguments of a step, as its command line gives them; a file is named after its argument."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))
        flags = ["--params", str(self.folder / "params.yaml")]
        hints = typing.get_type_hints(step)
        for name in inspect.signature(step).parameters:
            if hints[name] is Run:
                continue
            entry = {"method": method, "seed": str(self.params["run"]["seeds"][0])}.get(name, "sr")
            is_file = hints[name] in (Path, Path | None)
            flags += [f"--{name.replace('_', '-')}", str(paths.get(name, self.folder / name)) if is_file else entry]
        return parse(step, flags)

    def run(self, step, method=None, **paths):
        step(**self.arguments(step, method, **paths))

    def training_images(self):
        tiny.write_store(self.folder / "lmdb")

    def test_images(self):
        """Two sets, one and two images large, and an image that is not for testing."""
        entries = []
        for split, dataset, index in [
            ("test", "one", 0),
            ("test", "two", 1),
            ("test", "two", 2),
            ("validation", "v", 3),
        ]:
            path = self.folder / "raw" / dataset / f"{index}.png"
            image = tiny.photograph(index, 40 + index)
            write_png(path, image)
            height, width = image.shape[:2]
            clean = f"{dataset}/{index}.png"
            entries.append(Entry(split, dataset, str(index), clean, "", height, width, sha256_of(path), "0" * 16))
        write_manifest(self.folder / "manifest", entries)

    def network(self, name, arguments, seed=2):
        """Store a restoration network with random weights."""
        choice = BackboneChoice(**arguments)
        save_network(self.folder / name, tiny.edsr(seed, blocks=arguments["blocks"]), describe_backbone(choice, 2))

    def teacher(self):
        self.network("teacher", TEACHER)
        self.check()

    def check(self):
        """What `check_teacher` says of the teacher there is."""
        write_json(self.folder / "check", {"sha256": sha256_of(self.folder / "teacher")})

    def encoder(self, seed=3):
        network = self.params["encoders"]["sr"]["network"]
        save_network(self.folder / "encoder", tiny.encoder(seed), {"encoder": network})

    def member(self, name="rcan", seed=9, scale=2):
        """Store a further teacher of an ensemble."""
        path = self.folder / "members" / name / "teacher.safetensors"
        save_network(path, tiny.rcan(seed, scale), describe_backbone(BackboneChoice(**tiny.RCAN), scale))
        return path

    def ensemble(self, seed=4):
        """Store an ensemble of the teacher there is and another one."""
        files = {"teacher": self.folder / "teacher", "rcan": self.member()}
        whole = AggregatedEnsemble(load_teacher_ensemble(files), tiny.aggregator(seed=seed))
        save_ensemble(self.folder / "ensemble", whole, tiny.AGGREGATOR, files)

    def privileged(self, seed=6):
        """Store a privileged teacher of the student."""
        described = describe_privileged_teacher(BackboneChoice(**STUDENT), 2, PRIVILEGED)
        save_network(self.folder / "privileged", tiny.privileged(seed=seed), described)

    def left(self):
        """Names of everything in the project's folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def luma_psnr(restored, clean):
    """By scikit-image: Y of BT.601 in studio range, 2 pixels off each side."""
    clean = clean[: restored.shape[0], : restored.shape[1]]
    one, other = (rgb2ycbcr(image)[2:-2, 2:-2, 0] for image in (restored, clean))
    return peak_signal_noise_ratio(one, other, data_range=255)
