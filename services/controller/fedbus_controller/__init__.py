"""The controller: decides the rounds. A shell around `fedbus_core.rounds`."""
