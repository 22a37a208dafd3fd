"""Do harmless changes of contrast and background void the claim? The probe, the map and the patch."""
