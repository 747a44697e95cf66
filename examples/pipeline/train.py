"""Train; save a checkpoint after each epoch, and resume from it."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from spirals import network, points

MODEL = Path("model")
CHECKPOINT = MODEL / "checkpoint.pt"

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--noise", type=float, default=0.15)
arguments = parser.parse_args()
# Kubernetes asks a Pod to end with SIGTERM; the checkpoint of the last epoch is complete
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("stopped; the same command resumes"))

torch.manual_seed(0)
torch.set_num_threads(1)
MODEL.mkdir(exist_ok=True)
positions, labels = points(500, arguments.noise, seed=0)
model = network()
optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)
epoch, loss = 0, float("nan")
if CHECKPOINT.exists():
    state = torch.load(CHECKPOINT)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    epoch, loss = state["epoch"], state["loss"]
    print(f"resumes after epoch {epoch}", flush=True)

while epoch < arguments.epochs:
    generator = torch.Generator().manual_seed(epoch)  # the same order, whether resumed or not
    for batch in torch.randperm(len(labels), generator=generator).split(50):
        loss_of_batch = cross_entropy(model(positions[batch]), labels[batch])
        optimizer.zero_grad()
        loss_of_batch.backward()
        optimizer.step()
        loss = loss_of_batch.item()
    epoch += 1
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "loss": loss}
    torch.save(state, CHECKPOINT.with_suffix(".new"))
    os.replace(CHECKPOINT.with_suffix(".new"), CHECKPOINT)  # complete, or the one before
    if epoch % 5 == 0:
        print(f"epoch {epoch}/{arguments.epochs}  loss {loss:.4f}", flush=True)

torch.save(model.state_dict(), MODEL / "model.pt")
(MODEL / "train.json").write_text(json.dumps({"loss": loss, "epochs": epoch}))
