"""`autotune`: finds the settings with which a network runs fastest here, and proves it. See command.py."""
