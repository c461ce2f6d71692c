"""A pretend accelerator, which shows faults of GPU code on a machine without a GPU.

Tensors on it compute on the CPU, but refuse to meet CPU tensors, as CUDA tensors do. Inside `with entered():`,
`.to("pretend")` and `device="pretend"` work, trainers choose this device, and autograd, optimisers, autocast and
`GradScaler` work as on CUDA. The fixture `pretend` in `conftest.py` enters the device for a test.

The device is stricter than CUDA in four ways:

- A CPU tensor can't index a tensor on the device, because CUDA would copy it to the GPU at every step.
- Only scalars can be float64, as on MPS.
- A tensor on the device can't be pickled, because such a file doesn't open on a machine without the device.
- `module.to("pretend")` makes new parameters, so an optimiser must be built after it, as for a TPU.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.utils.backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode

from dassl.utils import devices

#: "privateuseone" is PyTorch's name of the device. `register` changes the name to "pretend".
DEVICE = torch.device("privateuseone", 0)
aten = torch.ops.aten
_COPIES = {aten._to_copy.default, aten.copy_.default}
#: Besides pointwise operations, these take a CPU tensor without dimensions.
_TAKE_SCALARS = {aten.fill_.Tensor, aten.masked_fill.Tensor, aten.masked_fill_.Tensor, aten.index_put_.default}
#: The operations that CUDA's autocast computes in half precision, and those that it computes in the arguments' widest
#: type. All other operations with a rule for autocast are computed in float32.
_IN_HALF = """
    _convolution _convolution.deprecated _scaled_dot_product_flash_attention _thnn_fused_gru_cell _thnn_fused_lstm_cell
    addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc conv_transpose1d
    conv_transpose2d.input conv_transpose3d.input convolution cudnn_convolution cudnn_convolution_transpose einsum
    gru_cell linalg_multi_dot linalg_vecdot linear lstm_cell matmul mm mv prelu rnn_relu_cell rnn_tanh_cell
    scaled_dot_product_attention
"""
_IN_WIDEST = "addcdiv addcmul atan2 bilinear cross dot grid_sampler index_put scatter_add tensordot vdot"


def is_supported() -> bool:
    """Return whether this version of PyTorch can have devices that are written in Python."""
    return hasattr(registration, "_setup_privateuseone_for_python_backend")


@contextlib.contextmanager
def entered() -> Iterator[torch.device]:
    """A context manager in which tensors can be on the device and `choose_device` prefers it to the CPU."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # so that `torch.tensor(values, device="pretend")` calls our mode
    try:
        with _PretendDevice(), mock.patch.object(devices, "best_device", return_value=DEVICE):
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


@functools.cache  # a process can have only one device of this kind, and the device can't be removed
def register() -> list[torch.library.Library]:
    """Register the device and its autocast rules in PyTorch. Call this before the first backward pass of a process.

    The rules exist as long as the returned objects.
    """
    module = registration._DummyBackendModule()  # becomes `torch.pretend`, which says that there is one such device
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    registration._setup_privateuseone_for_python_backend("pretend", backend_module=module)
    default, rules = (torch.library.Library(namespace, "IMPL", "AutocastPrivateUse1") for namespace in ("_", "aten"))
    default.fallback(torch.library.fallthrough_kernel)
    for full_name in torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"):
        library, name = full_name.split("::")
        if library == "aten":
            rules.impl(name, _autocast_rule(name))
    return [default, rules]


