"""micota: distil long chain-of-thought reasoning into small language models, at the length they can learn.

Implements MiCoTA (arXiv 2507.01887). Importing this package is cheap: nothing heavy is loaded before it is used.
"""

__version__ = "0.1.0"
