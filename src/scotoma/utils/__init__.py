"""Helpers for all rooms: devices, random numbers, statistics, tables of names, errors, texts."""
