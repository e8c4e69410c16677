"""How a run is done: the step's graph, its timing, and the processes that do it."""
