"""Images, networks and recipes so small that a whole training takes less than a second."""

from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState

from components.auxiliary.aggregator import Aggregator
from components.auxiliary.ensemble import AggregatedEnsemble, TeacherEnsemble
from components.auxiliary.privileged_teacher import PrivilegedTeacher
from components.auxiliary.vq_autoencoder import VqAutoencoder
from components.auxiliary.vqgan import VqganEncoder
from components.backbones import BackboneChoice, build_backbone
from components.backbones.edsr import Edsr
from components.images.distances import DISTANCES
from components.images.patches import TrainingPatches
from components.images.store import Pair, Store, StoreWriter
from components.methods import METHODS, MethodChoice, build_method
from components.methods.method import Batch, Frozen, Setting
from components.run.params import read_params
from components.tasks.sr import SuperResolution
from components.training.distribution import start
from components.training.loop import train
from components.training.outcome import validation_on, write_outcome
from components.training.recipe import Training

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")

# Refreshed after steps 2, 4, 6, 9 and 12: a run of 12 steps that is killed after its sixth has some on either side.
HISTORY = {"intervals": [2, 3], "phase": 6}

# What the recipes of Restormer and NAFNet add, at once; killed after its sixth step, a run is in the second size.
RESTORER = {
    "progressive_learning": [{"after": 4, "batch": 6, "patch": 10}, {"after": 9, "batch": 2, "patch": 12}],
    "mixup": {"beta": 1.2, "probability": 0.5},
    "reconstruction": "psnr",
    "grad_clip_norm": 0.01,
    "optimiser": {"name": "adamw", "betas": [0.9, 0.9], "weight_decay": 0.01},
    "schedule": {
        "name": "cosine_restarts",
        "periods": [5, 20],
        "minima": [0.001, 0.0],
        "weights": [1, 1],
        "warmup_steps": 2,
    },
}

RCAN = {"name": "rcan", "channels": 8, "groups": 1, "blocks": 1, "reduction": 2}
AGGREGATOR = {"channels": 8, "depths": [2], "heads": 2, "window": 4, "tail": 8}


class Dropping(Edsr):
    """A network that draws from the global random state."""

    def stage(self, index, state):
        state = super().stage(index, state)
        return state._replace(features=F.dropout(state.features, 0.2, self.training))


NETWORKS = {"plain": Edsr, "dropout": Dropping}


class Interrupted(TrainingPatches):
    """Breaks the training off while it reads the crops of its eighth step."""

    def __init__(self, store, task, patch, *others, **more):
        super().__init__(store, task, patch, *others, **more)
        self._eighth = patch.samples(8).start

    def __getitem__(self, index):
        if index >= self._eighth:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def recipe(**changes):
    values = {
        "steps": 12,
        "batch": 4,
        "patch": 8,
        "learning_rate": 0.001,
        "optimiser": {"name": "adam", "betas": [0.9, 0.99]},
        "schedule": {"name": "cosine", "minimum": 0.000001},
        "ema_decay": 0.9,
        "log_every": 3,
        "validate_every": 6,
        "seed": 5,
    }
    return Training(**(values | changes))


def photograph(index, side=48):
    """Crops of one photograph that do not overlap."""
    return skimage.data.astronaut()[64 * index : 64 * index + side, 160 : 160 + side]


def write_store(folder, scale=2, training=4):
    task = SuperResolution(scale)
    with StoreWriter(folder, scale, 0) as writer:
        for index in range(training + 1):
            clean = photograph(index)
            split = "training" if index < training else "validation"
            writer.add(split, f"set/{index}", Pair(task.degrade(clean, None), clean), [((0, 0), clean.shape[:2])])
    return folder


def batch(scale=2, size=3, step=1, seed=7, side=8):
    """Random numbers as training crops."""
    generator = torch.Generator().manual_seed(seed)
    degraded = torch.rand(size, 3, side, side, generator=generator)
    clean = torch.rand(size, 3, side * scale, side * scale, generator=generator)
    return Batch(degraded, clean, torch.arange(size) + 100, step)


