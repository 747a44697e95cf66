"""Threads that compute a batch's gradients together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from jobrelay_train.distributed.threads import ThreadedDataParallel, split, worth_it
from jobrelay_train.models.registry import MnistHogwildNet
from tests.support.volume import Place, stop_and_resume

IMAGES, LABELS = torch.rand(30, 1, 28, 28), torch.arange(30) % 10


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=3), nn.Flatten(), nn.LazyLinear(10))


def work(model: nn.Module, x: Tensor, y: Tensor, weight: float) -> Tensor:
    loss = F.cross_entropy(model(x), y)
    torch.autograd.backward(loss * weight)
    return loss.detach() * len(y)


@given(st.integers(0, 50), st.integers(1, 9))
def test_parts_are_all_of_it_in_order_and_even(length: int, count: int) -> None:
    found = split(length, count)
    assert [n for part in found for n in range(part.start, part.stop)] == list(range(length))
    sizes = [part.stop - part.start for part in found]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("last", [30, 27, 2, 1])  # the last batch of an epoch may be smaller
def test_the_gradients_are_those_of_the_whole_batch(last: int) -> None:
    model = network()
    model(IMAGES)  # the lazy layer takes its shape
    batch = IMAGES[:last], LABELS[:last]
    expected = ThreadedDataParallel(model, 1).accumulate(work, *batch)
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    parallel = ThreadedDataParallel(model, 3)

    for _ in range(2):  # and nothing is left over for the next step
        model.zero_grad()
        torch.testing.assert_close(parallel.accumulate(work, *batch), expected)
        torch.testing.assert_close([parameter.grad for parameter in model.parameters()], gradients)


def test_the_statistics_are_those_of_the_whole_batch() -> None:
    whole, divided = (
        nn.Sequential(nn.BatchNorm2d(1, momentum=0.5), nn.Flatten(), nn.Linear(784, 10)) for _ in "ab"
    )
    parallel = ThreadedDataParallel(divided, 3)
    divided.load_state_dict(whole.state_dict())  # as from a checkpoint, once the replicas are there

    for _ in range(3):
        ThreadedDataParallel(whole, 1).accumulate(work, IMAGES, LABELS)
        parallel.accumulate(work, IMAGES, LABELS)

    torch.testing.assert_close(divided[0].running_mean, whole[0].running_mean)


def test_an_error_in_any_of_them_is_raised() -> None:
    def fails(model: nn.Module, x: Tensor, y: Tensor, weight: float) -> Tensor:
        if not torch.equal(x[0], IMAGES[0]):
            raise ValueError("in a thread")
        return work(model, x, y, weight)

    model = network()
    model(IMAGES)
    with pytest.raises(ValueError, match="in a thread"):
        ThreadedDataParallel(model, 2).accumulate(fails, IMAGES, LABELS)


@pytest.mark.parametrize(
    ("model", "batch", "processors", "count"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), 64, 2, 2),
        (nn.Conv2d(1, 2, 3), 64, 16, 4),  # parts of 16 images
        (nn.Conv2d(1, 2, 3), 31, 2, 1),
        (nn.Conv2d(1, 2, 3), 64, 1, 1),
        (nn.Linear(28, 2), 64, 2, 1),  # over before a thread is awake
        (MnistHogwildNet(), 64, 2, 1),  # dropout
    ],
)
def test_how_many_are_worth_it(model: nn.Module, batch: int, processors: int, count: int) -> None:
    before = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    assert worth_it(model, IMAGES[:2], batch, processors) == count
    assert torch.equal(torch.get_rng_state(), before[0])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[1][name])


def test_row_54_a_stopped_training_ends_with_the_weights_of_an_undisturbed_one(place: Place) -> None:
    settings = (*place.settings, "data.name=fashion-mnist-mini", "model.name=cnn")
    undisturbed = stop_and_resume(place, settings)

    means = undisturbed.record("train").means
    assert ("batches" in means) is ("1 thread" not in means["device"])
