"""aigc: train, sample, evaluate and augment with generative models from one command line."""

__version__ = "0.1.0"
