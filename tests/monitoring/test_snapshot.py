"""Copies of a state: equal, independent, shared where it was shared, and no larger than needed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spectral_mlflow.monitoring.snapshot import Snapshot

SLICES = st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(0, 7), st.integers(1, 8))


def bytes_of(*tensors: Tensor) -> int:
    """Of their storages, each once."""
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@pytest.mark.parametrize("copy", [True, False])
@given(slices=st.lists(SLICES, min_size=1, max_size=4), turned=st.booleans())
def test_views_are_equal_and_share_as_before(copy: bool, slices: list[tuple[int, ...]], turned: bool) -> None:
    """Any views of one storage come back with their values, and what is written into one shows in the others."""
    base = torch.arange(48.0).view(6, 8)
    views = [base[a : a + b, c : c + d] for a, b, c, d in slices]
    views = [view.T for view in views] if turned else views
    taken = Snapshot(copy=copy).take({"views": views})["views"]
    assert [view.tolist() for view in taken] == [view.tolist() for view in views]
    assert bytes_of(*taken) <= base.nbytes
    if not copy:
        taken = Snapshot().take({"views": taken})["views"]
    for view, original in zip(taken, views, strict=True):
        view += 100
        original += 100
        assert [view.tolist() for view in taken] == [view.tolist() for view in views]


def test_memory_is_used_again_and_is_its_own() -> None:
    """A second copy is made into the memory of the first; what training changes afterwards is in neither."""
    model = nn.Linear(4, 3)
    snapshot = Snapshot()
    first = snapshot.take(model.state_dict())
    places = [tensor.data_ptr() for tensor in first.values()]
    values = model.weight.tolist()
    with torch.no_grad():
        model.weight += 1
    assert first["weight"].tolist() == values
    second = snapshot.take(model.state_dict())
    assert [tensor.data_ptr() for tensor in second.values()] == places
    assert second["weight"].tolist() == model.weight.tolist()


def test_memory_is_found_again_in_another_order() -> None:
    """A state that has grown or is told in another order takes new memory only for what is new."""
    snapshot = Snapshot()
    first = snapshot.take({"a": torch.ones(5), "b": torch.ones(7)})
    before = {tensor.data_ptr() for tensor in first.values()}
    second = snapshot.take({"new": torch.zeros(3), "b": torch.zeros(7), "a": torch.zeros(5)})
    assert {second["a"].data_ptr(), second["b"].data_ptr()} == before


def test_tied_weights_stay_tied() -> None:
    """Two names of one tensor have one storage in the copy."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    taken = Snapshot().take(model.state_dict())
    assert taken["0.weight"].data_ptr() == taken["1.weight"].data_ptr()


@pytest.mark.parametrize(
    ("views", "numbers"),
    [
        (lambda base: [base[3:5]], 200),
        (lambda base: [base[:, 0]], 1000),
        (lambda base: [base[3:5], base[900:902]], 400),
        (lambda base: [base[3:5], base[4:6]], 300),
        (lambda base: [base[0, 0], base[0, 0]], 1),
        (lambda base: [base[0, :1].expand(50)], 1),
        (lambda base: [base[:0]], 0),
    ],
    ids=["rows", "column", "two places", "overlapping", "one number twice", "expanded", "empty"],
)
def test_small_view_does_not_drag_its_storage_along(views: object, numbers: int) -> None:
    """What no tensor of the state shows is not copied; tensors of one storage still share one."""
    base = torch.randn(1000, 100)
    given_views = views(base)  # type: ignore[operator]
    taken = Snapshot().take({"views": given_views})["views"]
    assert [view.tolist() for view in taken] == [view.tolist() for view in given_views]
    assert bytes_of(*taken) == 4 * numbers
    assert len({view.untyped_storage().data_ptr() for view in taken}) == 1


@pytest.mark.parametrize("dtype", [
    torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool, torch.complex64, torch.uint16,
    torch.float8_e4m3fn,
], ids=str)  # fmt: skip
def test_types_and_shapes_stay(dtype: torch.dtype) -> None:
    """A tensor of any type, also one number and none, is what it was."""
    for shape in ((2, 3), (), (0, 4)):
        value = torch.ones(shape).to(dtype)
        taken = Snapshot().take({"value": value})["value"]
        assert (taken.dtype, taken.shape) == (dtype, value.shape)
        assert taken.to(torch.complex64).tolist() == value.to(torch.complex64).tolist()


