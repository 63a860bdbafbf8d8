"""This client's part of scikit-learn's digits: the variables DIGITS_PART of DIGITS_PARTS say which."""

import os

import torch
from sklearn.datasets import load_digits


def load(*, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Give images of 64 numbers from 0 to 1, and their digits; a fifth is kept for measuring."""
    parts, part = int(os.environ.get("DIGITS_PARTS", "2")), int(os.environ.get("DIGITS_PART", "0"))
    images, digits = load_digits(return_X_y=True)
    mine = [place for place in range(part, len(digits), parts) if (place % 5 != 0) == train]
    return torch.tensor(images[mine] / 16, dtype=torch.float32), torch.tensor(digits[mine])
