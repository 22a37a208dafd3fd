"""Certificates: lower bounds on robustness that no attack can undercut, and an estimate of one.

>>> from scotoma.certificates.wasserstein import is_smooth
>>> from torch import nn
>>> is_smooth(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
False
"""
