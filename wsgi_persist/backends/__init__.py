"""With Django, which this room alone imports: database backends whose connection is a pin in a request."""
