"""The loss around an image: whether its gradient says where it rises."""
