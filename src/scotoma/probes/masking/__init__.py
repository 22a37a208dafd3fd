"""Do the model's gradients mislead attacks?"""
