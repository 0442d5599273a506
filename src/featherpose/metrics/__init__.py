"""How good predicted joints are: plain numpy, the same for every model and every runtime."""
