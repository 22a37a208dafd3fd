"""Duan et al. 2023, measured again: L-inf training makes attribution unequal, and noise and squares
on the few values that matter exploit it."""
