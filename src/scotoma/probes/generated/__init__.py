"""Does the claim hold on valid images that a generative model makes?"""
