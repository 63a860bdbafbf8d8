"""`python -m fedbus_api`."""

from fedbus_api.main import main

main()