def _autocast_rule(name: str) -> Callable:
    """Return the function that casts the arguments of the operation `name` as CUDA's autocast does, and calls it."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(aten, packet), overload or "default")
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    in_half, in_widest = name in _IN_HALF.split(), name in _IN_WIDEST.split()

    def rule(*args: object, **kwargs: object) -> object:
        dtypes = {tensor.dtype for tensor in _tensors(args, kwargs)}
        in_lower = in_half or (in_widest and torch.float32 not in dtypes)
        dtype = torch.get_autocast_dtype(DEVICE.type) if in_lower else torch.float32

        def cast(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(dtype) if tensor.is_floating_point() and isinstance(tensor, PretendTensor) else tensor

        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return operation(*_map(cast, args), **_map(cast, kwargs))

    return rule


class PretendTensor(torch.Tensor):
    """A tensor that says it is on the pretend device. `inner` is the CPU tensor that holds its values."""

    __slots__ = ["inner"]
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "PretendTensor":
        if inner.dtype == torch.float64 and inner.dim():
            raise TypeError(f"the pretend device has no float64 tensors, but a tensor {tuple(inner.shape)} is float64")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def tolist(self) -> list | float:
        return self.inner.tolist()

    def __repr__(self) -> str:
        return f"PretendTensor({self.inner})"

    def __reduce_ex__(self, protocol: int) -> tuple:
        raise RuntimeError("a tensor on the pretend device would be written to a file. Move it to the CPU before")

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: "PretendTensor") -> None:
        torch.Tensor.data.__set__(self, value)
        self.inner = value.inner

    @classmethod
    def __torch_dispatch__(cls, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        return _compute(function, args, kwargs or {})


class _PretendDevice(TorchDispatchMode):
    """A mode in which factory functions and copies to the pretend device work."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would make each call slower

    def __torch_dispatch__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        return _compute(function, args, kwargs or {})


def _compute(function: Callable, args: tuple, kwargs: dict) -> object:
    """Call `function` on the CPU tensors in the arguments' tensors, and put the results on the pretend device."""
    tensors = _tensors(args, kwargs)
    on_device = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    if on_device and function not in _COPIES:
        _check(function, args, tensors)
    if (device := kwargs.get("device")) is not None and torch.device(device).type in (DEVICE.type, "cpu"):
        on_device = torch.device(device).type == DEVICE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    elif not on_device:
        return function(*args, **kwargs)
    result = function(*_map(_inner, args), **_map(_inner, kwargs))
    arguments = {id(_inner(tensor)): tensor for tensor in tensors}  # an operation in place returns its argument

    def outer(tensor: torch.Tensor) -> torch.Tensor:
        same = arguments.get(id(tensor))
        if same is None:
            return PretendTensor(tensor) if on_device else tensor
        if same.shape != tensor.shape:
            raise NotImplementedError(f"{function} changes a shape in place, which the pretend device can't do")
        return same

    return _map(outer, result)


def _check(function: Callable, args: tuple, tensors: list[torch.Tensor]) -> None:
    """Raise RuntimeError if CUDA would refuse these arguments, at least one of which is on the device."""
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    if on_cpu:
        takes_scalars = torch.Tag.pointwise in function.tags or function in _TAKE_SCALARS
        writes_to_cpu = function._schema.is_mutable and not isinstance(args[0], PretendTensor)
        if writes_to_cpu or not takes_scalars or any(tensor.dim() for tensor in on_cpu):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in on_cpu)
            raise RuntimeError(f"{function}: some tensors are on the pretend device, others on the CPU: {shapes}")
    if function is aten.native_layer_norm.default and len({tensor.dtype for tensor in tensors}) > 1:
        raise RuntimeError(f"{function}: CUDA needs one dtype, not {', '.join(str(t.dtype) for t in tensors)}")


def _inner(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.inner if isinstance(tensor, PretendTensor) else tensor


def _tensors(args: tuple, kwargs: dict) -> list[torch.Tensor]:
    """Return all tensors in the arguments of a call."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(tuple(value), {})
    return found


def _map(change: Callable[[torch.Tensor], object], value: object) -> object:
    """Return `value`, with every tensor in nested lists, tuples and dicts replaced by the result of `change`."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)([_map(change, item) for item in value])
    if isinstance(value, dict):
        return {key: _map(change, item) for key, item in value.items()}
    return value
