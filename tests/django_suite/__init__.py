"""Django's own test suite on our ENGINE beside the stock one; ``python -m tests.django_suite``."""
