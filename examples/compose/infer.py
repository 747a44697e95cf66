"""Print and keep the curve's value at each argument."""

import json
import sys
from pathlib import Path

import numpy as np

weights = np.load("/model/weights.npy")
values = {x: float(weights @ (float(x) / 4) ** np.arange(4)) for x in sys.argv[1:]}
for x, value in values.items():
    print(f"f({x}) = {value:.3f}")
Path("/results/values.json").write_text(json.dumps(values))
