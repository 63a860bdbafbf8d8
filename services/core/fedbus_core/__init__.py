"""What fedbus decides and computes. Pure: no clock, no chance, no I/O."""
