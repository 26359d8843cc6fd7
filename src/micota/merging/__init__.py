"""Merge models by arithmetic on their weights, or on their task vectors (what a fine-tuned model has that its base
has not).

Every method is one walk over a tensor, in blocks of 2**20 elements: subtract the base, drop entries (DARE, Yu et al.
2023, arXiv 2311.03099, at random; TIES, Yadav et al. 2023, arXiv 2306.01708, the smallest), rescale what is left,
weight, elect a sign (TIES), add up, add the base, round once. What has to be known of a whole tensor is found by passes
over it (`passes`, `angles`) and kept in a `selection.Selection`. `stacks` puts the layers of models in another order.
Sums are fp32, and every step is one elementary operation, so the result is the same bit for bit for any number of
threads.

`tensor.TensorMerge` merges a block, `streaming` many tensors on several threads, `folders.merge_folders` a model.
"""

from micota.merging.settings import METHODS, RESCALES, Method, Rescale, Settings, check, check_labels, settings_of
from micota.merging.tally import Tally

__all__ = ["METHODS", "RESCALES", "Method", "Rescale", "Settings", "Tally", "check", "check_labels", "settings_of"]
