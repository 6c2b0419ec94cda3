"""What texts must be, token by token: grammars compiled for a model's tokens, and their state."""
