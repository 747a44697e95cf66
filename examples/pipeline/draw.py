"""Draw what the model answers everywhere on the plane."""

from pathlib import Path

import torch
from PIL import Image

from spirals import network, points

SIZE = 300
COLOURS = torch.tensor([[178, 102, 31], [47, 111, 160]], dtype=torch.float32)

torch.set_num_threads(1)
model = network()
model.load_state_dict(torch.load("model/model.pt"))
line = torch.linspace(-1.2, 1.2, SIZE)
plane = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).reshape(-1, 2)
with torch.no_grad():
    picture = model(plane).softmax(1) @ (COLOURS * 0.4 + 153)  # (SIZE * SIZE, 3)
picture = picture.reshape(SIZE, SIZE, 3)

positions, labels = points(150, 0.15, seed=1)
for (x, y), label in zip(((positions + 1.2) / 2.4 * SIZE).long().clamp(1, SIZE - 2).tolist(), labels):
    picture[y - 1 : y + 2, x - 1 : x + 2] = COLOURS[label]
Path("pictures").mkdir(exist_ok=True)
Image.fromarray(picture.byte().numpy()).save("pictures/spirals.png")
print("drew pictures/spirals.png")
