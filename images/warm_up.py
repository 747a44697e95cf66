"""Do in a few seconds what a run does, so that the modules that it imports are compiled into the image.

PyTorch imports many of its modules only on use; this warm-up finds out which. It is also the
image's first test: an image that cannot train is not built.
"""

import io

import numpy
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.ImageOps
import pydantic
import torch
import torch.distributed
import torch.multiprocessing
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

images = torch.rand(64, 1, 28, 28)
labels = torch.randint(0, 10, (64,))
model = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10)
)
model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(model.parameters())
for batch, wanted in DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(batch), wanted)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

saved = io.BytesIO()
torch.save(model.state_dict(), saved)
saved.seek(0)
model.load_state_dict(torch.load(saved, weights_only=True))
with torch.inference_mode():
    probabilities = model.eval()(images).softmax(1).numpy()
assert numpy.isfinite(probabilities).all()
exported = io.BytesIO()
torch.export.save(torch.export.export(model.to(memory_format=torch.contiguous_format), (images,)), exported)
exported.seek(0)
torch.export.load(exported).module()(images)

picture = PIL.Image.new("RGB", (64, 64))
PIL.ImageDraw.Draw(picture).text((0, 0), "5", font=PIL.ImageFont.load_default())
picture.save(io.BytesIO(), format="PNG")
print("torch", torch.__version__, "pydantic", pydantic.VERSION, "yaml", yaml.__version__)
