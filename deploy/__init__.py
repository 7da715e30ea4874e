"""What an operator drops in; installed with the package so that a wheel brings the files too."""
