"""Test the model on points that it has not seen."""

import argparse
import json
from pathlib import Path

import torch

from spirals import network, points

parser = argparse.ArgumentParser()
parser.add_argument("--noise", type=float, default=0.15)
arguments = parser.parse_args()

torch.set_num_threads(1)
model = network()
model.load_state_dict(torch.load("model/model.pt"))
positions, labels = points(500, arguments.noise, seed=1)
with torch.no_grad():
    right = (model(positions).argmax(1) == labels).sum().item()
Path("model/eval.json").write_text(json.dumps({"accuracy": right / len(labels)}))
print(f"{right} of {len(labels)} points are right")
