"""How robust is the model, at every perturbation size?"""
