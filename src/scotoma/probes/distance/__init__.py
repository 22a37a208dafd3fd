"""Does the claim fail on test images far from the training data?"""
