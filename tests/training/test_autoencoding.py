import math

import numpy as np
import pytest
import torch
from torch import nn

from components.auxiliary.vq_autoencoder import Coded
from components.images.patches import TrainingPatches
from components.images.store import Pair, Store, StoreWriter
from components.run.errors import InputError
from components.training import autoencoding
from components.training.autoencoding import Autoencoding, reconstruction_on
from components.training.checkpoint import load_checkpoint
from components.training.distribution import start
from components.training.loop import train
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")


def crops(size=3):
    """A batch whose clean crops are 32 pixels wide: two by two codes each."""
    return tiny.batch(scale=4, size=size)


def parts(network):
    return {
        "encoder": [*network.vqgan.encoder.parameters(), *network.vqgan.quant_conv.parameters()],
        "codes": [network.vqgan.quantize.embedding.weight],
        "decoder": list(network.decoder.parameters()),
    }


def codes_of(network):
    return network.vqgan.quantize.embedding.weight.detach().clone()


class TestLosses:
    @pytest.mark.parametrize(
        ("term", "taught"),
        [("reconstruction", {"encoder", "decoder"}), ("codebook", {"codes"}), ("commitment", {"encoder"})],
    )
    def test_each_teaches_its_own_part(self, term, taught):
        network = tiny.autoencoder()
        Autoencoding(network, 100, 1)(network, crops())[term].backward()
        for part, parameters in parts(network).items():
            gradients = [parameter.grad for parameter in parameters]
            if part in taught:
                assert all(gradient is not None for gradient in gradients), part
                assert sum(gradient.abs().sum() for gradient in gradients) > 0, part
            else:
                assert all(gradient is None for gradient in gradients), part

    def test_the_encoder_gets_the_gradient_of_the_codes_straight_through(self):
        """As if the decoder had been given the encoder's own vectors."""
        network = tiny.autoencoder()
        coded = network(crops().clean)
        coded.latent.retain_grad()
        coded.image.sum().backward()
        codes = coded.codes.detach().requires_grad_()
        network.decoder(codes).sum().backward()
        torch.testing.assert_close(coded.latent.grad, codes.grad, rtol=1e-3, atol=1e-3)

    def test_values_are_those_of_the_formulas(self):
        network, batch = tiny.autoencoder(), crops()
        losses = Autoencoding(network, 100, 1)(network, batch)
        coded = network(batch.clean)
        latent, book = coded.latent.detach().permute(0, 2, 3, 1).reshape(-1, 8), codes_of(network)
        distances = (latent[:, None] - book).pow(2).sum(-1)
        nearest = distances.min(1).values
        assert torch.equal(coded.indices, distances.argmin(1))
        assert losses["codebook"].item() == pytest.approx(nearest.mean().item() / 8, rel=1e-4)
        assert losses["commitment"].item() == pytest.approx(nearest.mean().item() / 8, rel=1e-4)
        assert losses["reconstruction"].item() == pytest.approx((coded.image - batch.clean).abs().mean().item())


class TestReseeding:
    @pytest.fixture
    def after_two_steps(self, monkeypatch):
        """A network, its method, its average, and the codes before the reseeding after the second step."""
        monkeypatch.setattr(autoencoding, "RESEED_EVERY", 2)
        network, average = tiny.autoencoder(), tiny.autoencoder(seed=4)
        method = Autoencoding(network, 8, 1)
        used = set()
        for step in (1, 2):
            batch = tiny.batch(scale=4, step=step, seed=step)
            method(network, batch)
            used |= set(network(batch.clean).indices.tolist())
            if step == 1:
                method.follow(step, network, average)
        return network, average, method, sorted(used)

    def test_moves_the_codes_that_nothing_chose_onto_vectors_of_the_batch(self, after_two_steps):
        network, average, method, used = after_two_steps
        before, before_average = codes_of(network), codes_of(average)
        unused = sorted(set(range(16)) - set(used))
        assert used
        assert unused
        method.follow(2, network, average)
        assert torch.equal(codes_of(network)[used], before[used])
        assert torch.equal(codes_of(average)[used], before_average[used])
        latest = network(tiny.batch(scale=4, step=2, seed=2).clean).latent.detach()
        vectors = latest.permute(0, 2, 3, 1).reshape(-1, 8)
        for coder in (network, average):
            moved = codes_of(coder)[unused]
            assert (torch.cdist(moved, vectors).min(1).values < 1e-5).all()
        assert torch.equal(codes_of(network)[unused], codes_of(average)[unused])

    def test_moved_codes_are_chosen(self, after_two_steps):
        network, average, method, used = after_two_steps
        method.follow(2, network, average)
        chosen = network(tiny.batch(scale=4, step=2, seed=2).clean).indices.unique().tolist()
        assert set(chosen) - set(used)

    def test_counts_anew_afterwards(self, after_two_steps):
        network, average, method, used = after_two_steps
        assert method.used.nonzero().flatten().tolist() == used
        method.follow(2, network, average)
        assert not method.used.any()

    @pytest.mark.parametrize("step", [1, 3, 6, 8])
    def test_leaves_all_codes_alone_between_its_steps_and_in_the_second_half(self, step, after_two_steps):
        network, average, method, used = after_two_steps
        before = codes_of(network)
        method.follow(step, network, average)
        assert torch.equal(codes_of(network), before)
        assert method.used.nonzero().flatten().tolist() == used

    def test_moves_nothing_where_every_code_is_used(self, after_two_steps):
        network, average, method, _ = after_two_steps
        before = codes_of(network)
        method.used.fill_(value=True)
        method.follow(2, network, average)
        assert torch.equal(codes_of(network), before)