def test_storage_seen_as_two_types() -> None:
    """The file format has no such thing: each type gets a storage of its own, and both their values."""
    base = torch.randn(6)
    taken = Snapshot().take({"floats": base, "bits": base.view(torch.int32)})
    assert torch.equal(taken["floats"], base)
    assert torch.equal(taken["bits"], base.view(torch.int32))


def test_lazy_and_sparse_tensors() -> None:
    """Conjugates are computed and sparse tensors copied."""
    value = torch.tensor([1 + 2j, 3j])
    sparse = torch.eye(3).to_sparse()
    state = {"conjugate": value.conj(), "sparse": sparse}
    taken = Snapshot().take(state)
    assert taken["conjugate"].tolist() == [1 - 2j, -3j]
    assert not taken["conjugate"].is_conj()
    assert torch.equal(taken["sparse"].to_dense(), torch.eye(3))


def test_without_copies_the_memory_is_that_of_the_state() -> None:
    """For a state that nobody changes meanwhile, whole tensors are taken as they are; parts are still copied."""
    base = torch.randn(10, 10)
    taken = Snapshot(copy=False).take({"whole": base, "transposed": base.T, "other": torch.randn(50)[:5]})
    assert taken["whole"].data_ptr() == taken["transposed"].data_ptr() == base.data_ptr()
    assert bytes_of(taken["other"]) == 20


class Foreign(torch.Tensor):
    """A tensor type of somebody else."""


@pytest.mark.parametrize(
    "value",
    [torch.ones(2).as_subclass(Foreign), torch.ones(2, device="meta"), object()],
    ids=["foreign", "meta", "object"],
)
def test_tensor_that_could_not_be_loaded_is_refused(value: object) -> None:
    """By its place, and the snapshot still works afterwards."""
    snapshot = Snapshot()
    with pytest.raises(TypeError, match=r"checkpoint\.state\[1\]: a \w+ cannot be kept"):
        snapshot.take({"state": [torch.ones(2), value]})
    assert snapshot.take({"a": torch.ones(2)})["a"].tolist() == [1, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_of_a_gpu_come_to_pinned_memory() -> None:
    """They are on the CPU, pinned, complete when the call returns, and not changed by what the GPU does next."""
    snapshot = Snapshot()
    value = torch.zeros(1 << 22, device="cuda")
    for number in range(3):
        value.fill_(number)
        taken = snapshot.take({"value": value, "part": value[5:9]})
        value.fill_(-1)
        assert taken["value"].is_pinned()
        assert taken["value"].unique().tolist() == [number]
        assert taken["part"].data_ptr() == taken["value"][5:].data_ptr()


@given(st.lists(st.sampled_from(["train", "grow", "tie", "untie", "move", "transpose", "drop"]), max_size=6))
def test_any_sequence_of_states_is_copied_as_the_first(changes: list[str]) -> None:
    """Whatever happens to a state between two copies, the second is what a new snapshot would take."""
    state: dict[str, Tensor] = {"a": torch.randn(4, 4), "b": torch.randn(4, 4), "random": torch.randn(7)}
    snapshot = Snapshot()
    snapshot.take(state)
    for number, change in enumerate(changes):
        state["random"] = torch.randn(7)  # Another tensor each time, as the states of random generators are.
        if change == "train":
            state["a"] += 1
        elif change == "grow":
            state[f"new {number}"] = torch.randn(number + 1)
        elif change == "tie":
            state["b"] = state["a"]
        elif change == "untie":
            state["b"] = state["a"].clone()
        elif change == "move":
            state["a"] = state["a"].clone()
        elif change == "transpose":
            state["a"] = state["a"].T
        elif len(state) > 3:
            state.popitem()
        taken, expected = snapshot.take(state), Snapshot().take(state)
        assert taken.keys() == expected.keys()
        assert all(torch.equal(taken[name], expected[name]) for name in state)
        assert bytes_of(*taken.values()) == bytes_of(*expected.values())
        assert not {v.data_ptr() for v in taken.values()} & {v.data_ptr() for v in state.values()}
