"""Data-parallel training with DistributedDataParallel over gloo; resumes from its checkpoint."""

import argparse
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

CHECKPOINT = Path("checkpoint.pt")

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
arguments = parser.parse_args()

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
print(f"process {rank} of {world} is there", flush=True)

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(800, 10, generator=generator)
targets = inputs @ torch.arange(10.0).unsqueeze(1)
inputs, targets = inputs[rank::world], targets[rank::world]  # the part of this process

torch.manual_seed(0)
model = DistributedDataParallel(nn.Linear(10, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
first = 0
if CHECKPOINT.exists():
    state = torch.load(CHECKPOINT)
    model.module.load_state_dict(state["model"])
    first = state["epoch"]

loss = torch.zeros(())
for epoch in range(first, arguments.epochs):
    for part in range(0, len(inputs), 20):
        loss = nn.functional.mse_loss(model(inputs[part : part + 20]), targets[part : part + 20])
        optimizer.zero_grad()
        loss.backward()  # averages the gradients of all processes
        optimizer.step()
    loss = loss.detach()
    dist.all_reduce(loss)
    if rank == 0:
        print(f"epoch {epoch + 1}/{arguments.epochs}  loss {loss.item() / world:.4f}", flush=True)
        torch.save({"model": model.module.state_dict(), "epoch": epoch + 1}, "checkpoint.new")
        os.replace("checkpoint.new", CHECKPOINT)

if rank == 0:
    Path("result.json").write_text(json.dumps({"loss": loss.item() / world, "processes": world}))
dist.destroy_process_group()