def trained(lmdb, checkpoint, patch_kind=TrainingPatches):
    recipe = tiny.recipe(steps=20)
    network = tiny.autoencoder()
    return train(
        title="autoencoder",
        accelerator=start(recipe),
        network=network,
        method=Autoencoding(network, recipe.steps, recipe.seed),
        weights={"reconstruction": 1.0, "codebook": 1.0, "commitment": 0.25},
        patches=tiny.patches(lmdb, recipe, patch_kind),
        recipe=recipe,
        validate=reconstruction_on(Store(lmdb), 16),
        checkpoint=checkpoint,
        checkpoint_seconds=0,
    )


class TestResume:
    def test_a_training_that_was_broken_off_ends_with_the_bytes_of_an_unbroken_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr(autoencoding, "RESEED_EVERY", 5)
        lmdb = tiny.write_store(tmp_path / "lmdb")
        with pytest.raises(KeyboardInterrupt):
            trained(lmdb, tmp_path / "run.pt", tiny.Interrupted)
        kept = load_checkpoint(tmp_path / "run.pt")
        assert kept["step"] == 6, "between two reseedings"
        assert kept["trainee"]["method.used"].any()
        resumed = tiny.outcome(tmp_path / "resumed", trained(lmdb, tmp_path / "run.pt"))
        assert resumed == tiny.outcome(tmp_path / "unbroken", trained(lmdb, tmp_path / "other.pt"))


class Known(nn.Module):
    """In place of an autoencoder: ten levels brighter, and the code of a square is its own first level."""

    def __init__(self):
        super().__init__()
        self.vqgan = tiny.encoder()
        self.seen = []

    def forward(self, image):
        levels = image.mul(255).round()
        self.seen.append(levels)
        indices = levels[:, 0, 0, 0].long()
        return Coded(image + 10 / 255, image, image, indices)


def store_of(folder, *images):
    with StoreWriter(folder, 1, 0) as writer:
        for index, image in enumerate(images):
            writer.add("validation", f"set/{index}", Pair(None, image), [((0, 0), image.shape[:2])])
    return Store(folder)


def squares_of(values, side=16, margin=(5, 3)):
    """An image of squares of one level each, with a margin on the right and below that is left over."""
    image = np.kron(np.array(values, np.uint8), np.ones((side, side), np.uint8))
    return np.pad(image, [(0, margin[0]), (0, margin[1])], constant_values=99)[..., None].repeat(3, -1)


class TestMeasure:
    def test_gives_psnr_codes_in_use_and_their_perplexity(self, tmp_path):
        store = store_of(tmp_path / "lmdb", squares_of([[0, 1, 2], [0, 0, 1]]), squares_of([[7, 0]]))
        network = Known()
        measured = reconstruction_on(store, 16)(network)
        shares = [4 / 8, 2 / 8, 1 / 8, 1 / 8]
        assert measured["codes_in_use"] == 4
        assert measured["perplexity"] == pytest.approx(math.prod(share**-share for share in shares), rel=1e-5)
        assert measured["psnr"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-6)
        assert [len(squares) for squares in network.seen] == [6, 2]
        assert network.seen[0][:, 0, 0, 0].tolist() == [0, 1, 2, 0, 0, 1]
        assert all(square.unique().numel() == 1 for squares in network.seen for square in squares)

    def test_one_code_for_all_has_perplexity_1(self, tmp_path):
        measured = reconstruction_on(store_of(tmp_path / "lmdb", squares_of([[3, 3]])), 16)(Known())
        assert (measured["codes_in_use"], measured["perplexity"]) == (1, 1)

    def test_an_image_smaller_than_a_square_is_refused_by_name(self, tmp_path):
        store = store_of(tmp_path / "lmdb", squares_of([[3]]), squares_of([[3]], side=12))
        with pytest.raises(InputError, match=r"set/1: 15x17 pixels .* 16"):
            reconstruction_on(store, 16)
