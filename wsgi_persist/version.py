__version__ = "0.1.0"
OLDEST_DJANGO = (5, 2)
