"""Test the model on the other half of the digits."""

import json
import pickle
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split

images, digits = load_digits(return_X_y=True)
_, images, _, digits = train_test_split(images, digits, test_size=0.5, shuffle=False)
model = pickle.loads(Path("model.pickle").read_bytes())
print(classification_report(digits, model.predict(images), digits=3))
Path("eval.json").write_text(json.dumps({"accuracy": model.score(images, digits)}))
