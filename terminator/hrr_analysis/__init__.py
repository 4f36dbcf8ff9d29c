"""What a notebook asks of Hrrformer besides its accuracy; pure functions of tensors and networks.

capacity   how many pairs a superposition holds, beside theory
inside     one attention taken apart; branch against residual; 2-D structure in the weights, with its controls
"""
