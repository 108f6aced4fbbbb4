"""Recording the torch functions that a black box calls."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.networks.incremental.trace import UntraceableError

_METADATA = {  # results that do not depend on a tensor's values
    "__get__", "__hash__", "__len__", "data_ptr", "dim", "element_size", "get_device",
    "is_complex", "is_contiguous", "is_floating_point", "is_same_size", "ndimension", "nelement",
    "numel", "size", "storage_offset", "stride",
}  # fmt: skip
_NEW = {
    "new_tensor", "new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like",
    "full_like", "empty_like",
}  # fmt: skip
# of the second one they read shape and dtype
_LIKE = {"to", "type_as", "expand_as", "view_as", "reshape_as"}


@final
@dataclass(eq=False)
class GraphRecorder(TorchFunctionMode):
    """Records a graph while a black box runs its own Python code.

    Args:
        images: (B, C, H, W), what the black box is queried with.
    """

    images: Images
    graph: fx.Graph = field(default_factory=fx.Graph)
    failure: str | None = None

    def __post_init__(self) -> None:
        """Start with the node of the images."""
        super().__init__()
        self.values: dict[fx.Node, Tensor | None] = {}
        self.nodes: dict[int, fx.Node] = {}
        self.alive: list[Tensor] = []  # an id is unique only as long as its owner lives
        self.depends: set[fx.Node] = set()
        self.images = self.images.clone()
        self.image = self._enter(self.graph.placeholder("image"), self.images)
        self.depends.add(self.image)
        self.logits = self.image

    def run(self, black_box: BlackBox) -> None:
        """Query the black box.

        Raises:
            UntraceableError: The graph does not say how the logits are computed.
        """
        with torch.no_grad(), self:
            logits = black_box.logits(self.images)
        if id(logits) not in self.nodes:
            self.failure = self.failure or "the logits were not made by torch functions"
        if self.failure:
            raise UntraceableError(self.failure)
        self.logits = self.nodes[id(logits)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record one call."""
        kwargs = kwargs or {}
        arguments = tree_map_only(Tensor, self._node_of, (tuple(args), dict(kwargs)))
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        depends = reads_any(name, arguments, self.depends)
        tensors = result if isinstance(result, tuple | list) else (result,)
        if not any(isinstance(t, Tensor) for t in tensors):
            if depends and name not in _METADATA:
                self.failure = self.failure or f"{name} reads values that depend on the image"
        elif isinstance(result, Tensor):
            self._add(func, arguments, result, depends)
        elif all(isinstance(t, Tensor) for t in tensors):
            node = self._add(func, arguments, None, depends)
            for index, tensor in enumerate(tensors):
                self._add(operator.getitem, ((node, index), {}), tensor, depends)
        else:
            self.failure = self.failure or f"{name} returns tensors and something else"
        return result

    def _add(
        self, func: Callable[..., Any], arguments: Any, value: Tensor | None, depends: bool
    ) -> fx.Node:
        node = self._enter(self.graph.call_function(func, *arguments), value)
        if depends:
            self.depends.add(node)
        return node

    def _enter(self, node: fx.Node, value: Tensor | None) -> fx.Node:
        self.values[node] = value
        if value is not None:
            # of an in-place call: from now on the tensor is this node's value
            self.nodes[id(value)] = node
            self.alive.append(value)
        return node

    def _node_of(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.nodes:
            name = f"constant_{len(self.nodes)}"
            self._enter(self.graph.create_node("placeholder", name), tensor)
        return self.nodes[id(tensor)]


def reads_any(name: str, arguments: tuple[Any, Any], nodes: set[fx.Node]) -> bool:
    """Does a call read the values of one of these nodes?

    Args:
        name: Of the torch function.
        arguments: Its positional and keyword arguments.
        nodes: The nodes in question.
    """
    read = tree_leaves(arguments[0][:1] if name in _LIKE else arguments)
    return name not in _NEW and any(isinstance(x, fx.Node) and x in nodes for x in read)
