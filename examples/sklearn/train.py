"""Fit a support vector machine to scikit-learn's handwritten digits."""

import argparse
import json
import pickle
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--C", type=float, default=1.0)
parser.add_argument("--gamma", type=float, default=0.001)
arguments = parser.parse_args()

images, digits = load_digits(return_X_y=True)
images, _, digits, _ = train_test_split(images, digits, test_size=0.5, shuffle=False)
model = SVC(C=arguments.C, gamma=arguments.gamma).fit(images, digits)
Path("model.pickle").write_bytes(pickle.dumps(model))
Path("train.json").write_text(json.dumps({"accuracy": model.score(images, digits)}))
print(f"{len(digits)} digits, {len(model.support_)} support vectors")
