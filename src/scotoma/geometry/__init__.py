"""Where images lie among the training data, in the eyes of a network."""
