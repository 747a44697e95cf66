"""Two spirals, one inside the other, and the network that tells them apart."""

import math

import torch
from torch import nn


def points(count, noise, seed):
    """Points of both spirals: float32 (2 * count, 2), and their labels 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    turns = torch.rand(count, generator=generator).sqrt() * 3 * math.pi
    arm = torch.stack((turns * turns.cos(), turns * turns.sin()), 1) / (3 * math.pi)
    both = torch.cat((arm, -arm))
    both = both + noise / 10 * torch.randn(both.shape, generator=generator)
    return both, torch.arange(2).repeat_interleave(count)


def network():
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
