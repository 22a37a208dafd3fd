"""Do the test set and the training set come from one distribution?"""
