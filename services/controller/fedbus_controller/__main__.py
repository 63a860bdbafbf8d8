"""`python -m fedbus_controller`."""

from fedbus_controller.main import main

main()
