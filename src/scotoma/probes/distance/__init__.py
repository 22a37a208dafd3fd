"""Does the claim fail far from the training data?"""
