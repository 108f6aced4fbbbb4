"""One thread: small tensors cost more in several."""

import torch

torch.set_num_threads(1)
