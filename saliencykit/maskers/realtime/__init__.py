"""The paper's masking model: a network that predicts the mask in one forward pass."""
