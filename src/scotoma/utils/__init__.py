"""What every part uses: devices, random numbers, registries, statistics, progress bars and errors."""
