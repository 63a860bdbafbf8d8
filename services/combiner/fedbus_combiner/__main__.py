"""`python -m fedbus_combiner`."""

from fedbus_combiner.main import main

main()
