"""PyTorch: eager, compiled, or with bfloat16 autocast; SGD in one fused call for all parameters."""

from __future__ import annotations

import contextlib
import itertools

import torch

from benchmarks.cases import Array, Case


class Torch:
    def __init__(
        self, case: Case, threads: int, compiled: bool = False, autocast: bool = False
    ) -> None:
        self.thread_choices = (1, threads) if threads > 1 else (threads,)
        self.use_threads(threads)
        layers: list[torch.nn.Module] = []
        for k, n in itertools.pairwise(case.layer_sizes):
            layers += [torch.nn.Linear(k, n), torch.nn.ReLU()]
        self._dtype = getattr(torch, case.dtype)
        self._net = torch.nn.Sequential(*layers[:-1]).to(self._dtype)
        self._linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        self._batch_size = case.batch_size
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=case.learning_rate, fused=True)
        self._autocast = autocast
        self._objective = torch.compile(self._loss) if compiled else self._loss
        self._forward = torch.compile(self._net) if compiled else self._net

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self._net(x), y)

    def _precision(self):
        if self._autocast:
            return torch.autocast("cpu", dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def set_data(self, X: Array, y: Array) -> None:
        self._X, self._y = torch.from_numpy(X), torch.from_numpy(y)

    def set_parameters(self, parameters: list[Array]) -> None:
        with torch.no_grad():
            for layer, p in zip(self._linear, parameters, strict=True):
                layer.weight.copy_(torch.from_numpy(p[:, :-1]))
                layer.bias.copy_(torch.from_numpy(p[:, -1]))

    def get_parameters(self) -> list[Array]:
        with torch.no_grad():
            return [
                torch.column_stack([layer.weight, layer.bias]).numpy() for layer in self._linear
            ]

    def epoch(self, order: Array) -> float:
        losses = []
        for batch in torch.from_numpy(order).split(self._batch_size):
            x, y = self._X.index_select(0, batch), self._y.index_select(0, batch)
            if self._autocast:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = self._objective(x, y)
            else:
                loss = self._objective(x, y)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def predict(self, X: Array) -> Array:
        with torch.inference_mode(), self._precision():
            return self._forward(torch.from_numpy(X)).argmax(1).numpy()

    def predict_proba(self, X: Array) -> Array:
        with torch.inference_mode(), self._precision():
            f = self._forward(torch.from_numpy(X))
            return torch.softmax(f, 1, dtype=self._dtype).numpy()
