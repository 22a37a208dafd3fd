"""Is the test set drawn from where the training set is?"""
