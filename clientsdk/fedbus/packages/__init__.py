"""Compute packages: code that a federation hands to its clients, run in a child process of its own.

Nothing here is loaded by `import fedbus`; it needs `pip install 'fedbus[package]'`. `archive` and `extraction`
move packages, `manifest` reads them, `environment` installs what they need, `containment` runs them within
limits, `runners` talks to them, `service` to those that stay (`inner` is their side of it), and
`host` gives a client the trainer of each session.
"""
