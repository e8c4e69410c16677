"""The networks: one file a family, found through registry.py; layers.py holds what NHWC and NCHW share."""
