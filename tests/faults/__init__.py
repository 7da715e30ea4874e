class Unavailable(Exception):
    """This machine cannot do it; the text says what is missing."""
