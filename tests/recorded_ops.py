"""A stand-in for CUDA graphs on the CPU: `OpCapture` records torch's operations and replays them without Python code.

Like a CUDA graph, a recording changes no tensor that existed before. A replay uses the recorded tensors and numbers. An
operation that would make the CPU wait for a GPU can't be recorded.
"""

import contextlib
import sys
from pathlib import Path

import torch
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
#: Operations that copy a value to Python, or whose result's size depends on values.
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten._unique2.default, aten.unique_dim.default}


def storage(tensor):
    return tensor.untyped_storage().data_ptr()


def tensors(value):
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor) and leaf.numel()]


class Waits(TorchDispatchMode):
    """Notes the place of the first operation that would wait for a GPU."""

    place = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in WAITS and not self.place:
            frame = sys._getframe(1)
            while "torch" in Path(frame.f_code.co_filename).parts or frame.f_code.co_filename == __file__:
                frame = frame.f_back
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        return func(*args, **kwargs or {})


class Recording(TorchDispatchMode):
    """Records operations. At the end, `restore` undoes their effect on tensors that existed before."""

    def __init__(self):
        super().__init__()
        self.operations, self.made, self.before = [], set(), {}
        self.changed = []  # tensors that existed before and are changed by an operation

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        for number, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(args[number] if number < len(args) else kwargs.get(argument.name))
        results = func(*args, **kwargs)
        self.made |= {storage(made) for made in tensors(results)} - {
            storage(given) for given in tensors((args, kwargs))
        }
        self.operations.append((func, args, kwargs, [made.detach() for made in tensors(results)]))
        return results

    def _keep(self, value):
        for tensor in tensors(value):
            if storage(tensor) in self.made:
                continue
            self.changed.append(tensor)
            if storage(tensor) not in self.before:
                self.before[storage(tensor)] = tensor.untyped_storage(), tensor.untyped_storage().clone()

    def restore(self):
        for now, before in self.before.values():
            now.copy_(before)

    @torch.no_grad()
    def replay(self):
        """Repeat the operations. As in a CUDA graph, the version counters of tensors that existed before stay."""
        with contextlib.ExitStack() as stack:
            for tensor in self.changed:
                stack.enter_context(_unsafe_preserve_version_counter(tensor))
            for func, args, kwargs, recorded in self.operations:
                for old, new in zip(recorded, tensors(func(*args, **kwargs)), strict=True):
                    if storage(old) != storage(new):
                        old.copy_(new)


class OpCapture:
    """Implements `Capture`. `calls` lists what was done: warm up, record, replay."""

    calls: list[str]  # of the last capture that was made

    def __init__(self):
        OpCapture.calls = self.calls = []

    def warm_up(self, work):
        self.calls.append("warm up")
        with Waits() as waits:
            return work(), waits.place

    def record(self, work):
        self.calls.append("record")
        recording = Recording()
        with torch.random.fork_rng(devices=[]):
            try:
                with recording:
                    result = work()
            finally:
                recording.restore()

        def replay():
            self.calls.append("replay")
            recording.replay()
            return result

        return replay
