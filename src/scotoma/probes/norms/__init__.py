"""Does the claim hold only in the norm that the model was trained for?"""
