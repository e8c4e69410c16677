"""`sweep`: a matrix of runs, each in a fresh process, interleaved, so that they can be compared. See command.py."""
