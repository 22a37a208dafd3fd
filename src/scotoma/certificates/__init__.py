"""Certificates: lower bounds on robustness that no attack can undercut, and an estimate of one. One file a method."""
