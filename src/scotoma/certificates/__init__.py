"""Certificates: lower bounds on robustness that no attack can undercut. One file a method."""
