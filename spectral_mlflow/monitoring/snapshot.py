"""Copies of a state that training may go on changing, in memory that is kept from one copy to the next."""

from __future__ import annotations

import ctypes
import threading
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectral_mlflow.monitoring.plain import Leaf, plain

_PIECE = 1 << 20  # Bytes: enough to be worth a call, and few enough to be shared evenly.
_Piece = tuple[int, int, int]  # Addresses to copy to and from, and bytes.
_Layout = tuple[int, torch.Size, tuple[int, ...], torch.dtype]


@dataclass
class _View:
    """A tensor of the state and its copy, which gets its memory once all views of the storage are known.

    ``start`` and ``end`` are places in the storage of the tensor, in elements.
    """

    source: Tensor
    copy: Tensor
    start: int
    end: int


class _AnotherLayoutError(Exception):
    """A tensor cannot be copied as the one in its place was."""


@dataclass(frozen=True)
class _Planned:
    """A tensor of the last state: where it was, its copy, and whether that shares its memory with no other."""

    layout: _Layout
    copy: Tensor
    alone: bool


@dataclass(frozen=True)
class _Plan:
    """How the last state was copied: the next one mostly has its tensors in the same places.

    ``tensors`` are in the order of the state.
    """

    tensors: list[_Planned]

    def follow(self, state: Mapping[str, Any], other: Leaf, place: str) -> tuple[dict[str, Any], list[_Piece]] | None:
        """The state with the copies of its tensors, and the pieces of memory to copy; None where it does not fit."""
        ahead, pieces, taken = iter(self.tensors), list[_Piece](), set(self._places())

        def leaf(value: Any, place: str) -> Any:
            if not _is_plain(value):
                return other(value, place)
            planned, layout = next(ahead, None), _layout(value)
            if planned is None or layout is None or layout[1:] != planned.layout[1:]:
                raise _AnotherLayoutError
            if layout[0] != planned.layout[0]:  # Made anew, as the states of random generators are.
                if not planned.alone or layout[0] in taken or value.nbytes != value.untyped_storage().nbytes():
                    raise _AnotherLayoutError
                taken.add(layout[0])
            pieces.extend(_pieces(value, planned.copy))
            return planned.copy

        try:
            content = dict(plain(state, leaf, place))
        except _AnotherLayoutError:
            return None
        return (content, pieces) if next(ahead, None) is None else None

    def _places(self) -> Iterator[int]:
        return (planned.layout[0] for planned in self.tensors)


class Snapshot:
    """Reduces a state to what ``torch.load(weights_only=True)`` takes, with tensors of its own on the CPU.

    Tensors that share memory share it in the copy too. Of a storage only the parts that tensors of the state show are
    copied, so that a small view does not drag a large storage along. A storage seen as two types becomes two: the file
    format has no others.
    """

    def __init__(self, *, copy: bool = True) -> None:
        """Make one without memory.

        Args:
            copy: False uses the tensors themselves where they are whole and on the CPU, and keeps no memory: for a
                state that nobody changes before it is written.
        """
        self._copy = copy
        self._free: dict[Hashable, list[Tensor]] = {}
        self._used: dict[Hashable, list[Tensor]] = {}
        self._views: list[_View] = []
        self._pieces: list[_Piece] = []
        self._tensors: list[tuple[_Layout | None, Tensor]] = []
        self._plan: _Plan | None = None

    def take(self, state: Mapping[str, Any], place: str = "checkpoint") -> dict[str, Any]:
        """Copy a state; the copy before is overwritten.

        Args:
            state: tensors, arrays and plain values, in any nesting.
            place: what to call it in messages.

        Raises:
            TypeError: a value that could not be loaded again, by its dotted name.
        """
        if self._plan is not None:
            followed = self._plan.follow(state, self._leaf, place)
            if followed is not None:
                taken, pieces = followed
                _copy(pieces, torch.get_num_threads())
                return taken
        return self._take_anew(state, place)

    def _take_anew(self, state: Mapping[str, Any], place: str) -> dict[str, Any]:
        self._plan = None
        self._free, self._used = self._used, defaultdict(list)
        self._views, self._pieces, self._tensors = [], [], []
        try:
            taken = dict(plain(state, self._leaf, place))
            for views in _by_storage(self._views):
                self._place(views)
            _copy(self._pieces, torch.get_num_threads())
            for device in {view.source.device for view in self._views if view.source.is_cuda}:
                torch.cuda.current_stream(device).synchronize()
            self._plan = self._planned()
        finally:
            self._free, self._views, self._pieces, self._tensors = (
                {},
                [],
                [],
                [],
            )  # What a smaller state no longer needs is given back.
        if not self._copy:
            self._used = {}
        return taken

    def _planned(self) -> _Plan | None:
        """How to copy such a state again, if every tensor was copied as it lies."""
        known = [(layout, copy) for layout, copy in self._tensors if layout is not None]
        if not self._copy or len(known) < len(self._tensors):
            return None
        owners = Counter(copy.untyped_storage().data_ptr() for _, copy in known)
        return _Plan([_Planned(at, copy, owners[copy.untyped_storage().data_ptr()] == 1) for at, copy in known])

    def _leaf(self, value: Any, place: str) -> Any:
        if _is_plain(value):
            copy = self._tensor(value)
            self._tensors.append((_layout(value), copy))
            return copy
        if isinstance(value, (torch.dtype, torch.device)):
            return value
        if isinstance(value, np.ndarray):
            try:
                return torch.from_numpy(value.copy())
            except TypeError:  # Texts, objects, foreign byte order.
                return plain(value.tolist(), self._leaf, place)
        raise TypeError(
            f"{place}: a {type(value).__name__} cannot be kept in a checkpoint; "
            "give numbers, texts, tensors, arrays, and lists and dictionaries of these"
        )

    def _tensor(self, value: Tensor) -> Tensor:
        source = value.detach().resolve_conj().resolve_neg()
        if source.layout is not torch.strided or source.is_quantized:
            return source.cpu().clone()
        copy = torch.empty(0, dtype=source.dtype, device="cpu")
        start = int(source.storage_offset())
        extent = 1 + sum((size - 1) * stride for size, stride in zip(source.shape, source.stride(), strict=True))
        self._views.append(_View(source, copy, start, start + (int(extent) if source.numel() else 0)))
        return copy

    def _place(self, views: list[_View]) -> None:
        """Give the copies of all views of one storage their memory, and their values."""
        spans = _spans(views)
        first = views[0].source
        if not self._copy and first.device.type == "cpu" and _length(spans) == _elements(first):
            for view in views:
                view.copy.set_(first.untyped_storage(), view.start, view.source.shape, view.source.stride())
            return
        memory = self._memory(_length(spans), first)
        place = 0
        for span in spans:
            self._fill(memory, place, span)
            place += _needed(span)

    def _fill(self, memory: Tensor, place: int, span: list[_View]) -> None:
        count = _needed(span)
        target, start = memory[place : place + count], span[0].start
        if _is_loose(span):
            view = span[0]
            target = target.view(view.source.shape)
            target.copy_(view.source, non_blocking=view.source.is_cuda)
            view.copy.set_(memory.untyped_storage(), place, view.source.shape, target.stride())
            return
        source = span[0].source.as_strided((count,), (1,), start)
        if source.device.type == "cpu":
            self._pieces += _pieces(source, target)
        else:
            target.copy_(source, non_blocking=source.is_cuda)  # Of other devices nobody waits for the end.
        for view in span:
            offset = place + view.start - start
            view.copy.set_(memory.untyped_storage(), offset, view.source.shape, view.source.stride())

    def _memory(self, count: int, source: Tensor) -> Tensor:
        """Memory of that many elements: some of the copy before, or new. Pinned, the copy does not stop the device."""
        pinned = source.is_cuda and self._copy
        key = (count, source.dtype, pinned)
        free = self._free.get(key)
        memory = free.pop() if free else torch.empty(count, dtype=source.dtype, device="cpu", pin_memory=pinned)
        self._used[key].append(memory)
        return memory


