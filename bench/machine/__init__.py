"""What this machine and this TensorFlow build are: facts for the record, defaults for a run."""
