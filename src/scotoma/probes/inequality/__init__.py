"""Does a handful of pixels carry the prediction?"""
