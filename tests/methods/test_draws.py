import itertools

import pytest
import torch

from components.methods.parts.draws import generator, mixed, sample_generators

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = torch.arange(50, 58)


def numbers(source, count=6):
    return torch.rand(count, generator=source).tolist()


def test_a_sample_draws_the_same_wherever_it_stands_and_whatever_was_drawn_before():
    first = [numbers(source) for source in sample_generators(SEEDS, 1)]
    torch.manual_seed(99)
    torch.rand(7)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    second = [numbers(source) for source in sample_generators(SEEDS[order], 1)]
    assert second == [first[place] for place in order]


def test_a_sample_draws_something_else_for_every_purpose():
    drawn = torch.stack(
        [torch.randn(500, generator=source) for purpose in range(8) for source in sample_generators(SEEDS, purpose)]
    )
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 0.25


def test_half_a_batch_draws_what_the_whole_does():
    whole = [numbers(source) for source in sample_generators(SEEDS, 1)]
    halves = [numbers(source) for half in SEEDS.chunk(2) for source in sample_generators(half, 1)]
    assert halves == whole


def test_nothing_is_drawn_from_the_global_state():
    before = torch.get_rng_state()
    numbers(sample_generators(SEEDS, 1)[0])
    numbers(generator(1, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_are_on_the_cpu_on_every_device():
    assert generator(1).device.type == "cpu"
    assert {source.device.type for source in sample_generators(SEEDS, 1)} == {"cpu"}


def test_seeds_of_every_size_and_sign_are_taken():
    for seeds in ((0,), (2**63 - 1, 5), (-1,), (2**64 + 3, 2**70)):
        assert 0 <= mixed(*seeds) < 2**63
        numbers(generator(*seeds))


def test_first_number_is_that_of_splitmix64():
    """Steele, Lea and Flood 2014; its first output from state 0, by the reference code, less its lowest bit."""
    assert mixed(0) == 0xE220A8397B1DCDAF >> 1


@pytest.mark.parametrize(
    "family",
    [
        [(seed, 1) for seed in range(400)],  # neighbouring samples
        [(7, purpose) for purpose in range(400)],  # purposes of one sample
        [(7, step, 0) for step in range(400)],  # steps of one run
        [(a, b) for a in range(20) for b in range(20)],  # order matters, as does how many there are
        [(0,) * length for length in range(1, 21)],
    ],
)
def test_neighbouring_seeds_give_unrelated_streams(family):
    assert len({mixed(*seeds) for seeds in family}) == len(family)
    drawn = torch.stack([torch.randn(500, generator=generator(*seeds)) for seeds in family])
    alike = torch.corrcoef(drawn).fill_diagonal_(0).abs().max().item()
    # Of n streams of 500 normal numbers the largest of n (n-1) / 2 correlations is near sqrt(4 ln n / 500).
    assert alike < 1.4 * (4 * torch.tensor(float(len(family))).log() / 500).sqrt().item()


def test_half_of_the_bits_change_with_any_bit_of_any_number():
    changes = []
    for place, bit in itertools.product(range(3), range(60)):
        seeds = [11, 22, 33]
        seeds[place] ^= 1 << bit
        changes.append((mixed(11, 22, 33) ^ mixed(*seeds)).bit_count())
    assert sum(changes) / len(changes) == pytest.approx(31.5, abs=1.5)
    assert min(changes) > 12
