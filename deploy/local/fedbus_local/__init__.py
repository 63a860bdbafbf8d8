"""The embedded stack behind `fedbus up`: servers and services as processes of one machine."""
