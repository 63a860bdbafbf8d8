"""Runs an operator's server functions in a process that can do nothing but compute."""