def edsr(seed=1, scale=2, blocks=1, kind=Edsr):
    torch.manual_seed(seed)
    return kind(scale, channels=8, blocks=blocks)


def encoder(seed=3):
    torch.manual_seed(seed)
    network = VqganEncoder(channels=8, blocks=1, latent=8, codes=16, code_size=8, groups=4)
    torch.nn.init.normal_(network.quantize.embedding.weight)  # far apart, so that it matters which code is near
    return network


def autoencoder(seed=3):
    return VqAutoencoder(encoder(seed))


def rcan(seed=9, scale=2):
    torch.manual_seed(seed)
    return build_backbone(BackboneChoice(**RCAN), scale)


def aggregator(scale=2, seed=4):
    torch.manual_seed(seed)
    return Aggregator(scale, 2, **AGGREGATOR)


def teacher_ensemble(scale=2):
    return TeacherEnsemble({"teacher": edsr(seed=2, scale=scale, blocks=2), "rcan": rcan(scale=scale)})


def ensemble(scale=2, seed=4):
    return AggregatedEnsemble(teacher_ensemble(scale), aggregator(scale, seed))


def privileged(scale=2, seed=6):
    """Its decoder is as the students are."""
    decoder = edsr(seed, scale)
    return PrivilegedTeacher(decoder, channels=8, shrunk_channels=4)


def choice(name, terms=None, **changes):
    """A method as params.yaml has it, with all its terms or those named."""
    entry = PARAMS["methods"][name]
    wanted = sorted(METHODS[name].terms) if terms is None else terms
    weights = {term: entry["weights"].get(term, 1.0) for term in wanted}
    return MethodChoice(**(entry | {"name": name, "weights": weights} | changes))


def refreshing(name):
    """The method with all its terms, and a history that is refreshed often."""
    history = PARAMS["methods"][name].get("history")
    return choice(name, **({"history": history | HISTORY} if history else {}))


def setting(student, terms, seed=5, scale=2, distance="l1"):
    teacher = Frozen(edsr(seed=2, scale=scale, blocks=2))
    return Setting(
        student,
        frozenset(terms),
        seed,
        teacher,
        build=another(scale),
        load_encoder=lambda: Frozen(encoder()),
        load_ensemble=lambda: Frozen(ensemble(scale)),
        load_privileged=lambda: Frozen(privileged(scale)),
        to_clean=DISTANCES[distance],
    )


def another(scale):
    """What builds another network of the student's architecture."""
    return lambda **changes: Edsr(scale, **({"channels": 8, "blocks": 1} | changes))


def make_method(picked, student, seed=5, scale=2, distance="l1"):
    return build_method(picked, setting(student, picked.weights, seed, scale, distance))


def patches(lmdb, picked, kind=TrainingPatches):
    store = Store(lmdb)
    return kind(store, SuperResolution(store.scale), picked.sizes, picked.seed, augment=True)


def validation(lmdb):
    return validation_on(Store(lmdb), SuperResolution(2))


def distilled(
    picked,
    lmdb,
    checkpoint,
    values=None,
    kind=Edsr,
    patch_kind=TrainingPatches,
    seconds=0.0,
    wrap=lambda method: method,
):
    """Train a tiny student as `Session` would; `seconds` of 0 keep a checkpoint at every row of the history."""
    values = values or recipe()
    accelerator = start(values)
    student = edsr(values.seed, kind=kind)
    return train(
        title=picked.name,
        accelerator=accelerator,
        network=student,
        method=wrap(make_method(picked, student, values.seed, distance=values.reconstruction)),
        weights=picked.weights,
        patches=patches(lmdb, values, patch_kind),
        recipe=values,
        validate=validation(lmdb),
        checkpoint=checkpoint,
        checkpoint_seconds=seconds,
    )


def outcome(folder, trained):
    """Bytes of every file that a training leaves, by name."""
    write_outcome(folder, "student", trained, {})
    return files(folder)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def forget_accelerator():
    """Accelerate keeps device and precision for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
