"""With Django: database backends whose connection is a pin in a request, and their system checks."""
