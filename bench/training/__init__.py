"""What turns a network into a training step: losses, learning rates, optimizers. One step for benchmark and train."""
