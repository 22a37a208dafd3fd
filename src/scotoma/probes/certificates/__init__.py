"""What can be proved, and what harmless changes leave of the proof."""
