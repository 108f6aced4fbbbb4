"""What all tests share."""

import torch

torch.set_num_threads(1)  # small tensors: threads cost more than they bring
