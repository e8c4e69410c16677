"""What workers exchange, and what that costs: the network between them, and the projection to more of them."""
