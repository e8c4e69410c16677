"""oneDNN computes in the tests' own processes, also where TensorFlow would leave it off by itself (capable.py)."""

import capable

capable.turn_onednn_on()
