"""Fit a line to noisy points by gradient descent. Standard library alone."""

import argparse
import json
import random

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--lr", type=float, default=0.3)
arguments = parser.parse_args()

random.seed(0)
points = [(x / 100, 2 * x / 100 + 1 + random.gauss(0, 0.1)) for x in range(-100, 100)]
slope = bias = loss = 0.0
for epoch in range(1, arguments.epochs + 1):
    errors = [(x, slope * x + bias - y) for x, y in points]
    loss = sum(error**2 for _, error in errors) / len(points)
    slope -= arguments.lr * 2 * sum(error * x for x, error in errors) / len(points)
    bias -= arguments.lr * 2 * sum(error for _, error in errors) / len(points)
    print(f"epoch {epoch}/{arguments.epochs}  loss {loss:.4f}  y = {slope:.2f} x + {bias:.2f}", flush=True)

with open("line.json", "w") as file:
    json.dump({"slope": slope, "bias": bias, "loss": loss}, file)
print("saved line.json")
