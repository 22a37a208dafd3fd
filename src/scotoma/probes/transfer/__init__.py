"""Do adversarial examples of other models fool it?"""
