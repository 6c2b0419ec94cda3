"""Train the story model on one CPU core: bf16 weights with an fp32 master copy, Muon and AdamW.

python train.py --data build --out build/run --minutes 60
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from corpus.documents import STAGES
from corpus.markup import SETTING_WEIGHT
from model import ModelConfig, Storyteller
from optimizer import Muon
from prepare import WEIGHT_SCALE

BATCH_TOKENS = 4096
WARMUP = 0.02  # share of the run
LONG_ROWS_FROM = 0.85  # share of the run after which rows are long
EVALUATIONS = 20


class Rows:
    """Packed rows, read in order and from the start again when they are used up."""

    def __init__(self, path: Path) -> None:
        archive = np.load(path)
        self.arrays = [archive[key] for key in ("tokens", "weights", "documents")]
        self.length = self.arrays[0].shape[1] - 1
        self.position = 0
        self.epoch = 0

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs, document numbers, targets and weights."""
        count = BATCH_TOKENS // self.length
        if self.position + count > len(self.arrays[0]):
            self.position, self.epoch = 0, self.epoch + 1
        span = slice(self.position, self.position + count)
        self.position += count
        tokens, weights, documents = (torch.from_numpy(array[span]) for array in self.arrays)
        tokens = tokens.long()
        return (
            tokens[:, :-1].contiguous(),
            documents[:, :-1].contiguous(),
            tokens[:, 1:].contiguous(),
            weights[:, 1:].float() / WEIGHT_SCALE,
        )


def learning_rate_share(progress: float, flat: float) -> float:
    """Linear warm-up, a flat part, and a linear decay to zero."""
    return max(0.02, min(1.0, progress / WARMUP, (1 - progress) / (1 - flat)))


@torch.no_grad()
def validate(model: Storyteller, path: Path, batches: int = 6) -> dict[str, float]:
    """Loss, and accuracy on repeated entities ("copy") and on phrases of the setting."""
    rows = Rows(path)
    loss = total = 0.0
    hits = {"copy": 0, "setting": 0}
    counts = {"copy": 0, "setting": 0}
    marks = {
        "copy": torch.tensor([stage.copy_weight for stage in STAGES.values()]),
        "setting": torch.tensor([SETTING_WEIGHT]),
    }
    for _ in range(batches):
        tokens, documents, targets, weights = rows.batch()
        logits = model(tokens, documents).float()
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        learned = weights.flatten() > 0
        loss += losses[learned].sum().item()
        total += learned.sum().item()
        right = logits.argmax(-1) == targets
        for name, values in marks.items():
            chosen = torch.isin(weights, values)
            hits[name] += int(right[chosen].sum())
            counts[name] += int(chosen.sum())
    result = {name: round(hits[name] / counts[name], 4) for name in hits}
    return {"loss": round(loss / total, 4), **result}


def compile_loss(model: Storyteller) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The compiled weighted loss of one batch."""

    def loss(tokens: Tensor, documents: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        logits = model(tokens, documents).flatten(0, 1).float()
        losses = functional.cross_entropy(logits, targets.flatten(), reduction="none")
        weights = weights.flatten()
        return (losses * weights).sum() / weights.sum()

    return torch.compile(loss, dynamic=False)


def train(args: argparse.Namespace) -> None:
    """Run the schedule, log, and write a checkpoint at every evaluation."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    config = ModelConfig()
    model = Storyteller(config)
    if args.init:
        model.load_state_dict(torch.load(args.init)["weights"])
    names = [name for name, _ in model.named_parameters()]
    masters = [parameter.detach().clone() for parameter in model.parameters()]
    model.bfloat16()
    parameters = list(model.parameters())
    is_matrix = [m.dim() == 2 and "embedding" not in n for n, m in zip(names, masters, strict=True)]
    matrices = [m for m, flag in zip(masters, is_matrix, strict=True) if flag]
    others = [m for m, flag in zip(masters, is_matrix, strict=True) if not flag]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    loss_of = compile_loss(model)
    short, long = Rows(args.data / "short.npz"), Rows(args.data / "long.npz")
    args.out.mkdir(parents=True, exist_ok=True)
    log = (args.out / "log.jsonl").open("a")
    print(f"{sum(master.numel() for master in masters):,} parameters", flush=True)

    started, step, tokens_seen, average = time.time(), 0, 0, None
    next_evaluation, next_print = 0.0, 0.0
    while True:
        elapsed = time.time() - started
        progress = elapsed / (60 * args.minutes)
        if progress >= min(next_evaluation, 1.0):
            next_evaluation += 1 / EVALUATIONS
            entry = {"step": step, "tokens": tokens_seen, "seconds": round(elapsed)}
            entry |= {"train": average, **validate(model, args.data / "validation.npz")}
            print(json.dumps(entry), flush=True)
            log.write(json.dumps(entry) + "\n")
            log.flush()
            weights = dict(zip(names, masters, strict=True))
            torch.save({"config": asdict(config), "weights": weights}, args.out / "model.pt")
        if progress >= 1:
            return
        tokens, documents, targets, weights = (long if progress > LONG_ROWS_FROM else short).batch()
        loss = loss_of(tokens, documents, targets, weights)
        loss.backward()
        for parameter, master in zip(parameters, masters, strict=True):
            master.grad = parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        share = learning_rate_share(progress, args.flat)
        adam.param_groups[0]["lr"] = args.adam_rate * share
        adam.step()
        muon.step(args.muon_rate * share)
        with torch.no_grad():
            torch._foreach_copy_(parameters, masters)
        value = loss.item()
        average = value if average is None else 0.98 * average + 0.02 * value
        step += 1
        tokens_seen += int((documents > 0).sum())
        if elapsed > next_print:
            next_print = elapsed + 30
            rate = tokens_seen / max(elapsed, 1)
            print(f"{elapsed:.0f}s step {step} loss {average:.4f} {rate:.0f} tokens/s", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("build"))
    parser.add_argument("--out", type=Path, default=Path("build/run"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--init", type=Path, help="a checkpoint to start from")
    parser.add_argument("--muon-rate", type=float, default=8e-3)
    parser.add_argument("--adam-rate", type=float, default=6e-3)
    parser.add_argument("--flat", type=float, default=0.45, help="share at the full rate")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
