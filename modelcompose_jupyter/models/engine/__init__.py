"""How tokens are made: requests, scheduling, the forward pass, sampling."""