def _is_plain(value: object) -> bool:
    return type(value) in (Tensor, torch.nn.Parameter) and not value.is_meta  # type: ignore[attr-defined]


def _layout(tensor: Tensor) -> _Layout | None:
    """Where the numbers of a tensor are; None where they cannot be copied as they lie, without gaps."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return None
    if tensor.is_conj() or tensor.is_neg() or not tensor.is_contiguous():
        return None
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _pieces(source: Tensor, target: Tensor) -> Iterator[_Piece]:
    start, end = source.data_ptr(), target.data_ptr()
    for offset in range(0, source.nbytes, _PIECE):
        yield end + offset, start + offset, min(_PIECE, source.nbytes - offset)


def _copy(pieces: list[_Piece], threads: int) -> None:
    """Copy all pieces of memory, each by whichever thread is free.

    Torch's own copy has its threads wait for each other at every tensor, and takes ten times as long where something
    else needs a core, such as the writer of the checkpoint before. Here the caller does what the others do not.
    """
    remaining = iter(pieces)

    def work() -> None:
        for piece in remaining:  # Each piece goes to one thread: the iterator of a list is atomic.
            ctypes.memmove(*piece)  # Without the interpreter's lock.

    helpers = [threading.Thread(target=work) for _ in range(min(threads, len(pieces)) - 1)]
    for helper in helpers:
        helper.start()
    try:
        work()
    finally:
        for helper in helpers:  # They know addresses, which do not keep the memory there.
            helper.join()


def _by_storage(views: list[_View]) -> list[list[_View]]:
    groups: dict[Hashable, list[_View]] = defaultdict(list)
    for view in views:
        storage = view.source.untyped_storage()
        groups[(storage.device, storage.data_ptr(), storage.nbytes(), view.source.dtype)].append(view)
    return list(groups.values())


def _spans(views: list[_View]) -> list[list[_View]]:
    """The views of a storage in its order, those that overlap together."""
    spans: list[list[_View]] = []
    end = -1
    for view in sorted(views, key=lambda view: view.start):
        if view.start < end:
            spans[-1].append(view)
        else:
            spans.append([view])
        end = max(end, view.end)
    return spans


def _is_loose(span: list[_View]) -> bool:
    """Whether this is one view with gaps, such as a column of a matrix, which is copied without them."""
    return len(span) == 1 and span[0].source.numel() < span[0].end - span[0].start


def _needed(span: list[_View]) -> int:
    return span[0].source.numel() if _is_loose(span) else max(view.end for view in span) - span[0].start


def _length(spans: list[list[_View]]) -> int:
    return sum(map(_needed, spans))


def _elements(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()
