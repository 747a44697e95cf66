"""Compare the curve with the points of /data/test.csv."""

import json
from pathlib import Path

import numpy as np

weights = np.load("/model/weights.npy")
x, y = np.loadtxt("/data/test.csv", delimiter=",", skiprows=1, unpack=True)
error = np.stack([(x / 4) ** degree for degree in range(4)], axis=1) @ weights - y
result = {"rmse": float(np.sqrt(np.mean(error**2))), "points": len(y)}
Path("/results/eval.json").write_text(json.dumps(result))
print(f"root mean square error {result['rmse']:.3f} on {len(y)} points")
